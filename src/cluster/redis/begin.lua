-- Begins the run of a topic, if the lock is still held and the topic has none: another node may have begun one between
-- this node's look and its lock.
-- KEYS: topic, lock   ARGV: token, epoch, last seq, seconds that the topic is kept
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'e', ARGV[2], 's', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1

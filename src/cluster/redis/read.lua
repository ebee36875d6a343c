-- The epoch, the last seq and the journal of a topic, as of one moment. Empty if the topic has no run.
-- KEYS: topic, journal
local run = redis.call('HMGET', KEYS[1], 'e', 's')
if not run[1] then
  return {}
end
return {run[1], run[2], redis.call('HGETALL', KEYS[2])}

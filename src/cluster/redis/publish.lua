-- Gives a message its seq, keeps it in the journal and sends it.
-- KEYS: topic, journal, [client_ref]   ARGV: channel, message, [seconds that the client_ref is known]
-- Epochs and seqs stay strings: a Lua number is printed with 14 digits only.
local epoch = redis.call('HGET', KEYS[1], 'e')
if not epoch then
  return {'norun'}
end
if KEYS[3] then
  local first = redis.call('GET', KEYS[3])
  if first then
    return {'first', epoch, first}
  end
end
if redis.call('HLEN', KEYS[2]) >= 100000 then
  return {'full'}
end
local seq = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 's', 1))
redis.call('HSET', KEYS[2], seq, ARGV[2])
if KEYS[3] then
  redis.call('SET', KEYS[3], seq, 'EX', ARGV[3])
end
redis.call('PUBLISH', ARGV[1], epoch .. ' ' .. seq .. ' ' .. ARGV[2])
return {epoch, seq}

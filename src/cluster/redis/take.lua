-- Gives an erasure its seq and sends it. The journal does not have it.
-- KEYS: topic   ARGV: channel, message
local epoch = redis.call('HGET', KEYS[1], 'e')
if not epoch then
  return {'norun'}
end
local seq = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 's', 1))
redis.call('PUBLISH', ARGV[1], epoch .. ' ' .. seq .. ' ' .. ARGV[2])
return {epoch, seq}

-- Keeps the latest era that any node knows. A node that does not reach the database learns it here.
-- KEYS: era   ARGV: the era that this node knows
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
local mine = tonumber(ARGV[1])
if mine > known then
  redis.call('SET', KEYS[1], ARGV[1])
  return mine
end
return known

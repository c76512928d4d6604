-- Return the names of the groups in a fleet. Repair the registry if a program other than a hub has written it.
--
-- KEYS[1]  the registry: a set of names of groups
-- ARGV[1]  the longest name of a group in bytes
-- ARGV[2]  the largest number of groups
--
-- Returns {names, number of entries removed}. The hubs add their names again every second.

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {{}, 0} end
if kind ~= 'set' then redis.call('DEL', KEYS[1]) return {{}, 1} end
local size = redis.call('SCARD', KEYS[1])
if size > tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) return {{}, size} end
local names, removed = {}, 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if #name > tonumber(ARGV[1]) then
    redis.call('SREM', KEYS[1], name)
    removed = removed + 1
  else
    names[#names + 1] = name
  end
end
return {names, removed}

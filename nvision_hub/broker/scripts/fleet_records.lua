-- Return the records of one group, and remove entries that are too large for the reader.
--
-- KEYS[1]  the records: a hash of process -> record
-- ARGV[1]  the longest name of a process in bytes
-- ARGV[2]  the largest record in bytes
-- ARGV[3]  the largest number of records
-- ARGV[4]  the largest size of all records in bytes
--
-- Returns {{process, record, process, record, ...}, number of entries removed}. The group's hub writes all its records
-- again every few seconds.

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {{}, 0} end
if kind ~= 'hash' then redis.call('DEL', KEYS[1]) return {{}, 1} end
local size = redis.call('HLEN', KEYS[1])
if size > tonumber(ARGV[3]) then redis.call('DEL', KEYS[1]) return {{}, size} end
local records, removed, total = {}, 0, 0
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local bytes = redis.call('HSTRLEN', KEYS[1], name)
  if #name > tonumber(ARGV[1]) or bytes > tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], name)
    removed = removed + 1
  else
    total = total + bytes
    if total > tonumber(ARGV[4]) then redis.call('DEL', KEYS[1]) return {{}, size} end
    records[#records + 1] = name
    records[#records + 1] = redis.call('HGET', KEYS[1], name)
  end
end
return {records, removed}

-- Count the entries that were trimmed before a consumer group received them. The loader puts this script before
-- group_read.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
--
-- Returns nothing. Fails with "no such key" if there is no stream, and with NOGROUP if the stream has no such group.
-- Defines:
--   stream      the reply of XINFO STREAM as a table
--   gone        the number of entries that were trimmed since the stream was created
--   first       the id of the oldest remaining entry; nil if the stream is empty
--   gap         the number of trimmed entries that the group never received; -1 if Redis lost count of the entries read
--   parts(id)   splits an entry id into milliseconds and sequence number

-- XINFO STREAM and XINFO GROUPS reply with alternating names and values.
local function named(list)
  local found = {}
  for at = 1, #list, 2 do found[list[at]] = list[at + 1] end
  return found
end
local function parts(id)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(number)
end
local function before(one, other)
  local ms, number = parts(one)
  local other_ms, other_number = parts(other)
  return ms < other_ms or (ms == other_ms and number < other_number)
end

local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
local gone = stream['entries-added'] - stream['length']
local first = stream['first-entry'] and stream['first-entry'][1]
local group
for _, each in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local candidate = named(each)
  if candidate['name'] == ARGV[1] then group = candidate end
end
if not group then return redis.error_reply('NOGROUP No such consumer group ' .. ARGV[1]) end
local gap = 0
if not first or before(group['last-delivered-id'], first) then
  gap = group['entries-read'] and math.max(0, gone - group['entries-read']) or -1
end

-- Read new entries for one consumer, and count the entries that were trimmed unread. The loader puts group_gap before
-- this script.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3]  the maximum number of entries
--
-- Returns {gap, entries}: gap as group_gap defines it, entries as XREADGROUP returns them for one stream.
--
-- After a gap, the script sets the group to the position before the oldest entry that is left, with the matching number
-- of read entries. Without this correction, the counter of Redis would forget the gap at the next read (7.2 and later)
-- or keep the gap indefinitely (7.0).

if gap ~= 0 then
  local at = stream['last-generated-id']
  if first then
    local ms, number = parts(first)
    at = number > 0 and string.format('%.0f-%.0f', ms, number - 1)
      or string.format('%.0f-18446744073709551615', ms - 1)
  end
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at, 'ENTRIESREAD', gone)
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
return {gap, read and read[1][2] or {}}

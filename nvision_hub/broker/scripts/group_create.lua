-- Create a consumer group, and the stream if it is missing.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  '0' to start at the oldest remaining entry, '$' to start after the newest entry
--
-- Returns nil. Fails with BUSYGROUP if the group exists.
--
-- ENTRIESREAD is the number of entries before the group's position. Without this argument, Redis would estimate the
-- number or leave it unknown.

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM', 'ENTRIESREAD', 0)
  return
end
local stream, reply = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #reply, 2 do stream[reply[at]] = reply[at + 1] end
local added = stream['entries-added']
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'ENTRIESREAD', ARGV[2] == '0' and added - stream['length'] or added)

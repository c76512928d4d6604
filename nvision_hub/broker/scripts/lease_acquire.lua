-- Acquire a lease if it is free, or renew the lease if this holder has it.
--
-- KEYS[1]  the lease: a hash of `holder` and `epoch` that expires with the term
-- KEYS[2]  the epochs: a hash of `last` (the highest epoch so far), `since` (ms) and, with replicas, `server` (run id).
--          It does not expire
-- ARGV[1]  the holder
-- ARGV[2]  the term in milliseconds
-- ARGV[3]  the epoch that the holder has; an empty string if it has none
-- ARGV[4]  1 if a replica may take over from this server, otherwise 0
--
-- Returns {epoch, '', age in ms of the epochs record, repaired} if the lease is held now,
-- or {0, name of the other holder, remaining ms of its term, repaired}.
-- `repaired` is 1 if this script has replaced an entry that no hub writes.
--
-- An epochs record younger than one term may have replaced a record that Redis lost. In that case, an earlier holder
-- may still be active. For this reason, a replaced entry also starts a new record. A replica that has taken over may
-- lack the newest lease, so a change of the server also starts a new record.

local function is_hash(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'hash' or kind == 'none'
end
local function is_number(text) return not text or (#text <= 15 and string.find(text, '^%d+$') ~= nil) end

local term, repaired = tonumber(ARGV[2]), 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epochs = is_hash(KEYS[2])
if epochs then
  local last, since = unpack(redis.call('HMGET', KEYS[2], 'last', 'since'))
  epochs = is_number(last) and is_number(since) and (not since or tonumber(since) <= now + 60000)
end
local lease = is_hash(KEYS[1])
if lease then
  local holder, epoch = unpack(redis.call('HMGET', KEYS[1], 'holder', 'epoch'))
  local left = redis.call('PTTL', KEYS[1])
  lease = left == -2 or (holder and epoch and is_number(epoch) and left >= 0 and left <= 10 * term)
end
if not epochs or not lease then
  repaired = 1
  redis.call('DEL', KEYS[1], KEYS[2])
end

if ARGV[4] == '1' then
  local info = redis.pcall('INFO', 'server')  -- a table if an ACL forbids INFO
  local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
  if redis.call('HGET', KEYS[2], 'server') ~= server then
    redis.call('HSET', KEYS[2], 'server', server, 'since', string.format('%.0f', now))
  end
end

local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return {0, string.sub(holder, 1, 200), redis.call('PTTL', KEYS[1]), repaired} end
redis.call('HSETNX', KEYS[2], 'since', string.format('%.0f', now))
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or ARGV[3] ~= epoch then
  epoch = redis.call('HINCRBY', KEYS[2], 'last', 1)
  redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'epoch', epoch)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {tonumber(epoch), '', now - redis.call('HGET', KEYS[2], 'since'), repaired}

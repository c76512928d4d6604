-- Release a lease if this holder still has it in this epoch.
--
-- KEYS[1]  the lease, as in lease_acquire
-- ARGV[1]  the holder
-- ARGV[2]  the epoch
--
-- Returns nil.

if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] and redis.call('HGET', KEYS[1], 'epoch') == ARGV[2] then
  redis.call('DEL', KEYS[1])
end

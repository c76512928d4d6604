-- Trim the result stream to a number of bytes, after a transaction has added results.
--
-- KEYS[1]  the result stream
-- KEYS[2]  the sizes: a stream with one entry per transaction. Its id is the id of the transaction's last result, and
--          its field `bytes` is the number of bytes of all results up to that one since the sizes were created
-- ARGV[1]  the number of bytes that this transaction added
-- ARGV[2]  the maximum number of bytes
--
-- Returns nothing.
--
-- The script removes whole transactions, oldest first, and never the newest one. It reads only the oldest and the
-- newest result. XADD also trims the stream by its number of entries, so some sizes may be older than the oldest result.

local added, max = tonumber(ARGV[1]), tonumber(ARGV[2])

local function newest(stream, before)
  return redis.call('XREVRANGE', stream, before or '+', '-', 'COUNT', 1)[1]
end
local function bytes(size) return tonumber(size[2][2]) or 0 end
local function parts(id)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(number)
end
local function before(one, other)
  local ms, number = parts(one)
  local other_ms, other_number = parts(other)
  return ms < other_ms or (ms == other_ms and number < other_number)
end
-- Remove the results up to `id`, and the sizes before `id`.
local function remove_to(id)
  local ms, number = parts(id)
  if number < 2 ^ 53 then number = number + 1 else ms, number = ms + 1, 0 end
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', ms, number))
  redis.call('XTRIM', KEYS[2], 'MINID', id)
end
local function set(id, total) redis.call('XADD', KEYS[2], id, 'bytes', string.format('%.0f', total)) end

-- Another program may have written arbitrary data. An error here would make a caller repeat its transaction.
local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'stream' and kind ~= 'none' then redis.call('DEL', KEYS[2]) end
local last = newest(KEYS[1])
if not last then
  redis.call('DEL', KEYS[2])
  return
end
local size = newest(KEYS[2])

if not size or before(last[1], size[1]) then
  -- The stream is older than the sizes, or another program has replaced it: count its newest results, page by page.
  redis.call('DEL', KEYS[2])
  local pages, total, at, too_old = {}, 0, '+', nil
  while not too_old do
    local page = redis.call('XREVRANGE', KEYS[1], at, '-', 'COUNT', 20)
    if #page == 0 then break end
    local page_bytes = 0
    for _, entry in ipairs(page) do
      local entry_bytes = 0
      for _, value in ipairs(entry[2]) do entry_bytes = entry_bytes + #value end
      if total > 0 and total + entry_bytes > max then
        too_old = entry[1]
        break
      end
      total, page_bytes = total + entry_bytes, page_bytes + entry_bytes
    end
    if page_bytes > 0 then pages[#pages + 1] = {page[1][1], page_bytes} end
    at = '(' .. page[#page][1]
  end
  if too_old then remove_to(too_old) end
  local sum = 0
  for index = #pages, 1, -1 do
    sum = sum + pages[index][2]
    set(pages[index][1], sum)
  end
  return
end

local total = bytes(size) + added
if before(size[1], last[1]) then set(last[1], total) end
local base, at = 0, '-'  -- bytes of the results that are gone, and the first size after them
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local gone = newest(KEYS[2], '(' .. first[1])
if gone then
  redis.call('XTRIM', KEYS[2], 'MINID', gone[1])
  base, at = bytes(gone), '(' .. gone[1]
end
local remove = nil
while total - base > max do
  local next_size = redis.call('XRANGE', KEYS[2], at, '+', 'COUNT', 1)[1]
  if not next_size or not before(next_size[1], last[1]) then break end
  remove, base, at = next_size[1], bytes(next_size), '(' .. next_size[1]
end
if remove then remove_to(remove) end

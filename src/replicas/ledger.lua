-- The ledger of one group of replicas: the parts of each scope's limits that each replica holds. One call is one exchange of
-- one replica: it renews the replica's parts, drops expired parts of others, and grants by need. Time is that of Redis.
-- `ledger.rs` has the same arithmetic in Rust; a test compares the two.
--
-- KEYS: a hash with the members and a record per scope; a hash with notes; a sorted set of the notes by number.
-- ARGV: id, lease (ms), number of the last note seen, number of lines, lines, then field, time to live (ms) and text of each note.
-- A line is "scope held returned need weight requests tokens", parts in millionths. A replica sends lines for scopes that changed,
-- and periodically for the others; any exchange renews all of its parts. If another replica should get more of a scope, or return
-- a part that is lacked, the scope is recalled: that replica's next exchange has a grant for it too.
local WHOLE, RESERVE, LACK, STEADY, REGROWN = 1000000, 20000, 5000, 40, 60000
-- The lifetime of an entry that its replica does not report, in leases; the maximum number of scopes recalled from one replica.
local KEPT, MOST_RECALLED = 14, 1000
local DAY, MOST_NOTES, NOTES_AT_ONCE = 86400000, 4096, 256
local floor, min, max = math.floor, math.min, math.max

-- A record is { credit, its time, requests, tokens, then for each replica: id, until, need, weight, held }. An entry is valid until
-- `until`, while its replica is a member.
-- Max-min fairness: a replica that needs less than its weighted part of the rest gets its need; the others share the rest by weight.
-- Returns the rest and the sum of their weights, 0 if all needs are met.
local function level(record, whole, all)
  local left, weight
  local next_left, next_weight = whole, all
  repeat
    left, weight = next_left, next_weight
    next_left, next_weight = whole, all
    for i = 7, #record, 5 do
      local need, own = record[i], record[i + 1]
      if need * weight <= left * own then
        next_left, next_weight = next_left - need, next_weight - own
      end
    end
  until next_weight == 0 or next_weight == weight
  return next_left, next_weight
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
local id, lease, seen, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local mine = 'recall:' .. id
local fields, lines = { 'created', 'members', 'notes', 'sweep', mine }, {}
for n = 1, count do
  local scope, held, returned, need, weight, requests, tokens =
    string.match(ARGV[4 + n], '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  fields[n + 5] = scope
  lines[n] = {
    held = tonumber(held), returned = tonumber(returned), need = tonumber(need),
    weight = max(tonumber(weight), 1), requests = tonumber(requests), tokens = tonumber(tokens),
  }
end
local stored = redis.call('HMGET', KEYS[1], unpack(fields))
local written = {}
local function write(field, value)
  written[#written + 1] = field
  written[#written + 1] = value
end

local members, alive, gone, members_count, renewed = {}, {}, {}, 0, false
local before = stored[2] and cmsgpack.unpack(stored[2]) or {}
for i = 1, #before, 2 do
  if before[i] == id then
    renewed = before[i + 1] > now
  elseif before[i + 1] > now then
    members[#members + 1] = before[i]
    members[#members + 1] = before[i + 1]
    alive[before[i]] = true
  else
    gone[#gone + 1] = 'recall:' .. before[i]
  end
end
if lease > 0 then
  members[#members + 1] = id
  members[#members + 1] = now + lease
end
members_count = max(#members / 2, 1)

-- The holders of parts are unknown after a loss of the ledger, and when all leases ended without a goodbye, as after an outage of
-- Redis. Then no part grows for a lease, until all holders have renewed or lost their parts.
local since = tonumber(stored[1] or -1)
local others = #members - (lease > 0 and 2 or 0)
if others == 0 and lease == 0 then
  since = 0
elseif since < 0 or others == 0 and since > 0 and not renewed then
  since = now
elseif since == 0 then
  since = 1
end
write('created', since)
local learning = now < since + lease
write('members', cmsgpack.pack(members))

-- Whether no replica holds a part of the scope, and all used units are available again.
local function is_over(record)
  local last = record[2]
  for i = 5, #record, 5 do last = max(last, record[i + 1]) end
  return last + REGROWN <= now
end

-- A recalled scope without a line is settled by its last line.
local recalled = {}
if stored[5] then
  local pending = cmsgpack.unpack(stored[5])
  for n = 6, #fields do pending[fields[n]] = nil end
  for scope in pairs(pending) do recalled[#recalled + 1] = scope end
  table.sort(recalled)
  local records = #recalled > 0 and redis.call('HMGET', KEYS[1], unpack(recalled)) or {}
  for n = 1, #recalled do
    fields[count + 5 + n], stored[count + 5 + n] = recalled[n], records[n]
  end
  gone[#gone + 1] = mine
end

local answer, answered, recalls = {}, {}, {}
local function settle(scope, line, old)
  -- The free part, and its unused amount: refilled, or returned unused.
  local own, sum, others, size, all = 0, 0, 0, 4, line.weight
  for i = 5, #old, 5 do
    local held = old[i + 4]
    sum = sum + held
    if old[i] == id then
      own = held
    elseif old[i + 1] > now and alive[old[i]] then
      if size + 1 < i then
        for j = 0, 4 do old[size + 1 + j] = old[i + j] end
      end
      size = size + 5
      others = others + held
      all = all + old[i + 3]
    end
  end
  for i = #old, size + 1, -1 do old[i] = nil end
  local was_free = max(WHOLE - sum, 0)
  local credit = min(was_free, old[1] + floor(was_free * min(now - old[2], REGROWN) / REGROWN))
  credit = credit + min(line.returned, max(own - line.held, 0))
  local free = WHOLE - others - line.held
  credit = max(min(credit, free), 0)

  local least = floor(RESERVE / members_count)
  local need, grant = max(min(line.need, WHOLE), least), line.held
  old[size + 1], old[size + 2], old[size + 3], old[size + 4], old[size + 5] = id, line.till or now + lease * KEPT, need, line.weight, grant
  local reserve = least * max(members_count - (size + 1) / 5, 0)
  local left, weight = level(old, WHOLE - reserve, all)
  local function fair(need, own)
    -- Unneeded parts are shared by weight too.
    if weight == 0 then return need + floor(left * own / all) end
    return need * weight <= left * own and need or floor(left * own / weight)
  end
  local target = lease > 0 and fair(need, line.weight) or 0
  if target > grant then
    local most = learning and min(target, least) or target
    grant = grant + max(min(most - grant, free - reserve), 0)
  elseif target < grant then
    local lacked = free < reserve
    -- While the holders are unknown, a returned part can't be granted.
    for i = 5, learning and 0 or size, 5 do
      local part = fair(old[i + 2], old[i + 3])
      lacked = lacked or part > old[i + 4] + min(LACK, floor(part / STEADY))
    end
    if lacked then grant = target end
  end
  local short = free < reserve or target - grant > min(LACK, floor(target / STEADY)) and not learning
  for i = 5, lease > 0 and size or 0, 5 do
    local part, held = fair(old[i + 2], old[i + 3]), old[i + 4]
    if short and part < held or not learning and part - held > min(LACK, floor(part / STEADY)) then
      local field = 'recall:' .. old[i]
      recalls[field] = recalls[field] or {}
      table.insert(recalls[field], scope)
    end
  end
  local fresh, grown = 0, max(grant - line.held, 0)
  if grown > 0 then
    fresh = floor(grown * credit / free)
    credit = credit - fresh
  end
  old[1], old[2], old[3], old[4] = credit, now, old[3] + line.requests, old[4] + line.tokens
  if lease > 0 then
    -- A shrinking part stays the replica's until it has reported that it uses no more.
    old[size + 5] = max(line.held, grant)
  else
    for i = size + 5, size + 1, -1 do old[i] = nil end
  end
  write(scope, cmsgpack.pack(old))
  local even = floor((WHOLE - reserve) * line.weight / all)
  local at = #answer
  answer[at + 1], answer[at + 2], answer[at + 3] = grant, fresh, target
  answer[at + 4], answer[at + 5], answer[at + 6] = even, old[3], old[4]
end
for n = 1, count + #recalled do
  local scope, line = fields[n + 5], lines[n]
  local old = stored[n + 5] and cmsgpack.unpack(stored[n + 5])
  if not old or is_over(old) then old = { 0, now, 0, 0 } end
  if not line then
    for i = 5, #old, 5 do
      if old[i] == id and old[i + 1] > now then
        line = { held = old[i + 4], returned = 0, need = old[i + 2], weight = old[i + 3], requests = 0, tokens = 0 }
        line.till = old[i + 1]
      end
    end
    if line then answered[#answered + 1] = scope end
  end
  if line then settle(scope, line, old) end
end
if next(recalls) then
  local of = {}
  for field in pairs(recalls) do of[#of + 1] = field end
  local known = redis.call('HMGET', KEYS[1], unpack(of))
  for n, field in ipairs(of) do
    local all, size = known[n] and cmsgpack.unpack(known[n]) or {}, 0
    for _ in pairs(all) do size = size + 1 end
    for _, scope in ipairs(recalls[field]) do
      if not all[scope] and size < MOST_RECALLED then all[scope], size = 1, size + 1 end
    end
    write(field, cmsgpack.pack(all))
  end
end

local last = tonumber(stored[3] or 0)
if seen > last then seen = 0 end
local received, added = {}, false
if seen < last then
  local known = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. seen, '+inf', 'LIMIT', 0, NOTES_AT_ONCE)
  local notes = #known > 0 and redis.call('HMGET', KEYS[2], unpack(known)) or {}
  for i = 1, #known do
    local note = notes[i] and cmsgpack.unpack(notes[i])
    if note then
      seen = note[1]
      if note[2] ~= id and note[3] > now then
        received[#received + 1] = known[i]
        received[#received + 1] = tostring(note[3] - now)
        received[#received + 1] = note[4]
      end
    end
  end
  if #known < NOTES_AT_ONCE then seen = last end
end
for i = 5 + count, #ARGV, 3 do
  last, added = last + 1, true
  redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack({ last, id, now + tonumber(ARGV[i + 1]), ARGV[i + 2] }))
  redis.call('ZADD', KEYS[3], last, ARGV[i])
end
if added then
  local excess = redis.call('ZCARD', KEYS[3]) - MOST_NOTES
  if excess > 0 then
    local oldest = redis.call('ZRANGE', KEYS[3], 0, min(excess, NOTES_AT_ONCE) - 1)
    redis.call('ZREM', KEYS[3], unpack(oldest))
    redis.call('HDEL', KEYS[2], unpack(oldest))
  end
  redis.call('PEXPIRE', KEYS[2], DAY)
  redis.call('PEXPIRE', KEYS[3], DAY)
  write('notes', last)
end
-- A full Redis denies only a script's first write, and only if it needs memory. With the deletions first, replicas that have
-- something to delete could still exchange, and would take the parts of the others.
redis.call('HSET', KEYS[1], unpack(written))
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
-- Occasionally scan some records and delete unused ones.
if now % 16 == 0 then
  local found, over = redis.call('HSCAN', KEYS[1], stored[4] or '0', 'COUNT', 64), {}
  for i = 1, #found[2], 2 do
    if #found[2][i] == 33 and is_over(cmsgpack.unpack(found[2][i + 1])) then over[#over + 1] = found[2][i] end
  end
  if #over > 0 then redis.call('HDEL', KEYS[1], unpack(over)) end
  redis.call('HSET', KEYS[1], 'sweep', found[1])
end
redis.call('PEXPIRE', KEYS[1], DAY)
return { members_count, learning and 1 or 0, since, seen, answer, answered, received }

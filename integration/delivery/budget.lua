-- The bucket of pace.py in Redis: one round trip, atomic, by the clock of the server.
-- MARGIN, LEAST, SHARE and EXPECTED are those of pace.py; buckets.py writes them above this text.
--
-- KEYS  1 the bucket of an endpoint class   2 the calls of the account's day
-- ARGV  1 take | back | hold   2 calls   3 window   4 burst   5 steady   6 kept   and then
--   take  7 1 = backfill   8 the arrival that this process saw last   9 most calls today ('' = any)
--         10 calls today, as this process knows them
--         -> seconds to wait ('0' = taken, '' = nothing is left today), arrival, calls today
--   back  7 the arrival when it was taken
--   hold  7 seconds ('' = not)   8 calls that remain of the window ('' = unknown)   9 calls today ('' = unknown)
local DAY, SPARE = 172800, 60
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local calls, window, burst = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local steady, kept = tonumber(ARGV[5]), tonumber(ARGV[6])

local names = {'arrival', 'live', 'backfill', 'others', 'others_at', 'index', 'current', 'previous'}
local found = redis.call('HMGET', KEYS[1], unpack(names))
local is_known = found[1]
local state = {}
for place, name in ipairs(names) do state[name] = tonumber(found[place] or '0') end

local index = math.floor(now / window)
if index ~= state.index then
  state.previous = index == state.index + 1 and state.current or 0
  state.index, state.current = index, 0
end

local function interval() return (window + MARGIN) / math.max(LEAST, steady - state.others) end

local function keep()
  local values = {}
  for _, name in ipairs(names) do
    values[#values + 1] = name
    values[#values + 1] = string.format('%.6f', state[name])
  end
  redis.call('HSET', KEYS[1], unpack(values))
  redis.call('EXPIRE', KEYS[1], math.ceil(math.max(0, state.arrival - now) + 2 * window) + SPARE)
end

local function hold(seconds)
  state.arrival = math.max(state.arrival, now + (burst - 1) * interval() + seconds)
end

if ARGV[1] == 'back' then
  if is_known then
    if now <= tonumber(ARGV[7]) then state.arrival = state.arrival - interval() end
    state.current = math.max(0, state.current - 1)
    keep()
  end
  if tonumber(redis.call('GET', KEYS[2]) or '0') > 0 then redis.call('DECR', KEYS[2]) end
  return 0
end

if ARGV[1] == 'hold' then
  if ARGV[8] ~= '' then
    local remaining = tonumber(ARGV[8])
    local ours = state.current + state.previous * (1 + state.index - now / window)
    local others = math.max(0, calls - remaining - ours)
    if others < state.others then
      others = state.others + (others - state.others) * math.min(1, (now - state.others_at) / window)
    end
    state.others, state.others_at = others, now
    local free = remaining - kept
    if free < burst then hold((1 - free) * interval()) end
  end
  if ARGV[7] ~= '' then hold(tonumber(ARGV[7])) end
  if ARGV[7] ~= '' or ARGV[8] ~= '' then keep() end
  if ARGV[9] ~= '' then redis.call('SET', KEYS[2], ARGV[9], 'EX', DAY) end
  return 0
end

-- A flushed server is told what this process remembers, unless it is of another clock.
local remembered = tonumber(ARGV[8])
if not is_known and remembered < now + 2 * window + SPARE then state.arrival = remembered end
local today = tonumber(redis.call('GET', KEYS[2]) or ARGV[10])
if ARGV[9] ~= '' and today >= tonumber(ARGV[9]) then
  return {'', string.format('%.6f', state.arrival), today}
end

local is_backfill = ARGV[7] == '1'
local is_shared = not is_backfill and now < state.backfill
local each = interval()
local slower, live = each / (1 - SHARE), math.max(state.live, now)
local at_once = burst - 1
if is_backfill then at_once = at_once - math.floor(burst / 2) end
local arrival = math.max(state.arrival, now)

local wait = arrival - now - at_once * each
if is_shared then wait = math.max(wait, live - now - (burst - 1) * slower) end
if is_backfill then state.backfill = now + math.max(wait, 0) + EXPECTED end
if wait > 0 then
  if is_backfill then keep() end
  return {string.format('%.6f', math.max(wait, 0.000001)), string.format('%.6f', state.arrival), today}
end

state.arrival = arrival + each
if is_shared then state.live = live + slower end
state.current = state.current + 1
keep()
redis.call('SET', KEYS[2], today + 1, 'EX', DAY)
return {'0', string.format('%.6f', state.arrival), today + 1}

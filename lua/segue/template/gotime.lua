-- SPDX-License-Identifier: MIT
-- Go's time.Time, printed by layouts such as "Mon Jan 2 15:04:05 MST 2006".
local value = require "segue.template.value"

local gotime = {}

---@class segue.template.time
---@field seconds number since 1970
---@field utc boolean

local days = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" }
local months = { "January", "February", "March", "April", "May", "June", "July", "August",
  "September", "October", "November", "December" }

local function zone(t, colon)
  if t.utc then return colon and "+00:00" or "+0000" end
  local offset = os.date("%z", t.seconds) --[[@as string]]
  return colon and offset:sub(1, 3) .. ":" .. offset:sub(4) or offset
end

local function fraction(t, digits)
  return ("%0" .. digits .. "d"):format(math.floor(t.seconds % 1 * 10 ^ digits))
end

-- Elements of layouts, longest first where one begins another.
local elements = {
  { "January", function(d) return months[d.month] end },
  { "Monday", function(d) return days[d.wday] end },
  { "2006", function(d) return ("%04d"):format(d.year) end },
  { "Z07:00", function(_, t) return zone(t) == "+0000" and "Z" or zone(t, true) end },
  { "Z0700", function(_, t) return zone(t) == "+0000" and "Z" or zone(t) end },
  { "-07:00", function(_, t) return zone(t, true) end },
  { "-0700", function(_, t) return zone(t) end },
  { "-07", function(_, t) return zone(t):sub(1, 3) end },
  { "Jan", function(d) return months[d.month]:sub(1, 3) end },
  { "Mon", function(d) return days[d.wday]:sub(1, 3) end },
  { "MST", function(_, t) return t.utc and "UTC" or os.date("%Z", t.seconds) end },
  { "002", function(d) return ("%03d"):format(d.yday) end },
  { "01", function(d) return ("%02d"):format(d.month) end },
  { "02", function(d) return ("%02d"):format(d.day) end },
  { "03", function(d) return ("%02d"):format((d.hour + 11) % 12 + 1) end },
  { "04", function(d) return ("%02d"):format(d.min) end },
  { "05", function(d) return ("%02d"):format(d.sec) end },
  { "06", function(d) return ("%02d"):format(d.year % 100) end },
  { "15", function(d) return ("%02d"):format(d.hour) end },
  { "PM", function(d) return d.hour < 12 and "AM" or "PM" end },
  { "pm", function(d) return d.hour < 12 and "am" or "pm" end },
  { "_2", function(d) return ("%2d"):format(d.day) end },
  { "1", function(d) return tostring(d.month) end },
  { "2", function(d) return tostring(d.day) end },
  { "3", function(d) return tostring((d.hour + 11) % 12 + 1) end },
  { "4", function(d) return tostring(d.min) end },
  { "5", function(d) return tostring(d.sec) end },
}

local function element_at(layout, at)
  for _, element in ipairs(elements) do
    local name = element[1]
    if layout:sub(at, at + #name - 1) == name then return element end
  end
end

-- .000, .999: a fraction of the second, behind a digit only.
local function fraction_at(layout, at, t)
  local digits = layout:match("^[.,](0+)%f[^0-9]", at) or layout:match("^[.,](9+)%f[^0-9]", at)
  if not digits then return nil end
  local text = layout:sub(at, at) .. fraction(t, #digits)
  if digits:byte() == 57 then text = text:gsub("0+$", ""):gsub("[.,]$", "") end
  return text, #digits + 1
end

---@param t segue.template.time
---@param layout string
---@return string
function gotime.format(t, layout)
  local d = os.date(t.utc and "!*t" or "*t", math.floor(t.seconds)) --[[@as osdate]]
  local out, at = {}, 1
  while at <= #layout do
    local text, length = fraction_at(layout, at, t)
    if not text then
      local element = element_at(layout, at)
      if element then
        text, length = element[2](d, t), #element[1]
      else
        text, length = layout:sub(at, at), 1
      end
    end
    out[#out + 1] = text
    at = at + length
  end
  return table.concat(out)
end

local TIME = value.new_type("struct", "time.Time", { fields = {}, has = {} })
TIME.print = function(t) return gotime.format(t, "2006-01-02 15:04:05.999999999 -0700 MST") end
TIME.methods = {
  Format = function(_, t, layout) return gotime.format(t, layout) end,
  Unix = function(_, t) return value.int64(math.floor(t.seconds)) end,
  UTC = function(_, t) return gotime.now(t.seconds, false) end,
  String = function(_, t) return TIME.print(t) end,
}
for name, field in pairs { Year = "year", Day = "day", Hour = "hour", Minute = "min",
  Second = "sec",
  YearDay = "yday" } do
  TIME.methods[name] = function(_, t)
    return os.date(t.utc and "!*t" or "*t", math.floor(t.seconds))[field]
  end
end

-- Seconds since 1970 of a number, or of a text of RFC 3339; nil: it is none.
---@param v any
---@return number?
function gotime.parse(v)
  if type(v) == "number" then return v end
  if type(v) == "cdata" then return tonumber(value.kind(v) == "float64" and v.v or v) end
  if type(v) ~= "string" then return nil end
  local y, mo, d, h, mi, s, rest = v:match "^(%d+)-(%d+)-(%d+)[Tt ](%d+):(%d+):(%d+%.?%d*)(.*)$"
  if not y then return nil end
  local sign, oh, om = rest:match "^([+-])(%d%d):?(%d%d)$"
  -- Days since 1970 by the civil calendar: os.time knows only the local time.
  local year, month = tonumber(y), tonumber(mo)
  if month <= 2 then year, month = year - 1, month + 12 end
  local day = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + tonumber(d) - 1 - 719468
  local offset = sign and (sign == "-" and -1 or 1) * (tonumber(oh) * 3600 + tonumber(om) * 60) or 0
  return day * 86400 + tonumber(h) * 3600 + tonumber(mi) * 60 + tonumber(s) - offset
end

-- A time as a value of templates; is_local: in the time zone of the process.
---@param seconds number
---@param is_local boolean
function gotime.now(seconds, is_local)
  return setmetatable({ seconds = seconds, utc = not is_local }, TIME)
end

return gotime

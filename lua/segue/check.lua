-- SPDX-License-Identifier: MIT
-- Options tables checked key by key, for constructors and for the policy's table alike.
local suggest = require "segue.suggest"
local duration = require "segue.duration"

local M = {}

-- Each checks a value and returns nil if it is good, else an error message.
local kinds = {}

local function of_type(name, article)
  return function(value)
    if type(value) ~= name then
      return ("must be %s %s, not a %s"):format(article, name, type(value))
    end
  end
end
kinds.string = of_type("string", "a")
kinds.boolean = of_type("boolean", "a")
kinds.table = of_type("table", "a")
kinds["function"] = of_type("function", "a")
kinds.any = function() end -- judged elsewhere

function kinds.text(value)
  local wrong = kinds.string(value)
  if wrong then return wrong end
  if value == "" then return "must not be empty" end
  if value:find("%z") then return "must not contain a zero byte" end
end

kinds["text or table"] = function(value)
  if type(value) == "table" then return nil end
  return kinds.text(value)
end

kinds["true, text or table"] = function(value)
  if value == true or type(value) == "table" then return nil end
  if type(value) ~= "string" then
    return ("must be true, a file or a table, not %s"):format(value == false and "false"
      or "a " .. type(value))
  end
  return kinds.text(value)
end

function kinds.duration(value)
  local _, wrong = duration.parse(value)
  return wrong
end

function kinds.count(value)
  if type(value) ~= "number" then return ("must be a number, not a %s"):format(type(value)) end
  if value < 1 or value > 2 ^ 50 or value % 1 ~= 0 then
    return ("must be a whole number, 1 or more, not %s"):format(tostring(value))
  end
end

function kinds.number(value)
  if type(value) ~= "number" or value ~= value then
    return ("must be a number, not a %s"):format(type(value))
  end
end

local bytes = { [""] = 1, B = 1, KiB = 2 ^ 10, MiB = 2 ^ 20, GiB = 2 ^ 30, kB = 1e3, MB = 1e6,
  GB = 1e9 }

--- Returns the bytes of a size: a number, or a text such as "16MiB"; else nil and an error message.
---@param value string|number
---@return number?
---@return string? message
function M.size(value)
  local number, unit = value, ""
  if type(value) == "string" then number, unit = value:match("^(%d+%.?%d*) *(%a*)$") end
  number = tonumber(number)
  local n = number and bytes[unit] and number * bytes[unit]
  if not n or type(value) == "boolean" then
    return nil, ("must be a size such as \"16MiB\", not %s"):format(
      type(value) == "string" and "'" .. value .. "'" or "a " .. type(value))
  end
  if not (n >= 1 and n <= 2 ^ 50) then return nil, "must be 1 byte or more" end
  return math.floor(n)
end

function kinds.size(value)
  local _, wrong = M.size(value)
  return wrong
end

function kinds.texts(value)
  if type(value) ~= "table" then
    return ("must be a list of texts, not a %s"):format(type(value))
  end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  for i = 1, count do
    if type(value[i]) ~= "string" then return "must be a list of texts" end
  end
end

kinds["text or texts"] = function(value)
  if type(value) == "string" then return kinds.text(value) end
  return kinds.texts(value)
end

--- Checks one value by its kind: a name of `kinds`, or a list of allowed texts. Returns an error
--- message, or nil if the value is good.
---@param value any
---@param kind string|string[]
---@return string? message
function M.value(value, kind)
  if type(kind) == "string" then return kinds[kind](value) end
  for _, allowed in ipairs(kind) do
    if value == allowed then return nil end
  end
  local shown = type(value) == "string" and ("'%s'"):format(value) or "a " .. type(value)
  return ("must be one of %s, not %s"):format(table.concat(kind, ", "), shown)
end

--- Judges a table by a set of keys; calls report(key, message) for each fault.
---@param t table
---@param keys table<string, string|string[]>
---@param report fun(key: any, message: string)
function M.table(t, keys, report)
  local found = {}
  for key in pairs(t) do found[#found + 1] = key end
  table.sort(found, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(found) do
    local kind = keys[key]
    if not kind then
      local hint = type(key) == "string" and suggest.hint(key, suggest.keys(keys))
        or "known are " .. table.concat(suggest.keys(keys), ", ")
      report(key, ("unknown key '%s': %s"):format(tostring(key), hint))
    else
      local wrong = M.value(t[key], kind)
      if wrong then report(key, ("%s %s"):format(key, wrong)) end
    end
  end
end

--- The same for a constructor's options: the first fault is thrown at the constructor's caller.
---@param name string
---@param options table?
---@param keys table<string, string|string[]>
---@return table options
function M.options(name, options, keys)
  if options == nil then return {} end
  if type(options) ~= "table" then
    error(("%s: options must be a table, not a %s"):format(name, type(options)), 3)
  end
  M.table(options, keys, function(_, message) error(("%s: %s"):format(name, message), 5) end)
  return options
end

return M

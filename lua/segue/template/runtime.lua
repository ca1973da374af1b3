-- SPDX-License-Identifier: MIT
-- The functions that generated code calls. The hot ones (emit, field, truth, range) are short,
-- because LuaJIT compiles them into each place that calls them; rare cases are in functions of
-- their own.
local buffer = require "string.buffer"
local ffi = require "ffi"
local host = require "segue.template.host"
local quote = require "segue.template.quote"
local signature = require "segue.template.signature"
local text = require "segue.template.format"
local value = require "segue.template.value"

local getmetatable, type, error = getmetatable, type, error
local NULL, MAP, LIST = value.NULL, value.MAP, value.LIST
local sorted_keys, type_name = value.sorted_keys, value.type_name

local R = { NULL = NULL, IFACE = setmetatable({}, LIST), truth = value.truth }

R.put = buffer.new().put
local put = R.put

-- Ends the run with Go's message. site: the number of the node.
---@param site integer
---@param message string
function R.err(site, message)
  error({ site = site, message = message }, 0)
end
local err = R.err

-- A function failed.
---@param site integer
---@param name string
---@param message string
function R.calling(site, name, message)
  err(site, "error calling " .. name .. ": " .. message)
end

-- ---- Printing -----------------------------------------------------------------------------------

-- The number of the node that last began work that takes memory, for the error of a run that has
-- none left or nests too deeply: Lua raises it without a place. In C, because nothing of the state
-- can be read when it has no memory left.
R.site = host.site and ffi.cast("int32_t *", host.site()) or ffi.new "int32_t[1]"

local function emit_other(out, v, site)
  R.site[0] = site
  if v == nil or v == NULL then
    put(out, "<no value>")
  elseif type(v) == "table" and getmetatable(v).kind == "channel" then
    local message = "can't print %s of type " .. type_name(v)
    error({ site = site, message = message, shows_node = true }, 0)
  else
    put(out, text.value(v))
  end
end

-- Writes the value of an action. A buffer formats numbers by %.14g.
function R.emit(out, v, site)
  if type(v) == "string" then
    put(out, v)
    -- Short texts are counted by the ticks; few long ones need no loop.
    if #v > 65536 then R.check_output(out, site) end
  elseif type(v) == "number" and v < 1e14 and v > -1e14 then
    put(out, v)
  else
    emit_other(out, v, site)
  end
end

-- Writes a value by a verb without flags: printf with a constant format.
R.put_verb = require("segue.template.printf").put

-- ---- Fields -------------------------------------------------------------------------------------

-- Go's type of a value that came out of a container (nil: it has a type of its own).
local function static_type(v, from)
  if from == nil or from == NULL then return type_name(v) end
  local m = getmetatable(from)
  if type(from) ~= "table" or m.kind == "struct" then return type_name(v) end
  return m.elem_type or "interface {}"
end

-- Where a value is in the data: the value itself if it has an identity, else the container that it
-- came out of, with its key if only one key has this value.
local function place_of(v, from)
  if type(v) == "table" and v ~= NULL then return v end
  if type(from) ~= "table" or from == NULL then return nil end
  local key
  for k, item in next, from do
    if rawequal(item, v) then
      if key ~= nil then return from end
      key = k
    end
  end
  return from, key
end

local function misfit(v, site, from, message)
  local container, key = place_of(v, from)
  error({ site = site, message = message, container = container, key = key }, 0)
end

local function no_field(v, name, site, from)
  local m = getmetatable(v)
  local hint = type(v) == "table" and m.suggest and m.suggest(m, name) or ""
  misfit(v, site, from,
    ("can't evaluate field %s in type %s%s"):format(name, static_type(v, from), hint))
end

local function struct_field(v, name, site, from)
  local m = getmetatable(v)
  local method = m.methods and m.methods[name]
  if method then return method(site, v) end
  local is_field = m.has and m.has[name]
  if not is_field then no_field(v, name, site, from) end
  local found = v[name]
  if found == nil then return NULL end
  return found
end

local missing = {}
missing.default = function() return nil end
missing.zero = function(m)
  if m.elem ~= nil then return m.elem end
  return NULL
end
missing.error = function(_, name, site, v)
  error({ site = site, message = "map has no entry for key " .. quote.quote(name), container = v,
    key = name }, 0)
end

R.field, R.call_field = {}, {}
for mode, on_missing in pairs(missing) do
  local function other(v, name, site, from)
    if v == nil then
      if mode == "error" then err(site, "nil data; no entry for key " .. quote.quote(name)) end
      return nil
    end
    if v == NULL then
      misfit(v, site, from,
        ("nil pointer evaluating %s.%s"):format(static_type(v, from or R.IFACE), name))
    end
    local m = type(v) == "table" and getmetatable(v)
    if m and m.kind == "map" and (m.key == "string" or m.key == "interface {}") then
      local found = v[name]
      if found == nil then return on_missing(m, name, site, v) end
      return found
    elseif m and m.kind == "struct" then
      return struct_field(v, name, site, from)
    end
    no_field(v, name, site, from)
  end

  -- from: the container that the value came out of, for messages.
  R.field[mode] = function(v, name, site, from)
    if type(v) == "table" and getmetatable(v) == MAP then
      local found = v[name]
      if found ~= nil then return found end
    end
    return other(v, name, site, from)
  end

  -- The method of a struct, for a call with arguments.
  R.call_field[mode] = function(v, name, site, from)
    local m = type(v) == "table" and v ~= NULL and getmetatable(v)
    if m and m.methods and m.methods[name] then return m.methods[name] end
    if v == nil then
      other(v, name, site, from)
      return nil
    end
    if m and m.kind == "map" then err(site, name .. " is not a method but has arguments") end
    if m and m.has and m.has[name] then
      err(site, name .. " has arguments but cannot be invoked as function")
    end
    other(v, name, site, from)
    err(site, name .. " is not a method but has arguments")
  end
end

-- ---- Pipelines ----------------------------------------------------------------------------------

-- A pipeline makes nothing of null.
function R.concrete(v)
  if v == NULL then return nil end
  return v
end

function R.any(v)
  if v == nil then return NULL end
  return v
end

-- A value that is still in an interface, for the one function of Go that does not look into it.
function R.boxed(v)
  if v == nil then return NULL end
  return value.BOXED
end

R.as = {}
for want, t in pairs(signature.types) do
  local fits, go, may_be_nil = t.fits, t.go, t.may_be_nil
  R.as[want] = function(v, site)
    if fits(v) then return v end
    if v == nil then
      if may_be_nil then return nil end
      err(site, "invalid value; expected " .. go)
    end
    local got = v == NULL and "interface {}" or type_name(v)
    err(site, ("wrong type for value; expected %s; got %s"):format(go, got))
  end
end

local function range_other(v, site, variables)
  if v == nil or v == NULL then return v, 0, nil end
  local k = value.kind(v)
  if k == "list" or k == "channel" then return v, #v, nil end
  if k == "map" then
    local keys = sorted_keys(v)
    return v, #keys, keys
  end
  if k == "int" or k == "int64" or k == "uint64" or k == "uint8" then
    if variables > 1 then
      err(site, ("can't use %s to iterate over more than one variable"):format(text.value(v)))
    end
    return value.COUNT, tonumber(value.int64_of(v)), nil
  end
  err(site, "range can't iterate over " .. text.value(v))
end

-- The container, the number of items, and the keys of a map.
function R.range(v, site, variables)
  R.site[0] = site
  if type(v) == "table" then
    local m = getmetatable(v)
    if m == LIST then return v, #v, nil end
    if m == MAP then
      local keys = sorted_keys(v)
      return v, #keys, keys
    end
  end
  return range_other(v, site, variables)
end

-- ---- Limits -------------------------------------------------------------------------------------

local deadline, output_max, time_text = math.huge, math.huge, ""
local seconds_max = 0
local TICKS = 1000

---@param limits { seconds: number, output: integer }
function R.limit(limits)
  R.site[0] = 0
  deadline, output_max = host.cpu_seconds() + limits.seconds, limits.output
  seconds_max = limits.seconds
  time_text = ("%g s"):format(limits.seconds)
end

-- The CPU time of a run, and what is left of it, in milliseconds.
---@return number total
---@return number left
function R.time()
  return seconds_max * 1000, math.max(0, deadline - host.cpu_seconds()) * 1000
end

-- Ends a run that has written too much. site: where it is; nil: at its end.
local function check_output(out, site)
  if #out <= output_max then return end
  error({ site = site, limit = ("the output is larger than %d bytes"):format(output_max) }, 0)
end
R.check_output = check_output

-- Each loop and call of generated code counts down from what this returns.
function R.tick(out, site)
  R.site[0] = site
  check_output(out, site)
  if host.cpu_seconds() > deadline then
    error({ site = site, limit = "the template used more than " .. time_text .. " of CPU time" },
      0)
  end
  return TICKS
end

-- Calls a template on a stack of its own: that of Lua ends at 65,000 slots, Go's templates nest
-- 100,000 deep.
function R.deep(f, out, dot)
  local thread = coroutine.create(f)
  local good, problem = coroutine.resume(thread, out, dot)
  if not good then error(problem, 0) end
end

return R

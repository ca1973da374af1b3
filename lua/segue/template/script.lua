-- SPDX-License-Identifier: MIT
-- Lua code of a policy in templates: the functions of a file (the option helpers), and templates in
-- Lua. That code runs in the sandbox, another Lua state (core/bind/template/script.h); it may call
-- the functions of the dialect.
local context = require "segue.template.context"
local dialects = require "segue.template.dialects"
local etlua = require "segue.template.etlua"
local host = require "segue.template.host"
local runtime = require "segue.template.runtime"
local signature = require "segue.template.signature"
local transfer = require "segue.template.transfer"
local value = require "segue.template.value"

local NULL = value.NULL

local script = {}

-- Of the running rendering: the functions that the code of the policy may call, and its data.
local functions, data = {}, nil

local function base_name(path) return path:match "([^/]*)$" end

-- "funcs.lua:3: text"
local function placed(message, file, line)
  if not file or file == "" then return message end
  return ("%s:%d: %s"):format(base_name(file), line, message)
end

-- ---- Functions of a file ------------------------------------------------------------------------

-- A function that calls itself through executeTemplate fails once for each level: the reason is in
-- the innermost failure.
local function innermost(message, name)
  local link = ("error calling %s: "):format(name)
  local behind = 0
  repeat
    local _, last = message:find(link, behind + 1, true)
    behind = last or behind
  until not last
  return message:sub(behind + 1)
end

local function call(name)
  return function(site, n, ...)
    local total, left = runtime.time()
    local good, result, file, line, is_limit = host.script_call(total, left, name,
      transfer.encode_views(n, ...))
    if good then
      local v = transfer.decode(result)[1]
      if v == nil then return NULL end
      return v
    end
    local message = placed(result, file, line)
    if is_limit then error({ site = site, limit = message }, 0) end
    runtime.calling(site, name, innermost(message, name))
  end
end

local sets, set_count = {}, 0
local SETS_MAX = 200

-- The functions of a dialect and those of a file, which replace those of the dialect; those of the
-- language stay, because the compiler knows them.
---@param dialect? string
---@param names? string[]
---@return table? functions
---@return string? message
function script.functions(dialect, names)
  if not names or #names == 0 then return dialects.functions(dialect) end
  local key = (dialect or "") .. "\0" .. table.concat(names, "\0")
  if sets[key] then return sets[key] end
  local set = {}
  for name, f in pairs(dialects.functions(dialect)) do set[name] = f end
  for _, name in ipairs(names) do
    if not name:find "^[%a_][%w_]*$" then
      return nil, ("%q is no name of a function"):format(name)
    elseif dialects.is_builtin(name) then
      return nil, ("%s is a function of the language: give yours another name"):format(name)
    end
    set[name] = signature.def({}, call(name), "any", "value")
  end
  if set_count >= SETS_MAX then sets, set_count = {}, 0 end
  sets[key], set_count = set, set_count + 1
  return set
end

-- Evaluates the file of functions of a job, before each rendering. The names are sorted; a failure
-- has the place in the file.
---@param job table
---@param limits table of the rendering
---@return string[]? names nil: there is no Lua code, or it failed
---@return segue.template.problem?
function script.begin(job, limits)
  if not job.helpers and job.language ~= "etlua" then return nil end
  runtime.limit(limits)
  transfer.forget()
  functions = dialects.functions(job.dialect)
  local total, left = runtime.time()
  local good, result, file, line = host.script_begin(total, left,
    job.helpers and (job.helpers_name or "helpers.lua"), job.helpers)
  if not good then
    return nil, { message = ("template: %s: %s"):format(job.name or "",
      placed(result, file, line)) }
  end
  local names = transfer.decode(result)[1]
  table.sort(names)
  local _, message = script.functions(job.dialect, names)
  if message then
    return nil, { message = ("template: %s: %s: %s"):format(job.name or "",
      base_name(job.helpers_name or "helpers.lua"), message) }
  end
  return names
end

-- ---- Calls from the code of the policy ----------------------------------------------------------

-- A list or map as one of a narrower type, where all of its items have the type of that.
local function narrow(v, t)
  if type(v) ~= "table" or v == NULL or not t then return v end
  if getmetatable(v).kind ~= t.kind or t.kind == "struct" then return v end
  local out = {}
  for key, item in next, v do
    if t.elem_type and value.type_name(item) ~= t.elem_type then return v end
    out[key] = item
  end
  return setmetatable(out, t)
end

-- A value for a parameter. Lua has one kind of numbers, and one of lists: an integer is good for
-- each kind, and a list of texts for []string.
local function fit(v, want, name, at)
  if type(v) == "number" and want == "float64" then v = value.float(v) end
  if type(v) == "number" and want == "int64" then v = value.int64(v) end
  local t = signature.types[want]
  if v ~= nil and not t.fits(v) then v = narrow(v, t.type) end
  if v == nil then
    if not t.may_be_nil then
      error(("%s: argument %d is nil; expected %s"):format(name, at, t.go), 0)
    end
    if want == "any" then return NULL end
    return nil
  end
  if not t.fits(v) then
    error(("%s: wrong type for argument %d; expected %s; got %s"):format(name, at, t.go,
      value.type_name(v)), 0)
  end
  return v
end

local function call_dialect(name, args, n)
  local f = functions[name]
  local params = f.params
  if f.short_circuit then error(name .. " is a word of Lua", 0) end
  if n < #params or (n > #params and not f.variadic) then
    error(("wrong number of args for %s: want %s%d got %d"):format(name,
      f.variadic and "at least " or "", #params, n), 0)
  end
  for i = 1, n do args[i] = fit(args[i], params[i] or f.variadic, name, i) end
  if f.variadic then return f.call(0, n, unpack(args, 1, n)) end
  return f.call(0, unpack(args, 1, n))
end

local answers = {}

answers["@has"] = function(args)
  return type(functions[args[1]]) == "table"
end

-- A member of the data of a template in Lua, or all of them.
answers["@member"] = function(args)
  local key = args[1]
  context.read_data(key:find("/", 1, true) and "" or key)
  if type(data) ~= "table" or data == NULL then return nil end
  return data[key]
end
answers["@members"] = function()
  context.read_data ""
  return data
end
transfer.data = answers["@members"]

local function message_of(problem)
  if type(problem) ~= "table" then return tostring(problem) end
  return problem.message or problem.limit
end

host.script_answer(function(name, bytes)
  local good, result = pcall(function()
    local args, n = transfer.decode(bytes)
    local answer = answers[name]
    if answer then return transfer.encode_views(1, (answer(args))) end
    return transfer.encode(1, (call_dialect(name, args, n)))
  end)
  if good then return result end
  return nil, message_of(result)
end)

-- ---- Templates in Lua ---------------------------------------------------------------------------

-- Renders a template in Lua.
---@param job table
---@param given any its data
---@return string? output
---@return segue.template.problem?
function script.render(job, given)
  local name = job.name or "template"
  local chunk, message, at = etlua.compile(job.template)
  if not chunk then
    return nil, { message = ("template: %s:%d: %s"):format(name, at, message), line = at }
  end
  data = given
  local total, left = runtime.time()
  local is_map = type(given) == "table" and getmetatable(given).kind == "map"
  local good, result, file, line = host.script_run(total, left, name, chunk.code, is_map)
  data = nil
  if good then return result end
  -- An error in the file of functions has its own place.
  local place = name
  if file == name then
    line = chunk.lines[line] or line
    result = result:gsub("at line (%d+)", function(n)
      return "at line " .. (chunk.lines[tonumber(n)] or n)
    end)
    place = ("%s:%d"):format(name, line)
  elseif file ~= "" then
    place, line = ("%s: %s:%d"):format(name, base_name(file), line), 0
  end
  return nil, { message = ("template: %s: %s"):format(place, result), line = line }
end

return script

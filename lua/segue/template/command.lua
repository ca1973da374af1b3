-- SPDX-License-Identifier: MIT
-- The command `segue render`: renders one template, or the cases of a batch. Called from C
-- (core/bind/template/template.c).
local context = require "segue.template.context"
local dialects = require "segue.template.dialects"
local gotime = require "segue.template.gotime"
local host = require "segue.template.host"
local json = require "segue.template.json"
local number = require "segue.template.number"
local origin = require "segue.template.origin"
local script = require "segue.template.script"
local template = require "segue.template"
local value = require "segue.template.value"

local command = {}

-- A batch may hold thousands of templates: the compiled ones are kept, the traces of LuaJIT too.
collectgarbage("setpause", 400)
require("jit.opt").start("maxtrace=4000", "maxmcode=16384", "maxside=200")

-- All files are read while the state is opened: see template_open.
for _, name in ipairs(dialects.names()) do dialects.functions(name) end

host.setup {
  null = value.NULL, map = value.MAP, list = value.LIST, float = value.float,
  -- An integer beyond 2^53, as text.
  big = function(text)
    local negative = text:sub(1, 1) == "-"
    local magnitude = number.parse_uint(negative and text:sub(2) or text) --[[@as any]]
    if not negative and magnitude > 9223372036854775807ULL then return magnitude end
    local signed = value.cint64(magnitude)
    return value.int(negative and -signed or signed)
  end,
}

local modes = { default = true, invalid = true, zero = true, error = true }

local languages = { go = true, etlua = true }

-- nil where all are known.
local function usage_problem(job)
  local dialect, missingkey = job.dialect, job.missingkey
  if not dialects.exists(dialect) then
    local names = table.concat(dialects.names(), ", ")
    return ("there is no dialect %s: there are %s"):format(dialect, names)
  end
  if missingkey ~= nil and not modes[missingkey] then
    return ("there is no missing-key mode %s: there are default, zero, error"):format(missingkey)
  end
  if job.language ~= nil and not languages[job.language] then
    return ("there is no language %s: there are go, etlua"):format(job.language)
  end
end

---@class segue.template.failure
---@field message string as Go has it
---@field usage? boolean the job names an unknown dialect or mode
---@field path? string of the value that did not fit
---@field origin? string its place, "config.yaml:9:13"
---@field line? integer in the template
---@field column? integer

-- Line and column of "template: NAME:LINE:COLUMN: ...".
local function place_in(message, name)
  local head = "template: " .. name .. ":"
  if message:sub(1, #head) ~= head then return nil end
  local line, column = message:match("^(%d+):?(%d*):", #head + 1)
  return tonumber(line), tonumber(column)
end

---@class segue.template.read what a run has read
---@field paths string[] of its data, keys joined by "/"
---@field asked segue.template.asked[] by functions, of the configuration
---@field changing boolean and something that is no part of the configuration

local function read_of(compiled)
  local asked, run = {}, context.get()
  for _, one in pairs(run.asked) do asked[#asked + 1] = one end
  table.sort(asked, function(a, b) return a.path < b.path end)
  local paths = {}
  for path in pairs(run.paths) do paths[#paths + 1] = path end
  return { paths = compiled and template.touches(compiled) or paths, asked = asked,
    changing = run.changing or false }
end

-- Renders a job over its data. The compiled template is one of Go's language. site: the job has
-- needed too much memory there, and only its error is wanted.
---@return string? output
---@return segue.template.problem?
---@return segue.template.compiled?
local function run(job, data, world, site)
  if site and (site == 0 or job.language == "etlua") then
    return nil, template.over_limit(job.name or "", nil, site)
  end
  -- The file of functions may read the configuration when it is evaluated.
  context.enter(world, data)
  local names, problem = script.begin(job, template.limits)
  if problem then return nil, problem end
  if job.language == "etlua" then return script.render(job, data) end
  job.names = names
  world.limited = names ~= nil -- the time of the file of functions counts
  if names then
    local before = context.get()
    world.asked, world.changing = before.asked, before.changing
  end
  local compiled
  compiled, problem = template.compile(job.template, job)
  if not compiled then return nil, problem end
  if site then return nil, template.over_limit(job.name or "", compiled, site) end
  local output
  output, problem = template.render(compiled, data, world)
  return output, problem, compiled
end

-- Renders one template.
---@param job table see segue__template_job
---@param site? integer see run
---@return string? output
---@return segue.template.failure?
---@return segue.template.read? of a job whose data are given
function command.render(job, site)
  local problem = usage_problem(job)
  if problem then return nil, { message = problem, usage = true } end
  local data, message
  if site then
    data = nil -- it may be what needs the memory
  elseif job.given then
    data = host.given()
  elseif job.data then
    data, message = host.decode(job.data, job.data_name)
    if message then return nil, { message = message } end
  end
  if data == value.NULL then data = nil end
  local output, failure, compiled = run(job, data, { config = job.given }, site)
  local read = job.given and not site and read_of(compiled) or nil
  if output then return output, nil, read end
  local path, place = origin.find(failure, data, job.data_name)
  local line, column = place_in(failure.message, job.name or "")
  return nil, { message = failure.message, path = path, origin = place, line = line,
    column = column }, read
end

local function text_of(case, key)
  local v = case[key]
  if v == nil or v == value.NULL then return nil end
  if type(v) ~= "string" then return nil, ("%s must be a string"):format(key) end
  return v
end

local function read_case(case)
  local job = {}
  for _, key in ipairs { "name", "template", "dialect", "missingkey", "left", "right", "language",
    "helpers" } do
    local message
    job[key], message = text_of(case, key)
    if message then return nil, message end
  end
  if not job.template then return nil, "the case has no template" end
  local problem = usage_problem(job)
  if problem then return nil, problem end
  job.name = job.name or "template"
  return job
end

-- The mocks of a case: services, nodes, env, files, now (seconds, or a text of RFC 3339 in UTC).
local function world_of(case)
  local world = {}
  for _, key in ipairs { "services", "nodes", "env", "files" } do
    if case[key] ~= value.NULL then world[key] = case[key] end
  end
  world.now = gotime.parse(case.now)
  return world
end

local function run_case(case, site)
  local job, message = read_case(case)
  if not job then return nil, message end
  local data = case.data
  if data == value.NULL then data = nil end
  local output, problem = run(job, data, world_of(case), site)
  return output, problem and problem.message
end

local function encode_id(id)
  if type(id) == "number" then return ("%.0f"):format(id) end
  if type(id) == "string" then return json.string(id) end
  return "null"
end

-- One case of a batch: a line of JSON; the answer is one, too.
---@param line string
---@param site? integer see run
---@return string answer
function command.case(line, site)
  local case, message = host.decode(line, "case.json")
  local output
  local is_case = not message and getmetatable(case) == value.MAP
  if is_case then
    output, message = run_case(case, site)
  else
    message = message or "the case is no JSON object"
  end
  local head = '{"id":' .. encode_id(is_case and case.id or nil)
  if output then return head .. ',"ok":true,"output":' .. json.string(output) .. "}" end
  return head .. ',"ok":false,"error":' .. json.string(message) .. "}"
end

return command

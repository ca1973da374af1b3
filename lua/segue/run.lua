-- SPDX-License-Identifier: MIT
-- segue.run: commands, with a time limit, never through a shell unless that is asked for.
local core = require "segue.core"
local check = require "segue.check"
local duration = require "segue.duration"

local pairs, ipairs, type, tostring, error = pairs, ipairs, type, tostring, error
local default_output = 1024 * 1024

local keys = {
  argv = "table", shell = "text", cwd = "text", env = "table", user = "text", stdin = "string",
  timeout = "duration", kill_after = "duration", max_output = "count", on_output = "function",
}

local M = {}

---@class segue.Command
---@field argv? string[] the program and its arguments; the list part of the table means the same
---@field shell? string a text for /bin/sh -c, instead of argv
---@field cwd? string relative to the policy's folder, which is also the default
---@field env? table<string, string|false> added to the daemon's environment; false takes away
---@field user? string a name or number; needs a daemon that runs as root
---@field stdin? string
---@field timeout? string|number default "30s"; 0 for none
---@field kill_after? string|number from TERM to KILL, default "5s"
---@field max_output? integer bytes kept of each stream, default 1 MiB
---@field on_output? fun(stream: "stdout"|"stderr", chunk: string)

---@class segue.CommandResult
---@field ok boolean it exited with code 0, in time
---@field message? string what went wrong, if not ok
---@field code? integer exit code; nil if a signal ended it
---@field signal? string "KILL"
---@field stdout string
---@field stderr string
---@field truncated boolean there was more output than max_output
---@field timed_out boolean
---@field seconds number

local function word(name, value, i)
  if type(value) == "string" then
    if value:find("%z") then error(("%s: argv[%d] contains a zero byte"):format(name, i), 0) end
    return value
  end
  if type(value) == "number" or core.kind(value) == "integer" then return tostring(value) end
  error(("%s: argv[%d] must be a text, not a %s"):format(name, i, type(value)), 0)
end

local function words(name, list)
  local argv, count = {}, 0
  for _ in pairs(list) do count = count + 1 end
  for i = 1, count do argv[i] = word(name, list[i], i) end
  if not argv[1] or argv[1] == "" then
    error(name .. ": the name of a program is missing: segue.run { \"nginx\", \"-t\" }", 0)
  end
  return argv
end

-- "NAME=value" sets, "NAME" takes away.
local function environment(name, env)
  local changes = {}
  for key, value in pairs(env) do
    if type(key) ~= "string" or key == "" or key:find("[=%z]") then
      error(("%s: env: '%s' is not a name"):format(name, tostring(key)), 0)
    end
    if value == false then
      changes[#changes + 1] = key
    elseif type(value) == "string" and not value:find("%z") or type(value) == "number" then
      changes[#changes + 1] = key .. "=" .. value
    else
      error(("%s: env.%s must be a text, or false to take it away"):format(name, key), 0)
    end
  end
  return changes
end

-- The list part of a command is its argv, the rest its options.
local function split(name, command)
  local options, list = {}, {}
  for key, value in pairs(command) do
    if type(key) == "number" then list[key] = value else options[key] = value end
  end
  local listed = next(list) ~= nil
  if (listed and 1 or 0) + (options.argv and 1 or 0) + (options.shell and 1 or 0) ~= 1 then
    error(name .. ": one of a list, argv or shell must name the command, such as "
      .. "segue.run { \"nginx\", \"-t\" }", 0)
  end
  if listed then options.argv = list end
  return options
end

local function judge(name, command)
  if type(command) == "string" then
    error(("%s: a text is not run: write segue.run { \"program\", \"argument\" }, or "
      .. "segue.run { shell = \"...\" } to have a shell take it apart"):format(name), 0)
  end
  if type(command) ~= "table" then
    error(("%s: a command is a list such as { \"nginx\", \"-t\" }, not a %s"):format(name,
      type(command)), 0)
  end
  local o = split(name, command)
  check.table(o, keys, function(_, message) error(("%s: %s"):format(name, message), 0) end)
  return {
    argv = o.shell and { "/bin/sh", "-c", o.shell } or words(name, o.argv),
    shown = o.shell or nil, env = o.env and environment(name, o.env), cwd = o.cwd, user = o.user,
    stdin = o.stdin, timeout_ms = duration.parse(o.timeout or "30s"),
    kill_ms = duration.parse(o.kill_after or "5s"), max_output = o.max_output or default_output,
    on_output = o.on_output,
  }
end

--- A checked command; faults are thrown at the caller's caller.
---@param name string for messages
---@param command string[]|segue.Command
function M.spec(name, command)
  local ok, spec = pcall(judge, name, command)
  if not ok then error(spec, 3) end
  return spec
end

local shown_lines, shown_bytes = 10, 400

-- The last lines of an output, with the lines that name an error first: the last line alone is
-- often a summary ("test failed"), and the cause stands above it.
local function last_lines(text)
  local lines, first, rest = {}, {}, {}
  for line in text:sub(-16384):gmatch("[^\r\n]+") do
    if line:find("%S") then lines[#lines + 1] = line:sub(1, 300) end
  end
  for i = math.max(1, #lines - shown_lines + 1), #lines do
    local lower = lines[i]:lower()
    local names = lower:find("error", 1, true) or lower:find("emerg", 1, true)
      or lower:find("fatal", 1, true)
    local list = names and first or rest
    list[#list + 1] = lines[i]
  end
  for _, line in ipairs(rest) do first[#first + 1] = line end
  local all = table.concat(first, "; ")
  return all ~= "" and (#all > shown_bytes and all:sub(1, shown_bytes) .. "..." or all) or nil
end

-- Returns the failure as one sentence.
local function message_of(spec, result)
  local what
  if result.timed_out then
    what = ("took longer than %g s and was stopped"):format(spec.timeout_ms / 1000)
  elseif result.signal then
    what = ("was ended by signal %s"):format(result.signal)
  else
    what = ("exited with code %d"):format(result.code)
  end
  local lines = last_lines(result.stderr) or last_lines(result.stdout)
  local shown = spec.shown or table.concat(spec.argv, " ")
  if #shown > 100 then shown = shown:sub(1, 100) .. "..." end
  return ("%s %s%s"):format(shown, what, lines and ": " .. lines or "")
end

local function result_of(spec, done, code, signal, stdout, stderr, truncated, timed_out, seconds)
  if not done then return nil, code, signal end -- nil, message, code
  local result = { ok = code == 0 and not timed_out, code = code, signal = signal,
    stdout = stdout, stderr = stderr, truncated = truncated, timed_out = timed_out,
    seconds = seconds }
  if not result.ok then result.message = message_of(spec, result) end
  return result
end

local function follow(spec, io, first, ...)
  if type(first) == "string" then
    spec.on_output(first, (...))
    return follow(spec, io, io())
  end
  return result_of(spec, first, ...)
end

--- Runs a checked command to its end.
function M.start(spec)
  local io = core.run(spec.argv, spec.env, spec.cwd, spec.user, spec.stdin, spec.timeout_ms,
    spec.max_output, spec.kill_ms, spec.on_output ~= nil)
  return follow(spec, io, io())
end

--- Runs a command and waits for its end; nil, message, code if it cannot be started. At the time
--- limit, or when its task is cancelled, the whole process group gets TERM, and KILL later.
---@param command string[]|segue.Command
---@return segue.CommandResult?
---@return string? message
---@return string? code
function M.run(command)
  local spec = M.spec("segue.run", command)
  return M.start(spec)
end

return M

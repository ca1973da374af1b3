-- SPDX-License-Identifier: MIT
-- segue.run: commands, with a time limit, never through a shell unless that is requested.
local core = require "segue.core"

local ipairs, type, error = ipairs, type, error

local M = {}

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

-- "NAME=value" sets, "NAME" takes away.
local function environment(env)
  local changes = {}
  for i, pair in ipairs(env) do changes[i] = pair[2] and pair[1] .. "=" .. pair[2] or pair[1] end
  return changes
end

--- A checked command; mistakes are thrown at the caller in the policy.
---@param name string for messages
---@param command string[]|segue.CallRun
function M.spec(name, command)
  if type(command) == "string" then
    error(("%s: a text is not run: write segue.run { \"program\", \"argument\" }, or "
      .. "segue.run { shell = \"...\" } to have a shell take it apart"):format(name), 3)
  end
  local o = core.options(name, "run", command)
  return {
    argv = o.shell and { "/bin/sh", "-c", o.shell } or o.argv, shown = o.shell,
    env = #o.env > 0 and environment(o.env) or nil, cwd = o.cwd, user = o.user, stdin = o.stdin,
    timeout_ms = o.timeout, kill_ms = o.kill_after, max_output = o.max_output,
    on_output = o.on_output,
  }
end

local shown_lines, shown_bytes = 10, 400

-- The last lines of an output, with the lines that name an error first: the last line alone is
-- often a summary ("test failed"), and the cause is above it.
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
---@param command string[]|segue.CallRun
---@return segue.CommandResult?
---@return string? message
---@return string? code
function M.run(command)
  local spec = M.spec("segue.run", command)
  return M.start(spec)
end

return M

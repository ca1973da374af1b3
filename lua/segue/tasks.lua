-- SPDX-License-Identifier: MIT
-- Tasks that run side by side. A task that another one has spawned ends with that one at the
-- latest. A function fails by returning nil and a message; an error() in it is a bug, and is
-- raised in the task that waits for it.
local core = require "segue.core"

local pairs, ipairs, type, error, select, unpack = pairs, ipairs, type, error, select, unpack
local most = 5000

local M = {}

---@class segue.Task
---@field wait fun(self: segue.Task): any waits for its end and returns its results
---@field cancel fun(self: segue.Task) ends it at its present wait
---@field status fun(self: segue.Task): string running, done, failed, broken or cancelled
local methods = core.task_methods
methods.cancel, methods.status = core.cancel, core.task_status

-- Returns the results of a task that has ended, or raises its error.
local function outcome(task)
  local results, message, code, file, line = core.outcome(task)
  if results then return unpack(results, 1, results.n) end
  if core.task_status(task) == "broken" then
    error(file ~= "" and ("%s:%d: %s"):format(file, line, message) or message, 0)
  end
  return nil, message, code
end

function methods.wait(task)
  core.join("race", { task })
  return outcome(task)
end

local function packed(fn, ...)
  return { n = select("#", ...) + 1, fn, ... }
end

--- Starts a function as a task of its own.
---@param fn function
---@param ... any its arguments
---@return segue.Task
function M.spawn(fn, ...)
  core.argument("segue.spawn: its argument", fn, "function")
  return core.spawn("segue.spawn", 0, packed(fn, ...))
end

-- Starts a table of functions; returns tasks and, by the same index, their keys.
local function start(name, functions, least)
  if type(functions) ~= "table" then
    error(("%s needs a table of functions, not a %s"):format(name, type(functions)), 3)
  end
  local tasks, keys = {}, {}
  for key, fn in pairs(functions) do
    if type(fn) ~= "function" then
      error(("%s: '%s' is not a function but a %s"):format(name, tostring(key), type(fn)), 3)
    end
    keys[#keys + 1] = key
  end
  if #keys < least then error(name .. " needs at least one function", 3) end
  if #keys > most then error(("%s takes at most %d functions"):format(name, most), 3) end
  for i, key in ipairs(keys) do tasks[i] = core.spawn(name, 0, packed(functions[key])) end
  return tasks, keys
end

local function cancel_all(tasks)
  for _, task in ipairs(tasks) do core.cancel(task) end
end

--- Runs functions side by side and returns their first results under the same keys. The first that
--- fails cancels the others: nil, message, code.
---@param functions table<any, function>
---@return table?
---@return string? message
---@return string? code
function M.all(functions)
  local tasks, keys = start("segue.all", functions, 0)
  core.join("all", tasks)
  for _, task in ipairs(tasks) do
    local status = core.task_status(task)
    if status ~= "done" and status ~= "running" then
      cancel_all(tasks)
      return outcome(task)
    end
  end
  local results = {}
  for i, task in ipairs(tasks) do
    local values = core.outcome(task)
    local value = values[1]
    if values.n == 0 then value = true end
    results[keys[i]] = value
  end
  return results
end

--- Runs functions side by side and returns the results of the first that succeeds; cancels the
--- others. If all fail: nil, their messages, the last one's code.
---@param functions table<any, function>
---@return any
function M.any(functions)
  local tasks = start("segue.any", functions, 1)
  core.join("any", tasks)
  for _, wanted in ipairs { "broken", "done" } do
    for _, task in ipairs(tasks) do
      if core.task_status(task) == wanted then
        cancel_all(tasks)
        return outcome(task)
      end
    end
  end
  local messages, code = {}, nil
  for i, task in ipairs(tasks) do
    local _, message, its_code = outcome(task)
    messages[i], code = tostring(message), its_code
  end
  return nil, table.concat(messages, "; "), code
end

--- Runs functions side by side; the first to end, well or not, decides; the others are cancelled.
---@param functions table<any, function>
---@return any
function M.race(functions)
  local tasks = start("segue.race", functions, 1)
  core.join("race", tasks)
  for _, task in ipairs(tasks) do
    if core.task_status(task) ~= "running" then
      cancel_all(tasks)
      return outcome(task)
    end
  end
end

--- Runs a function under a time limit: returns its results, or nil, message, "SEGUE_ETIMEOUT".
---@param time string|number
---@param fn function
---@param ... any its arguments
---@return any
function M.timeout(time, fn, ...)
  local ms, wrong = core.duration(time)
  if ms == 0 then wrong = "must be longer than 0" end
  if wrong then error("segue.timeout: the time " .. wrong, 2) end
  core.argument("segue.timeout: its second argument", fn, "function")
  local task = core.spawn("segue.timeout", ms, packed(fn, ...))
  core.join("race", { task })
  return outcome(task)
end

return M

-- SPDX-License-Identifier: MIT
-- The answers that a policy gets in a rehearsal for commands, requests and files: the spec's
-- functions are called, and their results are converted for the core: message and code of a
-- failure, or number, signal, first, second, delay_ms, addresses.
local core = require "segue.testing.core"

local M = {}

local signals = { HUP = 1, INT = 2, QUIT = 3, ABRT = 6, KILL = 9, USR1 = 10, SEGV = 11, USR2 = 12,
  PIPE = 13, ALRM = 14, TERM = 15 }

local function ask(self, kind, ...)
  for _, fn in ipairs(self.handlers[kind] or {}) do
    local answer, why = fn(...)
    if answer ~= nil then return answer, why end
  end
end

local function refuse(what, how)
  error(("%s, and the spec has no answer for it: %s"):format(what, how), 0)
end

local function delay(answer)
  local ms, wrong = core.duration(answer.seconds or 0)
  if not ms then error("seconds of an answer " .. wrong, 0) end
  return ms
end

local function failure(answer, what)
  return { code = answer.error, delay_ms = delay(answer),
    message = ("%s: %s"):format(what, answer.message or answer.error) }
end

local function known(name, answer, keys)
  for key in pairs(answer) do
    if not keys[key] then
      error(("%s: an answer has no field '%s'"):format(name, tostring(key)), 0)
    end
  end
end

local run_keys = { code = 1, stdout = 1, stderr = 1, signal = 1, seconds = 1, error = 1,
  message = 1 }

function M.run(self, command)
  table.insert(self.commands_run, command)
  local shown = table.concat(command.argv, " ")
  local answer = ask(self, "run", command.argv, command)
  if answer == nil then
    refuse(("the policy runs \"%s\""):format(shown), "t:on_run(function(argv) return true end)")
  end
  if answer == true then answer = { code = 0 } end
  if type(answer) == "number" then answer = { code = answer } end
  if type(answer) == "string" then answer = { stdout = answer } end
  if type(answer) ~= "table" then
    error(("t:on_run: \"%s\" is answered by a %s"):format(shown, type(answer)), 0)
  end
  known("t:on_run", answer, run_keys)
  if answer.error then return failure(answer, "cannot run " .. command.argv[1]) end
  return { number = answer.code or 0, signal = answer.signal and signals[answer.signal] or nil,
    first = answer.stdout, second = answer.stderr, delay_ms = delay(answer) }
end

local fetch_keys = { status = 1, headers = 1, body = 1, seconds = 1, error = 1, message = 1 }

function M.fetch(self, request)
  table.insert(self.requests_made, request)
  local answer = ask(self, "fetch", request)
  if answer == nil then
    refuse(("the policy asks %s"):format(request.url),
      "t:on_fetch(function(request) return 200 end)")
  end
  if answer == true then answer = { status = 200 } end
  if type(answer) == "number" then answer = { status = answer } end
  if type(answer) == "string" then answer = { body = answer } end
  if type(answer) ~= "table" then
    error(("t:on_fetch: %s is answered by a %s"):format(request.url, type(answer)), 0)
  end
  known("t:on_fetch", answer, fetch_keys)
  if answer.error then return failure(answer, request.url) end
  local lines = {}
  for name, value in pairs(answer.headers or {}) do
    lines[#lines + 1] = ("%s: %s\r\n"):format(name, value)
  end
  return { number = request.connect_only and 0 or answer.status or 200,
    first = table.concat(lines), second = answer.body, delay_ms = delay(answer) }
end

function M.resolve(self, question)
  local answer = ask(self, "resolve", question.name)
  if answer == nil then
    refuse(("the policy looks up the host %s"):format(question.name),
      "t:on_resolve(function(name) return { \"127.0.0.1\" } end)")
  end
  if type(answer) ~= "table" then
    error(("t:on_resolve: %s is answered by a %s"):format(question.name, type(answer)), 0)
  end
  if answer.error then return failure(answer, question.name) end
  return { addresses = answer }
end

function M.module(self, question)
  if not self then return {} end -- it is on its way out
  table.insert(self.operations_done, question)
  local answer, why = ask(self, "module", question.name, question.verb, question.config)
  if type(answer) == "table" then
    known("t:on_module", answer, { seconds = 1 })
    return { delay_ms = delay(answer) }
  end
  if answer ~= false then return {} end
  return { code = "SEGUE_EMODULE",
    message = tostring(why or ("%s of %s fails, as the spec wants"):format(question.verb,
      question.name)) }
end

-- A recorded answer, if there is one for the request: { events, ms }. It is kept until its events
-- are requested.
function M.recall(self, request)
  local answer = self and ask(self, "recall", request)
  if not answer then return nil end
  table.insert(self.recalled, answer)
  return { id = #self.recalled, count = #(answer.events or {}), ms = answer.ms }
end

function M.recalled(self, question)
  return self.recalled[question.id].events[question.event + 1]
end

return M

-- SPDX-License-Identifier: MIT
-- The answers that a policy gets in a rehearsal for commands, requests and files: the spec's
-- functions are called, and their results are converted for the core: message and code of a
-- failure, or number, signal, first, second, delay_ms, addresses.
local core = require "segue.testing.core"
local bytes = require("segue.testing.recorded").bytes

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

-- "the policy runs", or of a module of the kind files "module nginx checks its files by".
local function asker(question, policy_does)
  if not question.step then return policy_does end
  return ("module %s: %s"):format(question.module, question.step)
end

-- The recorded outcome of an effect of a files module, for the core; nil: there is none.
local function recalled_effect(self, kind, question)
  local answer = question.step and ask(self, "recall",
    { kind = kind, key = question.step .. " " .. question.shown })
  local event = answer and answer.events and answer.events[1]
  local outcome = event and event.values[1] and event.values[1].table
  if not outcome then return nil end
  local ms = answer.ms or 0
  if outcome.error then
    return { code = outcome.error, message = bytes(outcome.message), delay_ms = ms }
  end
  -- A time limit ends it again, whatever the clocks measured.
  if outcome.timed_out then ms = ms + 86400000 end
  local output = bytes(outcome.output)
  local is_command = kind == "files.command"
  return { number = outcome.number, signal = outcome.signal, delay_ms = ms,
    first = is_command and output or nil, second = not is_command and output or nil }
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
  local shown = command.shown or table.concat(command.argv, " ")
  local recalled = recalled_effect(self, "files.command", command)
  if recalled then return recalled end
  local answer = ask(self, "run", command.argv, command)
  if answer == nil then
    refuse(("%s runs \"%s\""):format(asker(command, "the policy"), shown),
      ("t:on_command(%q, true)"):format(shown))
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
  local recalled = recalled_effect(self, "files.request", request)
  if recalled then return recalled end
  local answer = ask(self, "fetch", request)
  if answer == nil then
    refuse(("%s asks %s"):format(asker(request, "the policy"), request.url),
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

-- Records of the type SRV { target, port, priority, weight, ttl } or TXT { text, ttl }; a text
-- alone is a TXT record.
local function records_of(question, answer)
  local records = {}
  for i, record in ipairs(answer) do
    if type(record) == "string" then record = { text = record } end
    known("t:on_resolve", record, { target = 1, text = 1, port = 1, priority = 1, weight = 1,
      ttl = 1 })
    records[i] = { text = question.verb == "SRV" and record.target or record.text or "",
      port = record.port or 0, priority = record.priority or 0, weight = record.weight or 0,
      ttl = record.ttl or 60 }
  end
  return { addresses = records }
end

function M.resolve(self, question)
  local answer = ask(self, "resolve", question.name, question.verb)
  if answer == nil then
    refuse(("the policy looks up the %s %s"):format(question.verb and question.verb .. " records of"
      or "host", question.name), "t:on_resolve(function(name) return { \"127.0.0.1\" } end)")
  end
  if type(answer) ~= "table" then
    error(("t:on_resolve: %s is answered by a %s"):format(question.name, type(answer)), 0)
  end
  if answer.error then return failure(answer, question.name) end
  if question.verb then return records_of(question, answer) end
  return { addresses = answer }
end

---@class segue.Peer the other side of a connection of the policy, in a rehearsal
---@field address string as the policy has it
---@field tls boolean
---@field received fun(peer: segue.Peer, bytes: string)? called with what the policy writes
---@field hung_up boolean the policy has closed it
---@field private core any
---@field private id integer
local Peer = {}
Peer.__index = Peer

--- Sends bytes to the policy. Returns false if the connection has ended.
---@param sent string
---@return boolean
function Peer:send(sent)
  return self.core:send(self.id, sent)
end

--- Closes the connection, after the bytes that were sent. With a code such as "ECONNRESET" it
--- breaks off.
---@param code? string
---@param message? string
---@return boolean
function Peer:close(code, message)
  return self.core:end_connection(self.id, code,
    code and ("%s: %s"):format(self.address, message or code))
end

function M.connect(self, question)
  local peer = setmetatable({ address = question.name, tls = question.tls, hung_up = false,
    core = self.core, id = question.id }, Peer)
  self.peers[question.id] = peer
  local answer = ask(self, "connect", peer)
  if answer == nil then
    refuse(("the policy connects to %s"):format(question.name),
      "t:on_connect(function(peer) return true end)")
  end
  if answer == true then answer = {} end
  if type(answer) ~= "table" then
    error(("t:on_connect: %s is answered by a %s"):format(question.name, type(answer)), 0)
  end
  known("t:on_connect", answer, { seconds = 1, error = 1, message = 1 })
  if answer.error then return failure(answer, "no connection to " .. question.name) end
  return { delay_ms = delay(answer) }
end

function M.receive(self, question)
  local peer = self.peers[question.id]
  if peer.received then peer:received(question.bytes) end
  return {}
end

function M.hang_up(self, question)
  local peer = self and self.peers[question.id]
  if peer then peer.hung_up = true end
  return {}
end

function M.signal(self, question)
  if not self then return {} end -- the rehearsal is closed
  table.insert(self.signals_sent, question)
  local recalled = recalled_effect(self, "files.signal", question)
  if recalled then return recalled end
  local answer = ask(self, "signal", question)
  if answer == nil then
    refuse(("%s sends %s"):format(asker(question, "the policy"), question.shown),
      "t:on_signal(function(signal) return true end)")
  end
  if answer == true then answer = {} end
  if type(answer) ~= "table" then
    error(("t:on_signal: %s is answered by a %s"):format(question.shown, type(answer)), 0)
  end
  known("t:on_signal", answer, { seconds = 1, error = 1, message = 1 })
  if answer.error then
    return { code = answer.error, message = answer.message or answer.error,
      delay_ms = delay(answer) }
  end
  return { delay_ms = delay(answer) }
end

function M.module(self, question)
  if not self then return {} end -- the rehearsal is being closed
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

-- SPDX-License-Identifier: MIT
-- segue.testing: a policy at work without a world, for specs that `segue test` runs. The engine and
-- the policy are the real ones; the clock stands still until it is moved, and files, triggers,
-- commands, requests and modules are the spec's.
--   local t = testing.policy "reload.lua"
--   t:file("config.yaml", "workers: 4")
--   assert.equal("applied", t:start().outcome)
--   t:file("config.yaml", "workers: 0")
--   assert.equal("rejected", t:signal("HUP").outcome)
local found, core = pcall(require, "segue.testing.core")
if not found then
  error("segue.testing is for specs that `segue test` runs: this program does not have it", 2)
end
local answers = require "segue.testing.answers"

local testing = { null = core.null }

---@class segue.TestFile one version of a rendered file
---@field mode string
---@field size integer
---@field hash string

---@class segue.TestResult
---@field outcome "applied"|"unchanged"|"held"|"rejected"|"failed"|"reverted"|"deferred"|"refused"
---@field id integer
---@field trigger string
---@field cause string
---@field phase string the last one that it reached
---@field generation integer live after it
---@field errors { message: string, text: string, code: string, file?: string, line?: integer,
---  column?: integer, path?: string, source?: string }[]
---@field plan { module: string, action: string, why: string }[]
---@field changes { op: "add"|"remove"|"change", path: string, to?: string }[] to: as JSON
---@field files { module: string, path: string, before?: segue.TestFile, after?: segue.TestFile,
---  diff?: string, note?: string, added: integer, removed: integer }[] the rendered ones
---@field started number seconds since 1970, by the simulated clock
---@field seconds number that it took, by the simulated clock
---@field skipped boolean this input was refused before
---@field deferred boolean the policy, or min_interval, put it off
---@field plan_only boolean
---@field undo_failed boolean

---@class segue.Rehearsal
local Rehearsal = {}
Rehearsal.__index = Rehearsal

-- Finds the stack level of the spec, past any number of functions of this library: errors name its
-- line, and its files are found from any current folder.
local function caller()
  local level = 2
  local info = debug.getinfo(level, "Sl")
  while info and (info.what == "C" or info.source:find("/segue/testing.lua", 1, true)) do
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  return info
end

local function raise(message)
  local info = caller()
  error(info and ("%s:%d: %s"):format(info.short_src, info.currentline, message) or message, 0)
end

local function absolute(path)
  local info = caller()
  if path:sub(1, 1) ~= "/" and info and info.source:sub(1, 1) == "@" then
    path = (info.source:sub(2):match("^(.*)/[^/]*$") or ".") .. "/" .. path
  end
  local folder, name = path:match("^(.*)/([^/]*)$")
  if not folder then folder, name = ".", path end
  local real = core.folder(folder == "" and "/" or folder)
  if not real then raise(("there is no folder %s"):format(folder)) end
  return (real == "/" and "" or real) .. "/" .. name
end

local open = setmetatable({}, { __mode = "k" })
local default_wait = "10m"

local function options_of(name, given, known)
  if given == nil then return {} end
  if type(given) ~= "table" then
    raise(("%s: options are a table, not a %s"):format(name, type(given)))
  end
  for key in pairs(given) do
    if known[key] == nil then
      local names = {}
      for option in pairs(known) do names[#names + 1] = option end
      table.sort(names)
      raise(("%s: %s is not a known option: %s"):format(name, tostring(key),
        core.hint(tostring(key), names)))
    end
  end
  return given
end

local function milliseconds(name, time)
  local ms, wrong = core.duration(time)
  if not ms then raise(("%s: the time %s"):format(name, wrong)) end
  return ms
end

local function text_argument(name, value)
  if type(value) ~= "string" or value == "" then
    raise(("%s needs a text, not %s"):format(name, value == "" and "an empty one" or "a "
      .. type(value)))
  end
end

local policy_options = { now = true, env = true, text = true }

--- A rehearsal of a policy. path: relative to the folder of the spec; by default the policy that
--- `segue test -c` names. options: `text` (the policy itself; then nothing is at path), `now`
--- (seconds since 1970 that the clock shows at first), `env` (variables; by default there is none).
---@param path? string
---@param options? { text?: string, now?: number, env?: table<string, string> }
---@return segue.Rehearsal
function testing.policy(path, options)
  local o = options_of("testing.policy", options, policy_options)
  if path ~= nil then text_argument("testing.policy", path) end
  path = absolute(path or core.policy)
  local count = 0
  for _ in pairs(open) do count = count + 1 end
  if count > 8 then collectgarbage() end -- each has a thread of its own
  local self = setmetatable({ path = path, folder = path:match("^(.*)/[^/]*$"), handlers = {},
    commands_run = {}, requests_made = {}, signals_sent = {}, operations_done = {},
    recalled = {}, peers = {} }, Rehearsal)
  local weak = setmetatable({ self }, { __mode = "v" }) -- the core must not hold self
  self.core = core.new(path, (o.now or 1767225600) * 1000, function(kind, question)
    return answers[kind](weak[1], question)
  end)
  open[self] = true
  if o.text then self.core:file(path, o.text) end
  for name, value in pairs(o.env or {}) do self:env(name, value) end
  return self
end

-- ---- Files, variables and answers ----

function Rehearsal:at(path)
  text_argument("a path", path)
  return path:sub(1, 1) == "/" and path or self.folder .. "/" .. path
end

--- With a text: a file, relative to the policy's folder, has these bytes from now on; nil: it is
--- missing. Files that are not named are those of the disk, which is never written. With a path
--- alone: returns the bytes of a file that the spec has put there, that the policy has written or
--- that a module of the kind files has rendered, and its mode and owner (the owner as the policy
--- names it; nil: that of segue). nil: there is none. In a function of t:on_command that answers a
--- check, the files are as the check sees them: the staged ones in place of the live ones. A module
--- never sees the disk at the place of its files. @param path string @param text? string @return
--- segue.Rehearsal|string? self the rehearsal, or the bytes @return { mode: string, owner?: string
--- }? attributes @overload fun(self: segue.Rehearsal, path: string): string?, { mode: string,
--- owner?: string }? @overload fun(self: segue.Rehearsal, path: string, text: string?):
--- segue.Rehearsal
function Rehearsal:file(path, ...)
  local text = ...
  if select("#", ...) == 0 then
    local live, mode, owner = self.core:look(self:at(path))
    if not live then return nil end
    return live, { mode = mode, owner = owner }
  end
  if text ~= nil and type(text) ~= "string" then
    raise(("t:file: the content of %s is a text, not a %s"):format(path, type(text)))
  end
  if text then
    self.core:file(self:at(path), text)
  else
    self.core:file(self:at(path), nil, "ENOENT", "no such file")
  end
  return self
end

--- From now on a file cannot be read: code such as "EACCES" or "EIO".
---@param path string
---@param code? string default "EIO"
---@param message? string
---@return segue.Rehearsal self
function Rehearsal:fail(path, code, message)
  self.core:file(self:at(path), nil, code or "EIO", message)
  return self
end

--- The file of the disk counts again.
---@param path string
---@return segue.Rehearsal self
function Rehearsal:restore(path)
  self.core:unfile(self:at(path))
  return self
end

--- Returns the text that the policy wrote to a file (or the spec put there); nil: there is no file.
---@param path string
---@return string?
function Rehearsal:written(path)
  return self.core:read(self:at(path))
end

--- A variable of the environment; nil: it is not set.
---@param name string
---@param value? string
---@return segue.Rehearsal self
function Rehearsal:env(name, value)
  text_argument("t:env", name)
  self.core:env(name, value)
  return self
end

local function add_handler(self, kind, fn)
  if type(fn) ~= "function" then
    raise(("t:on_%s needs a function, not a %s"):format(kind, type(fn)))
  end
  self.handlers[kind] = self.handlers[kind] or {}
  table.insert(self.handlers[kind], 1, fn)
  return self
end

--- Answers commands of the policy: fn(argv, command) returns true (exit code 0), an exit code, a
--- text (its output), a table { code, stdout, stderr, signal, seconds } or { error = "ENOENT",
--- message = ... }; nil passes on to the function before. A command that none answers is refused,
--- and fails the spec.
---@param fn fun(argv: string[], command: { argv: string[], env: string[], cwd?: string,
---  stdin?: string }): any
---@return segue.Rehearsal self
function Rehearsal:on_run(fn)
  return add_handler(self, "run", fn)
end

-- Whether a command begins with the words of a text: "nginx" and "nginx -t" are those of
-- "nginx -t -c nginx.conf".
local function begins(command, words)
  return command:sub(1, #words) == words and (#command == #words
    or command:sub(#words + 1, #words + 1):find "%s" ~= nil)
end

local function matches(matcher, argv, command)
  if type(matcher) == "function" then return matcher(argv, command) end
  local line = argv[1] == "/bin/sh" and argv[2] == "-c" and argv[3] or table.concat(argv, " ")
  return begins(line, matcher) or (command.shown and begins(command.shown, matcher))
end

--- Answers the commands that match: check, apply and undo of a module of the kind files, and
--- commands of the policy. matcher: the words that the command begins with (as the policy has them,
--- or as it runs), or a function of argv and the command that returns whether it matches. answer:
--- as a function of t:on_run returns it, or such a function. A later call stands before earlier
--- ones. The command of a module has `module`, `step` ("check", "apply", "undo"), `shown` (as the
--- policy has it) and `user` also.
---@param matcher string|fun(argv: string[], command: table): boolean?
---@param answer any|fun(argv: string[], command: table): any
---@return segue.Rehearsal self
function Rehearsal:on_command(matcher, answer)
  if type(matcher) ~= "function" then text_argument("t:on_command", matcher) end
  if answer == nil then
    raise("t:on_command needs an answer: true, an exit code, a text, a table or a function")
  end
  return add_handler(self, "run", function(argv, command)
    if not matches(matcher, argv, command) then return nil end
    if type(answer) == "function" then return answer(argv, command) end
    return answer
  end)
end

--- Answers signals of modules of the kind files (segue.hup, segue.send_signal): fn(signal) returns
--- true (it was sent), { error = "ESRCH", message = ... }, { seconds = ... }, or nil as t:on_run.
---@param fn fun(signal: { signal: string, pidfile: string, process?: string, module: string,
---  step: string }): any
---@return segue.Rehearsal self
function Rehearsal:on_signal(fn)
  return add_handler(self, "signal", fn)
end

--- Answers requests: fn(request) returns a status, a text (the body of a 200), a table { status,
--- headers, body, seconds } or { error = "ECONNREFUSED", message = ... }, or nil as above. A TCP
--- probe is a request too; true lets it connect.
---@param fn fun(request: { url: string, method?: string, headers: string[], body?: string }): any
---@return segue.Rehearsal self
function Rehearsal:on_fetch(fn)
  return add_handler(self, "fetch", fn)
end

--- Answers look-ups: fn(name, type) returns a list of addresses, or (type "SRV" or "TXT") of
--- records as segue.resolve has them, { error = ... }, or nil.
---@param fn fun(name: string, type?: string): any
---@return segue.Rehearsal self
function Rehearsal:on_resolve(fn)
  return add_handler(self, "resolve", fn)
end

--- Takes the connections of the policy (segue.connect): fn(peer) returns true (it accepts),
--- { seconds } or { error = "ECONNREFUSED", message = ... }; nil passes on to the function before.
--- A connection that none accepts is refused, and fails the spec. peer.received(peer, bytes), if it
--- is set, gets what the policy writes; peer:send(bytes) and peer:close() work then and later.
---@param fn fun(peer: segue.Peer): any
---@return segue.Rehearsal self
function Rehearsal:on_connect(fn)
  return add_handler(self, "connect", fn)
end

--- Replaces the operations of modules of other kinds than files: fn(name, verb, config) is called
--- for prepare, start, drain and stop. It may return false and a reason: the operation fails; or
--- { seconds = 30 }: it takes that time. Without fn every operation succeeds at once.
---@param fn fun(name: string, verb: string, config?: any): boolean|{ seconds: number }|nil, string?
---@return segue.Rehearsal self
function Rehearsal:on_module(fn)
  return add_handler(self, "module", fn)
end

-- ---- Triggers ----

local function plain(result)
  if result and result.deferred then result.outcome = "deferred" end
  return result
end

-- Returns the result of a trigger. A run that a rate limit postponed has no result of its own.
local function outcome(self, code, result, before)
  if result then return plain(result) end
  local last = self.core:results(before + 1)
  for i = #last, 1, -1 do
    if last[i].deferred then return plain(last[i]) end
  end
  local what = code == "SEGUE_EDEFERRED" and "deferred" or "refused"
  return { outcome = what, code = code, deferred = what == "deferred", errors = {}, changes = {},
    plan = {}, generation = self:generation() }
end

-- Calls the core. An error of one of the spec's functions has its place already, or gets the place
-- of the call.
local function in_core(self, method, ...)
  local results = { pcall(self.core[method], self.core, ...) }
  if results[1] then return unpack(results, 2, 4) end
  if tostring(results[2]):find("^[^\n]-:%d+: ") then error(results[2], 0) end
  raise(results[2])
end

local wait_options = { wait = true, force = true, if_match = true, accept_shrink = true }

local function fire(self, name, trigger, cause, options, plan_only)
  local o = options_of(name, options, wait_options)
  local before = self.core:state().results
  local id = self.core:fire(trigger, cause, o.force, plan_only, o.if_match,
    o.accept_shrink)
  if o.wait == false then return nil end
  local most = milliseconds(name, o.wait or default_wait)
  local answered, code, result = in_core(self, "await", id, most)
  if not answered then
    local phase = self.core:state().phase
    raise(("%s: nothing came of it within %s of simulated time: %s"):format(name,
      o.wait or default_wait, phase and "the reload is in its phase " .. phase
      or "it waits for its turn"))
  end
  return outcome(self, code, result, before)
end

--- The first load. Comes before every trigger.
---@return segue.TestResult
function Rehearsal:start()
  if self.started then raise("t:start: this rehearsal has started already") end
  self.started = true
  return fire(self, "t:start", "start", "start")
end

local function must_name(self, name, what, holds)
  if not self.started then raise(("%s: t:start() comes first"):format(name)) end
  for _, trigger in ipairs(self.core:triggers() or {}) do
    if holds(trigger) then return end
  end
  raise(("%s: the policy that is live has no trigger %s, so nothing would happen"):format(name,
    what))
end

local signals = { HUP = 1, USR1 = 10, USR2 = 12, WINCH = 28 }

--- Sends a signal and returns the result. Like all triggers it moves the clock until the reload has
--- ended, at most by options.wait (10m); with wait = false it only fires.
---@param name string "HUP"
---@param options? { wait?: segue.Duration|false }
---@return segue.TestResult
function Rehearsal:signal(name, options)
  name = tostring(name):gsub("^SIG", "")
  if not signals[name] then
    raise(("t:signal: '%s' cannot be a trigger: use HUP, USR1, USR2 or WINCH"):format(name))
  end
  must_name(self, "t:signal", ("segue.signal %q"):format(name), function(trigger)
    return trigger.type == "signal" and trigger.signum == signals[name]
  end)
  return fire(self, "t:signal", "signal", "SIG" .. name, options)
end

--- Reports a change of a watched file. (t:file changes the content without a notice.)
---@param path string
---@param options? { wait?: segue.Duration|false }
---@return segue.TestResult
function Rehearsal:watch(path, options)
  must_name(self, "t:watch", "segue.watch()", function(trigger) return trigger.type == "watch" end)
  return fire(self, "t:watch", "watch", self:at(path) .. " changed", options)
end

--- POST /-/reload on a listener of the policy.
---@param options? { wait?: segue.Duration|false, force?: boolean, if_match?: string,
---  accept_shrink?: boolean }
---@return segue.TestResult
function Rehearsal:http(options)
  must_name(self, "t:http", "segue.http", function(trigger) return trigger.type == "http" end)
  return fire(self, "t:http", "http", "POST /-/reload from 127.0.0.1", options)
end

--- Fires a poll now. (The polls of the policy fire by themselves as the clock moves.)
---@param options? { wait?: segue.Duration|false }
---@return segue.TestResult
function Rehearsal:poll(options)
  must_name(self, "t:poll", "segue.poll", function(trigger) return trigger.type == "poll" end)
  return fire(self, "t:poll", "poll", "poll", options)
end

--- `segue reload`: over the control socket, which is always there.
---@param options? { wait?: segue.Duration|false, force?: boolean, if_match?: string,
---  accept_shrink?: boolean }
---@return segue.TestResult
function Rehearsal:reload(options)
  if not self.started then raise("t:reload: t:start() comes first") end
  return fire(self, "t:reload", "control", "segue reload", options)
end

--- As `segue plan`: returns the steps of a reload, without doing them.
---@return segue.TestResult
function Rehearsal:plan()
  return fire(self, "t:plan", "control", "segue plan", nil, true)
end

--- Moves the clock: timers, polls and tasks of the policy fire at their instants. Returns the
--- results of the reloads in that time.
---@param time segue.Duration
---@return segue.TestResult[]
function Rehearsal:advance(time)
  local before = self.core:state().results
  in_core(self, "advance", milliseconds("t:advance", time))
  return self:results(before + 1)
end

-- ---- What came ----

--- Returns the results of all runs so far, also of plans and of skipped or postponed runs.
---@param from? integer
---@return segue.TestResult[]
function Rehearsal:results(from)
  local list = self.core:results(from or 1)
  for _, result in ipairs(list) do plain(result) end
  return list
end

--- The last of them; nil before the first.
---@return segue.TestResult?
function Rehearsal:last()
  local list = self.core:results(math.max(1, self.core:state().results))
  return plain(list[1])
end

--- Returns the live configuration, or the value at a path in it, as a plain value.
---@param path? string
---@return any
function Rehearsal:config(path) return (self.core:config(path)) end

--- The generation that is live; 0: none.
---@return integer
function Rehearsal:generation() return self.core:state().generation end

--- The clock: seconds since 1970.
---@return number
function Rehearsal:now() return self.core:state().wall_ms / 1000 end

--- The phase of the reload that runs; nil: none does.
---@return string?
function Rehearsal:running() return self.core:state().phase end

--- The sources of the live policy, with what its strategy decided for each.
---@return { name: string, kind: string, strategy: "push"|"pull", failures: integer,
---  documents: integer, error?: string, up: boolean, held: boolean, activity: string }[]
function Rehearsal:sources() return self.core:sources() end

--- The commands, requests, signals and module operations so far, in order. step: of a module of the
--- kind files.
---@return { argv: string[], env: string[], cwd?: string, stdin?: string, module?: string,
---  step?: "check"|"apply"|"undo", shown?: string, user?: string }[]
function Rehearsal:commands() return self.commands_run end
---@return { url: string, method?: string, headers: string[], body?: string }[]
function Rehearsal:requests() return self.requests_made end
---@return { signal: string, pidfile: string, process?: string, module: string, step: string }[]
function Rehearsal:signals() return self.signals_sent end
---@return { name: string, verb: string, config?: any }[]
function Rehearsal:operations() return self.operations_done end

--- Returns the log, line by line in one text.
---@return string
function Rehearsal:log() return self.core:log() end

--- Ends it: modules stop, tasks end. The collector does that too.
function Rehearsal:close()
  open[self] = nil
  self.core:close()
end

local replay_options = { policy = true, on_run = true, on_fetch = true, on_resolve = true,
  on_connect = true, on_signal = true }

--- Replays an incident that `segue record` wrote, relative to the folder of the spec, against its
--- own policy or another one. Commands, requests, signals, look-ups and files answer as they did
--- then. Where on_run, on_fetch, on_signal, on_resolve or on_connect is given, it answers instead
--- of the recording.
---@param path string
---@param options? { policy?: string, on_run?: function, on_fetch?: function,
---  on_signal?: function, on_resolve?: function, on_connect?: function }
---@return segue.Replay
function testing.replay(path, options)
  local o = options_of("testing.replay", options, replay_options)
  text_argument("testing.replay", path)
  local report, why = require("segue.testing.replay").replay(absolute(path),
    o.policy and absolute(o.policy),
    { run = o.on_run, fetch = o.on_fetch, signal = o.on_signal, resolve = o.on_resolve,
      connect = o.on_connect })
  if not report then raise(why) end
  return report
end

return testing

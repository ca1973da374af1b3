-- SPDX-License-Identifier: MIT
-- An engine under a simulated clock with scripted files, modules and hooks:
--   local e = engine.new { files = { ["a.yaml"] = "x: 1" }, modules = { { "db", "restart" } } }
--   local w = e:reload(); e:step(); assert.equal("applied", w:outcome())
local C = require "spec.support.c"
local Record = require "spec.support.record"
local ffi = C.ffi

local Engine = {}
Engine.__index = Engine

local M = { OK = 0, FAIL = 1, LATER = 2, TWICE = 3, THREAD = 4, FAIL_ONCE = 5, FAIL_AND_OK = 6,
            REFUSE = 7, DIE = 8, DIE_LATER = 9 }
M.verbs = { prepare = 0, start = 1, drain = 2, stop = 3 }
M.overs = { cut = 0, wait = 1, undo = 2, ask = 3 }
local replaces = { swap = 0, handover = 1, restart = 2 }
local triggers = { start = 0, signal = 1, watch = 2, http = 3, control = 4, poll = 5, push = 6 }

local function strings(list)
  if not list or #list == 0 then return nil, 0 end
  local out = ffi.cast("char **", C.segue__calloc(#list, ffi.sizeof("char *")))
  for i, s in ipairs(list) do out[i - 1] = C.segue__strdup(s) end
  return out, #list
end

local function array(type, n)
  return ffi.cast(type .. " *", C.segue__calloc(n, ffi.sizeof(type)))
end

--- A policy as C data. spec: sources (paths, or tables for network_source), guards (by number),
--- modules ({ name, replace, config=, needs=, ... }),
--- check, reload, probe (what the hooks do), and any number field of segue__policy.
function Engine:policy(spec)
  local out = ffi.new("segue__policy *[1]")
  C.check(C.segue__policy_new(out))
  local p = out[0]
  local inputs = spec.inputs or { "reload.lua" }
  p.inputs, p.input_count = array("segue__input", #inputs), #inputs
  for i, path in ipairs(inputs) do
    p.inputs[i - 1].path = C.segue__strdup(path)
    local text = self.text[path] or ""
    p.inputs[i - 1].hash = C.segue__hash_bytes(text, #text, ffi.new("segue__hash"))
  end
  local sources = spec.sources or { "a.yaml" }
  p.sources, p.source_count = array("segue__source", #sources), #sources
  for i, path in ipairs(sources) do
    local s = p.sources[i - 1]
    if type(path) == "table" then
      self:network_source(s, path)
    else
      s.kind, s.format = C.segue__source_file, -1
      s.name, s.path = C.segue__strdup(path), C.segue__strdup(path)
    end
    if spec.guards and spec.guards[i] then self:guard(s.guard, spec.guards[i]) end
  end
  local modules = spec.modules or {}
  p.modules, p.module_count = array("segue__module_spec", math.max(#modules, 1)), #modules
  for i, m in ipairs(modules) do
    local s = p.modules[i - 1]
    s.name, s.kind = C.segue__strdup(m[1]), C.segue__strdup("c")
    s.replace = replaces[m[2] or "handover"]
    s.config = m.config and C.segue__strdup(m.config) or nil
    s.needs, s.needs_count = strings(m.needs)
    s.ops, s.userdata = C.scripted_module_ops(), self:module(m[1])
    for _, key in ipairs { "prepare_ms", "start_ms", "stop_ms" } do s[key] = m[key] or 0 end
    s.drain.within_ms, s.drain.over = m.drain_ms or 0, M.overs[m.over or "cut"]
    s.drain.again = m.again or 0
    if m.buffer then s.buffer.items, s.buffer.bytes, s.buffer.age_ms = unpack(m.buffer) end
    s.failed_waits = m.on_failure == "wait"
    if m.exclusive then self:module(m[1]).exclusive = true end
  end
  for key, value in pairs(spec.set or {}) do p[key] = value end
  p.schema = spec.schema and C.segue__strdup(spec.schema) or nil
  local with = spec.schema_with or {} -- of { path, uri }
  p.schema_with, p.schema_with_count = array("segue__schema_part", math.max(#with, 1)), #with
  for i, part in ipairs(with) do
    p.schema_with[i - 1].path = C.segue__strdup(part[1])
    p.schema_with[i - 1].uri = part[2] and C.segue__strdup(part[2]) or nil
  end
  p.has_check, p.has_reload, p.has_probe = spec.check ~= nil, spec.reload ~= nil, spec.probe ~= nil
  p.confirm, p.has_strategy = spec.probe ~= nil or spec.by_operator or false, spec.strategy ~= nil
  p.confirm_by_operator = spec.by_operator or false
  local hooks = C.scripted_hooks_new(self.world)
  table.insert(self.hooks_all, hooks)
  self.hooks = hooks
  hooks.check = spec.check or 0
  hooks.probe = spec.probe or 0
  hooks.strategy = spec.strategy or 0
  if spec.check_code then hooks.check_code = spec.check_code end
  if spec.reload then ffi.copy(hooks.script, spec.reload) end
  hooks.defer_ms = spec.defer_ms or 0
  p.ops, p.impl = C.scripted_policy_ops(), hooks
  return p
end

-- { "net", pushes = true, optional =, interval_ms =, safety_ms =, retry_min_ms =, spec = number }
function Engine:network_source(s, spec)
  s.kind, s.format = C.scripted_source_kind(), -1
  s.name, s.impl = C.segue__strdup(spec[1]), self:source(spec[1])
  for key, value in pairs(spec) do
    if type(key) == "string" and key ~= "spec" then s[key] = value end
  end
  s.spec.lo = spec.spec or 1
end

--- { min_items = 1, max_shrink = 0.5, required = { "a.b" }, max_age_ms = 1000 }
function Engine:guard(guard, spec) -- luacheck: no self
  guard.min_items, guard.max_age_ms = spec.min_items or 0, spec.max_age_ms or 0
  guard.shrink_limited, guard.max_shrink = spec.max_shrink ~= nil, spec.max_shrink or 0
  guard.required, guard.required_count = strings(spec.required)
end

--- The scripted asynchronous source of a name: its fields determine its behaviour.
function Engine:source(name)
  if not self.network[name] then
    self.network[name] = C.scripted_source_new(self.world, name)
  end
  return self.network[name]
end

--- Sets the content of a source from now on.
function Engine:deliver(name, text, revision)
  local s = self:source(name)
  ffi.copy(s.text, text)
  ffi.copy(s.revision, revision or "")
end

function Engine:emit(name, ask) C.scripted_source_emit(self:source(name), ask or false) end
function Engine:end_watch(name, status)
  C.scripted_source_end_watch(self:source(name), status or 0)
end

--- The state of a source, as the status reports it.
function Engine:source_status(name)
  local out = ffi.new("segue__source_status")
  for i = 0, tonumber(C.segue__engine_source_count(self.c)) - 1 do
    C.segue__engine_source_status(self.c, i, out)
    if C.str(out.name) == name then
      return { up = out.up, held = out.held, too_old = out.too_old, push = out.push,
        activity = C.str(out.activity),
        revision = C.str(out.revision), stale_ms = tonumber(out.stale_ms),
        next_ms = tonumber(out.next_ms), failures = tonumber(out.consecutive_failures),
        watch_failures = tonumber(out.watch_failures), fetches = tonumber(out.fetches),
        keys = tonumber(out.keys), events = tonumber(out.events), lag_us = tonumber(out.lag_us),
        restarts = tonumber(out.watch_restarts), failure = C.str(out.failure),
        failed = { away = tonumber(out.failed[0]), busy = tonumber(out.failed[1]),
          denied = tonumber(out.failed[2]), invalid = tonumber(out.failed[3]) },
        resyncs = { gone = tonumber(out.resyncs[0]), gap = tonumber(out.resyncs[1]),
          overflow = tonumber(out.resyncs[2]) },
        error = out.error ~= nil and C.err(out.error).message or nil }
    end
  end
end

--- Sets the policy that the loader returns from now on; the text of reload.lua changes with it.
function Engine:set_policy(spec)
  self.version = (self.version or 0) + 1
  self:write("reload.lua", "-- version " .. self.version)
  C.scripted_loader_put(self.loader, self:policy(spec))
  return self.hooks
end

function Engine:module(name)
  if not self.modules[name] then
    self.modules[name] = C.scripted_module_new(self.world, name)
  end
  return self.modules[name]
end

function Engine:behave(name, verb, behaviour)
  self:module(name).behaviour[M.verbs[verb]] = behaviour
end

--- The instance that was started last reports its failure.
function Engine:die(name, why, on_thread)
  return C.scripted_die(self:module(name), why or "it died", on_thread or false)
end

--- How many instances of a module have reported a failure.
function Engine:failures(name)
  local out = ffi.new("segue__module_status")
  for i = 0, tonumber(C.segue__engine_module_count(self.c)) - 1 do
    C.segue__engine_module_status(self.c, i, out)
    if C.str(out.name) == name then return tonumber(out.failures) end
  end
end

function Engine:finish(name, verb, status)
  return C.scripted_finish(self:module(name), M.verbs[verb], status or 0)
end

function Engine:write(path, text)
  self.text[path] = text
  C.scripted_files_set(self.files, path, text, #text)
end

function Engine:remove(path)
  self.text[path] = nil
  C.scripted_files_del(self.files, path)
end

local Waiter = {}
Waiter.__index = Waiter
function Waiter:answered() return self.c.calls > 0 end
function Waiter:status() return C.name(self.c.status) end
function Waiter:result() return self.c.result ~= nil and self.c.result or nil end
function Waiter:outcome()
  if self.c.calls == 0 then return "nothing yet" end
  if self.c.result == nil then return C.name(self.c.status) end
  return C.str(C.segue__outcome_name(self.c.result.outcome))
end
function Waiter:error(i)
  local errors = self.c.result.errors
  return tonumber(errors.count) > (i or 0) and C.err(errors.items + (i or 0)) or nil
end
function Waiter:generation() return tonumber(self.c.result.generation) end
--- "a=handover b=keep"
function Waiter:plan()
  local words = {}
  for i = 0, tonumber(self.c.result.step_count) - 1 do
    local s = self.c.result.steps[i]
    words[#words + 1] = C.str(s.module) .. "=" .. C.str(s.action)
  end
  return table.concat(words, " ")
end
--- The steps that a plan has not tried.
function Waiter:untried()
  local words = {}
  for i = 0, tonumber(self.c.result.untried_count) - 1 do
    words[#words + 1] = C.str(self.c.result.untried[i])
  end
  return table.concat(words, "; ")
end
function Waiter:why(i) return C.str(self.c.result.steps[i or 0].why) end

--- Requests a reload; options: trigger (default "http"), cause, force, plan (true: as the command
--- makes it; "look": it prepares nothing), if_match, fail_at (the allocation that fails), fail_for
--- (how many fail from there on), or fail_seed and fail_one_in (random bursts).
function Engine:reload(options)
  options = options or {}
  local request = ffi.new("segue__reload_request")
  request.trigger = triggers[options.trigger or "http"]
  request.cause = options.cause
  request.force, request.plan_only = options.force or false, options.plan ~= nil
  request.rehearse = options.plan == true
  request.accept_shrink = options.accept_shrink or false
  request.if_match = options.if_match
  local w = setmetatable({ c = C.scripted_waiter_new() }, Waiter)
  table.insert(self.waiters, w)
  C.segue__mem_fail_burst(options.fail_at or 0, options.fail_for or 1)
  if options.fail_seed then C.segue__mem_fail_random(options.fail_seed, options.fail_one_in) end
  w.rc = C.segue__engine_request(self.c, request, w.c.waiter)
  return w
end

--- The same, and lets it run.
function Engine:reload_now(options)
  local w = self:reload(options)
  self:step()
  return w
end

--- A trigger without a waiter.
function Engine:trigger(kind, cause)
  local request = ffi.new("segue__reload_request")
  request.trigger, request.cause = triggers[kind], cause
  return C.segue__engine_request(self.c, request, nil)
end

function Engine:forget(w) C.segue__engine_forget(self.c, w.c.waiter) end
-- Old instances under `swap` wait for a grace period, which another thread waits for; what is
-- recorded is written by a third one.
function Engine:step()
  repeat
    C.segue__loop_step(self.loop)
    C.scripted_settle(self.publication)
    if self.record then C.segue__record_flush(self.record) end
  until C.segue__loop_step(self.loop) == 0
end

function Engine:advance(ms)
  C.segue__loop_advance(self.loop, ms)
  self:step()
end

--- The events since the last call, one line each.
function Engine:journal()
  local text = C.buf(self.world.journal)
  self.world.journal.len, self.world.journal.failed = 0, 0
  return text
end

function Engine:generation()
  local live = C.segue__engine_live(self.c)
  return live ~= nil and tonumber(C.segue_snapshot_generation(live)) or 0
end

--- The value that readers see at a path, as JSON.
function Engine:value(path)
  local live = C.segue__publication_get(self.publication)
  if live == nil then return nil end
  local node = C.segue_node_get(C.segue_snapshot_root(live), path)
  if node == nil then return nil end
  local buf = ffi.new("segue__buf")
  C.segue__json_write(buf, node, 0)
  local text = C.buf(buf)
  C.segue__buf_deinit(buf)
  return text
end

local gates = { [0] = "shut", "open", "refusing" }

--- { state = "serving", gate = "open", generation = 2, draining = 0, error = nil }, and what was
--- cut: { drains = 0, inside = 0 }
function Engine:status(name)
  local out = ffi.new("segue__module_status")
  for i = 0, tonumber(C.segue__engine_module_count(self.c)) - 1 do
    C.segue__engine_module_status(self.c, i, out)
    if C.str(out.name) == name then
      return {
        state = C.str(C.segue__module_state_name(out.state)),
        gate = gates[tonumber(ffi.cast("int", out.gate.state))],
        generation = tonumber(out.generation), draining = tonumber(out.draining),
        error = out.error ~= nil and C.err(out.error).message or nil,
      }, { drains = tonumber(out.drains_cut), inside = tonumber(out.inside_cut) }
    end
  end
end

--- "a=open b=refusing"; "astray" is an open gate that leads to another instance than the live one,
--- "half" one in the middle of a flip.
function Engine:gates()
  local words = {}
  for i = 0, tonumber(C.segue__modules_count(self.c.modules)) - 1 do
    local m = C.segue__modules_at(self.c.modules, i)
    local state = gates[tonumber(ffi.cast("int", C.segue__gate_state_get(m.gate)))]
    if state == "open" and C.gate_leads_to(m.gate) ~= m.live then state = "astray" end
    if C.gate_is_flipping(m.gate) then state = "half" end
    words[#words + 1] = C.str(m.name) .. "=" .. state
  end
  return table.concat(words, " ")
end

--- Begins to stop: what this returns has true at [0] in the end.
function Engine:stop()
  if not self.stopped then
    self.stopped = ffi.new("bool[1]")
    C.scripted_engine_stop(self.c, self.stopped)
  end
  return self.stopped
end

--- Completes every operation of the modules that waits, and every hook, and closes: for specs that
--- may end in the middle of a reload.
function Engine:finish_and_close()
  for name in pairs(self.modules) do
    for verb in pairs(M.verbs) do
      self:behave(name, verb, M.OK)
      self:finish(name, verb)
    end
  end
  C.scripted_hooks_finish(self.hooks)
  self:step()
  self:close()
end

--- The operations of modules since the last call: "a.prepare 2, a.start 2".
function Engine:operations()
  local list = {}
  for line in self:journal():gmatch("[^\n]+") do
    if line:match("^%a+%.%a+ %d") then list[#list + 1] = line end
  end
  return table.concat(list, ", ")
end

--- Changes the value x of a.yaml (e.version_x), and reloads; returns the waiter.
function Engine:change(options)
  self.version_x = (self.version_x or 1) + 1
  self:write("a.yaml", "x: " .. self.version_x)
  local w = self:reload(options)
  self:step()
  return w
end

--- Stops and frees everything; raises if an instance, a hook or memory is left.
function Engine:close(leaks_allowed)
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  local stopped = self:stop()
  for _ = 1, 100 do
    self:step()
    if stopped[0] then break end
    self:advance(60000)
  end
  assert(stopped[0], "the engine did not stop")
  for _, w in ipairs(self.waiters) do C.scripted_waiter_free(w.c) end
  C.segue__engine_unobserve(self.c, self.observer)
  C.segue__engine_free(self.c)
  C.segue__record_free(self.record)
  C.scripted_observer_free(self.observer)
  C.scripted_loader_free(self.loader)
  C.segue__publication_free(self.publication)
  C.segue__loop_close(self.loop, nil, nil)
  C.scripted_files_free(self.files)
  for i, hooks in ipairs(self.hooks_all) do
    if not leaks_allowed then
      assert(hooks.freed == 1, ("policy %d (reload '%s') was freed %d times"):format(i,
        C.str(hooks.script), hooks.freed))
    end
    C.scripted_hooks_free(hooks)
  end
  local instances = tonumber(self.world.instances)
  for _, m in pairs(self.modules) do C.scripted_module_free(m) end
  for _, s in pairs(self.network) do C.scripted_source_free(s) end
  C.scripted_world_free(self.world)
  if not leaks_allowed then
    assert(instances == 0, instances .. " instances were not destroyed")
    local left = tonumber(C.segue__mem_live()) - self.memory
    assert(left == 0, left .. " allocations were not freed")
  end
end

--- Makes the content of the last good generation on disk live, as a start without sources does.
function Engine:replay_last_good()
  local slots = Record.slots(self.state, "last-good")
  local info, files = ffi.new("segue__last_good[1]"), ffi.new("segue__files *[1]")
  C.check(C.segue__last_good_read(slots, info, files))
  local w = setmetatable({ c = C.scripted_waiter_new() }, Waiter)
  table.insert(self.waiters, w)
  w.rc = C.segue__engine_replay(self.c, files[0], 0, triggers.start, "last good", w.c.waiter)
  C.segue__last_good_deinit(info)
  C.segue__two_slot_file_deinit(ffi.gc(slots, nil))
  C.segue__files_unref(files[0])
  return w
end

--- A new engine: files (name -> text), and what policy() takes; state: a folder that outlives it;
--- now_ms, wall_ms: the clocks. Not started.
function M.new(spec)
  local e = setmetatable({ text = {}, modules = {}, waiters = {}, hooks_all = {},
    network = {} }, Engine)
  e.memory = tonumber(C.segue__mem_live())
  e.world = C.scripted_world_new()
  e.files = C.scripted_files_new()
  e.loader = C.scripted_loader_new()
  e.triggers = ffi.new("scripted_triggers")
  local out = ffi.new("segue__loop *[1]")
  C.check(C.segue__loop_open_manual(out, spec.now_ms or 1000000, spec.wall_ms or 1700000000000LL))
  e.loop = out[0]
  local publication = ffi.new("segue__publication *[1]")
  C.check(C.segue__publication_new(publication))
  e.publication = publication[0]
  for path, text in pairs(spec.files or { ["a.yaml"] = "x: 1\n" }) do e:write(path, text) end
  e:set_policy(spec)
  if spec.state then
    local record = ffi.new("segue__record *[1]")
    C.check(C.scripted_record_new(record, e.loop, C.scripted_files_os(e.files),
      C.os_harness_log(), spec.state))
    e.record, e.state = record[0], spec.state
  end
  local engine = ffi.new("segue__engine *[1]")
  C.check(C.scripted_engine_new(engine, e.loop, C.scripted_files_os(e.files), e.publication,
    e.loader, e.triggers, e.world, e.record))
  e.c = engine[0]
  e.observer = C.scripted_observer_new(e.world)
  C.segue__engine_observe(e.c, e.observer)
  return e
end

--- As new, and with its first generation live; spec.before(e): is called before that.
function M.started(spec)
  local e = M.new(spec)
  if spec.before then spec.before(e) end
  local w = e:reload { trigger = "start", cause = "start" }
  e:step()
  assert(w:outcome() == "applied", "the first generation: " .. w:outcome() ..
    (w:result() and w:error() and (": " .. w:error().text) or ""))
  e:journal()
  return e
end

--- The same with a source "net" that has delivered n = 1 at the revision r1. spec.net: its options.
function M.started_with_net(spec)
  spec = spec or {}
  local net, before = { "net", pushes = false }, spec.before
  for key, value in pairs(spec.net or {}) do net[key] = value end
  spec.sources = spec.sources or { "a.yaml", net }
  spec.before = function(e)
    e:deliver("net", "n: 1\n", "r1")
    if before then before(e) end
  end
  return M.started(spec)
end

--- How often a text stands in another one, for example in a journal.
function M.count(text, what)
  return select(2, text:gsub(what:gsub("%p", "%%%0"), ""))
end

--- For the setup of specs whose thread passes gates: the first gates that a thread passes give it
--- memory that it keeps, which would be counted as not freed.
function M.pass_first_gates()
  local e, passes = M.started { modules = { { "m" }, { "n" } } }, {}
  for i, name in ipairs { "m", "n", "m" } do
    passes[i] = C.new("segue_pass")
    C.segue_gate_enter(C.segue__module_find(e.c.modules, name).gate, passes[i])
  end
  for _, pass in ipairs(passes) do C.segue_gate_leave(pass) end
  e:close(true)
end

return M

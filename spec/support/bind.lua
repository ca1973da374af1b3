-- SPDX-License-Identifier: MIT
-- Policies under test: files in memory, a simulated clock, hooks called as the engine calls them.
--   local b = bind.open(); local policy = b:load [[ return { ... } ]]
--   local answer = b:check(policy, "port: 80"); b:close()
-- close fails if memory, a Lua state, a task or a reference was left behind.
local C = require "spec.support.c"
local ffi = C.ffi
local uv = require "luv"

local M = { stress = false }
local Bind = {}
Bind.__index = Bind

local library = {}
local dir = assert(uv.fs_scandir("lua/segue"))
for name in function() return uv.fs_scandir_next(dir) end do
  local file = assert(io.open("lua/segue/" .. name))
  library["lua/segue/" .. name] = file:read("*a")
  file:close()
end

--- options: signal (false: count hook), memory, load_ms, slice_ms; before: called with the files
--- before the loader is made; modules: { name, ops, userdata }
function M.open(options)
  options = options or {}
  collectgarbage()
  local self = setmetatable({ calls = {}, snapshots = {}, policies = {} }, Bind)
  self.live = C.segue__mem_live()
  self.files = C.scripted_files_new()
  for path, text in pairs(library) do self:write(path, text) end
  if options.before then options.before(self.files) end
  local modules = options.modules or {}
  self.modules = ffi.new("segue__host_module[?]", #modules + 1)
  for i, m in ipairs(modules) do
    self.modules[i - 1].name, self.modules[i - 1].ops, self.modules[i - 1].userdata =
      m[1], m[2], m[3]
  end
  self.keep = modules
  local o = ffi.new("bind_options")
  o.os = C.scripted_files_os(self.files)
  o.lua_dir, o.use_signal = "lua", options.signal ~= false
  o.memory_bytes, o.load_cpu_ms = options.memory or 0, options.load_ms or 0
  o.stress = M.stress
  o.slice_cpu_ms = options.slice_ms or 0
  o.modules, o.module_count = self.modules, #modules
  local out = ffi.new("bind_harness *[1]")
  C.check(C.bind_open(out, o))
  self.c = out[0]
  return self
end

function Bind:write(path, text)
  C.scripted_files_set(self.files, path, text, #text)
end

local function list(errors)
  local result = {}
  for i = 0, tonumber(errors[0].count) - 1 do result[i + 1] = C.err(errors[0].items + i) end
  C.segue__errors_deinit(errors)
  return result
end

--- The policy, or nil and the list of errors. text is that of reload.lua.
function Bind:load(text, path)
  path = path or "reload.lua"
  if text then self:write(path, text) end
  local errors, out = ffi.new("segue__errors[1]"), ffi.new("segue__policy *[1]")
  local rc = C.bind_load(self.c, path, out, errors)
  local total = tonumber(errors[0].total) -- with those that no memory was left to keep
  local errs = list(errors)
  if rc == 0 then
    assert(#errs == 0, "a policy was loaded, with errors")
    self.policies[#self.policies + 1] = out[0]
    return out[0]
  end
  assert(out[0] == nil and total > 0, "a policy was refused without a word")
  return nil, errs
end

--- The one error of a policy that must not load.
function Bind:refused(text)
  local policy, errs = self:load(text)
  assert(not policy, "the policy was loaded")
  return errs[1], errs
end

function Bind:unload(policy)
  for i, p in ipairs(self.policies) do
    if p == policy then table.remove(self.policies, i) end
  end
  C.segue__policy_unref(policy)
end

function Bind:snapshot(yaml, name)
  local out, e = ffi.new("segue_snapshot *[1]"), C.error()
  C.check(C.bind_snapshot(name or "config.yaml", yaml, #self.snapshots + 1, out, e), e)
  self.snapshots[#self.snapshots + 1] = out[0]
  return out[0]
end

function Bind:drop_snapshots()
  for _, snapshot in ipairs(self.snapshots) do C.segue_snapshot_unref(snapshot) end
  self.snapshots = {}
end

--- The live configuration at a path, as JSON; nil: there is none.
function Bind:value(path)
  local live = C.segue__publication_get(self.publication)
  local node = live ~= nil and C.segue_node_get(C.segue_snapshot_root(live), path)
  if not node or node == nil then return nil end
  local buf = C.new("segue__buf")
  C.segue__json_write(buf, node, 0)
  local text = C.buf(buf)
  C.segue__buf_deinit(buf)
  return text
end

function Bind:source_status(name)
  local out = C.new("segue__source_status")
  for i = 0, tonumber(C.segue__engine_source_count(self.engine_c)) - 1 do
    C.segue__engine_source_status(self.engine_c, i, out)
    if C.str(out.name) == name then
      return { up = out.up, held = out.held, activity = C.str(out.activity),
        revision = C.str(out.revision), kind = C.str(out.kind),
        error = out.error ~= nil and C.err(out.error) or nil }
    end
  end
end

function Bind:step()
  C.segue__loop_step(self.c.loop)
end

function Bind:advance(ms)
  C.segue__loop_advance(self.c.loop, ms)
end

local Call = {}
Call.__index = Call

local function call(self, c)
  self.calls[#self.calls + 1] = c
  self:step()
  return setmetatable({ c = c, bind = self }, Call)
end

--- Starts check; values are texts of YAML. See Call.
function Bind:start_check(policy, next, prev, deadline_ms)
  local old = prev and self:snapshot(prev)
  return call(self, C.bind_check(self.c, policy, self:snapshot(next or "{}"), old,
    deadline_ms or 60000))
end

function Bind:start_probe(policy, deadline_ms)
  return call(self, C.bind_probe(self.c, policy, deadline_ms or 60000))
end

function Call:is_over() return self.c.over end

--- ok, and else the error's fields (name, message, file, line ...).
function Call:answer()
  assert(self.c.over, "the hook has not answered")
  local e = C.err(self.c.error)
  e.ok, e.status = self.c.status == 0, self.c.status ~= 0 and C.name(self.c.status) or "ok"
  return e
end

--- Runs a check to its end.
function Bind:check(policy, next, prev)
  local c = self:start_check(policy, next, prev)
  for _ = 1, 1000 do
    if c:is_over() then break end
    self:advance(100)
  end
  return c:answer()
end

--- Loads a policy whose check is this body, and runs it on a configuration.
function Bind:run(body, next, prev)
  local policy, errs = self:load(([[local segue = require "segue"
return { sources = { segue.value {} }, check = function(next, prev)
%s
end }]]):format(body))
  assert(policy, errs and errs[1].text)
  return self:check(policy, next, prev)
end

--- Everything the last check found.
function Bind.explain(_, policy)
  local errors = ffi.new("segue__errors[1]")
  C.bind_explain(policy, errors)
  return list(errors)
end

function Bind:logged()
  return C.buf(self.c.logged)
end

function Bind:stats()
  local stats = ffi.new("segue__lua_stats")
  C.segue__lua_loader_stats(self.c.loader, stats)
  return { states = tonumber(stats.states), tasks = tonumber(stats.tasks),
    refs = tonumber(stats.refs), bytes = tonumber(stats.bytes) }
end

-- ---- The engine ----

--- An engine over reload.lua.
function Bind:engine()
  local publication = ffi.new("segue__publication *[1]")
  C.check(C.segue__publication_new(publication))
  self.publication = publication[0]
  self.engine_c = C.bind_engine(self.c, "reload.lua", self.publication)
  assert(self.engine_c ~= nil)
end

--- One reload: status, outcome, errors, generation.
function Bind:reload(limit_ms)
  local waiter = C.bind_request(self.engine_c, false)
  -- The worker of a manual loop runs within step.
  local over = C.bind_wait(self.c, waiter, limit_ms or 60000)
  assert(over, "the reload was not answered")
  local result = { status = waiter.status, errors = {} }
  if waiter.result ~= nil then
    local r = waiter.result
    result.outcome = ffi.string(C.segue__outcome_name(r.outcome))
    result.generation = tonumber(r.generation)
    for i = 0, tonumber(r.errors.count) - 1 do
      result.errors[i + 1] = C.err(r.errors.items + i)
    end
  end
  C.bind_waiter_free(waiter)
  return result
end

function Bind:close()
  if self.engine_c then
    C.bind_engine_close(self.c, self.engine_c)
    C.segue__publication_free(self.publication)
  end
  self:step()
  for _, c in ipairs(self.calls) do
    assert(c.over, "a hook was never answered")
    C.bind_call_free(c)
  end
  local stats = self:stats()
  for _, policy in ipairs(self.policies) do C.segue__policy_unref(policy) end
  self:drop_snapshots()
  local after = self:stats()
  C.bind_close(self.c)
  C.scripted_files_free(self.files)
  assert(after.states == 0, "a Lua state was left behind")
  assert(stats.tasks == 0, "a task was left behind")
  assert(C.segue__mem_live() == self.live,
    ("%d allocations were left behind"):format(tonumber(C.segue__mem_live() - self.live)))
end

return M

-- SPDX-License-Identifier: MIT
-- Event loops for specs: `local loop = Loop.uv()` or `Loop.manual()`, `loop:close()`. Callbacks
-- made with loop:cb live as long as the loop; an error raised in one is raised again by run_until.
local C = require "spec.support.c"
local ffi = C.ffi
local M = {}
local Loop = {}
Loop.__index = Loop

local function new(fields)
  fields.callbacks = {}
  return setmetatable(fields, Loop)
end

--- A loop on libuv.
function M.uv()
  local base = C.loop_new()
  local out = ffi.new("segue__loop *[1]")
  C.check(C.segue__loop_open_uv(out, base.uv))
  return new { base = base, ptr = out[0] }
end

--- A loop whose time stands still until the spec moves it.
function M.manual(start_ms, wall_ms)
  local out = ffi.new("segue__loop *[1]")
  C.check(C.segue__loop_open_manual(out, start_ms or 0, wall_ms or 0))
  return new { ptr = out[0] }
end

--- fn as a C function pointer. Errors must not pass through C: they are kept.
function Loop:cb(type, fn)
  local cb = ffi.cast(type, function(...)
    local ok, result = pcall(fn, ...)
    if ok then return result end
    self.failure = self.failure or result
  end)
  self.callbacks[#self.callbacks + 1] = cb
  return cb
end

--- A zeroed timer that calls fn.
function Loop:timer(fn)
  local timer = ffi.new("segue__timer[1]")
  local cb = self:cb("void (*)(segue__timer *)", fn)
  return {
    start = function(delay_ms) return C.segue__timer_start(self.ptr, timer, delay_ms, cb) end,
    stop = function() C.segue__timer_stop(self.ptr, timer) end,
    active = function() return C.segue__timer_active(timer) end,
    keep = timer,
  }
end

--- Runs until predicate() holds.
function Loop:run_until(predicate, deadline_ms)
  C.run_until(self.base, function()
    if self.failure then error(self.failure, 0) end
    return predicate()
  end, deadline_ms or 10000)
end

--- Lets the loop turn n times without waiting: for what must not happen.
function Loop:turn(n)
  for _ = 1, n or 20 do C.uv_run(self.base.uv, 2) end
  if self.failure then error(self.failure, 0) end
end

--- Closes it; raises if a handle was left open.
function Loop:close()
  local closed = false
  C.segue__loop_close(self.ptr, self:cb("void (*)(void *)", function() closed = true end), nil)
  if self.base then
    self:run_until(function() return closed end)
    C.loop_close(self.base)
  end
  assert(closed, "the loop did not close")
  for _, cb in ipairs(self.callbacks) do cb:free() end
  if self.failure then error(self.failure, 0) end
end

return M

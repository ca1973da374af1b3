-- SPDX-License-Identifier: MIT
-- A watch of files (core/trigger/watch.h) with a loop and a folder for one spec. w.seen has the
-- paths that it reported ("ALL" where it reported no path), w.logged the texts that it logged.
--   before_each(function() w = WatchCase.open() end)
--   after_each(function() w:close() end)
local C = require "spec.support.c"
local LoopCase = require "spec.support.loop_case"
local assert = require "luassert"
local uv = require "luv"
local ffi = C.ffi

local Case = {}
Case.__index = Case
local M = {}

function M.open()
  local case = LoopCase.open()
  local self = setmetatable({ case = case, loop = case.loop, dir = case.dir, seen = {},
    logged = {} }, Case)
  self:start()
  return self
end

--- Closes the watch, if the spec has not closed it, and checks that nothing of it stays.
function Case:close()
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  self:stop()
  self.case:close()
end

--- Opens a watch.
function Case:start()
  self.log = ffi.new("segue__logger[1]")
  self.log[0].level = C.SEGUE_DEBUG
  self.log[0].sink = self.loop:cb("void (*)(void *, const segue_log_entry *)", function(_, entry)
    self.logged[#self.logged + 1] = C.str(entry.message)
  end)
  local out = ffi.new("segue__watcher *[1]")
  local on_change = self.loop:cb("segue__watch_cb", function(_, path)
    self.seen[#self.seen + 1] = path == nil and "ALL" or C.str(path)
  end)
  C.check(C.segue__watch_new(out, self.loop.ptr, self.log, on_change, nil))
  self.watch = out[0]
end

--- Closes the watch.
function Case:stop()
  if not self.watch then return end
  local closed = false
  C.segue__watch_close(self.watch, self.loop:cb("void (*)(void *)", function()
    closed = true
  end), nil)
  self.watch = nil
  self.loop:run_until(function() return closed end)
end

--- A list of paths for C; free it with C.segue__names_deinit.
function M.names(paths)
  local list = ffi.new("segue__names[1]")
  for _, path in ipairs(paths) do C.check(C.segue__names_add(list, "", 0, path)) end
  return list
end

--- Replaces the watched paths. Returns true, or nil and the name of the error.
function Case:set(paths, rescan_ms)
  local list, e = M.names(paths), C.error()
  local rc = C.segue__watch_set(self.watch, list, rescan_ms or 0, e)
  C.segue__names_deinit(list)
  if rc < 0 then return nil, C.err(e).name end
  return true
end

--- Watches these names of the folder, and one more for quiet().
function Case:set_fenced(names)
  local list = { self.dir:at("fence") }
  for _, name in ipairs(names) do list[#list + 1] = self.dir:at(name) end
  assert.is_true(self:set(list))
end

--- Waits until path (or any, or "ALL") was reported, and forgets earlier reports.
function Case:notified(path, deadline_ms)
  self.loop:run_until(function()
    for _, one in ipairs(self.seen) do
      if not path or one == path or one == self.dir:at(path) then return true end
    end
  end, deadline_ms)
  -- Further events of the same change are not for the next step.
  self.loop:turn()
  self.seen = {}
end

--- Checks that nothing was reported. Events have an order, so a reported change proves that all
--- earlier ones have been handled.
function Case:quiet()
  local fence = self.dir:at("fence")
  self.loop:turn()
  self.dir:write("fence", tostring(uv.hrtime()))
  self.loop:run_until(function()
    for _, one in ipairs(self.seen) do if one == fence then return true end end
  end)
  for _, one in ipairs(self.seen) do assert.equal(fence, one) end
  self.seen = {}
end

--- Makes an event without a write: some file systems sync a file that is written over.
function Case:touch(name)
  assert(uv.fs_utime(self.dir:at(name), 1, 1))
end

return M

-- SPDX-License-Identifier: MIT
-- A loop and a folder for one spec, and the check that nothing of it stays:
--   before_each(function() case = LoopCase.open() end)
--   after_each(function() case:close() end)
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local Tempdir = require "spec.support.tempdir"
local assert = require "luassert"

local Case = {}
Case.__index = Case
local M = {}

function M.open()
  local self = setmetatable({ dir = Tempdir.new() }, Case)
  self.live, self.fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
  self.loop = Loop.uv()
  return self
end

--- Closes the loop; memory, descriptors and zombies that are left fail the spec.
function Case:close()
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  self.loop:close()
  assert.equal(self.live, tonumber(C.segue__mem_live()))
  assert.equal(self.fds, C.os_harness_open_fds())
  assert.equal(0, C.os_harness_zombies())
  Tempdir.remove_all()
end

return M

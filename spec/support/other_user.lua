-- SPDX-License-Identifier: MIT
-- A daemon that runs as another user than root, who may read anything and write anywhere.
--   local d = other_user.own(segue.folder { policy = ..., files = ... }); d:spawn(); d:wait_ready()
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local M = {}

M.ID = 65534
M.command = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }

--- Gives the folder of the daemon to that user, who runs it from now on. The program and its
--- scripts are copied, because the source tree may lie in a folder of root.
function M.own(d)
  if uv.getuid() ~= 0 then return d end
  process.output { "cp", "-R", segue.tree .. "/lua", d.dir:at "lua" }
  process.output { "cp", segue.binary, d.dir:mkdir "bin" }
  process.output { "chmod", "-R", "a+rX", d.dir:at "lua", d.dir:at "bin" }
  process.output { "chown", "-R", M.ID .. ":" .. M.ID, d.dir.path }
  d.options.binary = d.dir:at "bin/segue"
  d.options.args = { "--lua-dir", d.dir:at "lua" }
  d.options.under = { unpack(M.command) }
  return d
end

return M

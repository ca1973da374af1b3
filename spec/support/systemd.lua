-- SPDX-License-Identifier: MIT
-- A real systemd, as process 1 of namespaces of its own (systemd.sh). Needs root.
--   local systemd = require "spec.support.systemd"
--   local manager = systemd.start { ["web.service"] = "[Service]\nExecStart=..." }
--   manager:ctl("start", "web.service")
--   after_each(systemd.stop_all)
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}
local Manager = {}
Manager.__index = Manager
local started = {}
local script = uv.cwd() .. "/spec/support/systemd.sh"

-- Units without default dependencies: those would pull in units that change the machine, such as
-- systemd-tmpfiles, which empties /tmp.
local function write_units(dir, units)
  dir:write("units/segue-spec.target", "[Unit]\nDefaultDependencies=no\n")
  for name, text in pairs(units) do
    local changed, found = text:gsub("%[Unit%]\n", "[Unit]\nDefaultDependencies=no\n")
    if found == 0 then changed = "[Unit]\nDefaultDependencies=no\n" .. text end
    dir:write("units/" .. name, changed)
  end
end

--- Starts it with units (name -> text), and waits until it takes commands.
function M.start(units)
  local self = setmetatable({ dir = tempdir.new() }, Manager)
  write_units(self.dir, units)
  started[self] = true
  self.process = process.start { "unshare", "--mount", "--pid", "--fork", "--uts", "--ipc",
    "--mount-proc", "--kill-child", "sh", script, "start", self.dir.path, name = "systemd" }
  wait.until_true(function()
    if not self.process:running() then
      error("systemd did not start (it needs root): " .. self.process:describe(), 0)
    end
    self.pid = self.process:children()[1]
    return self.pid and self:run("systemctl", "is-active", "segue-spec.target").code == 0
  end, 30000, function() return "systemd: " .. self.process:describe() end)
  return self
end

--- Runs a command next to it, to its end: the process, with code and output.
function Manager:run(...)
  return process.run { "nsenter", "-t", self.pid, "-m", "-p", "-i", "-u", "-C", ... }
end

--- systemctl, which has to succeed; returns its output.
function Manager:ctl(...)
  local p = self:run("systemctl", "--no-pager", ...)
  if p.code ~= 0 then error(p:describe() .. "\n" .. self.process:describe(), 2) end
  return p.output
end

--- A property of a unit, such as "ActiveState".
function Manager:show(unit, property)
  return (self:ctl("show", "--value", "-p", property, unit):gsub("\n$", ""))
end

--- Ends it, and everything that it has started.
function Manager:stop()
  started[self] = nil
  -- The death of process 1 ends the others. unshare sees it, so that no zombie is left to the spec.
  local one = self.process:running() and (self.pid or self.process:children()[1])
  if one then
    uv.kill(one, "sigkill")
  elseif self.process:running() then
    self.process:kill "kill"
  end
  self.process:wait_exit()
  local clean
  wait.until_true(function()
    clean = process.run { "unshare", "--mount", "sh", script, "clean", self.dir.path }
    return clean.code == 0
  end, nil, function() return clean:describe() end)
end

--- For after_each.
function M.stop_all()
  local list = {}
  for self in pairs(started) do list[#list + 1] = self end
  for _, self in ipairs(list) do self:stop() end
end

return M

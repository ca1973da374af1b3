-- SPDX-License-Identifier: MIT
-- Daemons with modules of the kind "process". The child is a line of a shell that writes what it
-- sees into the file `log` of the spec's folder.
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"
local M = {}
local Case = {}
Case.__index = Case

local policy = [[
local segue = require "segue"
return {
  name = "process",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  MORE
  modules = { MODULES },
}]]

-- Prints its start, and each HUP with its slice as it is then.
M.loyal = [[
echo "start $(cat "$SEGUE_SLICE_FILE")" >> log
trap 'echo "hup $(cat "$SEGUE_SLICE_FILE")" >> log' HUP
trap 'echo term >> log; exit 0' TERM
echo listens
while :; do sleep 0.02; done]]

--- The text of a module `web`. line: of the shell; options: text of its other options.
function M.module(line, options)
  return ('web = { kind = "process", config = "web", argv = { "/bin/sh", "-c", %q }, %s },')
    :format(line, options or ""):gsub("\\\n", "\\n")
end

--- Starts segue. o: modules (text), more (text of the policy), config, ready, args.
function M.start(o)
  local text = policy:gsub("MODULES", function() return o.modules end)
    :gsub("MORE", function() return o.more or "" end)
  local files = { ["config.yaml"] = o.config or "web: {v: 1}\n", log = "" }
  for name, content in pairs(o.files or {}) do files[name] = content end
  local d = segue.start { policy = text, files = files, ready = o.ready, args = o.args }
  return setmetatable({ d = d, policy = policy, o = o }, Case)
end

--- Other modules from the next reload on.
function Case:set(modules)
  local text = policy:gsub("MODULES", function() return modules end)
    :gsub("MORE", function() return self.o.more or "" end)
  self.d.dir:save("reload.lua", text)
end

--- Saves the configuration and reloads; returns the answer.
function Case:change(config)
  self.d.dir:save("config.yaml", config)
  local _, body = self.d:reload()
  return body
end

function Case:has(text)
  wait.until_true(function() return (self.d.dir:read "log" or ""):find(text, 1, true) end, nil,
    function() return text .. " in: " .. self.d.dir:read "log" .. self.d.process:describe() end)
end

function Case:count(text)
  return select(2, self.d.dir:read("log"):gsub(text, ""))
end

--- The process ids of the children of segue, as numbers in order.
function Case:children()
  local pids = {}
  for _, pid in ipairs(self.d.process:children()) do pids[#pids + 1] = tonumber(pid) end
  table.sort(pids)
  return pids
end

function Case:child()
  return wait.until_true(function()
    local pids = self:children()
    return #pids == 1 and pids[1]
  end, nil, "one child")
end

--- A metric of the module, as a number.
function Case:metric(name)
  local body = self.d:control "/metrics".body
  return tonumber(body:match("\nsegue_process_" .. name .. "{[^}]*} (%S+)"))
end

--- Stops segue, if it runs; returns its exit code.
function Case:stop()
  if self.d.process:running() then self.d.process:kill "term" end
  return (self.d:wait_exit())
end

function M.alive(pid)
  return uv.kill(pid, 0) == 0
end

return M

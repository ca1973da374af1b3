-- SPDX-License-Identifier: MIT
-- A TCP relay between a client and a server, which can break connections off or lose their bytes.
-- It is a process of its own, so that it works at any time; signals control it.
--   local relay = require("spec.support.relay").new(server_port)
--   relay:cut() relay:open() relay:hold() relay:close()
local uv = require "luv"

local Relay = {}
Relay.__index = Relay

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

local function forward(self, from, to, other_end)
  from:read_start(function(_, bytes)
    if not bytes then return other_end() end
    if self.held then return end -- lost, as by a firewall that has forgotten the connection
    if not to:is_closing() then to:write(bytes) end
  end)
end

local function accept(self, client)
  local server = uv.new_tcp()
  local function drop()
    close(client)
    close(server)
    self.pairs[client] = nil
  end
  if self.closed then return drop() end
  self.pairs[client] = drop
  server:connect("127.0.0.1", self.to, function(err)
    if err then return drop() end
    forward(self, client, server, drop)
    forward(self, server, client, drop)
  end)
end

-- ---- The process ------------------------------------------------------------------------------

local function drop_all(self) for _, drop in pairs(self.pairs) do drop() end end

local actions = {
  sighup = function(self) self.closed = true drop_all(self) end,
  sigwinch = drop_all,
  sigusr2 = function(self) self.held = true end,
  sigusr1 = function(self) self.closed, self.held = nil, nil end,
}

local function main(port, to)
  local self = { to = to, pairs = {} }
  local handle = uv.new_tcp()
  assert(handle:bind("127.0.0.1", port))
  assert(handle:listen(128, function()
    local client = uv.new_tcp()
    handle:accept(client)
    accept(self, client)
  end))
  for name, action in pairs(actions) do
    uv.new_signal():start(name, function()
      action(self)
      io.stdout:write(name, "\n")
      io.stdout:flush()
    end)
  end
  io.stdout:write "listening\n"
  io.stdout:flush()
  uv.run()
end

if arg and arg[0] and arg[0]:find "relay%.lua$" then
  main(tonumber(arg[1]), tonumber(arg[2]))
  return
end

-- ---- The spec ---------------------------------------------------------------------------------

local M = {}

local function signal(self, name)
  local from = #self.process.output + 1
  self.process:kill(name)
  self.process:wait_output("sig" .. name, 60000, from)
end

--- Listens on relay.port and connects each client to the port.
function M.new(to)
  local port = require("spec.support.port").free()
  local process = require("spec.support.process").start { "luajit", "spec/support/relay.lua",
    tostring(port), tostring(to) }
  process:wait_output "listening"
  return setmetatable({ port = port, process = process }, Relay)
end

--- Breaks off the connections. refuse: and those that come, until open().
function Relay:cut(refuse) signal(self, refuse and "hup" or "winch") end

--- Loses the bytes of connections, without an end, until open().
function Relay:hold() signal(self, "usr2") end

function Relay:open() signal(self, "usr1") end

function Relay:close() self.process:stop() end

return M

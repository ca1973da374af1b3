-- SPDX-License-Identifier: MIT
-- A program on a pseudo terminal, as the leader of a session whose terminal it is:
--   local t = pty.start { "bash", "--norc", "-i", cwd = path, env = { ... } }
--   t:write "ls\n"   t:wait "file"   t:close()
local ffi = require "ffi"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
int posix_openpt(int flags); int grantpt(int fd); int unlockpt(int fd);
int ptsname_r(int fd, char *name, size_t size);
]]
local O_RDWR, O_NOCTTY, O_NONBLOCK, O_CLOEXEC = 2, 0x100, 0x800, 0x80000
local bit = require "bit"

local Terminal = {}
Terminal.__index = Terminal
local M = {}

function M.start(command)
  local self = setmetatable({ text = "" }, Terminal)
  self.fd = ffi.C.posix_openpt(bit.bor(O_RDWR, O_NOCTTY, O_NONBLOCK, O_CLOEXEC))
  assert(self.fd >= 0 and ffi.C.grantpt(self.fd) == 0 and ffi.C.unlockpt(self.fd) == 0)
  local name = ffi.new "char[64]"
  assert(ffi.C.ptsname_r(self.fd, name, 64) == 0)
  local slave = assert(uv.fs_open(ffi.string(name), bit.bor(O_RDWR, O_NOCTTY), 0))
  local args = { "--ctty" }
  for _, word in ipairs(command) do args[#args + 1] = word end
  local env = {}
  for k, v in pairs(uv.os_environ()) do env[#env + 1] = k .. "=" .. v end
  for k, v in pairs(command.env or {}) do env[#env + 1] = k .. "=" .. v end
  self.handle, self.pid = assert(uv.spawn("setsid", { args = args, cwd = command.cwd, env = env,
    stdio = { slave, slave, slave } }, function(code, signal)
      self.code, self.signal = code, signal
      self.handle:close()
    end))
  uv.fs_close(slave)
  return self
end

function Terminal:read()
  for _ = 1, 100 do
    local bytes = uv.fs_read(self.fd, 4096, -1)
    if not bytes or #bytes == 0 then break end
    self.text = self.text .. bytes
  end
  return self.text
end

function Terminal:write(text)
  assert(uv.fs_write(self.fd, text, -1) == #text)
end

--- Waits for a text behind the last one that was waited for.
function Terminal:wait(text)
  local to
  wait.until_true(function()
    to = select(2, self:read():find(text, self.seen or 1, true))
    return to
  end, nil, function() return text .. " on the terminal: " .. self.text end)
  self.seen = to + 1
end

--- A shell may get the signal just before it reads its next line, and looks for it only behind that
--- read: so it is sent more than once.
function Terminal:close()
  if not self.code then
    local sent = 0
    wait.until_true(function()
      self:read()
      if not self.code and uv.hrtime() - sent > 1e8 then
        uv.kill(self.pid, "sighup")
        sent = uv.hrtime()
      end
      return self.code
    end, nil, function() return "the end of the terminal's program: " .. self.text end)
  end
  uv.fs_close(self.fd)
end

return M

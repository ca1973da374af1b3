-- SPDX-License-Identifier: MIT
-- segue.connect: a connection to a server that does not speak HTTP. The module is the function.
local core = require "segue.core"

local error, setmetatable, type = error, setmetatable, type
local open, wait_read, take = core.connection_open, core.connection_read, core.connection_take
local wait_write, close = core.connection_write, core.connection_close

---@class segue.Connection
---@field address string
---@field private raw any
---@field private timeout integer milliseconds
local Connection = {}
Connection.__index = Connection

local function limit_of(self, name, timeout)
  if timeout == nil then return self.timeout end
  local ms, wrong = core.duration(timeout)
  if not ms then error(("%s: the time %s"):format(name, wrong), 3) end
  return ms
end

local function check_open(self, name)
  if not self.raw then error(name .. ": the connection to " .. self.address .. " is closed", 3) end
  return self.raw
end

--- Returns exactly count bytes; without count what has come, as soon as there is something. nil,
--- message, code otherwise: "SEGUE_ETIMEOUT" (the bytes that came are kept for the next read),
--- "EOF" (the server has closed the connection) and others, after which it is of no more use.
---@param count? integer
---@param timeout? segue.Duration instead of that of the connection; 0: none
---@return string?
---@return string? message
---@return string? code
function Connection:read(count, timeout)
  local raw = check_open(self, "read")
  if count ~= nil and (type(count) ~= "number" or count < 0 or count % 1 ~= 0) then
    error("read: the count of bytes must be a whole number", 2)
  end
  if count == 0 then return "" end
  local bytes = take(raw, count)
  if bytes then return bytes end
  return wait_read(raw, count, nil, limit_of(self, "read", timeout))()
end

--- Returns the bytes before the next delimiter, which is dropped. Failures: as of read, and
--- "SEGUE_ELIMIT" past max_bytes, after which the connection is of no more use.
---@param delimiter string such as "\r\n"
---@param timeout? segue.Duration
---@return string?
---@return string? message
---@return string? code
function Connection:read_until(delimiter, timeout)
  local raw = check_open(self, "read_until")
  if type(delimiter) ~= "string" or delimiter == "" then
    error("read_until: the delimiter must be a text that is not empty", 2)
  end
  local bytes = take(raw, nil, delimiter)
  if bytes then return bytes end
  return wait_read(raw, nil, delimiter, limit_of(self, "read_until", timeout))()
end

--- Sends bytes; returns true when the kernel has all of them. After a failure, the time limit
--- included, the connection is of no more use.
---@param bytes string
---@param timeout? segue.Duration
---@return true?
---@return string? message
---@return string? code
function Connection:write(bytes, timeout)
  local raw = check_open(self, "write")
  if type(bytes) ~= "string" then error("write: the bytes must be a text", 2) end
  return wait_write(raw, bytes, limit_of(self, "write", timeout))()
end

--- Closes it; reads and writes of other tasks fail.
function Connection:close()
  if self.raw then close(self.raw) end
  self.raw = nil
end

--- Connects to a server: "host:port" or "unix:/path", with TLS where the options have tls.
---@param options string|segue.CallConnect
---@return segue.Connection?
---@return string? message
---@return string? code
return function(options)
  local secure = type(options) == "table" and options.tls ~= nil
  local o = core.options("segue.connect", "connect", options)
  local tls = o.tls
  local raw = core.connection(o.address, o.connect_timeout, o.max_bytes, secure, tls.ca, tls.cert,
    tls.key, not tls.verify, tls.server_name)
  local self = setmetatable({ address = o.address, raw = raw, timeout = o.timeout }, Connection)
  local done, message, code = open(raw)()
  if not done then
    close(raw)
    return nil, message, code
  end
  return self
end

-- SPDX-License-Identifier: MIT
-- An etcd server of one member for specs, on free loopback ports, with its data in a folder that
-- can be copied, emptied and restored.
--   local etcd = require("spec.support.etcd_server").new(dir)
--   etcd:start() etcd:put("/a", "1") etcd:stop()
local cjson = require "cjson"
local port = require "spec.support.port"
local process = require "spec.support.process"
local http = require "spec.support.http"
local wait = require "spec.support.wait"

local M = {}
local Etcd = {}
Etcd.__index = Etcd

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 3, 0, -1 do
      local d = math.floor(n / 64 ^ k) % 64
      out[#out + 1] = (k == 1 and not b or k == 0 and not c) and "=" or digits:sub(d + 1, d + 1)
    end
  end
  return table.concat(out)
end
M.base64 = base64

--- A server that is not running. dir: a tempdir for its data.
function M.new(dir)
  return setmetatable({ dir = dir, data = dir:at "etcd", port = port.free(), peer = port.free() },
    Etcd)
end

function Etcd:url() return "http://127.0.0.1:" .. self.port end

--- Starts it and waits until it answers. With tls = { cert, key, ca } it also listens with TLS on
--- self.tls_port, and requests certificates that ca has signed.
function Etcd:start()
  local url, peer = self:url(), "http://127.0.0.1:" .. self.peer
  local tls = self.tls
  self.tls_port = tls and (self.tls_port or port.free())
  local command = { "/usr/bin/etcd", "--name", "a", "--data-dir", self.data,
    "--listen-client-urls", url .. (tls and ",https://127.0.0.1:" .. self.tls_port or ""),
    "--advertise-client-urls", url, "--listen-peer-urls", peer,
    "--initial-advertise-peer-urls", peer, "--initial-cluster", "a=" .. peer, "--log-level",
    "error", "--experimental-watch-progress-notify-interval=1s", "--unsafe-no-fsync" }
  for _, argument in ipairs(tls and { "--cert-file", tls.cert, "--key-file", tls.key,
    "--trusted-ca-file", tls.ca, "--client-cert-auth" } or {}) do
    command[#command + 1] = argument
  end
  self.process = process.start(command)
  wait.until_true(function()
    if not self.process:running() then error(self.process:describe()) end
    local c = http.connect({ port = self.port }, true)
    if not c then return false end
    c:close()
    return self:ask("/health", nil, "GET").status == 200
  end, 60000, function() return self.process:describe() end)
  return self
end

--- Sends a request; body: a table. Returns the response.
function Etcd:ask(path, body, method)
  return http.request { port = self.port, method = method or "POST", path = path,
    headers = { Authorization = self.token }, body = body and cjson.encode(body) or nil,
    deadline_ms = 30000 }
end

local function good(response)
  assert(response.status == 200, response.body)
  return cjson.decode(response.body)
end

function Etcd:put(key, value)
  return tonumber(good(self:ask("/v3/kv/put", { key = base64(key), value = base64(value) }))
    .header.revision)
end

local function text_of(code)
  return (code:gsub("[^A-Za-z0-9+/]", ""):gsub("..?.?.?", function(four)
    local n, bits = 0, 0
    for c in four:gmatch "." do n, bits = n * 64 + digits:find(c, 1, true) - 1, bits + 6 end
    local out = {}
    for at = bits - 8, 0, -8 do out[#out + 1] = string.char(math.floor(n / 2 ^ at) % 256) end
    return table.concat(out)
  end))
end

--- The values of the keys below a prefix, by the rest of the key.
function Etcd:below(prefix)
  local answer = good(self:ask("/v3/kv/range", { key = base64(prefix),
    range_end = base64(prefix:sub(1, -2) .. string.char(prefix:byte(-1) + 1)) }))
  local all = {}
  for _, kv in ipairs(answer.kvs or {}) do
    all[text_of(kv.key):sub(#prefix + 1)] = text_of(kv.value or "")
  end
  return all
end

function Etcd:delete(key)
  good(self:ask("/v3/kv/deleterange", { key = base64(key) }))
end

--- Writes keys within one transaction: { [key] = value, or false: removed }.
function Etcd:txn(changes)
  local list = {}
  for key, value in pairs(changes) do
    list[#list + 1] = value and { requestPut = { key = base64(key), value = base64(value) } }
      or { requestDeleteRange = { key = base64(key) } }
  end
  good(self:ask("/v3/kv/txn", { success = list }))
end

function Etcd:compact(revision)
  good(self:ask("/v3/kv/compaction", { revision = tostring(revision), physical = true }))
end

--- The user root with a password, and one who may read below a prefix.
function Etcd:authenticate(user, password, prefix)
  local function auth(path, body) good(self:ask("/v3/auth/" .. path, body)) end
  auth("user/add", { name = "root", password = "root" })
  auth("role/add", { name = "root" })
  auth("user/grant", { user = "root", role = "root" })
  auth("user/add", { name = user, password = password })
  auth("role/add", { name = "reader" })
  auth("role/grant", { name = "reader", perm = { permType = "READ", key = base64(prefix),
    range_end = base64(prefix:sub(1, -2) .. string.char(prefix:byte(-1) + 1)) } })
  auth("user/grant", { user = user, role = "reader" })
  auth("enable", {})
  self:login()
end

function Etcd:login()
  self.token = nil
  self.token = good(self:ask("/v3/auth/authenticate", { name = "root", password = "root" })).token
end

function Etcd:stop() if self.process then self.process:stop() end end

function Etcd:kill()
  self.process:kill "kill"
  self.process:wait_exit()
end

function Etcd:pause() self.process:kill "stop" end
function Etcd:continue() self.process:kill "cont" end

--- Of a server that does not run: its data are gone; are kept under a name; are those of a name.
function Etcd:empty() process.run { "rm", "-rf", self.data } end
function Etcd:save(name) process.run { "cp", "-r", self.data, self.dir:at(name) } end
function Etcd:restore(name)
  self:empty()
  process.run { "cp", "-r", self.dir:at(name), self.data }
end

return M

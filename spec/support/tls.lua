-- SPDX-License-Identifier: MIT
-- A TLS client over a raw connection of spec.support.http, on OpenSSL's memory BIOs, so that a spec
-- decides when each byte leaves: handshakes that stop half-way, farewells, half-closed sides.
--   local client = tls.connect { port = p, ca = "ca.pem", cert = "c.pem", key = "c.key" }
--   client:write(http.format { path = "/" }); client:read_response().status
local ffi = require "ffi"
local http = require "spec.support.http"
local input = require "spec.support.input"
local wait = require "spec.support.wait"

ffi.cdef [[
typedef struct ssl_st SSL; typedef struct ssl_ctx_st SSL_CTX;
typedef struct bio_st BIO; typedef struct bio_method_st BIO_METHOD;
typedef struct ssl_method_st SSL_METHOD;
const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *method);
void SSL_CTX_free(SSL_CTX *ctx);
long SSL_CTX_ctrl(SSL_CTX *ctx, int cmd, long larg, void *parg);
int SSL_CTX_use_certificate_file(SSL_CTX *ctx, const char *file, int type);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file, int type);
int SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *path);
void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, void *callback);
SSL *SSL_new(SSL_CTX *ctx);
void SSL_free(SSL *ssl);
void SSL_set_bio(SSL *ssl, BIO *rbio, BIO *wbio);
void SSL_set_connect_state(SSL *ssl);
int SSL_do_handshake(SSL *ssl);
int SSL_read(SSL *ssl, void *buf, int num);
int SSL_write(SSL *ssl, const void *buf, int num);
int SSL_shutdown(SSL *ssl);
int SSL_renegotiate(SSL *ssl);
int SSL_get_error(const SSL *ssl, int ret);
const char *SSL_get_version(const SSL *ssl);
BIO *BIO_new(const BIO_METHOD *type);
const BIO_METHOD *BIO_s_mem(void);
int BIO_read(BIO *b, void *data, int len);
int BIO_write(BIO *b, const void *data, int len);
unsigned long ERR_get_error(void);
void ERR_clear_error(void);
const char *ERR_reason_error_string(unsigned long e);
void (*signal(int signum, void (*handler)(int)))(int);
]]
ffi.C.signal(13, ffi.cast("void (*)(int)", 1)) -- SIGPIPE: writing to who has left is an error
local ssl = ffi.load("libssl.so.3")
-- It stays mapped until the process ends: connections are freed by the collector, in any order.
pcall(ffi.cdef, "void *dlopen(const char *path, int flags);")
assert(ffi.C.dlopen("libssl.so.3", 0x1002) ~= nil) -- now, and never unloaded
local SET_MIN, SET_MAX, TLS12, PEM = 123, 124, 0x0303, 1
local ZERO_RETURN = 6

local M = {}
local Client = input.class()
local buffer = ffi.new("char[16384]")

-- The bytes that TLS wants to send.
local function outgoing(self)
  local parts = {}
  while true do
    local n = ssl.BIO_read(self.out, buffer, 16384)
    if n <= 0 then return table.concat(parts) end
    parts[#parts + 1] = ffi.string(buffer, n)
  end
end

local function flush(self)
  local bytes = outgoing(self)
  if #bytes > 0 then self.raw:write(bytes) end
end

local function feed(self)
  local bytes = self.raw.input
  self.raw.input = ""
  if #bytes > 0 then ssl.BIO_write(self["in"], bytes, #bytes) end
end

local function reason()
  local text = ssl.ERR_reason_error_string(ssl.ERR_get_error())
  return text ~= nil and ffi.string(text) or "no reason"
end

-- Brings what has arrived into input.
local function pull(self)
  feed(self)
  while true do
    ssl.ERR_clear_error()
    local n = ssl.SSL_read(self.ssl, buffer, 16384)
    if n <= 0 then
      local why = ssl.SSL_get_error(self.ssl, n)
      self.farewell = self.farewell or why == ZERO_RETURN
      if why == 1 then self.failed = self.failed or reason() end
      break
    end
    self:add(ffi.string(buffer, n))
  end
  flush(self)
  self.ended = self.farewell or self.raw.ended
end

--- Connects without a handshake: port, ca, cert, key, version ("1.2").
function M.new(options)
  local ctx = ssl.SSL_CTX_new(ssl.TLS_client_method())
  if options.version == "1.2" then ssl.SSL_CTX_ctrl(ctx, SET_MAX, TLS12, nil) end
  if options.version == "1.1" then
    ssl.SSL_CTX_ctrl(ctx, SET_MIN, 0x0302, nil)
    ssl.SSL_CTX_ctrl(ctx, SET_MAX, 0x0302, nil)
  end
  if options.ca then
    assert(ssl.SSL_CTX_load_verify_locations(ctx, options.ca, nil) == 1)
    ssl.SSL_CTX_set_verify(ctx, 1, nil)
  end
  if options.cert then
    assert(ssl.SSL_CTX_use_certificate_file(ctx, options.cert, PEM) == 1)
    assert(ssl.SSL_CTX_use_PrivateKey_file(ctx, options.key, PEM) == 1)
  end
  local self = input.new(Client, { raw = http.connect(options) })
  self.ssl = ffi.gc(ssl.SSL_new(ctx), ssl.SSL_free)
  ssl.SSL_CTX_free(ctx)
  self["in"], self.out = ssl.BIO_new(ssl.BIO_s_mem()), ssl.BIO_new(ssl.BIO_s_mem())
  ssl.SSL_set_bio(self.ssl, self["in"], self.out)
  ssl.SSL_set_connect_state(self.ssl)
  return self
end

--- The first message of a handshake, as bytes that were not sent.
function Client:hello()
  ssl.SSL_do_handshake(self.ssl)
  return outgoing(self)
end

--- Shakes hands: true, or nil and why not.
function Client:handshake(deadline_ms)
  local result, why
  wait.until_true(function()
    feed(self)
    ssl.ERR_clear_error()
    local n = ssl.SSL_do_handshake(self.ssl)
    if n == 1 then
      result = true
    elseif ssl.SSL_get_error(self.ssl, n) == 1 then
      why = reason()
    elseif self.raw.ended then
      why = "the connection ended"
    end
    flush(self)
    return result or why
  end, deadline_ms, "a handshake")
  return result, why
end

--- Connects and shakes hands; raises if that fails.
function M.connect(options)
  local self = M.new(options)
  local ok, why = self:handshake(options.deadline_ms)
  if not ok then error("no handshake: " .. why, 2) end
  return self
end

function Client:version() return ffi.string(ssl.SSL_get_version(self.ssl)) end

function Client:write(bytes)
  assert(ssl.SSL_write(self.ssl, bytes, #bytes) == #bytes)
  flush(self)
end

--- Requests a new handshake on the same connection (TLS 1.2).
function Client:renegotiate()
  ssl.SSL_renegotiate(self.ssl)
  ssl.SSL_do_handshake(self.ssl)
  flush(self)
end

--- Sends close_notify; the other direction stays open.
function Client:shutdown()
  ssl.SSL_shutdown(self.ssl)
  flush(self)
end

--- Waits for one whole answer.
function Client:read_response(deadline_ms)
  local response, rest
  wait.until_true(function()
    pull(self)
    if self:is_worth_a_look() then response, rest = http.parse(self.input, self.ended) end
    return response or self.ended
  end, deadline_ms, function() return ("an answer; so far %q"):format(self.input) end)
  if not response then
    error(("the connection ended before the answer was complete (%s); so far %q"):format(
      self.failed or "end of stream", self.input), 2)
  end
  self.input = rest
  return response
end

--- Waits until the other side has ended the connection; returns the plain bytes that were left.
function Client:read_all(deadline_ms)
  wait.until_true(function()
    pull(self)
    return self.ended
  end, deadline_ms, "the end of the connection")
  return self.input
end

function Client:close() self.raw:close() end

--- One request: what http.request takes, and ca, cert, key, version.
function M.request(request)
  local client = M.connect(request)
  client:write(http.format(request))
  local ok, response = pcall(client.read_response, client, request.deadline_ms)
  client:close()
  if not ok then error(response, 2) end
  return response
end

return M

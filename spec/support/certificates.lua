-- SPDX-License-Identifier: MIT
-- Certificates for specs, made by the openssl command: an authority, and what it signs.
--   local ca = certificates.authority(dir)
--   local server = ca:issue { name = "server", cn = "localhost" }
--   server.cert, server.key: paths; server.cert_text, server.key_text: what is in them
local process = require "spec.support.process"

local M = {}
local Authority = {}
Authority.__index = Authority

local function run(...)
  local p = process.run { "openssl", ... }
  if p.code ~= 0 then error(p:describe(), 3) end
end

local config = [[
[ca]
default_ca = own
[own]
database = @DIR@/index.txt
serial = @DIR@/serial
new_certs_dir = @DIR@
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
]]

--- A new authority with its files in a folder of its own below dir (a tempdir).
function M.authority(dir, name)
  name = name or "ca"
  local self = setmetatable({ dir = dir, name = name, folder = dir:at(name .. ".d"),
    cert = dir:at(name .. ".pem"), key = dir:at(name .. ".key") }, Authority)
  dir:write(name .. ".d/index.txt", "")
  dir:write(name .. ".d/serial", "01\n")
  dir:write(name .. ".d/ca.cnf", (config:gsub("@DIR@", self.folder)))
  run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-days", "30", "-subj", "/CN=" .. name, "-keyout", self.key, "-out", self.cert)
  self.cert_text = dir:read(name .. ".pem")
  return self
end

local function stamp(time)
  return os.date("!%y%m%d%H%M%SZ", time)
end

--- Signs a certificate: name (of its files, replaced if they exist), cn, san
--- ("DNS:a,email:b@c,URI:d"), ends (a time; in 20 days otherwise), begins.
function Authority:issue(options)
  local name, dir = options.name, self.dir
  local request = self.folder .. "/" .. name .. ".csr"
  local issued = { cert = dir:at(name .. ".pem"), key = dir:at(name .. ".key") }
  local key = self.folder .. "/" .. name .. ".key"
  local cert = self.folder .. "/" .. name .. ".pem"
  run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-subj", "/CN=" .. (options.cn or name), "-addext",
    "subjectAltName=" .. (options.san or "DNS:localhost,IP:127.0.0.1"), "-keyout", key, "-out",
    request)
  run("ca", "-batch", "-notext", "-config", self.folder .. "/ca.cnf", "-cert", self.cert,
    "-keyfile", self.key, "-in", request, "-out", cert, "-startdate",
    stamp(options.begins or os.time() - 3600), "-enddate",
    stamp(options.ends or os.time() + 20 * 86400))
  assert(os.rename(key, issued.key))
  assert(os.rename(cert, issued.cert))
  issued.cert_text, issued.key_text = dir:read(name .. ".pem"), dir:read(name .. ".key")
  return issued
end

return M

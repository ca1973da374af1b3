-- SPDX-License-Identifier: MIT
-- The argument of segue.http: an address, or a table with an address and the clients that it
-- accepts. Checked key by key; core/bind/policy/extract_http.c reads the result.
local check = require "segue.check"
local suggest = require "segue.suggest"

---@alias segue.Role "read"|"operate"

---@class segue.HttpTls
---@field cert string PEM: the certificate, then the chain to its CA
---@field key string PEM, readable by this user only
---@field client_ca? string PEM: the CA that signs the certificates of clients
---@field client? "required"|"optional"
---@field clients? segue.HttpClient[] roles by name; all others have none

--- One of these names, and the role.
---@class segue.HttpClient
---@field name? string common name or DNS name; "*" is one label of it
---@field dns? string DNS name; "*" is one label of it
---@field cn? string common name
---@field mail? string mail address
---@field uri? string
---@field subject? string the whole subject of a certificate without a common name
---@field role segue.Role

---@class segue.HttpOptions
---@field [1] string the address
---@field tls? segue.HttpTls
---@field tokens? { file: string, role: segue.Role, name?: string }[]
---@field public? ("health"|"metrics")[]
---@field hosts? string[]
---@field rate? string "10/s", "600/m", or "none"
---@field burst? integer
---@field mode? string of a unix socket: "0660"
---@field others? "none"|"read"|"operate" other users on a unix socket

local roles = { "read", "operate" }
local keys = {
  tls = "table", tokens = "table", public = "texts", hosts = "texts", rate = "text",
  burst = "count", mode = "text", others = { "none", "read", "operate" },
}
local tls_keys = { cert = "text", key = "text", client_ca = "text",
  client = { "required", "optional" }, clients = "table" }
local module_tls_keys = { cert = "text", key = "text", client_ca = "text",
  client = { "required", "optional" } }
local client_kinds = { "name", "cn", "dns", "mail", "uri", "subject" }
local client_keys = { name = "text", cn = "text", dns = "text", mail = "text", uri = "text",
  subject = "text", role = roles }
local token_keys = { file = "text", role = roles, name = "text" }
local per = { s = 1, m = 60, h = 3600 }

-- Raised in here, caught by M.spec: the first fault ends the judgement.
local function wrong(format, ...)
  error({ message = format:format(...) }, 0)
end

local function judge(t, known, where)
  check.table(t, known, function(_, message) wrong("%s%s", where, message) end)
end

local function need(t, key, where, example)
  if t[key] == nil then wrong("%s%s is missing: %s", where, key, example) end
end

-- A list of tables, each judged by `known`; they must have the keys of `needed`.
local function each(list, name, known, needed, example)
  local count = 0
  for _ in pairs(list) do count = count + 1 end
  if count ~= #list or count == 0 then
    wrong("%s must be a list: %s = { %s }", name, name, example)
  end
  for i, item in ipairs(list) do
    local where = ("%s[%d]: "):format(name, i)
    if type(item) ~= "table" then
      wrong("%smust be a table such as %s, not a %s", where, example, type(item))
    end
    judge(item, known, where)
    for _, key in ipairs(needed) do need(item, key, where, example) end
  end
end

local function has_part_star(name)
  for label in (name .. "."):gmatch("([^.]*)%.") do
    if label ~= "*" and label:find("*", 1, true) then return true end
  end
  return false
end

-- Returns the name of a client and its kind. "*" stands for exactly one label, so it is rejected in
-- every place where it would be compared as a character.
local function client_of(item, where)
  local kind
  for _, key in ipairs(client_kinds) do
    if item[key] ~= nil and kind then
      wrong("%sit has %s and %s: give one name", where, kind, key)
    end
    kind = item[key] ~= nil and key or kind
  end
  if not kind then
    wrong("%sname is missing: one of %s", where, table.concat(client_kinds, ", "))
  end
  local name, labels = item[kind], kind == "name" or kind == "dns"
  if kind == "name" and name:find("://", 1, true) then
    wrong("%s'%s' is a URI: write uri = '%s'", where, name, name)
  elseif labels and name:find("@", 1, true) then
    wrong("%s'%s' is a mail address: write mail = '%s'", where, name, name)
  elseif labels and has_part_star(name) then
    wrong("%s'%s': '*' stands for one whole label, as in '*.mon.example'", where, name)
  elseif not labels and name:find("*", 1, true) then
    wrong("%s%s = '%s' is compared as it is: '*' stands for a label in name and dns only", where,
      kind, name)
  end
  return { name = name, kind = kind ~= "name" and kind or nil, role = item.role }
end

local function clients_of(clients)
  local result = {}
  each(clients, "tls: clients", client_keys, { "role" },
    '{ name = "ops.example", role = "operate" }')
  for i, item in ipairs(clients) do
    result[i] = client_of(item, ("tls: clients[%d]: "):format(i))
  end
  return result
end

-- known: its keys. A module's listener has no list of clients: its code checks them itself.
local function tls_of(tls, known)
  judge(tls, known, "tls: ")
  need(tls, "cert", "tls: ", 'cert = "server.pem"')
  need(tls, "key", "tls: ", 'key = "server.key"')
  for _, key in ipairs { "client", "clients" } do
    if tls[key] ~= nil and tls.client_ca == nil then
      wrong("tls: %s has an effect only with client_ca, the CA that signs clients", key)
    end
  end
  local copy = {}
  for key, value in pairs(tls) do copy[key] = value end
  copy.clients = tls.clients and clients_of(tls.clients)
  return copy
end

local function rate_of(rate)
  if rate == nil then return nil end
  if rate == "none" then return 0 end
  local n, unit = rate:match("^(%d+)/([smh])$")
  n = tonumber(n)
  if not n or n == 0 then
    wrong('rate must be like "10/s", "600/m" or "1000/h", or "none", not \'%s\'', rate)
  end
  return n / per[unit]
end

local function mode_of(mode, address)
  if mode == nil then return nil end
  local number = mode:match("^0?[0-7][0-7][0-7]$") and tonumber(mode, 8)
  if not number then wrong('mode must be like "0660", not \'%s\'', mode) end
  if not address:find("^unix:") then wrong("mode is for unix sockets: %s is none", address) end
  return number
end

local function public_of(public)
  local result = {}
  for _, name in ipairs(public or {}) do
    if name ~= "health" and name ~= "metrics" then
      wrong("public: '%s' cannot be public: %s", name, suggest.hint(name, { "health", "metrics" }))
    end
    result[name] = true
  end
  return result
end

local function hosts_of(hosts)
  for _, host in ipairs(hosts or {}) do
    if not host:find("^[%w._%-]+$") then
      wrong("hosts: a host name must have no scheme, port or slashes, not '%s'", host)
    end
  end
  return hosts
end

local function address_of(address)
  local fault = check.value(address, "text")
  if fault then wrong("its address %s", fault) end
  local port = tonumber(address:match(":(%d+)$"))
  if not address:match("^unix:.") and not (port and port <= 65535) then
    wrong("'%s' is not an address: write \"127.0.0.1:7377\", \"[::1]:7377\" or "
      .. "\"unix:/run/app.sock\"", address)
  end
  return address
end

local function options_of(given)
  local address, o = address_of(given[1]), {}
  for key, value in pairs(given) do
    if key ~= 1 then o[key] = value end
  end
  judge(o, keys, "")
  local tls = o.tls and tls_of(o.tls, tls_keys)
  if o.tokens then
    each(o.tokens, "tokens", token_keys, { "file", "role" },
      '{ file = "ops.token", role = "operate" }')
  end
  if o.burst and not o.rate then wrong("burst has an effect only with rate") end
  local is_unix = address:find("^unix:")
  if o.tls and is_unix then wrong("tls is for TCP: %s is a unix socket", address) end
  if o.others and not is_unix then wrong("others is for unix sockets: %s is none", address) end
  local public = public_of(o.public)
  return { address = address, tls = tls, tokens = o.tokens, hosts = hosts_of(o.hosts),
    public_health = public.health, public_metrics = public.metrics, rate = rate_of(o.rate),
    burst = o.burst, mode = mode_of(o.mode, address), others = o.others }
end

local M = {}

-- Returns the result of fn, or nil and an error message.
local function caught(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  if type(result) ~= "table" or not result.message then error(result, 0) end
  return nil, result.message
end

--- Returns the fields of the trigger, or nil and an error message.
---@param given string|segue.HttpOptions
---@return table?
---@return string?
function M.spec(given)
  return caught(function()
    if type(given) ~= "table" then return { address = address_of(given) } end
    return options_of(given)
  end)
end

local function tls_with_paths(tls, fn)
  local copy = {}
  for key, value in pairs(tls) do copy[key] = value end
  for _, key in ipairs { "cert", "key", "client_ca" } do copy[key] = copy[key] and fn(copy[key]) end
  return copy
end

--- Returns the TLS options of a module's listeners, with fn applied to every path; or nil and an
--- error message.
---@param tls table
---@param fn fun(path: string): string
---@return table?
---@return string?
function M.module_tls(tls, fn)
  return caught(function()
    return tls_with_paths(tls_of(tls, module_tls_keys), fn)
  end)
end

--- The same with every path taken through fn: the policy's folder put before it.
---@param trigger table
---@param fn fun(path: string): string
---@return table
function M.with_paths(trigger, fn)
  local copy = {}
  for key, value in pairs(trigger) do copy[key] = value end
  copy.tls = trigger.tls and tls_with_paths(trigger.tls, fn)
  if trigger.tokens then
    copy.tokens = {}
    for i, token in ipairs(trigger.tokens) do
      local base = token.file:match("([^/]*)$")
      copy.tokens[i] = { file = fn(token.file), role = token.role,
        name = token.name or base:match("^(.+)%.[^.]*$") or base }
    end
  end
  return copy
end

return M

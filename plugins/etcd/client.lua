-- SPDX-License-Identifier: MIT
-- Requests to the JSON gateway of etcd: the token of a user, and its errors as kinds of failures.
local segue = require "segue"
local remote = require "segue.remote"

-- Codes of gRPC, as the gateway writes them in an error.
local permission_denied, exhausted, out_of_range, unauthenticated = 7, 8, 11, 16

---@class segue.etcd.Client
---@field private server segue.Endpoints
---@field private user string?
---@field private password any
---@field private token string?
---@field private timeout any
---@field private silence any
local Client = {}
Client.__index = Client

-- Codes of failures that only this plugin knows.
local M = { compacted = "compacted", too_large = "too large" }

--- A client of one etcd cluster. options: endpoints, user, password, tls, timeout, silence.
---@param name string of the source
---@param options table
---@return segue.etcd.Client
function M.new(name, options)
  local list = { name = name, tls = options.tls }
  for i, url in ipairs(options.endpoints) do list[i] = url end
  return setmetatable({ server = remote.endpoints(list), user = options.user,
    password = options.password, timeout = options.timeout or "10s",
    silence = options.silence or "11m" }, Client)
end

--- The source and the endpoint in use, for messages.
---@return string
function Client:who() return self.server:who() end

--- The endpoint in use does not work.
function Client:bad() self.server:bad() end

--- The next request gets a new token.
function Client:forget_token() self.token = nil end

--- The command that grants what the source needs, for messages.
---@return string
function Client:grant()
  return ("the user %s needs the right to read all of each range: etcdctl role grant-permission "
    .. "ROLE --prefix=true read PREFIX"):format(self.user or "of the client")
end

-- An error of the gateway: its code of gRPC, and its own words.
local function problem_of(body)
  local value = body and segue.json.decode(body)
  if type(value) ~= "table" then return nil, body end
  local inner = type(value.error) == "table" and value.error or value
  local code = tonumber(inner.code or inner.grpc_code)
  local words = inner.message or type(inner.error) == "string" and inner.error
  return code, type(words) == "string" and words or body
end

local function login(self)
  if not self.user or self.token then return true end
  local password, why, code = remote.credential("the password of " .. self.server.name,
    self.password)
  if not password then return nil, why, code end
  local answer, pause
  answer, why, code, pause = self.server:fetch { path = "/v3/auth/authenticate", method = "POST",
    body = segue.json.encode { name = self.user, password = password }, timeout = self.timeout }
  if not answer then return nil, why, code, pause end
  local value = answer.status == 200 and segue.json.decode(answer.body)
  if type(value) == "table" and type(value.token) == "string" then
    self.token = value.token
    return true
  end
  local _, words = problem_of(answer.body)
  return remote.failure(self:who(), answer, ("user %s: %s"):format(self.user, words),
    "SEGUE_EDENIED")
end

-- The rest of an answer that is an error: small, also of a stream.
local function body_of(answer)
  if answer.body then return answer.body end
  local part = answer:read() or ""
  answer:close()
  return part
end

-- Whether the token has expired, or is that of another member, or of one that has started again.
local function is_about_token(code, words)
  return code == unauthenticated or words and (words:find("user name is empty", 1, true)
    or words:find("invalid auth token", 1, true)) ~= nil
end

--- Sends a request. stream: the answer has lines. Returns the answer of status 200; or nil,
--- message, code, pause.
---@param path string
---@param body string
---@param stream? boolean
---@return (segue.Answer|segue.Stream)?
---@return string? message
---@return string? code
---@return number? pause
function Client:ask(path, body, stream)
  for attempt = 1, 2 do
    local good, why, code, pause = login(self)
    if not good then return nil, why, code, pause end
    local answer
    answer, why, code, pause = self.server:fetch { path = path, method = "POST", body = body,
      stream = stream, timeout = stream and 0 or self.timeout,
      idle = stream and self.silence or nil,
      max_bytes = not stream and "128MiB" or nil,
      -- A member that has lost its leader refuses the watch, or ends it; without this header it
      -- would be silent.
      headers = { Authorization = self.token, ["Grpc-Metadata-hasleader"] = stream and "true" } }
    if not answer then return nil, why, code, pause end
    if answer.status == 200 then return answer end
    local grpc, words = problem_of(body_of(answer))
    if grpc == out_of_range then return nil, self:who() .. ": " .. words, M.compacted end
    if grpc == exhausted and answer.status == 429 then
      return nil, self:who() .. ": " .. words, M.too_large
    end
    if grpc == permission_denied then
      return remote.failure(self:who(), answer, words .. ": " .. self:grant(), "SEGUE_EDENIED")
    end
    local token = is_about_token(grpc, words)
    if token then self.token = nil end
    if not token or not self.user or attempt == 2 then
      return remote.failure(self:who(), answer, words, token and "SEGUE_EDENIED" or nil)
    end
  end
end

return M

-- SPDX-License-Identifier: MIT
-- The common parts of sources whose servers speak HTTP: endpoints with fail-over, credentials that
-- are read when they are used, and answers as kinds of failures.
--   local remote = require "segue.remote"
--   local server = remote.endpoints { "https://10.0.0.1:2379", "https://10.0.0.2:2379" }
--   local answer, why, code, pause = server:fetch { path = "/v3/kv/range", body = text }
-- A failure is nil, message, code, pause, as fetch and watch of a source return it.
local core = require "segue.core"
local fetch = require "segue.fetch"

local concat, ipairs, pairs, tonumber, type = table.concat, ipairs, pairs, tonumber, type
local max, min = math.max, math.min

local M = {}

-- ---- Credentials ------------------------------------------------------------------------------

local most_credential = 65536

local function one_line(text, where)
  text = text:match "^(.-)[\r\n]*$"
  if text == "" or text:find "[%z\r\n]" then
    return nil, where .. " must contain one line", "SEGUE_EDENIED"
  end
  return text
end

--- Reads a credential now, so that one that was replaced counts for the next use: a text itself, or
--- { file = "path" } or { env = "NAME" }, whose text is one line.
---@param what string for messages: "the password"
---@param credential string|{ file?: string, env?: string }
---@return string?
---@return string? message
---@return string? code "SEGUE_EDENIED": the engine asks again once, and then seldom
function M.credential(what, credential)
  if type(credential) == "string" then return credential end
  if credential.env then
    local text = os.getenv(credential.env)
    if text then return one_line(text, ("%s in $%s"):format(what, credential.env)) end
    return nil, ("%s is missing: $%s is not set"):format(what, credential.env), "SEGUE_EDENIED"
  end
  local text, why = core.read(credential.file, 10000, most_credential, true)()
  if text then return one_line(text, ("%s in %s"):format(what, credential.file)) end
  return nil, ("%s is missing: %s"):format(what, why), "SEGUE_EDENIED"
end

--- Checks an option of the policy that is a credential; mistakes are thrown at the caller's caller.
---@param name string of the function and the option: "segue.etcd: password"
---@param credential any
function M.check_credential(name, credential)
  if type(credential) == "string" and credential ~= "" then return end
  local count, known = 0, { file = true, env = true }
  for key, value in pairs(type(credential) == "table" and credential or {}) do
    count = count + 1
    if not known[key] or type(value) ~= "string" or value == "" then count = 2 end
  end
  if count ~= 1 then
    error(name .. ' must be a text, { file = "path" } or { env = "NAME" }', 3)
  end
end

-- ---- Answers ----------------------------------------------------------------------------------

local words = {
  [400] = "it does not understand the request", [401] = "it does not accept the credentials",
  [403] = "it does not allow that", [404] = "there is no such thing", [408] = "it was too slow",
  [409] = "that conflicts with its state", [410] = "that is gone", [413] = "that is too large",
  [429] = "it limits its clients", [500] = "it has failed", [501] = "it cannot do that",
  [502] = "the proxy before it gets no answer", [503] = "it is not available",
  [504] = "the proxy before it waits for an answer",
}
local codes = { [401] = "SEGUE_EDENIED", [403] = "SEGUE_EDENIED", [407] = "SEGUE_EDENIED",
  [410] = "SEGUE_EGONE", [429] = "SEGUE_EBUSY" }

--- A status of HTTP as words: "403: it does not allow that".
---@param status integer
---@return string
function M.status(status)
  local meaning = words[status] or status < 400 and "that is no answer to it" or words[status < 500
    and 400 or 500]
  return ("%d: %s"):format(status, meaning)
end

--- The pause that an answer requests (Retry-After), in seconds; nil: none. A date counts from now.
---@param headers table<string, string>
---@return number?
function M.retry_after(headers)
  local value = headers["retry-after"]
  if not value then return nil end
  if value:find "^%d+$" then return min(tonumber(value), 86400) end
  local day, month, year, hour, minute, second =
    value:match "^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  local months = "JanFebMarAprMayJunJulAugSepOctNovDec"
  local at = month and months:find(month, 1, true)
  if not at then return nil end
  -- Days since 1970 by the civil calendar: os.time would read the fields as local time.
  local m, y = (at + 2) / 3, tonumber(year)
  if m <= 2 then y, m = y - 1, m + 12 end
  local days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
    + math.floor((153 * (m - 3) + 2) / 5) + tonumber(day) - 719469
  local seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
  return max(0, min(seconds - os.time(), 86400))
end

--- An answer that is no success as a failure. detail: the server's own words; code: instead of that
--- of the status.
---@param who string for the message: "etcd at http://10.0.0.1:2379"
---@param answer { status: integer, headers: table<string, string> }
---@param detail? string
---@param code? string
---@return nil
---@return string message
---@return string code
---@return number? pause
function M.failure(who, answer, detail, code)
  local pause = M.retry_after(answer.headers)
  code = code or codes[answer.status] or pause and "SEGUE_EBUSY" or "SEGUE_ESOURCE"
  if detail then detail = detail:gsub("%c+", " "):sub(1, 300) end
  return nil, ("%s answered %s%s"):format(who, M.status(answer.status),
    detail and detail ~= "" and " (" .. detail .. ")" or ""), code,
    code == "SEGUE_EBUSY" and pause or nil
end

-- ---- Endpoints --------------------------------------------------------------------------------

---@class segue.Endpoints servers of one store, of which one is in use
---@field private list { url: string, due: number, wait: number }[]
---@field private at integer the one in use
---@field private tls table
---@field private name string
local Endpoints = {}
Endpoints.__index = Endpoints

local first_wait, most_wait = 1, 60

--- Endpoints of a store. options: a list of URLs, `name` of the store for messages, `tls` as of
--- segue.fetch.
---@param options { [integer]: string, name: string, tls?: segue.FetchTls }
---@return segue.Endpoints
function M.endpoints(options)
  local list = {}
  for i, url in ipairs(options) do
    list[i] = { url = url:gsub("/+$", ""), due = 0, wait = 0 }
  end
  return setmetatable({ list = list, at = 1, tls = options.tls, name = options.name }, Endpoints)
end

--- Checks an option of the policy that is a list of URLs.
---@param name string
---@param urls any
function M.check_endpoints(name, urls)
  if type(urls) ~= "table" or #urls == 0 then
    error(name .. ' must be a list of URLs, such as { "https://10.0.0.1:2379" }', 3)
  end
  for _, url in ipairs(urls) do
    if type(url) ~= "string" or not url:find "^https?://[^/?#@%s]+/?$" then
      error(name .. ': each must be a URL without a path, such as "https://10.0.0.1:2379"', 3)
    end
  end
end

--- The store and the endpoint in use, for messages.
---@return string
function Endpoints:who()
  return ("%s at %s"):format(self.name, self.list[self.at].url)
end

--- The endpoint in use works.
function Endpoints:good()
  local one = self.list[self.at]
  one.due, one.wait = 0, 0
end

--- The endpoint in use does not work: the next one whose pause is over is used. Each failure in a
--- row doubles the pause of an endpoint, up to a minute.
function Endpoints:bad()
  local now, one = os.time(), self.list[self.at]
  one.wait = min(max(one.wait * 2, first_wait), most_wait)
  one.due = now + one.wait
  local next_at, earliest = nil, math.huge
  for i = 1, #self.list do
    local at = (self.at + i - 1) % #self.list + 1
    local due = max(self.list[at].due, now)
    if due < earliest then next_at, earliest = at, due end
  end
  self.at = next_at
end

-- Statuses by which a server, or a proxy before it, is of no use now, while another may be.
local useless = { [502] = true, [503] = true, [504] = true }

--- Sends a request, as of segue.fetch, to the endpoint in use; `path` is added to its URL. Where
--- that one does not answer, or answers 502, 503 or 504, each of the others is asked whose pause is
--- over. Where none is of use, all failures are the message. Any other answer is returned as it is.
---@param request { path: string, [string]: any }
---@return (segue.Answer|segue.Stream)?
---@return string? message
---@return string? code
function Endpoints:fetch(request)
  local options, failures, tried = {}, {}, {}
  for key, value in pairs(request) do if key ~= "path" then options[key] = value end end
  options.tls = self.tls
  local answer, why, code
  repeat
    tried[self.at] = true
    options.url = self.list[self.at].url .. request.path
    answer, why, code = fetch(options)
    if answer and not useless[answer.status] then
      self:good()
      return answer
    end
    failures[#failures + 1] = why or ("%s answered %s"):format(self:who(), M.status(answer.status))
    local busy = answer and M.retry_after(answer.headers)
    if answer and answer.close then answer:close() end
    self:bad()
    if busy and #self.list == 1 then return nil, failures[1], "SEGUE_EBUSY", busy end
  until tried[self.at] or self.list[self.at].due > os.time()
  return nil, concat(failures, "; "), code or "SEGUE_ESOURCE"
end

return M

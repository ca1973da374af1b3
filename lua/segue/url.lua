-- SPDX-License-Identifier: MIT
-- The requests of segue.url and the answers that it accepts: only a complete 200 that can be YAML
-- or JSON, or a 304 to a conditional request. After any other answer the last delivery stays in
-- use.
local fetch = require "segue.fetch"
local core = require "segue.core"

local pairs, type, tostring = pairs, type, tostring

local M = {}

local most_redirects = 5

local function masked(text)
  local scheme, authority, path = text:match("^(%a+://)([^/?#]*)([^?#]*)")
  if not scheme then return text:match("^[^?#@]*") end
  return scheme .. authority:match("[^@]*$") .. path
end

--- The state of a source from its options, which the constructor has validated. Mistakes that rows
--- cannot find are thrown at the caller of segue.url.
---@param spec segue.SourceUrl
---@return table
function M.prepare(spec)
  local where = spec.url or spec[1]
  if not where:find("^https?://[^/?#]") then
    error(("segue.url: '%s' is not a URL: write \"https://host/config.yaml\""):format(
      masked(where)), 3)
  end
  for name, value in pairs(spec.headers or {}) do
    if type(value) ~= "string" or value:find("[\r\n%z]") then
      error(("segue.url: headers.%s must be a text of one line"):format(tostring(name)), 3)
    end
  end
  if spec.token_file and spec.headers and spec.headers.Authorization then
    error("segue.url: token_file and an Authorization header exclude each other", 3)
  end
  local tls = spec.tls or {}
  return { name = spec.name or masked(where), shown = masked(where), url = where, spec = spec,
    format = spec.format, fetch = M.fetch, token_file = spec.token_file,
    request = { url = where, timeout = spec.timeout or "10s",
      max_bytes = spec.max_bytes or "16MiB",
      redirects = spec.redirects and most_redirects or nil,
      tls = { ca = tls.ca, cert = tls.cert, key = tls.key, verify = not tls.insecure } } }
end

local function token_of(self)
  local token, why, code = core.read(self.token_file, 10000, 65536, true)()
  if not token then return nil, why, code end
  token = token:match("^%s*(.-)%s*$")
  if token == "" or token:find("[%c%s]") then
    return nil, ("%s must contain a token, one word"):format(self.token_file)
  end
  return token
end

local function headers_of(self)
  local headers = { Accept = "application/yaml, application/json;q=0.9, */*;q=0.1" }
  for name, value in pairs(self.spec.headers or {}) do headers[name] = value end
  if self.token_file then
    local token, why, code = token_of(self)
    if not token then return nil, why, code end
    headers.Authorization = "Bearer " .. token
  end
  local held = self.revision
  if held and held:find('^W?/?"') then
    headers["If-None-Match"] = held
  elseif held then
    headers["If-Modified-Since"] = held
  end
  return headers
end

local meanings = {
  [401] = ": are the token or the credentials right?", [403] = ": may we read it?",
  [404] = ": is the path right?", [407] = ": a proxy stands between", [429] = ": we ask too often",
}

local function status_problem(self, answer)
  local to = answer.headers.location
  if answer.status >= 300 and answer.status < 400 and to then
    return ("%s answered %d and leads to %s: redirects = true follows it"):format(self.shown,
      answer.status, to:find("^%a+://") and masked(to) or to:match("^[^?#]*"))
  end
  return ("%s answered %d%s"):format(self.shown, answer.status, meanings[answer.status] or "")
end

local function looks_like_html(body)
  local start = body:sub(1, 200):lower()
  return start:find("^%s*<!doctype%s+html") or start:find("^%s*<html")
end

-- Returns the format, or nil and an error message about the content.
local function format_of(self, answer)
  local mime = (answer.headers["content-type"] or ""):lower():match("^%s*([^;%s]*)")
  if mime:find("html", 1, true) or looks_like_html(answer.body) then
    return nil, ("%s answered 200 with HTML%s instead of YAML or JSON: is it a page for "
      .. "people, a login or an error?"):format(self.shown,
      mime ~= "" and " (" .. mime .. ")" or "")
  end
  if self.format then return self.format end
  if mime:find("json", 1, true) then return "json" end
  if mime:find("yaml", 1, true) then return "yaml" end
  if mime ~= "" and not mime:find("^text/plain$") and not mime:find("octet%-stream$") then
    return nil, ("%s answered with %s, which is neither YAML nor JSON: if it is, "
      .. "name the format with format = \"yaml\""):format(self.shown, mime)
  end
  return self.shown:find("%.json$") and "json" or "yaml"
end

--- The fetch of a URL as a source.
---@param self table
function M.fetch(self)
  local headers, why, code = headers_of(self)
  if not headers then return nil, why, code end
  self.request.headers = headers
  local answer
  answer, why, code = fetch(self.request)
  if not answer then return nil, why, code end
  if answer.status == 304 and self.revision then return true end
  if answer.status ~= 200 then return nil, status_problem(self, answer), "SEGUE_ESOURCE" end
  if not answer.body:find("%S") and self.spec.empty ~= "allow" then
    return nil, self.shown .. " answered 200 with nothing in it", "SEGUE_ESOURCE"
  end
  local format
  format, why = format_of(self, answer)
  if not format then return nil, why, "SEGUE_ESOURCE" end
  local revision = answer.headers.etag or answer.headers["last-modified"]
  if revision and (#revision > 1000 or revision:find("[%c]")) then revision = nil end
  return { { name = self.shown, text = answer.body, format = format } }, revision
end

return M

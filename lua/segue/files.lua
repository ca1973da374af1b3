-- SPDX-License-Identifier: MIT
-- Files and host names: calls that may hang run on another thread, under a time limit, while the
-- task waits. Paths are relative to the policy's folder.
local core = require "segue.core"

local M = {}

--- The bytes of a file; nil, message, code if it cannot be read.
---@param path string
---@param options? segue.CallRead
---@return string?
---@return string? message
---@return string? code
function M.read(path, options)
  local o = core.options("segue.read", "read", path, options)
  return core.read(o.path, o.timeout, o.max)()
end

--- Replaces a file with a text, all of it or nothing, and durably. A new file has `mode`, by
--- default 0600; an existing one keeps its mode and owner.
---@param path string
---@param text string
---@param options? segue.CallWrite
---@return boolean?
---@return string? message
---@return string? code
function M.write(path, text, options)
  local given = { text = text }
  if type(options) == "table" then
    for key, value in pairs(options) do given[key] = value end
  elseif options ~= nil then
    given = options
  end
  local o = core.options("segue.write", "write", path, given)
  return core.write(o.path, o.timeout, o.text, o.mode)()
end

--- Returns facts about the file at a path: type ("file", "folder", "socket", "pipe", "device"),
--- size (bytes), mode ("0644"), mtime (seconds since 1970), uid, gid; nil, message, code if there
--- is none.
---@param path string
---@param options? segue.CallStat
---@return { type: string, size: integer, mode: string, mtime: number, uid: integer, gid: integer }?
---@return string? message
---@return string? code
function M.stat(path, options)
  local o = core.options("segue.stat", "stat", path, options)
  return core.stat(o.path, o.timeout)()
end

--- The files that match a pattern such as "conf.d/*.conf", in the order of their names.
---@param pattern string
---@param options? segue.CallList
---@return string[]?
---@return string? message
---@return string? code
function M.list(pattern, options)
  local o = core.options("segue.list", "list", pattern, options)
  return core.list(o.pattern, o.timeout)()
end

local least_ttl = 5

--- The addresses of a host; with type "SRV" or "TXT" the records of a name, sorted, and the
--- seconds they hold, 5 at least.
---@param name string
---@param options? segue.CallResolve
---@return (string|{ target?: string, port?: integer, priority?: integer, weight?: integer,
---  text?: string, ttl: integer })[]?
---@return (string|integer)? message with records: the seconds
---@return string? code
function M.resolve(name, options)
  local o = core.options("segue.resolve", "resolve", name, options)
  if o.type == "address" then return core.resolve(o.host, o.timeout)() end
  local host, port
  if o.server then host, port = o.server:match "^(.*):(%d+)$" end
  local records, message, code = core.resolve(o.host, o.timeout, o.type, host, tonumber(port))()
  if not records then return nil, message, code end
  local ttl = math.huge
  for _, record in ipairs(records) do ttl = math.min(ttl, record.ttl) end
  return records, math.max(ttl, least_ttl)
end

return M

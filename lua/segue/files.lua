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

--- The addresses of a host.
---@param name string
---@param options? segue.CallResolve
---@return string[]?
---@return string? message
---@return string? code
function M.resolve(name, options)
  local o = core.options("segue.resolve", "resolve", name, options)
  return core.resolve(o.host, o.timeout)()
end

return M

-- SPDX-License-Identifier: MIT
-- Files and host names: calls that may hang run on another thread, under a time limit, while the
-- task waits. Paths are relative to the policy's folder.
local core = require "segue.core"
local check = require "segue.check"
local duration = require "segue.duration"

local type, error = type, error
local default_bytes = 16 * 1024 * 1024
local default_time = "10s"

local M = {}

local function argument(name, value, kind)
  local wrong = check.value(value, kind)
  if wrong then error(("%s: its argument %s"):format(name, wrong), 3) end
end

local function milliseconds(options)
  return duration.parse(options.timeout or default_time)
end

--- The bytes of a file; nil, message, code if it cannot be read.
---@param path string
---@param options? { max?: integer, timeout?: string|number } max: bytes, default 16 MiB
---@return string?
---@return string? message
---@return string? code
function M.read(path, options)
  argument("segue.read", path, "text")
  local o = check.options("segue.read", options, { max = "count", timeout = "duration" })
  return core.read(path, milliseconds(o), o.max or default_bytes)()
end

--- Replaces a file with a text, all of it or nothing, and durably. A new file has `mode`, by
--- default 0600; an existing one keeps its mode and owner.
---@param path string
---@param text string
---@param options? { mode?: string, timeout?: string|number } mode: "0644"
---@return boolean?
---@return string? message
---@return string? code
function M.write(path, text, options)
  argument("segue.write", path, "text")
  if type(text) ~= "string" then
    error(("segue.write: what is written must be a text, not a %s"):format(type(text)), 2)
  end
  local o = check.options("segue.write", options, { mode = "text", timeout = "duration" })
  if o.mode and not o.mode:find("^[0-7][0-7][0-7][0-7]?$") then
    error(("segue.write: mode '%s' is not a mode: write \"0644\""):format(o.mode), 2)
  end
  return core.write(path, milliseconds(o), text, o.mode and tonumber(o.mode, 8) or 0)()
end

--- Returns facts about the file at a path: type ("file", "folder", "socket", "pipe", "device"),
--- size (bytes), mode ("0644"), mtime (seconds since 1970), uid, gid; nil, message, code if there
--- is none.
---@param path string
---@param options? { timeout?: string|number }
---@return { type: string, size: integer, mode: string, mtime: number, uid: integer, gid: integer }?
---@return string? message
---@return string? code
function M.stat(path, options)
  argument("segue.stat", path, "text")
  local o = check.options("segue.stat", options, { timeout = "duration" })
  return core.stat(path, milliseconds(o))()
end

--- The files that match a pattern such as "conf.d/*.conf", in the order of their names.
---@param pattern string
---@param options? { timeout?: string|number }
---@return string[]?
---@return string? message
---@return string? code
function M.list(pattern, options)
  argument("segue.list", pattern, "text")
  local o = check.options("segue.list", options, { timeout = "duration" })
  return core.list(pattern, milliseconds(o))()
end

--- The addresses of a host.
---@param name string
---@param options? { timeout?: string|number }
---@return string[]?
---@return string? message
---@return string? code
function M.resolve(name, options)
  argument("segue.resolve", name, "text")
  local o = check.options("segue.resolve", options, { timeout = "duration" })
  return core.resolve(name, milliseconds(o))()
end

return M

-- SPDX-License-Identifier: MIT
-- A rule of the house: includes go one way, from a part of the core to the parts below it, and only
-- core/bind and plugins know Lua. Used by house.lua; returns the check of one line:
-- check(path, number, line, breach).
local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- The folders that each folder of core/ may include, besides itself and core/segue.h.
local may = {
  os = {},
  config = { "os" },
  schema = { "os", "config" },
  record = { "os", "config" },
  options = { "os", "config" },
  socket = { "os" },
  http = { "os" },
  source = { "os", "config", "options" },
  module = { "os", "config", "options" },
  reload = { "os", "config", "schema", "options", "record", "source", "module" },
  files = { "os", "config", "schema", "options", "record", "source", "module", "reload", "http",
    "trigger" },
  trigger = { "os", "config", "schema", "options", "record", "source", "module", "reload" },
  process = { "os", "socket", "config", "schema", "options", "record", "source", "module", "reload",
    "files", "http", "trigger" },
  admin = { "os", "socket", "config", "schema", "options", "record", "source", "module", "reload",
    "http", "trigger" },
  ingress = { "os", "socket", "config", "schema", "options", "record", "source", "module", "reload",
    "http" },
  bind = { "os", "config", "schema", "options", "record", "source", "module", "reload", "files",
    "process", "http" },
  instance = { "os", "socket", "config", "schema", "options", "record", "source", "module",
    "reload", "files", "process", "http", "trigger", "admin", "bind", "ingress" },
  daemon = { "os", "socket", "config", "schema", "options", "record", "source", "module", "reload",
    "files", "process", "http", "trigger", "admin", "bind", "ingress", "instance" },
  dist = {},
}
-- The same for the folders of core/bind.
local may_in_bind = {
  runtime = {},
  io = { "runtime" },
  template = { "runtime" },
  import = {},
  policy = { "runtime", "io", "template" },
  module = { "runtime", "io", "policy" },
  testing = { "runtime", "io", "policy", "module" },
}
local function sets(lists)
  local of = {}
  for folder, others in pairs(lists) do
    of[folder] = { [folder] = true }
    for _, other in ipairs(others) do of[folder][other] = true end
  end
  return of
end
local allowed, allowed_in_bind = sets(may), sets(may_in_bind)

-- "core/config" .. "../os/mem.h" -> "core/os/mem.h"
local function resolve(folder, include)
  local parts = {}
  for part in (folder .. "/" .. include):gmatch("[^/]+") do
    if part == ".." then parts[#parts] = nil elseif part ~= "." then parts[#parts + 1] = part end
  end
  return table.concat(parts, "/")
end

return function(path, number, line, breach)
  local library = line:match('^%s*#%s*include%s+[<"](lua[%w]*%.h)[>"]')
    or line:match('^%s*#%s*include%s+[<"](lauxlib%.h)[>"]')
  if library and not path:match("^core/bind/") and not path:match("^plugins/")
      and not path:match("^spec/") then
    breach(path .. ":" .. number, "%s: only core/bind and plugins may know Lua", library)
  end
  local include = line:match('^%s*#%s*include%s+"([^"]+)"')
  if not include or not path:match("^core/") then return end
  local folder = path:match("^core/([^/]+)/")
  local target = resolve(path:match("^(.*)/[^/]+$"), include)
  local other = target:match("^core/([^/]+)/")
  if other and not (allowed[folder] and allowed[folder][other]) then
    breach(path .. ":" .. number, "core/%s may not include core/%s", folder or "", other)
  end
  local part, other_part = path:match("^core/bind/([^/]+)/"), target:match("^core/bind/([^/]+)/")
  if part and other_part and not allowed_in_bind[part][other_part] then
    breach(path .. ":" .. number, "core/bind/%s may not include core/bind/%s", part, other_part)
  end
  if not exists(target) then
    breach(path .. ":" .. number, '"%s" does not exist; write the path relative to the file',
      include)
  end
end

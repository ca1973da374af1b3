-- SPDX-License-Identifier: MIT
-- Daemons with one module of the kind files whose files a and b are in the folder out/d of
-- generations, each with the value x of a.yaml:
--   local d = folder_module.start { module = 'apply = "ls out/d > listed"' }
local segue = require "spec.support.segue"
local uv = require "luv"
local M = {}

local text = [==[
local segue = require "segue"
local function file(name, mode)
  return { name = name, mode = mode,
    content = function(config) return name .. config.x .. "\n" end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { @OTHER@ web = { kind = "files", timeout = "20s", folder = @FOLDER@,
    files = { @FILES@ }, @MODULE@ } },
}]==]

--- The policy. o.folder: the option, as a text; files: the list; module: other options; other:
--- another module.
function M.policy(o)
  return (text:gsub("@(%u+)@", { FOLDER = o.folder or '{ "out/d", backups = 0 }',
    FILES = o.files or 'file "a", file "b"', MODULE = o.module or "", OTHER = o.other or "" }))
end

function M.start(o)
  return segue.start { policy = M.policy(o), files = { ["a.yaml"] = "x: 1\n" }, env = o.env,
    ready = o.ready }
end

function M.put(d, x) d.dir:save("a.yaml", ("x: %s\n"):format(x)) end

--- The files of the folder as "a1 b1".
function M.content(d, folder)
  local list = {}
  for _, name in ipairs(d.dir:list(folder or "out/d")) do
    list[#list + 1] = d.dir:read((folder or "out/d") .. "/" .. name):gsub("\n", "")
  end
  return table.concat(list, " ")
end

--- The names in out without the link, its live folder and the lock.
function M.left(d)
  local list, live = {}, uv.fs_readlink(d.dir:at "out/d")
  for _, name in ipairs(d.dir:list "out") do
    if name ~= "d" and name ~= live and name ~= ".segue.lock" then list[#list + 1] = name end
  end
  return list
end

return M

-- SPDX-License-Identifier: MIT
-- Temporary folders and the ways in which files change: written in place, saved by rename, swapped
-- by symbolic link as Kubernetes does it.
local uv = require "luv"
local M = {}
local Dir = {}
Dir.__index = Dir
local made = {}

local function remove(path)
  local stat = uv.fs_lstat(path)
  if not stat then return end
  if stat.type == "directory" then
    uv.fs_chmod(path, 448) -- 0700: a spec may have locked it
    local dir = uv.fs_scandir(path)
    while dir do
      local name = uv.fs_scandir_next(dir)
      if not name then break end
      remove(path .. "/" .. name)
    end
    assert(uv.fs_rmdir(path))
  else
    assert(uv.fs_unlink(path))
  end
end

local place = os.getenv("TMPDIR") or "/tmp"

--- From now on the folders of this file are on a disk: for specs of what is synced, and of what
--- only a real file system does. run.lua puts the others into memory.
function M.on_disk()
  place = os.getenv("SEGUE_SPEC_DISK") or place
end

--- A new empty folder; its path is short, so that unix sockets fit into it. below: another place,
--- such as a file system in memory.
function M.new(below)
  local path = assert(uv.fs_mkdtemp((below or place) .. "/segue-XXXXXX"))
  local self = setmetatable({ path = path }, Dir)
  made[self] = true
  return self
end

--- Full path of a name in it.
function Dir:at(name)
  return self.path .. "/" .. name
end

--- Creates a folder and its parents; returns the full path.
function Dir:mkdir(name)
  local path = self.path
  for part in name:gmatch("[^/]+") do
    path = path .. "/" .. part
    if not uv.fs_stat(path) then assert(uv.fs_mkdir(path, 493)) end
  end
  return path
end

--- Writes in place, as `echo > file` does; returns the full path.
function Dir:write(name, text)
  local folder = name:match("^(.*)/[^/]+$")
  if folder then self:mkdir(folder) end
  local file = assert(io.open(self:at(name), "w"))
  file:write(text)
  file:close()
  return self:at(name)
end

--- Saves by rename, as editors do; returns the full path.
function Dir:save(name, text)
  local temporary = name .. ".new~"
  self:write(temporary, text)
  assert(os.rename(self:at(temporary), self:at(name)))
  return self:at(name)
end

--- The bytes of a file, or nil.
function Dir:read(name)
  local file = io.open(self:at(name))
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

--- Removes a file or a folder with all that is in it.
function Dir:delete(name)
  remove(self:at(name))
end

--- Makes name a symbolic link to target, in one step where it exists already.
function Dir:link(target, name)
  local temporary = self:at(name .. ".new~")
  assert(uv.fs_symlink(target, temporary))
  assert(os.rename(temporary, self:at(name)))
end

--- Publishes files as a ConfigMap volume: name -> ..data/name, and ..data swapped as a whole.
function Dir:configmap(files)
  self.version = (self.version or 0) + 1
  local folder = "..v" .. self.version
  self:mkdir(folder)
  for name, text in pairs(files) do
    self:write(folder .. "/" .. name, text)
    if not uv.fs_lstat(self:at(name)) then self:link("..data/" .. name, name) end
  end
  self:link(folder, "..data")
  if self.version > 1 then self:delete("..v" .. self.version - 1) end
end

--- Names in it (or in a folder of it), sorted.
function Dir:list(name)
  local names = {}
  local dir = uv.fs_scandir(name and self:at(name) or self.path)
  while dir do
    local entry = uv.fs_scandir_next(dir)
    if not entry then break end
    names[#names + 1] = entry
  end
  table.sort(names)
  return names
end

--- Removes the folder.
function Dir:remove()
  made[self] = nil
  remove(self.path)
end

--- Removes every folder that was made: for after_each.
function M.remove_all()
  local list = {}
  for self in pairs(made) do list[#list + 1] = self end
  for _, self in ipairs(list) do self:remove() end
end

return M

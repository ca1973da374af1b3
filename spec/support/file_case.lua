-- SPDX-License-Identifier: MIT
-- A folder and a book of destinations for one spec of core/files, sets of files in them, and the
-- check that nothing of them stays:
--   before_each(function() case = file_case.open() end)
--   after_each(function() case:close() end)
-- open { members = { path = "d" } }: the files of each set are in the folder of generations "d".
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local assert = require "luassert"
local file_set = require "spec.support.file_set"
local uv = require "luv"

local Case = {}
Case.__index = Case
local M = {}

function M.open(defaults)
  local self = setmetatable({ dir = Tempdir.new(), sets = {}, defaults = defaults or {} }, Case)
  self.live, self.fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
  self.book = file_set.book()
  return self
end

--- Frees the sets and the book; memory and descriptors that are left fail the spec.
function Case:close()
  C.segue__fault_arm(nil)
  for _, set in ipairs(self.sets) do if set.c then set:free() end end
  C.segue__file_book_free(self.book)
  assert.equal(self.live, tonumber(C.segue__mem_live()))
  assert.equal(self.fds, C.os_harness_open_fds())
  Tempdir.remove_all()
end

--- Another book, as after a restart.
function Case:renew_book()
  local other = file_set.book()
  C.segue__file_book_free(self.book)
  self.book = other
end

--- A set (file_set.new) with the book, the folder and the defaults of the spec. options.members =
--- false: none of its files is in a folder of generations.
function Case:new(files, options)
  local all = { book = self.book, folder = self.dir.path }
  for _, some in ipairs { self.defaults, options or {} } do
    for name, value in pairs(some) do all[name] = value end
  end
  all.members = all.members or nil
  return self:add(file_set.new(all, files))
end

--- Frees a set at the end of the spec, if the spec has not freed it.
function Case:add(set)
  self.sets[#self.sets + 1] = set
  return set
end

--- Stages, commits and settles a set, and frees it. Returns how many files have changed.
function Case:apply(files, options)
  local set = self:new(files, options)
  assert(set:stage())
  assert(set:commit())
  assert(set:settle())
  local changed = set:changed()
  set:free()
  return changed
end

--- The permissions of a file.
function Case:mode_of(name)
  return assert(uv.fs_stat(self.dir:at(name))).mode % 4096
end

-- ---- Folders of generations ------------------------------------------------------------------

--- "a=1 b=2": the files of the folder that the link leads to, or of another one.
function Case:content(folder)
  local list = {}
  folder = folder or self.defaults.members.path
  for _, name in ipairs(self.dir:list(folder)) do
    list[#list + 1] = name .. "=" .. self.dir:read(folder .. "/" .. name)
  end
  return table.concat(list, " ")
end

--- The folders of generations, and all other names but those of the link and the lock.
function Case:beside()
  local folders, rest, link = {}, {}, self.defaults.members.path
  for _, name in ipairs(self.dir:list()) do
    if name:find("^%." .. link .. "%.gen%-%x+") then folders[#folders + 1] = name
    elseif name ~= link and name ~= ".segue.lock" then rest[#rest + 1] = name end
  end
  return folders, rest
end

--- The folder that the link leads to.
function Case:target()
  return uv.fs_readlink(self.dir:at(self.defaults.members.path))
end

return M

-- SPDX-License-Identifier: MIT
-- Sets of files of core/files, called through the FFI: one set at a time, and the same in a process
-- of its own that a fault point kills.
local C = require "spec.support.c"
local ffi = C.ffi
local M = {}
local Set = {}
Set.__index = Set

local function result(rc, e)
  if rc < 0 then return nil, C.err(e).name, C.err(e).message end
  return true
end

--- A book of destinations; record: the path of its file, or nil.
function M.book(record)
  local out = ffi.new("segue__file_book *[1]")
  C.check(C.segue__file_book_new(out, record))
  return out[0]
end

--- A set: options is { book =, folder =, module =, root =, drift =, removed =, plan =, members = };
--- members, of its folder of generations, is { path =, mode =, owner =, backups = }, and then `to`
--- is a name in it unless the file has alone = true. files is a list of { to, text, mode =,
--- owner =, backups =, replace_link = }.
function M.new(options, files)
  local out, o = ffi.new("segue__file_set *[1]"), ffi.new("segue__file_set_options[1]")
  local module = options.module or "web"
  o[0].size, o[0].book = ffi.sizeof("segue__file_set_options"), options.book
  o[0].module, o[0].folder, o[0].root = module, options.folder, options.root
  o[0].drift, o[0].removed = options.drift or 0, options.removed or 0
  o[0].plan = options.plan or false
  local members = options.members
  if members then
    o[0].members.path, o[0].members.owner = members.path, members.owner
    o[0].members.mode, o[0].members.backups = members.mode or 0, members.backups or 0
  end
  C.check(C.segue__file_set_new(out, o))
  for _, file in ipairs(files) do
    local to = file[1]
    if members and not file.alone then to = members.path .. "/" .. to end
    local want, e = ffi.new("segue__file_want[1]"), C.error()
    want[0].to, want[0].data, want[0].len = to, file[2], #file[2]
    want[0].member = members ~= nil and not file.alone
    want[0].mode, want[0].owner = file.mode or 0, file.owner
    want[0].backups, want[0].replace_link = file.backups or 0, file.replace_link or false
    C.check(C.segue__file_set_add(out[0], want, e), e)
  end
  return setmetatable({ c = out[0] }, Set)
end

for _, verb in ipairs { "stage", "commit", "undo", "settle" } do
  Set[verb] = function(self)
    local e = C.error()
    return result(C["segue__file_set_" .. verb](self.c, e), e)
  end
end

function Set:free()
  C.segue__file_set_free(self.c)
  self.c = nil
end

function Set:changed() return tonumber(C.segue__file_set_changed(self.c)) end

--- The status of the n-th file.
function Set:get(n)
  local status = ffi.new("segue__file_status[1]")
  C.segue__file_set_get(self.c, n - 1, status)
  return { path = C.str(status[0].path), source = C.str(status[0].source),
    changed = status[0].changed, kept = C.str(status[0].kept), mode = status[0].next.mode }
end

function Set:intent()
  local buf = C.new("segue__buf")
  C.segue__buf_init(buf)
  C.segue__file_set_intent(self.c, buf)
  local text = C.buf(buf)
  C.segue__buf_deinit(buf)
  return text
end

--- Finishes or undoes the change of an intent; returns true and the report, or the error.
function M.recover(intent, finish)
  local buf, e = C.new("segue__buf"), C.error()
  C.segue__buf_init(buf)
  local ok, code, message = result(C.segue__file_set_recover(intent, #intent, finish, buf, e), e)
  local report = C.buf(buf)
  C.segue__buf_deinit(buf)
  if not ok then return nil, code, message end
  return true, report
end

local script = [[
local file_set, C = require "spec.support.file_set", require "spec.support.c"
local dir, intent_path, last = ...
local files = {}
for i = 4, select("#", ...), 2 do files[#files + 1] = { select(i, ...), (select(i + 1, ...)) } end
local path = os.getenv "SEGUE_SPEC_MEMBERS"
local set = file_set.new({ book = file_set.book(), folder = dir,
  members = path and { path = path } }, files)
assert(set:stage())
local file = assert(io.open(intent_path, "w"))
file:write(set:intent())
file:close()
local ok, _, message = set:commit()
if last == "undo" then set:undo() elseif last == "settle" then set:settle() end
print(ok and "survived" or message)
]]

--- Stages and commits a set in a process of its own, with fault points armed, then undoes or
--- settles it ("undo", "settle"). Its intent goes to intent_path. Returns the output. wrap: a shell
--- command around it, which runs "$@". members: the path of the folder that the files are in.
function M.elsewhere(dir, intent_path, last, files, faults, wrap, members)
  local name = intent_path .. ".lua"
  local file = assert(io.open(name, "w"))
  file:write(script)
  file:close()
  local words = {}
  for _, one in ipairs(files) do
    words[#words + 1] = ("'%s' '%s'"):format(one[1], one[2])
  end
  -- A sanitizer's library must come first in that process as well.
  local pipe = io.popen(("timeout -s KILL 60 sh -c '%s' sh env LD_PRELOAD=%s "
    .. "ASAN_OPTIONS=detect_leaks=0 %s SEGUE_FAULTS='%s' luajit %s %s %s %s %s 2>&1"):format(
    wrap or 'exec "$@"', os.getenv("SEGUE_SPEC_PRELOAD") or "",
    members and "SEGUE_SPEC_MEMBERS=" .. members or "", faults, name, dir, intent_path,
    last, table.concat(words, " ")))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

--- A wrap for elsewhere: runs a shell command while the process is stopped at a fault point
--- ("POINT=stop"), and continues it; waits for what the command left in the background.
function M.while_stopped(command)
  return ('"$@" & pid=$!; until grep -q "^State:.[TZ]" /proc/$pid/status; do :; done; %s; '
    .. "kill -CONT $pid; wait $pid; wait"):format(command)
end

--- The same for a recovery.
function M.recover_elsewhere(intent_path, finish, faults)
  local code = ("local f = require 'spec.support.file_set'; local i = io.open('%s'):read('*a'); "
    .. "print(f.recover(i, %s))"):format(intent_path, tostring(finish))
  local pipe = io.popen(("env LD_PRELOAD=%s ASAN_OPTIONS=detect_leaks=0 SEGUE_FAULTS='%s' "
    .. "luajit -e \"%s\" 2>&1"):format(os.getenv("SEGUE_SPEC_PRELOAD") or "", faults, code))
  local output = pipe:read("*a")
  pipe:close()
  return output
end

return M

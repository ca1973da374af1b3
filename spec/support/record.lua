-- SPDX-License-Identifier: MIT
-- The durable record for specs: state files, generations, the history, the thread that records.
--   local h = Record.history(path)
--   h:add { id = 1, yaml = "a: 1", generation = 1, paths = { "a" } }
local busted = require "busted"
local C = require "spec.support.c"
local cjson = require "cjson"
local document = require "spec.support.document"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

ffi.cdef [[
typedef struct sqlite3 sqlite3;
int sqlite3_open(const char *path, sqlite3 **out);
int sqlite3_exec(sqlite3 *db, const char *sql, void *cb, void *data, char **err);
int sqlite3_close(sqlite3 *db);
int open(const char *path, int flags, ...);
int dup2(int from, int to);
int close(int fd);
]]
local sqlite = ffi.load "libsqlite3.so.0"

local M = {}
local log_room = ffi.new("char[65536]")

--- Calls started(folder) before each spec of the file, with a new folder; after the spec no memory
--- is left.
function M.for_each_spec(started)
  local live
  busted.before_each(function()
    started(tempdir.new())
    M.logged()
    live = document.live()
  end)
  busted.after_each(function()
    C.segue__fault_arm(nil)
    C.segue__mem_fail_at(0)
    assert(live == document.live(), "memory is left behind")
    tempdir.remove_all()
  end)
end

--- The log lines since the last call, from all threads.
function M.logged()
  return ffi.string(C.os_harness_log_take(log_room, 65536))
end

--- Files from { path = text }: a reference that the caller gives back by C.segue__files_unref; or
--- nil and a code.
function M.files(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  local n = #names
  local items = ffi.cast("segue__file *", C.segue__calloc(math.max(n, 1), ffi.sizeof "segue__file"))
  local out = ffi.new("segue__files *[1]")
  for i, name in ipairs(names) do
    local text = list[name]
    items[i - 1].path, items[i - 1].data = C.segue__strdup(name), C.segue__strndup(text, #text)
    items[i - 1].len = #text
  end
  C.check(C.segue__files_new(out, items, n))
  return out[0]
end

--- Files as a table, and their reference given back.
function M.file_table(files)
  local list = {}
  for i = 0, tonumber(files.count) - 1 do
    list[ffi.string(files.items[i].path)] = ffi.string(files.items[i].data, files.items[i].len)
  end
  C.segue__files_unref(files)
  return list
end

--- A snapshot of a text; options as document.good takes them. The caller unrefs it.
function M.snapshot(generation, text, options)
  local config = document.merge(document.good(text, options))
  local out = ffi.new("segue_snapshot *[1]")
  C.check(C.segue__snapshot_new(out, generation, config))
  return out[0]
end

--- Pieces of a state folder: "state" or "last-good".
function M.slots(folder, name)
  local slots = ffi.new("segue__two_slot_file[1]")
  C.check(C.segue__two_slot_file_init(slots, C.os_harness_log(), folder, name,
    name == "state" and "SEGUEST1" or "SEGUELG3"))
  return ffi.gc(slots, C.segue__two_slot_file_deinit)
end

--- A separate connection to a database: run(sql), close(). As far as locks go, it is another
--- process.
function M.connection(path)
  local out = ffi.new("sqlite3 *[1]")
  assert(sqlite.sqlite3_open(path, out) == 0)
  return {
    run = function(sql) assert(sqlite.sqlite3_exec(out[0], sql, nil, nil, nil) == 0, sql) end,
    close = function() sqlite.sqlite3_close(out[0]) end,
  }
end

--- Replaces each descriptor of this process that has the file at path open, by one of the file
--- `by`: as SQLite sees it, the disk begins to fail.
function M.swap_open_file(path, by)
  local dir = assert(uv.fs_scandir "/proc/self/fd")
  local found = 0
  for name in uv.fs_scandir_next, dir do
    if uv.fs_readlink("/proc/self/fd/" .. name) == path then
      local fd = ffi.C.open(by, 0)
      assert(fd >= 0 and ffi.C.dup2(fd, tonumber(name)) >= 0)
      ffi.C.close(fd)
      found = found + 1
    end
  end
  assert(found > 0, path .. " is not open")
end

-- ---- The history ------------------------------------------------------------------------------

local History = {}
History.__index = History

--- Opens it: the history with its highest numbers in .generation and .reload; or nil and the name
--- of the code.
function M.history(path, wait_ms)
  local out, numbers = ffi.new("segue__history *[1]"), ffi.new("uint64_t[2]")
  local rc = C.segue__history_open(out, C.os_harness_log(), path, wait_ms or 0, numbers,
    numbers + 1)
  if rc < 0 then
    assert(out[0] == nil)
    return nil, C.name(rc)
  end
  return setmetatable({ ptr = out[0], generation = tonumber(numbers[0]),
    reload = tonumber(numbers[1]) }, History)
end

--- Opens a history and adds n reloads to it; more: fields for each.
function M.filled(path, n, more)
  local h = assert(M.history(path))
  for i = 1, n do
    local spec = { id = i, generation = i, yaml = ("a: %d\n"):format(i), paths = { "a" },
      files = { ["/etc/a.yaml"] = ("a: %d\n"):format(i), ["/etc/reload.lua"] = "return {}" } }
    for key, value in pairs(more or {}) do spec[key] = value end
    h:add(spec)
  end
  return h
end

function History:close()
  C.segue__history_close(self.ptr)
  self.ptr = nil
end

--- { reloads, generations, age_ms, bytes }
function History:limit(limits)
  C.segue__history_limit(self.ptr, ffi.new("segue__history_limits[1]", { limits }))
end

--- An entry as C data; keep what this returns for as long as it is used. spec: id, wall_ms,
--- outcome, summary, detail; for a generation: generation, yaml (and options of the document),
--- files, paths, more.
function M.entry(spec)
  local e = { c = ffi.new("segue__history_entry[1]") }
  local c = e.c[0]
  e.outcome = spec.outcome or "applied"
  e.summary = spec.summary or cjson.encode { id = spec.id, outcome = e.outcome }
  e.detail = spec.detail or cjson.encode { id = spec.id, detail = true }
  c.id, c.wall_ms = spec.id, spec.wall_ms or 1000000 + spec.id
  c.outcome, c.summary, c.detail = e.outcome, e.summary, e.detail
  if spec.generation then
    e.snapshot = ffi.gc(M.snapshot(spec.generation, spec.yaml or "a: 1\n", spec),
      C.segue_snapshot_unref)
    c.snapshot = e.snapshot
    if spec.files then
      e.files = ffi.gc(M.files(spec.files), C.segue__files_unref)
      c.files = e.files
    end
    local paths = spec.paths or {}
    e.strings, e.paths = {}, ffi.new("char *[?]", #paths + 1)
    for i, path in ipairs(paths) do
      e.strings[i] = ffi.new("char[?]", #path + 1, path)
      e.paths[i - 1] = e.strings[i]
    end
    c.paths, c.path_count, c.more_paths = e.paths, #paths, spec.more or false
  end
  return e
end

--- Adds one: 0 or a negative code.
function History:try_add(spec)
  local entry = M.entry(spec)
  return C.segue__history_add(self.ptr, entry.c)
end

function History:add(spec)
  C.check(self:try_add(spec))
end

-- fn(buf) as JSON; or nil and the name of the code.
local function json(fn)
  local buf = ffi.new("segue__buf[1]")
  local rc = fn(buf)
  local text = C.buf(buf[0])
  C.segue__buf_deinit(buf)
  if rc < 0 then return nil, C.name(rc) end
  return cjson.decode(text)
end

function History:reloads(limit, before)
  return json(function(buf)
    return C.segue__history_reloads(self.ptr, limit or 1000000, before or 0, buf)
  end)
end

--- Adds who requested what: { path, status, refused, wall_ms, who, reload, folded }; 0 or a code.
function History:try_audit(spec)
  local a = ffi.new("segue__audit[1]")
  a[0].wall_ms, a[0].status, a[0].refused = spec.wall_ms or 1000000, spec.status or 200,
    spec.refused or false
  a[0].reload, a[0].folded = spec.reload or 0, spec.folded or 0
  for _, key in ipairs { "who", "peer", "method", "path" } do
    ffi.copy(a[0][key], spec[key] or (key == "who" and "" or key))
  end
  return C.segue__history_add_audit(self.ptr, a)
end

function History:audit(spec)
  C.check(self:try_audit(spec))
end

--- The requests of the audit list, newest first.
function History:audits(limit)
  return json(function(buf)
    return C.segue__history_audits(self.ptr, limit or 1000000, buf)
  end)
end

--- The ids of all reloads that are kept, newest first.
function History:ids(limit, before)
  local ids = {}
  for i, reload in ipairs(assert(self:reloads(limit, before))) do ids[i] = reload.id end
  return ids
end

function History:one(id)
  return json(function(buf) return C.segue__history_reload(self.ptr, id, buf) end)
end

function History:why(path, till)
  return json(function(buf) return C.segue__history_why(self.ptr, path, 0, till or -1ull, buf) end)
end

--- The rendered files that changed between two generations: their entries and the generation whose
--- reload is missing (0: none); or nil and the name of the code.
function History:changes(from, to, backward)
  local out, missing = ffi.new "segue__file_changes[1]", ffi.new "uint64_t[1]"
  local rc = C.segue__history_file_changes(self.ptr, from, to, backward or false, out, missing)
  if rc < 0 then return nil, C.name(rc) end
  local list = {}
  for i = 0, tonumber(out[0].count) - 1 do
    local item = out[0].items[i]
    list[i + 1] = { path = ffi.string(item.path), module = ffi.string(item.module),
      diff = item.diff ~= nil and ffi.string(item.diff) or nil,
      note = item.note ~= nil and ffi.string(item.note) or nil }
  end
  C.segue__file_changes_deinit(out)
  return list, tonumber(missing[0])
end

function History:before(number)
  local out = ffi.new("uint64_t[1]")
  local rc = C.segue__history_before(self.ptr, number, out)
  if rc < 0 then return nil, C.name(rc) end
  return tonumber(out[0])
end

function History:files(generation)
  local out = ffi.new("segue__files *[1]")
  local rc = C.segue__history_files(self.ptr, generation, out)
  if rc < 0 then return nil, C.name(rc) end
  return M.file_table(out[0])
end

--- The configuration of a generation as JSON text.
function History:snapshot(generation)
  local out, err = ffi.new("segue_snapshot *[1]"), C.error()
  local rc = C.segue__history_snapshot(self.ptr, generation, out, err)
  if rc < 0 then return nil, C.name(rc) end
  assert(tonumber(C.segue_snapshot_generation(out[0])) == generation)
  local text = document.json(C.segue_snapshot_root(out[0]))
  C.segue_snapshot_unref(out[0])
  return text
end

return M

-- SPDX-License-Identifier: MIT
-- The C library under test, called through LuaJIT's FFI: `local C = require "spec.support.c"`.
-- C.name calls or reads what libsegue-spec.so and its headers declare; the functions below help
-- with errors, strings and memory. The JIT is off: C calls back into Lua, which compiled code
-- forbids.
local ffi = require "ffi"
local build = os.getenv("SEGUE_SPEC_BUILD") or "build/spec"

if jit then jit.off() end

local function declarations()
  local file = assert(io.open(build .. "/cdef.h"), build .. "/cdef.h is missing: run `make test`")
  local text = file:read("*a")
  file:close()
  return text
end
ffi.cdef(declarations())

local path = (build:sub(1, 1) == "/" and "" or "./") .. build .. "/libsegue-spec.so"
local lib = ffi.load(path)
-- The library stays mapped until the process ends: a thread may still be in it, and a leak report
-- must be able to name its functions.
ffi.cdef "void *dlopen(const char *path, int flags);"
local RTLD_NOW, RTLD_NODELETE = 0x2, 0x1000
assert(ffi.C.dlopen(path, RTLD_NOW + RTLD_NODELETE) ~= nil)

local M = { lib = lib, ffi = ffi, NULL = nil, build = build }

--- A zeroed value of a C type that the collector frees: C.new("segue__buf"), C.new("int[?]", 3).
function M.new(type, ...)
  return ffi.new(type, ...)
end

--- A fresh segue_error to pass to a call (an array of one, so that it decays to a pointer).
function M.error()
  return ffi.new("segue_error[1]")
end

--- The fields of an error: a table with code, name, line, column, source, file, path, message,
--- text.
function M.err(e)
  local one = ffi.cast("const segue_error *", e)
  local buf = ffi.new("char[2048]")
  lib.segue_error_format(one, buf, 2048)
  return {
    code = one.code, name = ffi.string(lib.segue_error_name(one.code)),
    line = one.line, column = one.column,
    source = ffi.string(one.source), file = ffi.string(one.file), path = ffi.string(one.path),
    message = ffi.string(one.message), text = ffi.string(buf),
  }
end

--- The error as one line of text.
function M.text(e)
  return M.err(e).text
end

--- A Lua string from char * (and a length), or nil from NULL.
function M.str(p, len)
  if p == nil then return nil end
  return len and ffi.string(p, len) or ffi.string(p)
end

--- The name of an error code: C.name(-5001) is "SEGUE_ESYNTAX".
function M.name(code)
  return ffi.string(lib.segue_error_name(code))
end

--- Raises with the story unless code is 0 or more; returns code.
function M.check(code, e)
  if code < 0 then
    error(e and M.text(e) or (M.name(code) .. ": " .. ffi.string(lib.segue_strerror(code))), 2)
  end
  return code
end

--- True for a NULL pointer.
function M.is_null(p)
  return p == nil
end

--- Bytes in memory of segue__malloc, for functions that take ownership; returns pointer, length.
function M.bytes(s)
  local p = ffi.cast("char *", lib.segue__malloc(#s + 1))
  assert(p ~= nil, "out of memory")
  ffi.copy(p, s, #s)
  p[#s] = 0
  return p, #s
end

--- The text of a segue__buf.
function M.buf(b)
  return b.len > 0 and ffi.string(b.data, b.len) or ""
end

--- A callback that is freed after fn(cb) returned or raised: C.with("void (*)(void *)", f, fn).
function M.with(type, callback, fn)
  local cb = ffi.cast(type, callback)
  local ok, err = pcall(fn, cb)
  cb:free()
  if not ok then error(err, 0) end
end

--- A new libuv loop; close it with C.loop_close.
function M.loop_new()
  local memory = ffi.new("char[?]", lib.uv_loop_size())
  local loop = ffi.cast("struct uv_loop_s *", memory)
  M.check(lib.uv_loop_init(loop))
  return { uv = loop, memory = memory }
end

--- Closes a loop; raises if a handle was left open on it.
function M.loop_close(loop)
  lib.uv_run(loop.uv, 2)
  local rc = lib.uv_loop_close(loop.uv)
  if rc ~= 0 then error("a handle was left open on the loop: " .. M.name(rc), 2) end
end

--- Runs a loop until predicate() is true; raises after deadline_ms (wait.lua). The loop must
--- have work of its own or the predicate another source of change: waiting costs 1 ms at a time.
function M.run_until(loop, predicate, deadline_ms)
  local uv, wait = require "luv", require "spec.support.wait"
  local deadline = wait.deadline(deadline_ms)
  while true do
    lib.uv_run(loop.uv, 2)
    if predicate() then return end
    if uv.hrtime() > deadline then error("nothing happened before the deadline", 2) end
    uv.sleep(1)
  end
end

-- SEGUE_SPEC_COLLECT makes the collector run where C.name is used: a value that C borrows and no
-- Lua value refers to is freed at once, and a sanitizer sees C use it. "all": at each use (minutes
-- for a file). "some": at the uses 1, 2, 4, 8 ... of each spec.
local collect = os.getenv "SEGUE_SPEC_COLLECT"
if not collect or collect == "" then return setmetatable(M, { __index = lib }) end

local borrowed = require "spec.support.borrowed"
local uses, of_spec = 0, nil

return setmetatable(M, { __index = function(_, name)
  if of_spec ~= borrowed.specs then uses, of_spec = 0, borrowed.specs end
  uses = uses + 1
  if collect == "all" or bit.band(uses, uses - 1) == 0 then collectgarbage() end
  return lib[name]
end })

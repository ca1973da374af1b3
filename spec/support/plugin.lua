-- SPDX-License-Identifier: MIT
-- Shared objects and hosts that specs build, with the flags and libraries of the build under test.
local process = require "spec.support.process"
local uv = require "luv"

local M = {}

local function absolute(path) return path:sub(1, 1) == "/" and path or uv.cwd() .. "/" .. path end
local build = absolute(os.getenv("SEGUE_BUILD") or "build")

--- The folder of the plugins that segue brings.
M.folder = build .. "/plugins"

local function compile(...)
  local words = { "cc -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror",
    os.getenv("SEGUE_SPEC_CFLAGS") or "", ... }
  words[#words + 1] = "-I" .. uv.cwd() .. "/core"
  local cc = process.run { "sh", "-c", table.concat(words, " "), deadline_ms = 120000 }
  assert(cc.code == 0, cc:describe())
end

--- Builds a plugin from a text in C. flags, which may be nil, are the compiler's.
function M.build(path, text, flags)
  local file = assert(io.open(path .. ".c", "w"))
  file:write(text)
  file:close()
  compile("-shared -fPIC", flags or "", "-o", path .. ".new", path .. ".c")
  assert(os.rename(path .. ".new", path)) -- as a package manager replaces it
end

--- Builds a plugin from a file.
function M.build_file(path, source) compile("-shared -fPIC -pthread -o", path, source) end

--- Builds a library that is preloaded into a program.
function M.library(path, source, flags) compile("-shared -fPIC", flags, "-o", path, source) end

--- Builds a program that needs nothing of segue.
function M.program(path, source) compile("-o", path, source) end

--- The static library as a whole, for plugins that the host loads.
M.whole_library = "-rdynamic -Wl,--whole-archive " .. build .. "/libsegue.a -Wl,--no-whole-archive"

--- The library with fault points and shorter times (SEGUE_TEST_...), for M.host.
M.spec_library = absolute(os.getenv("SEGUE_SPEC_BUILD") or "build/spec") .. "/libsegue-spec.so"

--- Builds a host program that links the shared library, or `library`. flags are the compiler's, or
--- nil.
function M.host(path, source, flags, library)
  compile(flags or "", "-o", path, source, library or build .. "/libsegue.so",
    "-Wl,-rpath," .. build, "-pthread -lm")
end

--- Builds a host program that links the static library, or `link`.
function M.static_host(path, source, link)
  local libraries = process.run { "pkg-config", "--libs", "libuv", "yaml-0.1", "libxxhash",
    "libpcre2-8", "sqlite3", "luajit" }
  assert(libraries.code == 0, libraries:describe())
  compile("-o", path, source, link or build .. "/libsegue.a",
    (libraries.stdout:gsub("\n", " ")), "-lm -ldl -pthread")
end

--- Builds a host program that links the library with fault points; returns its path. flags: the
--- compiler's, or nil.
function M.fault_host(name, source, flags)
  local folder = M.spec_library:match "^(.*)/"
  local path = folder .. "/" .. name
  local libs = process.output { "pkg-config", "--libs", "luajit" }:gsub("\n", "")
  compile(flags or "", "-o", path, source, M.spec_library, "-Wl,-rpath," .. folder,
    "-pthread -luv", libs)
  return path
end

--- Writes a segue.h of another version: its structs with a size field are shorter or longer than
--- those of the library under test.
function M.header(path, variant)
  local file = assert(io.open(uv.cwd() .. "/core/segue.h"))
  local text = file:read("*a")
  file:close()
  local ends = { segue_options = "  void (*on_stopped)", segue_module_ops = "  void (*inherit)",
    segue_module_descriptor = "  void *userdata;" }
  for name, last in pairs(ends) do
    local stop = assert(text:find("} " .. name .. ";", 1, true), name)
    local keep, at = stop - 1, text:find(last, 1, true)
    while variant == "shorter" and at and at < stop do
      keep, at = at - 1, text:find(last, at + 1, true)
    end
    assert(variant == "longer" or keep < stop - 1, name)
    text = text:sub(1, keep) .. (variant == "longer" and "  const void *later[8];\n" or "")
      .. text:sub(stop)
  end
  file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

--- A module that appends each of its operations to a file: text in C, with further fields of the
--- descriptor and further code. options: `says`, file, starts (the result of start), extra (code),
--- descriptor, ops, ops_size.
function M.source(options)
  return ([[
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
static void say(const char *what) {
  FILE *file = fopen("@FILE@", "a");
  if (!file) abort();
  fprintf(file, "@SAYS@ %s\n", what);
  fclose(file);
}
static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)next, (void)prev;
  *instance = malloc(1);
  say("prepare");
  segue_op_done(op, 0, NULL);
}
static void start(void *instance, segue_op *op) {
  (void)instance;
  say("start");
  segue_op_done(op, @STARTS@, NULL);
}
static void drain(void *instance, segue_op *op) {
  (void)instance;
  say("drain");
  segue_op_done(op, 0, NULL);
}
static void stop(void *instance, segue_op *op) {
  (void)instance;
  say("stop");
  segue_op_done(op, 0, NULL);
}
static void destroy(void *instance) {
  say("destroy");
  free(instance);
}
@EXTRA@
static const segue_module_ops ops = {.size = @OPS_SIZE@, .prepare = prepare, .start = start,
                                     .drain = drain, .stop = stop, .destroy = destroy, @OPS@};
SEGUE_API const segue_module_descriptor segue_module = {
  .magic = SEGUE_MODULE_MAGIC, .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor),
  .name = "spec", .version = "1", .ops = &ops, @DESCRIPTOR@};
]]):gsub("@(%u[%u_]*)@", { FILE = options.file, SAYS = options.says or "plugin",
    EXTRA = options.extra or "", OPS = options.ops or "", DESCRIPTOR = options.descriptor or "",
    STARTS = options.starts or "0", OPS_SIZE = options.ops_size or "sizeof ops" })
end

return M

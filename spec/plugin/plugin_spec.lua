-- SPDX-License-Identifier: MIT
-- Plugins: shared objects that a policy names, good ones and every kind of bad one. All of them are
-- built here.
local ffi = require "ffi"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"
ffi.cdef "int mkfifo(const char *path, unsigned mode);"

local function policy(modules, extra)
  return ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  %s
  modules = { %s },
}
]]):format(extra or "", modules)
end

local one = 'one = { kind = "c", plugin = "./one.so", config = "one" }'

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

-- Bytes of a file with some of them replaced.
local function patch(path, at, bytes)
  local text = read(path)
  local file = assert(io.open(path, "w"))
  file:write(text:sub(1, at), bytes, text:sub(at + #bytes + 1))
  file:close()
end

describe("a plugin", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    segue.cleanup()
    process.stop_all()
    tempdir.remove_all()
  end)

  local function build(options)
    options = options or {}
    options.file = dir:at("reported")
    plugin.build(dir:at(options.path or "one.so"), plugin.source(options), options.flags)
  end

  local function start(modules, extra)
    return segue.start { dir = dir, policy = policy(modules or one, extra),
      files = { ["config.yaml"] = "one: 1\n" } }
  end

  local function reported()
    local text = read(dir:at("reported"))
    return (text:gsub("\n", ","))
  end

  local function wait_told(text)
    wait.until_true(function() return reported():find(text, 1, true) end, 10000,
      function() return text .. " in " .. reported() end)
  end

  local function check(modules, extra)
    segue.folder { dir = dir, policy = policy(modules or one, extra),
      files = { ["config.yaml"] = "one: 1\n" } }
    return segue.cli({ "check" }, { cwd = dir.path })
  end

  it("is a module like any other: prepared, started, replaced, and stopped at the end", function()
    build()
    local daemon = start()
    assert.equal("plugin prepare,plugin start,", reported())
    dir:write("config.yaml", "one: 2\n")
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    wait_told("plugin prepare,plugin start,plugin prepare,plugin start,plugin drain,plugin stop,"
      .. "plugin destroy,")
    daemon:stop()
    wait_told("destroy,plugin drain,plugin stop,plugin destroy,")
  end)

  for _, variant in ipairs { "shorter", "longer" } do
    it("runs when it was built with a segue.h whose structs are " .. variant, function()
      plugin.header(dir:at("other.h"), variant)
      local text = plugin.source { file = dir:at("reported"), ops = variant == "longer"
        and '.later = {"not known to this version"}' or nil }
      plugin.build(dir:at("one.so"), (text:gsub("<segue.h>", '"' .. dir:at("other.h") .. '"')))
      local daemon = start()
      assert.equal("plugin prepare,plugin start,", reported())
      daemon:stop()
      wait_told("start,plugin drain,plugin stop,plugin destroy,")
    end)
  end

  it("is not changed by a reload that does not concern it", function()
    build()
    start()
    dir:write("config.yaml", "one: 1\nother: 2\n")
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    assert.equal("plugin prepare,plugin start,", reported())
  end)

  it("is added and removed with the policy, as part of the transaction", function()
    build()
    build { path = "two.so", says = "two" }
    start()
    dir:write("reload.lua", policy('two = { kind = "c", plugin = "./two.so", config = "one" }'))
    local plan = segue.cli({ "plan" }, { cwd = dir.path })
    assert.truthy(plan.stdout:find("add%s+two") and plan.stdout:find("remove%s+one"), plan.stdout)
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    wait_told("plugin destroy,")
    -- The plan builds the next instance too, and frees it again.
    assert.equal("plugin prepare,plugin start,two prepare,two destroy,two prepare,two start,"
      .. "plugin drain,plugin stop,plugin destroy,", reported())
  end)

  it("stays where the policy that removes it does not go live", function()
    build()
    build { path = "two.so", says = "two", starts = "SEGUE_EMODULE" }
    start()
    dir:write("reload.lua", policy('two = { kind = "c", plugin = "./two.so", config = "one" }'))
    assert.equal(4, segue.cli({ "reload" }, { cwd = dir.path }).code)
    assert.equal("plugin prepare,plugin start,two prepare,two start,two destroy,", reported())
  end)

  it("is replaced when its file is: the running code is the code that was read", function()
    build { says = "old" }
    local daemon = start()
    build { says = "new" }
    local plan = segue.cli({ "plan" }, { cwd = dir.path })
    assert.truthy(plan.stdout:find("its code changed", 1, true), plan.stdout)
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    wait_told("old destroy,")
    assert.equal("old prepare,old start,new prepare,new destroy,new prepare,new start,old drain,"
      .. "old stop,old destroy,", reported())
    -- The bytes of old generations are kept: what is rolled back is the code too.
    local back = segue.cli({ "rollback" }, { cwd = dir.path })
    assert.equal(0, back.code, back:describe())
    wait_told("old start,new drain,")
    daemon:stop()
  end)

  it("that the system's loader keeps for good is replaced all the same", function()
    for number = 1, 5 do -- so that descriptors and their numbers come round again
      build { says = "number" .. number, flags = "-Wl,-z,nodelete" }
      if number == 1 then
        start().baseline.files.plugin = 5 -- each keeps its descriptor
      else
        assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
        wait_told(("number%d destroy,"):format(number - 1))
      end
      wait_told(("number%d start,"):format(number))
    end
  end)

  it("is not unloaded while a worker thread is still in its code", function()
    local at = port.free()
    assert.equal(0, ffi.C.mkfifo(dir:at("go on"), 384))
    build { ops = ".handle = handle", extra = ([[
#include <fcntl.h>
#include <unistd.h>
static void handle(void *instance, segue_request *request) {
  segue_answer answer = {.status = 200};
  if (segue_request_answer(request, &answer)) abort();
  close(open("%s", O_RDONLY)); /* until the spec goes on */
  *(char *)instance = 1;
  say("returns");
}]]):format(dir:at("go on")) }
    start(('one = { kind = "c", plugin = "./one.so", config = "one", '
      .. 'listen = "http://127.0.0.1:%d" }'):format(at))
    assert.equal(200, http.request { port = at }.status)
    build { says = "next" }
    dir:write("reload.lua", policy(one))
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    wait_told("plugin drain,")
    local pipe = assert(io.open(dir:at("go on"), "w"))
    pipe:close()
    wait_told("plugin destroy,")
    assert.equal("plugin prepare,plugin start,next prepare,next start,plugin drain,plugin returns,"
      .. "plugin stop,plugin destroy,", reported())
  end)

  it("is not damaged when its file is overwritten in place", function()
    build()
    local daemon = start()
    patch(dir:at("one.so"), 0, ("x"):rep(8192))
    local refused = segue.cli({ "reload" }, { cwd = dir.path })
    assert.equal(3, refused.code, refused:describe())
    assert.truthy(refused.output:find("one.so is not a shared object", 1, true), refused.output)
    daemon:stop()
    wait_told("plugin prepare,plugin start,plugin drain,plugin stop,plugin destroy,")
  end)

  it("is searched for in the folders that the policy names, then in segue's own", function()
    assert(os.execute("mkdir " .. dir:at("mine")) == 0)
    build { path = "mine/log.so", says = "mine" }
    start('log = { kind = "c", replace = "restart" }', 'plugins = "mine",')
    assert.equal("mine prepare,mine start,", reported())
    local missing = check('lgo = { kind = "c" }', 'plugins = { "mine" },')
    assert.equal(3, missing.code)
    assert.truthy(missing.output:find("reload.lua:6: there is no C module 'lgo' in mine, ", 1, true)
      and missing.output:find("available are log, log, stats", 1, true), missing.output)
  end)

  describe("that is invalid is refused, and none of its code runs:", function()
    local constructor = '\n__attribute__((constructor)) static void early(void) { say("early"); }\n'

    local function refused(wanted)
      local result = check()
      assert.equal(3, result.code, result:describe())
      assert.truthy(result.output:find(wanted, 1, true), result.output)
      assert.truthy(result.output:find("reload.lua:6: ", 1, true), result.output)
      assert.equal("", reported())
    end

    for name, case in pairs {
      ["another ABI"] = { { descriptor = ".abi = 9" }, "one.so was built for version 9 of the "
        .. "module interface, this is version 1: build it again" },
      ["another magic"] = { { descriptor = ".magic = 1" },
        "one.so has a segue_module_descriptor that does not begin with SEGUE_MODULE_MAGIC" },
      ["another size"] = { { descriptor = ".size = 8" },
        "one.so has a descriptor of 8 bytes, which no version of segue.h defines" },
    } do
      it(name, function()
        case[1].extra = constructor
          .. '_Pragma("GCC diagnostic ignored \\"-Woverride-init\\"")'
        build(case[1])
        refused(case[2])
      end)
    end

    it("a file of text", function()
      dir:write("one.so", "#!/bin/sh\n")
      refused("one.so is not a shared object: build it with cc -shared -fPIC")
    end)

    it("an empty file", function()
      dir:write("one.so", "")
      refused("one.so is not a shared object")
    end)

    it("one that is cut off at any place", function()
      build { extra = constructor }
      local text = read(dir:at("one.so"))
      for _, len in ipairs { 20, 64, 200, 1000, 4096, math.floor(#text / 2), #text - 1 } do
        dir:write("one.so", text:sub(1, len))
        refused(len < 64 and "is not a shared object" or "one.so is cut short: copy it again")
      end
    end)

    it("one for another machine", function()
      build { extra = constructor }
      patch(dir:at("one.so"), 18, "\2\0")
      refused("one.so was built for another kind of machine: build it on this one")
    end)

    it("a program", function()
      build { extra = constructor }
      patch(dir:at("one.so"), 16, "\2\0")
      refused("one.so is not a shared object")
    end)

    it("a library that is no module", function()
      plugin.build(dir:at("one.so"), "int number(void);\nint number(void) { return 1; }\n")
      refused("one.so exports no segue_module: it is not a module of segue")
    end)

    it("one that every user may write", function()
      build { extra = constructor }
      assert(os.execute("chmod o+w " .. dir:at("one.so")) == 0)
      refused("one.so can be written by every user: chmod o-w it")
    end)

    it("one that does not exist", function()
      local result = check()
      assert.equal(4, result.code)
      assert.truthy(result.output:find("reload.lua:6: cannot read ./one.so: it does not exist", 1,
        true), result.output)
    end)
  end)

  describe("that can be loaded and is invalid is refused:", function()
    local function refused(options, wanted)
      build(options)
      local result = check()
      assert.equal(3, result.code, result:describe())
      assert.truthy(result.output:find(wanted, 1, true), result.output)
      assert.equal("", reported())
    end

    it("one that needs something that no module has", function()
      refused({ extra = "void nowhere(void);", ops = ".reopen = (void (*)(void *))nowhere" },
        "one.so cannot be loaded: undefined symbol: nowhere")
    end)

    it("one without a name", function()
      refused({ extra = '_Pragma("GCC diagnostic ignored \\"-Woverride-init\\"")',
        descriptor = '.name = ""' }, "one.so has no name in its descriptor")
    end)

    it("one without operations", function()
      refused({ extra = '_Pragma("GCC diagnostic ignored \\"-Woverride-init\\"")'
        .. '_Pragma("GCC diagnostic ignored \\"-Wunused-variable\\"")',
        descriptor = ".ops = 0" }, "one.so has no ops in its descriptor")
    end)

    for size, meaning in pairs { ["8"] = "too short", ["100000"] = "not initialized" } do
      it("one whose operations have a size that is " .. meaning, function()
        refused({ ops_size = size }, "one.so has ops that cannot be used: set their size")
      end)
    end

    for field, log in pairs { write = "{.size = sizeof log, .enabled = enabled}",
        size = "{.size = 8, .enabled = enabled, .write = write_entry}" } do
      it("a log without " .. field, function()
        refused({ ops = ".log = &log", extra = [[
_Pragma("GCC diagnostic ignored \"-Wunused-function\"")
static bool enabled(void *instance, segue_level level) { (void)instance, (void)level; return true; }
static int write_entry(void *instance, const segue_log_entry *entry, bool may_wait) {
  (void)instance, (void)entry, (void)may_wait; return 1; }
static const segue_log_ops log = ]] .. log .. ";" }, "one.so has ops that cannot be used")
      end)
    end
  end)

  it("reaches the live instance of a module that it needs by the gate of that module", function()
    plugin.build(dir:at("store.so"), [[
#include <segue.h>
#include <stdlib.h>
static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)prev;
  *instance = malloc(sizeof(int64_t));
  segue_op_done(op, segue_node_int(next->config, *instance), NULL);
}
static const segue_module_ops ops = {.size = sizeof ops, .prepare = prepare, .destroy = free};
SEGUE_API const segue_module_descriptor segue_module = {
  .magic = SEGUE_MODULE_MAGIC, .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor),
  .name = "store", .version = "1", .ops = &ops};
]])
    plugin.build(dir:at("reader.so"), [[
#include <inttypes.h>
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
typedef struct reader { segue *s; segue_gate *store; } reader;
static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)next, (void)prev;
  reader *r = calloc(1, sizeof *r);
  *instance = r;
  r->s = segue_op_owner(op);
  r->store = segue_gate_get(r->s, "store");
  segue_op_done(op, 0, NULL);
}
static void metrics(void *instance, void (*add)(void *, const char *, size_t), void *sink) {
  reader *r = instance;
  segue_pass pass;
  char text[96];
  if (segue_gate_enter(r->store, &pass)) return;
  int len = snprintf(text, sizeof text, "store %" PRId64 "\nlogged %d\n",
    *(int64_t *)pass.instance, segue_log(r->s, SEGUE_INFO, "reader", "asked", NULL, 0));
  segue_gate_leave(&pass);
  add(sink, text, (size_t)len);
}
static const segue_module_ops ops = {.size = sizeof ops, .prepare = prepare, .destroy = free,
                                     .metrics = metrics};
SEGUE_API const segue_module_descriptor segue_module = {
  .magic = SEGUE_MODULE_MAGIC, .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor),
  .name = "reader", .version = "1", .ops = &ops};
]])
    local daemon = start [[
    store = { kind = "c", plugin = "./store.so", config = "one" },
    reader = { kind = "c", plugin = "./reader.so", config = "none", needs = { "store" } }]]
    local metrics = daemon:control("/metrics").body
    assert.truthy(metrics:find("\nstore 1\n"), metrics)
    -- Without a log module the line goes to the daemon's own log.
    assert.truthy(metrics:find("\nlogged 1\n"), metrics)
    dir:write("config.yaml", "one: 2\n")
    assert.equal(0, segue.cli({ "reload" }, { cwd = dir.path }).code)
    assert.truthy(daemon:control("/metrics").body:find("\nstore 2\n"))
  end)

  it("built before there were more operations is accepted", function()
    build { ops_size = "__builtin_offsetof(segue_module_ops, inherit)" }
    start()
    assert.equal("plugin prepare,plugin start,", reported())
  end)

  it("is refused with a module that needs itself, and the error names the whole circle", function()
    build()
    local result = check([[
    a = { kind = "c", plugin = "./one.so", needs = { "b" } },
    b = { kind = "c", plugin = "./one.so", needs = { "d", "c" } },
    c = { kind = "c", plugin = "./one.so", needs = { "a" } },
    d = { kind = "c", plugin = "./one.so" }]])
    assert.equal(3, result.code)
    assert.truthy(result.output:find("module 'a' needs itself: a needs b needs c needs a: break "
      .. "the circle", 1, true), result.output)
  end)

  it("that all modules call can only be swapped, and only once", function()
    local result = check('log = { kind = "c", replace = "restart" }')
    assert.truthy(result.output:find("module 'log' is called by all threads at any time: it can "
      .. 'only be replaced by "swap", not by "restart"', 1, true), result.output)
    result = check('log = { kind = "c" }, other = { kind = "c", plugin = "log" }, '
      .. 'stats = { kind = "c" }, more = { kind = "c", plugin = "stats" }')
    assert.truthy(result.output:find("module 'other' is a log, and so is 'log': keep one", 1, true)
      and result.output:find("module 'stats' keeps metrics, and so does 'more'", 1, true),
      result.output)
  end)

  it("is refused by name if its kind is unknown", function()
    local result = check 'x = { kind = "job" }'
    assert.equal(3, result.code)
    assert.truthy(result.output:find('reload.lua:6: modules.x.kind must be "c", "lua", "files" or '
      .. '"process", not "job"', 1, true), result.output)
  end)

  it("is refused if its folder is not text", function()
    local result = check('one = { kind = "c" }', "plugins = { 1 },")
    assert.truthy(result.output:find("reload.lua:5: plugins[1] must be the path", 1, true),
      result.output)
    result = check('one = { kind = "c" }', 'plugin = "x",')
    assert.truthy(result.output:find('plugin is not a known key here: did you mean "plugins"', 1,
      true), result.output)
  end)
end)

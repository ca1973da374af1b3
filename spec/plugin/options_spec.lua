-- SPDX-License-Identifier: MIT
-- Options that the descriptor of a plugin or a host declares: validated with the policy, by the
-- table of the plugin, and given to each instance as a struct.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

-- The struct, its table, and a prepare that appends the options to a file.
local declared = [[
#include <stddef.h>
typedef struct cache_options {
  uint64_t size;
  char **hosts;
  size_t host_count;
  const segue_node *labels;
} cache_options;
static const segue_option rows[] = {
    {.name = "size", .type = SEGUE_OPTION_SIZE, .offset = offsetof(cache_options, size),
     .fallback = "64KiB", .doc = "memory for cached answers"},
    {.name = "hosts", .type = SEGUE_OPTION_LIST, .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_REQUIRED, .offset = offsetof(cache_options, hosts),
     .example = "hosts = { \"a\" }", .doc = "whose answers are cached"},
    {.name = "labels", .type = SEGUE_OPTION_ANY, .offset = offsetof(cache_options, labels),
     .doc = "texts for messages"},
};
static void check(void *options, segue_option_report *report) {
  if (((const cache_options *)options)->size < 1024)
    segue_option_wrong(report, "size", "must hold at least one answer, 1KiB");
}
static const segue_option_table table = {SEGUE_OPTION_ROWS(cache_options, rows), .name = "cache",
                                         .doc = "A cache.", .check = check};
]]

local reading = [[
static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  const cache_options *o = next->options;
  const char *text = "";
  size_t len;
  (void)userdata;
  segue_node_string(segue_node_member(o->labels, "name"), &text, &len);
  FILE *file = fopen("@FILE@", "a");
  if (!file || (prev && prev->options)) abort();
  fprintf(file, "%d %d %s%s\n", (int)o->size, (int)o->host_count, o->hosts[0], text);
  fclose(file);
  *instance = (void *)o;
  segue_op_done(op, 0, NULL);
}
static void destroy(void *instance) {
  FILE *file = fopen("@FILE@", "a");
  if (!file) abort();
  fprintf(file, "destroy %d\n", (int)((const cache_options *)instance)->size);
  fclose(file);
}
static const segue_module_ops ops = {.size = sizeof ops, .prepare = prepare, .destroy = destroy};
]]

local descriptor = [[
SEGUE_API const segue_module_descriptor segue_module = {
  .magic = SEGUE_MODULE_MAGIC, .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor),
  .name = "cache", .version = "1", .ops = &ops, .options = &table};
]]

local head = "#include <segue.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"

local dir
before_each(function() dir = tempdir.new() end)
after_each(function()
  segue.cleanup()
  process.stop_all()
  tempdir.remove_all()
end)

local function code(text) return (text:gsub("@FILE@", dir:at("reported"))) end

local function reported()
  local file = io.open(dir:at("reported"))
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

local function policy(options)
  return ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  modules = {
    cache = { kind = "c", plugin = "./cache.so", config = "cache"%s },
  },
}
]]):format(options and ", options = " .. options or "")
end

local function check(options)
  segue.folder { dir = dir, policy = policy(options), files = { ["config.yaml"] = "cache: 1\n" } }
  local result = segue.cli({ "check" }, { cwd = dir.path })
  assert.equal(3, result.code, result:describe())
  return result.output
end

local function finds(text, wanted)
  assert.truthy(text:find(wanted, 1, true), wanted .. " in " .. text)
end

describe("the options of a plugin", function()
  before_each(function()
    plugin.build(dir:at("cache.so"), head .. declared .. code(reading) .. descriptor)
  end)

  it("reach each instance as a struct, defaults included, until it is destroyed", function()
    local d = segue.start { dir = dir, files = { ["config.yaml"] = "cache: 1\n" },
      policy = policy '{ hosts = { "a", "b" }, labels = { name = "!" } }' }
    assert.equal("65536 2 a!\n", reported())
    dir:write("config.yaml", "cache: 2\n")
    assert.equal(0, d:cli("reload").code)
    wait.until_true(function() return reported():find("destroy", 1, true) end, 10000, reported)
    assert.equal("65536 2 a!\n65536 2 a!\ndestroy 65536\n", reported())
  end)

  it("replace the instance when they change, and only then", function()
    local d = segue.start { dir = dir, files = { ["config.yaml"] = "cache: 1\n" },
      policy = policy '{ hosts = { "a" } }' }
    dir:write("reload.lua", policy '{ size = "1MiB", hosts = { "a" } }')
    local plan = d:cli("plan")
    finds(plan.output, "its options changed")
    assert.equal(0, d:cli("reload").code)
    wait.until_true(function() return select(2, reported():gsub("destroy", "")) == 2 end, 10000,
      reported)
    finds(reported(), "1048576 1 a\n")
    local before = reported()
    dir:write("reload.lua", "-- the same\n" .. policy '{ size = "1MiB", hosts = { "a" } }')
    assert.equal(0, d:cli("reload").code)
    assert.equal(before, reported())
    -- The policy that they were written in is gone, and the instance has them still.
    d:stop()
    assert.equal(before .. "destroy 1048576\n", reported())
  end)

  it("are validated with the policy: all mistakes, each with its line and path", function()
    local output = check '{\n      sze = 1, hosts = { 1 } }'
    finds(output, 'reload.lua:7: modules.cache.options.sze is not a known key here: '
      .. 'did you mean "size"?')
    finds(output, "modules.cache.options.hosts[1] must be a text, not 1")
    finds(check(), 'reload.lua:6: modules.cache.options.hosts is missing: hosts = { "a" }')
    finds(check '{ hosts = { "a" }, size = 100 }',
      "modules.cache.options.size must hold at least one answer, 1KiB")
    finds(check '{ hosts = { "a" }, labels = { f = function() end } }',
      "modules.cache.options.labels.f must be plain data, not a function")
    assert.equal("", reported())
  end)

  it("are shown by segue help options, without a daemon", function()
    local text = segue.cli({ "help", "options", dir:at("cache.so") }, { cwd = dir.path })
    assert.equal(0, text.code, text:describe())
    finds(text.stdout, "memory for cached answers")
    finds(text.stdout, "64KiB")
    local wrong = segue.cli({ "help", "options", dir:at("none.so") }, { cwd = dir.path })
    assert.equal(2, wrong.code, wrong:describe())
    finds(wrong.output, "none.so")
  end)
end)

describe("segue help options", function()
  -- A copy of the Lua half with a plugin in Lua beside it.
  local function library(text)
    dir:write("tree/plugins/kv/init.lua", text)
    local copied = process.run { "cp", "-r", require("luv").cwd() .. "/lua", dir:at("tree/lua") }
    assert.equal(0, copied.code, copied.output)
    return { SEGUE_LUA_DIR = dir:at("tree/lua") }
  end
  local rows = [[return { fetch = function() return {} end, options = { prefix = "text",
    every = { type = "duration", default = "30s", min = 1000, doc = "time between two polls" },
    mode = { type = { "all", "some" }, required = true } } }]]

  it("shows the rows of a plugin in Lua, which validate its options too", function()
    local env = library(rows)
    local help = segue.cli({ "help", "options", "kv" }, { cwd = dir.path, env = env })
    assert.equal(0, help.code, help:describe())
    finds(help.stdout, "time between two polls. Default: 30s. At least 1s.")
    finds(help.stdout, 'mode = "all" | "some"')
    finds(help.stdout, "Required.")
    finds(help.stdout, "prefix = text")
    local schema = segue.cli({ "help", "options", "kv", "--json" }, { cwd = dir.path, env = env })
    finds(schema.stdout, '"default": "30s"')
    segue.folder { dir = dir, files = {}, policy = [[local segue = require "segue"
      return { sources = { segue.source { name = "kv", plugin = "kv",
        options = { every = "10ms", mode = "all" } } }, triggers = {} }]] }
    local result = segue.cli({ "check" }, { cwd = dir.path, env = env })
    assert.equal(3, result.code, result:describe())
    finds(result.output, "options: every must be at least 1s, not \"10ms\"")
  end)

  it("has one row for all of it: the value reaches the plugin, the help and the schema", function()
    local env = library [[return { options = { words = { type = "count", default = 12, max = 40,
        doc = "how many it knows" } },
      fetch = function(self) return { words = self.options.words } end }]]
    local function checked(options)
      segue.folder { dir = dir, files = {}, policy = ([[local segue = require "segue"
        return { sources = { segue.source { name = "kv", plugin = "kv", options = %s } },
          triggers = {}, check = function(config) return nil, "it knows " .. config.words end }]])
        :format(options) }
      local result = segue.cli({ "check" }, { cwd = dir.path, env = env })
      assert.equal(3, result.code, result:describe())
      return result.output
    end
    finds(checked "{}", "it knows 12")
    finds(checked "{ words = 30 }", "it knows 30")
    finds(checked "{ words = 41 }", "options: words must be between 1 and 40, not 41")
    finds(checked "{ wrds = 1 }", 'did you mean "words"?')
    finds(segue.cli({ "help", "options", "kv" }, { cwd = dir.path, env = env }).stdout,
      "how many it knows. Default: 12. 1 to 40.")
    local schema = segue.cli({ "help", "options", "kv", "--json" }, { cwd = dir.path, env = env })
    for _, part in ipairs { '"default": 12', '"maximum": 40', '"how many it knows' } do
      finds(schema.stdout, part)
    end
  end)

  it("lists the plugins in Lua, those that come with segue, and those of the policy's folders",
    function()
      dir:write("own/none", "") -- creates the folder
      plugin.build(dir:at("own/cache.so"), head .. declared .. code(reading) .. descriptor)
      dir:write("reload.lua", 'local segue = require "segue"\n'
        .. 'return { sources = { segue.value {} }, triggers = {}, plugins = "own" }')
      local env = library(rows)
      local list = segue.cli({ "help", "options" }, { cwd = dir.path, env = env })
      assert.equal(0, list.code, list:describe())
      finds(list.stdout, "Plugins:\n  kv\n  cache\n")
      finds(segue.cli({ "help", "options" }, { cwd = dir.path }).stdout, "\n  stats\n")
      local help = segue.cli({ "help", "options", "cache" }, { cwd = dir.path })
      assert.equal(0, help.code, help:describe())
      finds(help.stdout, "memory for cached answers")
      local elsewhere = segue.cli({ "help", "options", "cache", "-c", dir:at("reload.lua") })
      finds(elsewhere.stdout, "memory for cached answers")
    end)

  it("reports a plugin in Lua that fails, and a policy that was named and is broken", function()
    local env = library "error('no luck')"
    local help = segue.cli({ "help", "options", "kv" }, { cwd = dir.path, env = env })
    assert.equal(1, help.code, help:describe())
    finds(help.output, "no luck")
    dir:write("reload.lua", "return {")
    help = segue.cli({ "help", "options", "stats" }, { cwd = dir.path })
    assert.equal(0, help.code, help:describe())
    help = segue.cli({ "help", "options", "stats", "-c", dir:at("reload.lua") })
    assert.equal(1, help.code, help:describe())
    finds(help.output, "reload.lua:1: unexpected symbol")
  end)
end)

describe("a plugin", function()
  it("without a table is given no options", function()
    plugin.build(dir:at("cache.so"), (plugin.source { file = dir:at("reported") }))
    finds(check '{ size = 1 }',
      "reload.lua:6: the plugin ./cache.so has no options: remove modules.cache.options")
  end)

  it("of an older segue.h, whose descriptor ends before the table, has none", function()
    local older = descriptor:gsub("sizeof%(segue_module_descriptor%)",
      "offsetof(segue_module_descriptor, options)")
    plugin.build(dir:at("cache.so"), head .. declared .. code(reading) .. older)
    finds(check '{ hosts = { "a" } }', "has no options")
  end)

  for mistake, change in pairs {
    ["has an option outside of its struct"] = { "offsetof%(cache_options, size%)", "4096" },
    ["has an option without doc"] = { '%.doc = "memory for cached answers"', ".unit = NULL" },
    ["has an option without a name"] = { '{%.name = "size",', "{" },
    ["has an option that is a function, which C cannot call"] =
      { "%.of = SEGUE_OPTION_TEXT", ".of = SEGUE_OPTION_FUNCTION" },
    ["has an option of a type that this version does not know"] =
      { "SEGUE_OPTION_SIZE", "(segue_option_type)99" },
    ["has a size that is not that of its struct: use SEGUE_OPTION_ROWS"] =
      { "%.name = \"cache\",", '.name = "cache", .row_size = 8,' },
  } do
    it("whose table " .. mistake .. " is rejected by name", function()
      local wrong, count = declared:gsub(change[1], change[2])
      assert.is_true(count > 0)
      plugin.build(dir:at("cache.so"), head .. wrong .. code(reading) .. descriptor,
        "-Wno-override-init")
      finds(check '{ hosts = { "a" } }', "cache.so has a table of options that " .. mistake)
    end)
  end
end)

describe("the options of a module of the host", function()
  local function build_host()
    local text = head .. declared .. code(reading) .. [[
static const segue_module_descriptor described = {
  .magic = SEGUE_MODULE_MAGIC, .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor),
  .name = "cache", .version = "1", .ops = &ops, .options = &table};
static segue *instance;
static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  printf("%s\n", report && report->error_count ? report->errors[0].message : "ok");
  printf("%d\n", status);
  segue_stop(instance);
}
int main(int argc, char **argv) {
  segue_options options;
  segue_module_descriptor wrong = described;
  wrong.abi = 99;
  segue_options_init(&options);
  options.policy = argc > 1 ? argv[1] : NULL;
  options.lua_dir = "@LUA@";
  options.on_start = on_start;
  if (segue_new(&instance, &options, NULL)) return 1;
  if (segue_module_register_descriptor(instance, &wrong) != SEGUE_EUSAGE) return 2;
  int rc = segue_module_register_descriptor(instance, &described);
  if (rc || segue_module_register_descriptor(instance, &described) != SEGUE_EUSAGE) {
    printf("%s\n", segue_error_name(rc));
  } else if (segue_start(instance, NULL)) {
    return 3;
  } else {
    segue_run(instance);
  }
  segue_close(instance);
  return 0;
}
]]
    local file = assert(io.open(dir:at("host.c"), "w"))
    file:write((text:gsub("@LUA@", require("luv").cwd() .. "/lua")))
    file:close()
    plugin.host(dir:at("host"), dir:at("host.c"))
  end

  it("are validated by the table of its descriptor", function()
    build_host()
    dir:write("config.yaml", "cache: 1\n")
    dir:write("reload.lua", (policy('{ hosts = "a" }'):gsub("%./cache%.so", "cache")))
    local result = process.run { dir:at("host"), dir:at("reload.lua"), cwd = dir.path,
      deadline_ms = 60000 }
    finds(result.output, "modules.cache.options.hosts must be a list of texts")
    dir:write("reload.lua", (policy('{ hosts = { "a" } }'):gsub("%./cache%.so", "cache")))
    result = process.run { dir:at("host"), dir:at("reload.lua"), cwd = dir.path,
      deadline_ms = 60000 }
    finds(result.output, "ok\n0\n")
    assert.equal("65536 1 a\ndestroy 65536\n", reported())
  end)

  it("must have defaults where there is no policy", function()
    build_host()
    local result = process.run { dir:at("host"), cwd = dir.path, deadline_ms = 60000 }
    finds(result.output, "SEGUE_EUSAGE")
  end)
end)

/* SPDX-License-Identifier: MIT
 *
 * Any text as a policy: it is loaded or refused with a reason, within its limits, and nothing of it
 * is left. The first byte chooses: the bytes are the text itself, or they choose the words of a
 * table that looks like a policy, so that what validates the table is reached.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/bind/policy/loader.h"

static const char *const words[] = {
    "name",    "sources",   "triggers",   "debounce", "min",     "max",      "min_interval",
    "check",   "reload",    "confirm",    "probe",    "within",  "modules",  "strategy",
    "kind",    "config",    "needs",      "replace",  "drain",   "schema",   "listen",
    "path",    "format",    "optional",   "guard",    "url",     "limits",   "x",
    "hold",    "by",        "secrets",    "history",  "ready",   "timeouts", "tls",
    "cert",    "key",       "client_ca",  "client",   "clients", "tokens",   "file",
    "role",    "public",    "hosts",      "rate",     "burst",   "mode",     "others",
    "max_age", "min_items", "max_shrink", "required", "fetch",   "watch",    "buffer",
};
static const char *const values[] = {
    "segue.file 'a.yaml'",
    "segue.file { 'a.json', optional = true }",
    "segue.dir 'conf.d/*.yaml'",
    "segue.env { prefix = 'A_' }",
    "segue.value { a = { 1, 2, { b = 'c' } } }",
    "segue.signal 'HUP'",
    "segue.signal('USR1', 'reopen')",
    "segue.watch()",
    "segue.watch { rescan = '1s' }",
    "segue.http '127.0.0.1:7377'",
    "segue.http 'nowhere'",
    "segue.poll '30s'",
    "segue.probe.http 'http://127.0.0.1:1/'",
    "function(a, b) return true end",
    "function() error {} end",
    "'50ms'",
    "'1x'",
    "-1",
    "0/0",
    "1e300",
    "true",
    "nil",
    "'c'",
    "'text'",
    "'restart'",
    "setmetatable({}, { __index = function() error 'no' end })",
    "coroutine.create(function() end)",
    "string.rep('x', 1e6)",
    "segue.lua_file 'a.lua'",
    "segue.url { 'http://127.0.0.1:1/a.yaml', guard = { max_age = '1h' } }",
    "segue.url 'ftp://nowhere'",
    "segue.source { name = 's', fetch = function() end }",
    "segue.trigger(function(fire) end)",
    "segue.http { '0.0.0.0:1', tls = { cert = 'c.pem', key = 'k.pem' } }",
    "segue.http { 'unix:/tmp/x.sock', mode = '0660', others = 'read' }",
    "{ { file = 'token', role = 'read' } }",
    "{ 'a.b', '**.token', 'u[*].*_key' }",
    "{ 'health', 'metrics' }",
    "'10/s'",
    "'operate'",
    "'strict'",
    "'1w'",
    "0.5",
    "{}",
};
enum { WORDS = sizeof words / sizeof *words, VALUES = sizeof values / sizeof *values };

static const uint8_t *input;
static size_t input_len;
static segue__loop *loop;
static segue__lua_loader *loader;
static segue__os os;

static uint8_t next(void) {
  if (!input_len) return 255;
  input_len--;
  return *input++;
}

static void write_table(segue__buf *out, int depth) {
  segue__buf_addc(out, '{');
  for (int i = 0; i < 12; i++) {
    uint8_t what = next();
    if (what == 255) break;
    if (what & 1) segue__buf_addf(out, "%s = ", words[next() % WORDS]);
    if ((what & 6) == 6 && depth < 5)
      write_table(out, depth + 1);
    else
      segue__buf_adds(out, values[next() % VALUES]);
    segue__buf_adds(out, ", ");
  }
  segue__buf_addc(out, '}');
}

static int read_file(void *data, const char *path, size_t max, segue__bytes *out,
                     segue_error *err) {
  if (strcmp(path, "fuzz.lua") != 0)
    return segue__os_default()->read_file(data, path, max, out, err);
  segue__buf text;
  segue__buf_init(&text);
  if (next() % 2) {
    segue__buf_adds(&text, "local segue = require 'segue'\nreturn ");
    write_table(&text, 0);
    segue__buf_addc(&text, '\n');
  } else {
    segue__buf_add(&text, input, input_len);
  }
  *out = (segue__bytes){text.data, text.len};
  return text.failed || !text.data ? -12 : 0;
}

static void set_up(void) {
  segue__lua_options options = {.size = sizeof options,
                                .lua_dir = "lua",
                                .memory_bytes = 32 << 20,
                                .load_cpu_ms = 100,
                                .slice_cpu_ms = 100};
  os = *segue__os_default();
  os.read_file = read_file;
  os.read_whole = NULL;
  assert(!segue__loop_open_manual(&loop, 1000, 1000000));
  assert(!segue__lua_loader_new(&loader, loop, NULL, &os, &options));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!loader) set_up();
  segue__policy_loader from = segue__lua_loader_get(loader);
  segue__policy *policy = NULL;
  segue__errors errors;
  segue__lua_stats stats;
  input = data;
  input_len = size;
  segue__errors_init(&errors);
  int rc = from.load(from.data, "fuzz.lua", &policy, &errors);
  assert(rc ? !policy && errors.count && errors.items[0].message[0] : policy != NULL);
  if (policy) segue__policy_validate(policy, &errors);
  segue__policy_unref(policy);
  segue__errors_deinit(&errors);
  segue__loop_step(loop);
  segue__lua_loader_stats(loader, &stats);
  assert(!stats.states && !stats.tasks && !stats.refs);
  return 0;
}

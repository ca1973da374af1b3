/* SPDX-License-Identifier: MIT
 *
 * From the table that the Lua half has judged to segue__policy. The table is ours, complete and of
 * the right types; what can still go wrong is memory, and what only C knows: kinds of modules and
 * values as documents.
 */
#include <math.h>
#include <string.h>

#include "../runtime/value.h"
#include "field.h"
#include "lua_config.h"
#include "policy.h"

enum { SECRETS_MAX = 64 };

/* ---- Fields of the table at index ---- */

static bool extract_is(lua_State *L, int index, const char *key, const char *value) {
  lua_getfield(L, index, key);
  bool same = lua_type(L, -1) == LUA_TSTRING && !strcmp(lua_tostring(L, -1), value);
  lua_pop(L, 1);
  return same;
}

static void extract_place(lua_State *L, int index, segue_error *err) {
  lua_getfield(L, index, "file");
  segue__error_set_place(err, lua_tostring(L, -1),
                         (uint32_t)segue__field_count(L, index, "line", 0), 0);
  lua_pop(L, 1);
}

/* ---- Values as documents --------------------------------------------------------------------- */

static void extract_build(lua_State *L, int index, segue__builder *b);

static void build_number(lua_Number n, segue__builder *b) {
  if (n == floor(n) && fabs(n) <= 9007199254740992.0)
    segue__builder_int(b, (int64_t)n);
  else
    segue__builder_float(b, n);
}

static void build_list(lua_State *L, int index, segue__builder *b) {
  int n = (int)lua_objlen(L, index);
  segue__builder_begin(b, SEGUE_LIST);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    extract_build(L, lua_gettop(L), b);
    lua_pop(L, 1);
  }
  segue__builder_end(b);
}

/* The Lua half has put the keys in order: { keys = {...}, values = {...} }. */
static void build_map(lua_State *L, int index, segue__builder *b) {
  lua_getfield(L, index, "keys");
  lua_getfield(L, index, "values");
  int keys = lua_gettop(L) - 1, n = (int)lua_objlen(L, keys);
  segue__builder_begin(b, SEGUE_MAP);
  for (int i = 1; i <= n; i++) {
    size_t len;
    lua_rawgeti(L, keys, i);
    const char *key = lua_tolstring(L, -1, &len);
    segue__builder_key(b, key, len);
    lua_rawgeti(L, keys + 1, i);
    extract_build(L, lua_gettop(L), b);
    lua_pop(L, 2);
  }
  segue__builder_end(b);
  lua_pop(L, 2);
}

static void extract_build(lua_State *L, int index, segue__builder *b) {
  segue__wide wide;
  size_t len;
  luaL_checkstack(L, 8, "segue.value");
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN:
    segue__builder_bool(b, lua_toboolean(L, index));
    break;
  case LUA_TNUMBER:
    build_number(lua_tonumber(L, index), b);
    break;
  case LUA_TSTRING: {
    const char *s = lua_tolstring(L, index, &len);
    segue__builder_string(b, s, len);
    break;
  }
  case LUA_TTABLE:
    lua_getfield(L, index, "keys");
    bool map = lua_istable(L, -1);
    lua_pop(L, 1);
    if (map)
      build_map(L, index, b);
    else
      build_list(L, index, b);
    break;
  default:
    if (!segue__int_test(L, index, &wide))
      segue__builder_null(b);
    else if (wide > INT64_MAX)
      segue__builder_uint(b, (uint64_t)wide);
    else
      segue__builder_int(b, (int64_t)wide);
  }
}

int segue__document_extract(lua_State *L, int index, segue__lua_loader *loader, const char *source,
                            segue__document **out, segue_error *err) {
  segue__lua *lua = segue__lua_of(L);
  segue__builder *b = NULL;
  lua_getfield(L, index, "file");
  const char *file = lua_tostring(L, -1);
  int rc = segue__document_new(out, loader->next_document++, source, file ? file : source,
                               SEGUE__BUILT, NULL, 0);
  lua_pop(L, 1);
  segue__limits limits = {.text = segue__lua_copies_left(lua)};
  if (!rc && !limits.text) {
    rc = segue__lua_refuse_copy(lua, err);
    extract_place(L, index, err);
    return rc;
  }
  if (limits.text > SEGUE__TEXT_MAX) limits.text = SEGUE__TEXT_MAX;
  if (!rc) rc = segue__builder_new(&b, *out, &limits);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", source);
  segue__builder_at(b, (uint32_t)segue__field_count(L, index, "line", 0), 0);
  lua_getfield(L, index, "value");
  int top = lua_gettop(L);
  extract_build(L, top, b);
  lua_pop(L, 1);
  rc = segue__builder_finish(b, err);
  segue__builder_free(b);
  if (!rc && !segue__lua_copies(lua, (*out)->arena.used)) rc = segue__lua_refuse_copy(lua, err);
  if (rc) extract_place(L, index, err);
  return rc;
}

/* ---- Parts of the policy --------------------------------------------------------------------- */

/* What is written in Lua is ours; the rest knows nothing of Lua. */
static const segue__source_kind *extract_kind_of(const char *name) {
  static const segue__source_kind *const ours[] = {&segue__source_lua, &segue__source_script,
                                                   &segue__source_url};
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
    if (!strcmp(name, ours[i]->name)) return ours[i];
  return segue__source_kind_find(name);
}

static void take_guard(lua_State *L, int index, segue__guard *guard) {
  lua_getfield(L, index, "guard");
  int at = lua_gettop(L);
  if (!lua_istable(L, at)) {
    lua_pop(L, 1);
    return;
  }
  guard->min_items = segue__field_count(L, at, "min_items", 0);
  guard->max_age_ms = segue__field_count(L, at, "max_age_ms", 0);
  lua_getfield(L, at, "max_shrink");
  guard->shrink_limited = lua_isnumber(L, -1);
  guard->max_shrink = lua_tonumber(L, -1);
  lua_pop(L, 1);
  size_t n = segue__field_list(L, at, "required", sizeof *guard->required, &guard->required);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    guard->required[i] = segue__field_copy(L);
    guard->required_count++;
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}

static bool has_function(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  bool has = lua_isfunction(L, -1);
  lua_pop(L, 1);
  return has;
}

/* What its state calls it is its number among its like: segue__lua_paths_take. */
static void extract_take_remote(lua_State *L, int index, segue__loaded *loaded,
                                segue__source *source, size_t *feeds) {
  lua_getfield(L, index, "spec");
  size_t len = 0;
  const char *spec = lua_tolstring(L, -1, &len);
  if (spec) source->spec = segue__hash_bytes(spec, len, (segue__hash){0, 0});
  lua_pop(L, 1);
  if (feeds) {
    source->impl = loaded;
    source->index = (*feeds)++;
    source->pushes = has_function(L, index, "watch");
  }
  source->interval_ms = segue__field_count(L, index, "interval_ms", 0);
  source->safety_ms = segue__field_count(L, index, "safety_ms", 0);
  source->retry_min_ms = segue__field_count(L, index, "retry_min_ms", 0);
  source->retry_max_ms = segue__field_count(L, index, "retry_max_ms", 0);
}

static int take_source(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                       segue__source *source, size_t *feeds, segue_error *err) {
  char *kind = segue__field_text(L, index, "kind");
  source->kind = kind ? extract_kind_of(kind) : NULL;
  source->cpu_ms = loaded->loader->options.slice_cpu_ms;
  source->memory_bytes = loaded->loader->options.memory_bytes;
  segue__free(kind);
  source->name = segue__field_text(L, index, "name");
  source->path = segue__field_text(L, index, "path");
  source->prefix = segue__field_text(L, index, "prefix");
  source->separator = segue__field_text(L, index, "separator");
  source->format = extract_is(L, index, "format", "yaml")   ? SEGUE__YAML
                   : extract_is(L, index, "format", "json") ? SEGUE__JSON
                   : extract_is(L, index, "format", "text") ? SEGUE__TEXT
                                                            : -1;
  source->optional = segue__field_flag(L, index, "optional");
  source->expand = segue__field_flag(L, index, "expand");
  source->as_text = segue__field_flag(L, index, "as_text");
  source->by_file = segue__field_flag(L, index, "by_file");
  source->allow_empty = segue__field_flag(L, index, "allow_empty");
  source->allow_writing = segue__field_flag(L, index, "allow_writing");
  if (extract_is(L, index, "kind", "plugin")) {
    take_guard(L, index, &source->guard);
    extract_take_remote(L, index, loaded, source, NULL);
    return segue__plugin_source_take(L, index, loaded, policy, source, err);
  }
  if (!source->kind) return segue__errorf(err, SEGUE_EPOLICY, "a source of unknown kind");
  take_guard(L, index, &source->guard);
  if (source->kind->remote) extract_take_remote(L, index, loaded, source, feeds);
  if (!extract_is(L, index, "kind", "value")) return 0;
  /* It hangs on the source at once, so that nothing leaks. */
  return segue__document_extract(L, index, loaded->loader, source->name, &source->value, err);
}

static void take_trigger(lua_State *L, int index, segue__trigger_spec *trigger) {
  trigger->type = extract_is(L, index, "kind", "signal")  ? SEGUE__TRIGGER_SIGNAL
                  : extract_is(L, index, "kind", "watch") ? SEGUE__TRIGGER_WATCH
                  : extract_is(L, index, "kind", "http")  ? SEGUE__TRIGGER_HTTP
                  : extract_is(L, index, "kind", "task")  ? SEGUE__TRIGGER_TASK
                                                          : SEGUE__TRIGGER_POLL;
  trigger->signum = (int)segue__field_count(L, index, "signum", 0);
  trigger->interval_ms = segue__field_count(L, index, "interval_ms", 0);
  trigger->action = segue__field_text(L, index, "action");
  trigger->address = segue__field_text(L, index, "address");
  if (trigger->type == SEGUE__TRIGGER_HTTP) segue__http_spec_extract(L, index, trigger);
}

/* Each hangs where it is freed before the next can raise. */
static void take_texts(lua_State *L, int index, const char *key, char ***texts, size_t *count) {
  size_t n = segue__field_list(L, index, key, sizeof **texts, texts);
  for (size_t i = 0; i < n; i++, ++*count) {
    lua_rawgeti(L, -1, (int)i + 1);
    (*texts)[i] = segue__field_copy(L);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int extract_resolve(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                           segue__module_spec *module, segue_error *err) {
  const segue__kind_place here = {loaded->loader->os, policy, loaded->program.folder};
  const segue__lua_options *options = &loaded->loader->options;
  const char *values[SEGUE__KIND_KEYS_MAX] = {NULL};
  int top = lua_gettop(L), rc = SEGUE_EPOLICY;
  luaL_checkstack(L, SEGUE__KIND_KEYS_MAX + 4, "a module");
  segue__errorf(err, rc, "the kind of a module cannot be '%s'", module->kind);
  for (size_t i = 0; i < options->kind_count; i++) {
    const segue__module_kind *kind = &options->kinds[i];
    if (strcmp(kind->name, module->kind)) continue;
    for (int k = 0; kind->keys && kind->keys[k].name && k < SEGUE__KIND_KEYS_MAX; k++) {
      lua_getfield(L, index, kind->keys[k].name); /* stays on the stack while it is borrowed */
      values[k] = lua_tostring(L, -1);
    }
    rc = kind->resolve(kind, &here, values, module, err);
    break;
  }
  lua_settop(L, top);
  if (rc && !err->file[0]) extract_place(L, index, err);
  if (rc) segue__error_source(err, module->name);
  return rc;
}

static void take_listen(lua_State *L, int index, segue__listen_spec *listen) {
  size_t n = segue__field_list(L, index, "listen", sizeof *listen->urls, &listen->urls);
  for (size_t i = 0; i < n; i++, listen->url_count++) {
    lua_rawgeti(L, -1, (int)i + 1);
    listen->urls[i] = segue__field_copy(L);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  listen->generation_header = segue__field_flag(L, index, "generation_header");
  segue__listen_tls_extract(L, index, listen);
#define TAKE(field) listen->field = segue__field_count(L, index, "limit_" #field, 0)
  TAKE(head_bytes);
  TAKE(body_bytes);
  TAKE(connections);
  TAKE(head_ms);
  TAKE(body_ms);
  TAKE(idle_ms);
  TAKE(write_ms);
#undef TAKE
  listen->access = (segue__access_spec){.on = segue__field_flag(L, index, "access_on"),
                                        .json = segue__field_flag(L, index, "access_json"),
                                        .no_query = segue__field_flag(L, index, "access_no_query")};
  listen->access.path = segue__field_text(L, index, "access_path");
  listen->file = segue__field_text(L, index, "file");
  listen->line = (uint32_t)segue__field_count(L, index, "line", 0);
}

/* What nobody said is by the kind of thing it is: everybody's can only be swapped. */
static void take_replace(lua_State *L, int index, segue__module_spec *module) {
  module->replace =
      module->ops && segue__module_ops_serve(module->ops) ? SEGUE__SWAP : SEGUE__HANDOVER;
#define X(name, value)                                                                             \
  if (extract_is(L, index, "replace", value)) module->replace = SEGUE__##name;
  SEGUE__REPLACES(X)
#undef X
}

static void extract_take_over(lua_State *L, int index, segue__over *over) {
  lua_getfield(L, index, "drain_over");
  if (lua_isstring(L, -1)) (void)segue__over_find(lua_tostring(L, -1), over);
  lua_pop(L, 1);
}

static int take_module(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                       segue__module_spec *module, segue_error *err) {
  module->name = segue__field_text(L, index, "name");
  module->kind = segue__field_text(L, index, "kind");
  module->config = segue__field_text(L, index, "config");
  module->prepare_ms = segue__field_count(L, index, "prepare_ms", 0);
  module->start_ms = segue__field_count(L, index, "start_ms", 0);
  module->drain.within_ms = segue__field_count(L, index, "drain_ms", 0);
  module->drain.again = segue__field_count(L, index, "drain_again", 0);
  extract_take_over(L, index, &module->drain.over);
  module->stop_ms = segue__field_count(L, index, "stop_ms", 0);
  module->buffer.items = segue__field_count(L, index, "buffer_items", 0);
  module->buffer.bytes = segue__field_count(L, index, "buffer_bytes", 0);
  module->buffer.age_ms = segue__field_count(L, index, "buffer_age_ms", 0);
  module->failed_waits = extract_is(L, index, "on_failure", "wait");
  take_listen(L, index, &module->listen);
  take_texts(L, index, "needs", &module->needs, &module->needs_count);
  int rc = extract_resolve(L, index, loaded, policy, module, err);
  if (!rc) take_replace(L, index, module);
  return rc;
}

static int take_sources(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                        segue_error *err) {
  size_t n = segue__field_list(L, index, "sources", sizeof *policy->sources, &policy->sources),
         feeds = 0;
  int rc = 0;
  for (size_t i = 0; i < n && !rc; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    policy->source_count++;
    rc = take_source(L, lua_gettop(L), loaded, policy, &policy->sources[i], &feeds, err);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rc;
}

static void take_triggers(lua_State *L, int index, segue__policy *policy) {
  size_t n = segue__field_list(L, index, "triggers", sizeof *policy->triggers, &policy->triggers);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    policy->trigger_count++;
    take_trigger(L, lua_gettop(L), &policy->triggers[i]);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void extract_take_schema(lua_State *L, int index, segue__policy *policy) {
  policy->schema = segue__field_text(L, index, "schema");
  size_t n =
      segue__field_list(L, index, "schema_with", sizeof *policy->schema_with, &policy->schema_with);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    policy->schema_with_count++;
    policy->schema_with[i].path = segue__field_text(L, lua_gettop(L), "path");
    policy->schema_with[i].uri = segue__field_text(L, lua_gettop(L), "uri");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int take_modules(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                        segue_error *err) {
  size_t n = segue__field_list(L, index, "modules", sizeof *policy->modules, &policy->modules);
  int rc = 0;
  for (size_t i = 0; i < n && !rc; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    policy->module_count++;
    rc = take_module(L, lua_gettop(L), loaded, policy, &policy->modules[i], err);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rc;
}

/* Patterns of secrets, read by who knows what a pattern is. */
static int take_secrets(lua_State *L, int index, segue__policy *policy, segue_error *err) {
  lua_getfield(L, index, "secrets");
  int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0, list = lua_gettop(L), rc = 0;
  const char *patterns[SECRETS_MAX];
  luaL_checkstack(L, SECRETS_MAX + 4, "secrets");
  for (int i = 0; i < n && i < SECRETS_MAX; i++) {
    lua_rawgeti(L, list, i + 1); /* stays on the stack while it is borrowed */
    patterns[i] = lua_tostring(L, -1);
  }
  if (n)
    rc = segue__mask_new(&policy->mask, patterns, (size_t)(n < SECRETS_MAX ? n : SECRETS_MAX), err);
  lua_settop(L, list - 1);
  if (rc)
    segue__error_set_place(err, NULL, (uint32_t)segue__field_count(L, index, "secrets_line", 0), 0);
  return rc;
}

int segue__policy_extract(lua_State *L, int index, segue__loaded *loaded, segue__policy *policy,
                          segue_error *err) {
  policy->name = segue__field_text(L, index, "name");
#define TAKE(field) policy->field = segue__field_count(L, index, #field, policy->field)
  TAKE(debounce_min_ms);
  TAKE(debounce_max_ms);
  TAKE(min_interval_ms);
  TAKE(collect_ms);
  TAKE(check_ms);
  TAKE(reload_ms);
  TAKE(confirm_hold_ms);
  TAKE(confirm_within_ms);
  TAKE(confirm_failures);
  TAKE(threads);
  TAKE(history_reloads);
  TAKE(history_generations);
  TAKE(history_age_ms);
  TAKE(history_bytes);
  TAKE(last_good_age_ms);
#undef TAKE
  policy->confirm = segue__field_flag(L, index, "confirm");
  policy->confirm_by_operator = segue__field_flag(L, index, "confirm_by_operator");
  extract_take_schema(L, index, policy);
  policy->ready_strict = segue__field_flag(L, index, "ready_strict");
  policy->schema_defaults = segue__field_flag(L, index, "schema_defaults");
  policy->formats_ignored = segue__field_flag(L, index, "formats_ignored");
  take_triggers(L, index, policy);
  take_texts(L, index, "plugins", &policy->plugins, &policy->plugin_count);
  int rc = take_secrets(L, index, policy, err);
  if (rc) segue__error_set_place(err, loaded->program.chunks[0].path, err->line, 0);
  if (!rc) rc = take_sources(L, index, loaded, policy, err);
  return rc ? rc : take_modules(L, index, loaded, policy, err);
}

void segue__errors_extract(lua_State *L, int index, int code, segue__errors *out) {
  size_t n = lua_istable(L, index) ? lua_objlen(L, index) : 0;
  for (size_t i = 1; i <= n; i++) {
    segue_error err;
    lua_rawgeti(L, index, (int)i);
    segue__lua_describe(L, lua_gettop(L), NULL, &err);
    err.code = code;
    segue__errors_add(out, &err);
    lua_pop(L, 1);
  }
}

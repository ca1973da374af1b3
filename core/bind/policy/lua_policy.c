/* SPDX-License-Identifier: MIT
 *
 * From the table that a policy returned to segue__policy. The table becomes a tree, which C
 * validates by the tables of options; what only Lua knows (functions, values as documents) is taken
 * from the table itself. Runs inside a call; the tree is stored where it is freed also if an error
 * is raised.
 */
#include <stdio.h>
#include <string.h>

#include "../../config/path.h"
#include "../../reload/policy_options.h"
#include "../runtime/value.h"
#include "lua_options.h"
#include "lua_tree.h"
#include "policy.h"

/* ---- The table itself ------------------------------------------------------------------------ */

static int refuse(segue__errors *errors, const char *file, const char *sentence, const char *type) {
  segue_error err;
  segue__errorf(&err, SEGUE_EPOLICY, sentence, type);
  segue__error_set_place(&err, file, 0, 0);
  segue__errors_add(errors, &err);
  return SEGUE_EPOLICY;
}

/* count: how many values the policy returned; the first is at index. */
static int check_returned(lua_State *L, int index, int count, const char *file,
                          segue__errors *errors) {
  if (!count || lua_isnil(L, index))
    return refuse(errors, file,
                  "the policy returns nothing: end it with `return { sources = { ... } }`%s", "");
  if (!lua_istable(L, index) || segue__value_test(L, index))
    return refuse(errors, file,
                  "the policy returns a %s instead of a table: end it with `return { sources = { "
                  "... } }`",
                  luaL_typename(L, index));
  lua_pushnil(L);
  if (!lua_next(L, index))
    return refuse(errors, file,
                  "the policy returns an empty table: name at least a source, such as sources = { "
                  "segue.file \"config.yaml\" }%s",
                  "");
  lua_pop(L, 2);
  return 0;
}

/* Pushes the field, without metamethods: nil where the value at index is no table. */
static void push_raw(lua_State *L, int index, const char *key) {
  if (!lua_istable(L, index)) {
    lua_pushnil(L);
    return;
  }
  lua_pushstring(L, key);
  lua_rawget(L, index);
}

/* ---- Functions ------------------------------------------------------------------------------- */

/* The function on top becomes a reference; anything else is popped. */
static int take_reference(lua_State *L) {
  if (lua_isfunction(L, -1)) return segue__lua_ref(segue__lua_of(L), L);
  lua_pop(L, 1);
  return LUA_NOREF;
}

static void take_hook(lua_State *L, segue__loaded *loaded, int hook) {
  if (lua_isfunction(L, -1)) {
    lua_pushvalue(L, -1);
    segue__lua_place_of(segue__lua_of(L), L, &loaded->places[hook]);
  }
  loaded->hooks[hook] = take_reference(L);
}

/* A probe is a function, or a table of a constructor that holds one. */
static void push_probe(lua_State *L, int index) {
  push_raw(L, index, "confirm");
  push_raw(L, lua_gettop(L), "probe");
  if (lua_istable(L, -1)) {
    push_raw(L, lua_gettop(L), "call");
    lua_remove(L, -2);
  }
  lua_remove(L, -2);
}

static void take_hooks(lua_State *L, int index, segue__loaded *loaded) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__HOOKS(X)
#undef X
  };
  for (int i = 0; i < SEGUE__HOOK_COUNT; i++) {
    if (i == SEGUE__HOOK_PROBE)
      push_probe(L, index);
    else
      push_raw(L, index, names[i]);
    take_hook(L, loaded, i);
  }
}

/* ---- Sources --------------------------------------------------------------------------------- */

static void take_script(lua_State *L, int item, const segue__source *source,
                        segue__loaded *loaded) {
  segue__script script = {.timeout_ms = source->timeout_ms};
  push_raw(L, item, "fetch");
  script.fetch = take_reference(L);
  push_raw(L, item, "watch");
  script.watch = take_reference(L);
  push_raw(L, item, "want");
  script.want = take_reference(L);
  push_raw(L, item, "outcome");
  script.outcome = take_reference(L);
  loaded->scripts[loaded->script_count++] = script;
}

static int take_source(lua_State *L, int item, const segue_node *node, segue__loaded *loaded,
                       segue__source *source, const char *file, segue_error *err) {
  source->cpu_ms = loaded->loader->options.slice_cpu_ms;
  source->memory_bytes = loaded->loader->options.memory_bytes;
  if (source->kind->remote || source->kind == &segue__source_plugin)
    source->spec = segue__source_identity(node);
  if (source->kind->remote) {
    source->impl = loaded;
    source->index = loaded->script_count;
    take_script(L, item, source, loaded);
  }
  if (strcmp(source->kind->name, "value") != 0) return 0;
  /* It hangs on the source at once, so that nothing leaks. */
  return segue__document_extract(L, item, loaded->loader, source->name, file, node->line,
                                 &source->value, err);
}

static int take_sources(lua_State *L, int index, const segue__lua_tree *tree, segue__loaded *loaded,
                        segue__policy *policy, segue_error *err) {
  const segue_node *list = segue_node_member(&tree->root, "sources");
  int rc = 0;
  segue__free(loaded->scripts);
  loaded->script_count = 0;
  loaded->scripts = segue__calloc(policy->source_count, sizeof *loaded->scripts);
  if (!loaded->scripts) return segue__errorf(err, UV_ENOMEM, "out of memory");
  push_raw(L, index, "sources");
  for (size_t i = 0; i < policy->source_count && !rc; i++) {
    const segue_node *node = &list->v.items[i];
    lua_rawgeti(L, -1, (int)i + 1);
    rc = take_source(L, lua_gettop(L), node, loaded, &policy->sources[i],
                     segue__lua_tree_file((void *)tree, node->document), err);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rc;
}

/* ---- Plugins --------------------------------------------------------------------------------- */

/* The context in which the options of plugins are validated and their files read. */
typedef struct resolving {
  segue__loaded *loaded;
  segue__policy *policy;
  const segue__options_env *env; /* of the whole policy */
  segue__errors *errors;
  segue_error *err;
} resolving;

/* node: the policy's table for a source or module, which is named in errors. */
static int resolve_failed(const resolving *r, int rc, const char *name, const segue_node *node,
                          uint32_t line) {
  const segue__options_env *env = r->env;
  if (!r->err->file[0])
    segue__error_set_place(r->err, env->file(env->data, node->document), line, 0);
  segue__error_source(r->err, name);
  return rc;
}

static int open_source(const resolving *r, size_t index, const segue_node *node) {
  char path[48];
  segue__options_env env = *r->env;
  segue__source *source = &r->policy->sources[index];
  const segue__lua_loader *loader = r->loaded->loader;
  snprintf(path, sizeof path, "sources[%zu].options", index + env.first);
  env.path = path;
  const segue__kind_place place = {.os = loader->os,
                                   .policy = r->policy,
                                   .folder = r->loaded->program.folder,
                                   .env = &env,
                                   .errors = r->errors};
  memset(r->err, 0, sizeof *r->err);
  int rc = segue__plugin_source_open(&loader->options, &place, node, source, r->err);
  return rc ? resolve_failed(r, rc, source->name, node, node->line) : 0;
}

/* Opens the sources of plugins in C. */
static int open_sources(const resolving *r, const segue_node *root) {
  const segue_node *list = segue_node_member(root, "sources");
  int rc = 0;
  for (size_t i = 0; i < r->policy->source_count && !rc; i++)
    if (r->policy->sources[i].kind == &segue__source_plugin)
      rc = open_source(r, i, &list->v.items[i]);
  return rc;
}

/* Modules that all others call are swapped; they cannot do without. */
static void set_replace(segue__module_spec *module) {
  if (module->replace_given) return;
  module->replace =
      module->ops && segue__module_ops_serve(module->ops) ? SEGUE__SWAP : SEGUE__HANDOVER;
}

static int resolve_module(const resolving *r, segue__module_spec *module,
                          const segue__member *written) {
  const segue__module_kind *kind = module->made.data;
  segue__options_env env = *r->env;
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_adds(&path, "modules");
  segue__path_add_key(&path, module->name, strlen(module->name));
  segue__buf_adds(&path, ".options");
  if (path.failed) {
    segue__buf_deinit(&path);
    return segue__errorf(r->err, UV_ENOMEM, "out of memory");
  }
  env.path = path.data;
  const segue__renderer renderer = segue__renderer_of(r->loaded);
  const segue__kind_place place = {.os = r->loaded->loader->os,
                                   .policy = r->policy,
                                   .folder = r->loaded->program.folder,
                                   .env = &env,
                                   .errors = r->errors,
                                   .renderer = &renderer};
  memset(r->err, 0, sizeof *r->err);
  int rc = kind->resolve(kind, &place, &written->value, module->made.options, module, r->err);
  segue__buf_deinit(&path);
  if (rc) return resolve_failed(r, rc, module->name, &written->value, written->line);
  set_replace(module);
  return 0;
}

static int resolve_modules(const resolving *r, const segue_node *root) {
  const segue_node *map = segue_node_member(root, "modules");
  int rc = 0;
  for (size_t i = 0; i < r->policy->module_count && !rc; i++)
    rc = resolve_module(r, &r->policy->modules[i], &map->v.members[i]);
  return rc;
}

/* ---- All of it ------------------------------------------------------------------------------- */

int segue__lua_policy(lua_State *L, int index, int count, segue__loaded *loaded,
                      segue__lua_tree *tree, segue__policy *policy, bool resolve,
                      segue__errors *errors, segue_error *err) {
  const segue__chunk *main = &loaded->program.chunks[0];
  const segue__lua_options *options = &loaded->loader->options;
  segue__option_kind kinds[SEGUE__LUA_TOPICS_MAX];
  segue__topics topics = segue__lua_topics(options->kinds, options->kind_count, kinds);
  segue__options_env env = {.kinds = topics.items,
                            .kind_count = topics.count,
                            .folder = loaded->program.folder,
                            .first = 1,
                            .file = segue__lua_tree_file,
                            .data = tree};
  size_t before = errors->total;
  int rc = check_returned(L, index, count, main->path, errors);
  if (!rc) rc = segue__lua_tree_init(tree, L, index, main->path, 0, main->text, main->len, err);
  if (rc) return rc;
  rc = segue__policy_from_tree(policy, &tree->root, &env, errors);
  if (rc) {
    if (errors->total == before) segue__errorf(err, rc, "out of memory");
    return rc;
  }
  take_hooks(L, index, loaded);
  if (segue__watchers_take(L, index, loaded) || segue__renders_take(L, index, loaded, policy))
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  rc = take_sources(L, index, tree, loaded, policy, err);
  loaded->program.sealed = true;
  if (rc || !resolve) return rc;
  const resolving resolving = {loaded, policy, &env, errors, err};
  rc = open_sources(&resolving, &tree->root);
  return rc ? rc : resolve_modules(&resolving, &tree->root);
}

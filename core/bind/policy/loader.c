/* SPDX-License-Identifier: MIT
 *
 * The loader: reads a policy, evaluates it in a fresh state, has the table that it returns
 * validated, and hands out a segue__policy. A state that hit a limit is built again from the bytes
 * that were read then.
 */
#include "loader.h"

#include <string.h>

#include "../runtime/task.h"
#include "lua_options.h"
#include "lua_tree.h"
#include "policy.h"
#include "saved_state.h"

enum { DEFAULT_MIB = 256, DEFAULT_LOAD_MS = 1000, DEFAULT_SLICE_MS = 200 };

static int loader_load(void *data, const char *path, segue__policy **out, segue__errors *errors);

int segue__lua_loader_new(segue__lua_loader **out, segue__loop *loop, const segue__logger *log,
                          const segue__os *os, const segue__lua_options *options) {
  static const segue__logger silent;
  *out = NULL;
  segue__lua_loader *loader = segue__calloc(1, sizeof *loader);
  if (!loader) return UV_ENOMEM;
  loader->loop = loop;
  loader->log = log ? log : &silent;
  loader->os = os ? os : segue__os_default();
  loader->options = *options;
  loader->next_document = UINT32_C(1) << 31; /* the engine counts from below */
  if (!loader->options.memory_bytes)
    loader->options.memory_bytes = (size_t)DEFAULT_MIB * 1024 * 1024;
  if (!loader->options.load_cpu_ms) loader->options.load_cpu_ms = DEFAULT_LOAD_MS;
  if (!loader->options.slice_cpu_ms) loader->options.slice_cpu_ms = DEFAULT_SLICE_MS;
  if (segue__budget_new(&loader->budget, options->signal) ||
      segue__library_new(&loader->library, loader->os, options->lua_dir) ||
      segue__templates_new(&loader->templates, loop, options->lua_dir) ||
      segue__async_io_new(&loader->async_io, loop, loader->log)) {
    segue__templates_unref(loader->templates);
    segue__library_free(loader->library);
    segue__budget_free(loader->budget);
    segue__free(loader);
    return UV_ENOMEM;
  }
  loader->async_io->fake_io = options->fake_io;
  loader->async_io->answers = options->answers;
  *out = loader;
  return 0;
}

void segue__lua_loader_close(segue__lua_loader *loader, void (*cb)(void *data), void *data) {
  segue__async_io *async_io = loader ? loader->async_io : NULL;
  if (loader) {
    segue__budget_free(loader->budget);
    segue__library_free(loader->library);
    segue__templates_unref(loader->templates);
    segue__buf_deinit(&loader->saved);
    segue__free(loader);
  }
  segue__async_io_close(async_io, cb, data);
}

void segue__lua_loader_free(segue__lua_loader *loader) {
  segue__lua_loader_close(loader, NULL, NULL);
}

segue__policy_loader segue__lua_loader_get(segue__lua_loader *loader) {
  return (segue__policy_loader){loader_load, loader};
}

void segue__lua_loader_stats(const segue__lua_loader *loader, segue__lua_stats *out) {
  memset(out, 0, sizeof *out);
  for (const segue__loaded *loaded = loader->loaded; loaded; loaded = loaded->next) {
    if (!loaded->lua) continue;
    out->states++;
    out->refs += loaded->lua->refs;
    out->bytes += loaded->lua->bytes;
    out->tasks += segue__task_count(loaded->lua);
  }
}

/* ---- One policy ------------------------------------------------------------------------------ */

static segue__loaded *loaded_new(segue__lua_loader *loader, const char *path) {
  segue__loaded *loaded = segue__calloc(1, sizeof *loaded);
  if (!loaded) return NULL;
  const char *slash = strrchr(path, '/');
  size_t len = slash ? (size_t)(slash - path) : 0;
  loaded->loader = loader;
  loaded->program.folder = slash && !len ? segue__strdup("/") : segue__strndup(path, len);
  for (int i = 0; i < SEGUE__HOOK_COUNT; i++)
    loaded->hooks[i] = LUA_NOREF;
  loaded->next = loader->loaded;
  if (loader->loaded) loader->loaded->prev = loaded;
  loader->loaded = loaded;
  if (loaded->program.folder) return loaded;
  segue__loaded_free(loaded);
  return NULL;
}

/* Keeps the segue.state of the policy whose hook ended last: the next policy begins with it. */
static void keep_state(segue__loaded *loaded) {
  segue__lua_loader *loader = loaded->loader;
  if (!loaded->lua || loaded->last_used <= loader->saved_use) return;
  segue__buf_deinit(&loader->saved);
  segue__saved_state_save(loaded->lua, &loader->saved);
  loader->saved_use = loaded->last_used;
}

void segue__loaded_free(segue__loaded *loaded) {
  if (!loaded) return;
  segue__watchers_stop(loaded);
  segue__source_calls_free(loaded);
  keep_state(loaded);
  if (loaded->prev)
    loaded->prev->next = loaded->next;
  else
    loaded->loader->loaded = loaded->next;
  if (loaded->next) loaded->next->prev = loaded->prev;
  segue__lua_free(loaded->lua);
  segue__errors_deinit(&loaded->found);
  segue__program_deinit(&loaded->program);
  segue__free(loaded->trigger_fns);
  segue__free(loaded->scripts);
  segue__renders_clear(loaded);
  segue__free(loaded);
}

struct evaluation {
  segue__loaded *loaded;
  segue__policy *policy;
  bool resolve; /* modules get their operations */
  const segue__buf *saved;
  segue__errors *errors;
  bool validated;       /* the errors say what is wrong */
  segue__lua_tree tree; /* stored here, so that it is freed also if an error is raised */
};

static void require_library(lua_State *L, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  lua_call(L, 1, 1);
}

/* Runs the policy; leaves its first result and how many there were. */
static int run_chunk(lua_State *L, const segue__chunk *chunk) {
  int base = lua_gettop(L);
  segue__chunk_load(L, chunk);
  lua_call(L, 0, LUA_MULTRET);
  int n = lua_gettop(L) - base;
  lua_settop(L, base + 1);
  return n;
}

static int loader_evaluate(lua_State *L, void *data, segue_error *err) {
  struct evaluation *e = data;
  segue__loaded *loaded = e->loaded;
  const segue__chunk main = loaded->program.chunks[0]; /* modules may move the array */
  require_library(L, "segue");
  if (e->saved) segue__saved_state_load(L, e->saved);
  int base = lua_gettop(L), n = run_chunk(L, &main);
  size_t before = e->errors->total;
  int rc =
      segue__lua_policy(L, base + 1, n, loaded, &e->tree, e->policy, e->resolve, e->errors, err);
  e->validated = e->errors->total > before;
  if (e->validated)
    segue__errorf(err, rc, "%s", e->errors->count ? e->errors->items[0].message : "");
  return rc;
}

int segue__loaded_evaluate(segue__loaded *loaded, segue__policy *policy, const segue__buf *saved,
                           segue__errors *errors, segue_error *err) {
  segue__lua_loader *loader = loaded->loader;
  segue__lua_setup setup = {.loop = loader->loop,
                            .log = loader->log,
                            .os = loader->os,
                            .budget = loader->budget,
                            .program = &loaded->program,
                            .async_io = loader->async_io,
                            .turns = &loader->async_io->turns,
                            .open = segue__lua_library_open,
                            .lua_dir = loader->options.lua_dir,
                            .library = loader->library,
                            .bytes_max = loader->options.memory_bytes,
                            .services = loader->options.services};
  segue__policy *scratch = NULL;
  segue__errors found;
  struct evaluation e = {.loaded = loaded,
                         .policy = policy,
                         .resolve = policy != NULL,
                         .saved = saved,
                         .errors = errors ? errors : &found};
  segue__errors_init(&found);
  int rc = segue__lua_new(&loaded->lua, &setup, err);
  if (!rc && !policy) rc = segue__policy_new(&scratch);
  if (scratch) e.policy = scratch;
  if (!rc)
    rc = segue__lua_call(loaded->lua, "loading the policy", loader->options.load_cpu_ms,
                         loader_evaluate, &e, err);
  segue__lua_tree_deinit(&e.tree);
  segue__policy_unref(scratch);
  segue__errors_deinit(&found);
  if (!rc) return 0;
  if (!err->file[0]) segue__error_set_place(err, loaded->program.chunks[0].path, 0, 0);
  if (!e.validated && errors) segue__errors_add(errors, err);
  return rc;
}

static int loader_add_inputs(segue__loaded *loaded, segue__policy *policy) {
  const segue__program *program = &loaded->program;
  int rc = 0;
  for (size_t i = 0; i < program->count && !rc; i++)
    rc = segue__policy_add_input(
        policy, &(segue__input){.path = program->chunks[i].path, .hash = program->chunks[i].hash});
  return rc;
}

/* segue.state as the hook that ended last left it: in a state that lives, or in what was kept. */
static void save_latest(segue__lua_loader *loader, segue__buf *saved) {
  segue__loaded *latest = NULL;
  uint64_t last = loader->saved_use;
  for (segue__loaded *l = loader->loaded; l; l = l->next) {
    if (!l->lua || l->last_used < last) continue;
    latest = l;
    last = l->last_used;
  }
  if (latest)
    segue__saved_state_save(latest->lua, saved);
  else
    segue__buf_add(saved, loader->saved.data, loader->saved.len);
}

static int loader_fill(segue__loaded *loaded, const char *path, segue__policy *policy,
                       segue__errors *errors, segue_error *err) {
  const segue__chunk *chunk;
  segue__buf saved;
  segue__buf_init(&saved);
  save_latest(loaded->loader, &saved);
  int rc = segue__program_add(&loaded->program, loaded->loader->os, NULL, path, &chunk, err);
  if (rc)
    segue__errors_add(errors, err);
  else
    rc = segue__loaded_evaluate(loaded, policy, &saved, errors, err);
  segue__buf_deinit(&saved);
  if (rc) return rc;
  if (loader_add_inputs(loaded, policy)) {
    rc = segue__errorf(err, UV_ENOMEM, "%s: out of memory", path);
    segue__errors_add(errors, err);
  }
  return rc;
}

static int loader_load(void *data, const char *path, segue__policy **out, segue__errors *errors) {
  segue_error err;
  segue__policy *policy = NULL;
  *out = NULL;
  segue__loaded *loaded = loaded_new(data, path);
  if (!loaded || segue__policy_new(&policy)) {
    segue__loaded_free(loaded);
    segue__errorf(&err, UV_ENOMEM, "%s: out of memory", path);
    segue__errors_add(errors, &err);
    return UV_ENOMEM;
  }
  policy->impl = loaded;
  policy->ops = &segue__lua_policy_ops; /* frees `loaded` with the policy */
  int rc = loader_fill(loaded, path, policy, errors, &err);
  if (rc) {
    segue__policy_unref(policy);
    return rc;
  }
  loaded->check_ms = policy->check_ms;
  loaded->reload_ms = policy->reload_ms;
  loaded->confirm_within_ms = policy->confirm_within_ms;
  policy->has_check = loaded->hooks[SEGUE__HOOK_CHECK] != LUA_NOREF;
  policy->has_reload = loaded->hooks[SEGUE__HOOK_RELOAD] != LUA_NOREF;
  policy->has_probe = loaded->hooks[SEGUE__HOOK_PROBE] != LUA_NOREF;
  policy->has_strategy = loaded->hooks[SEGUE__HOOK_STRATEGY] != LUA_NOREF;
  *out = policy;
  return 0;
}

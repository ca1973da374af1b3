/* SPDX-License-Identifier: MIT
 *
 * Calls of `want` and `outcome` of a source that is written in Lua. The engine calls in the middle
 * of its own work, for example before it answers the clients that wait for a reload. So the data is
 * copied, and the function runs as a task with a later turn of the loop. One call of each function
 * of a source runs at a time; if several wait for it, only the last takes place.
 */
#include <string.h>

#include "../runtime/task.h"
#include "own_words.h"
#include "policy.h"

enum { ERRORS_MAX = 16 };

typedef struct source_call_data {
  segue__names names; /* want */
  char *revision;     /* outcome: its fields, owned */
  const char *outcome;
  uint64_t generation;
  segue_error *errors;
  size_t error_count;
} source_call_data;

typedef struct segue__source_call {
  struct segue__source_call *next;
  segue__loaded *loaded; /* NULL: it is freed */
  const segue__source *source;
  bool is_want, has_next, posted, runs, threw;
  source_call_data now, then; /* of the running call; of the one that waits */
  segue__message message;
  segue__task *task;
} segue__source_call;

static void source_call_clear(source_call_data *data) {
  segue__names_deinit(&data->names);
  segue__free(data->revision);
  segue__free(data->errors);
  memset(data, 0, sizeof *data);
}

static void source_call_release(segue__source_call *n) {
  if (n->loaded || n->posted || n->runs) return;
  source_call_clear(&n->now);
  source_call_clear(&n->then);
  segue__free(n);
}

void segue__source_calls_free(segue__loaded *loaded) {
  segue__source_call *next, *n = loaded->source_calls;
  loaded->source_calls = NULL;
  for (; n; n = next) {
    next = n->next;
    n->loaded = NULL;
    source_call_release(n); /* a running one ends with its Lua state */
  }
}

/* ---- The task -------------------------------------------------------------------------------- */

static void source_call_set(lua_State *co, const char *key, const char *text) {
  if (!text || !*text) return;
  lua_pushstring(co, text);
  lua_setfield(co, -2, key);
}

static void source_call_push_error(lua_State *co, const segue_error *error) {
  lua_createtable(co, 0, 5);
  source_call_set(co, "message", error->message);
  source_call_set(co, "code", segue_error_name(error->code));
  source_call_set(co, "path", error->path);
  source_call_set(co, "file", error->file);
  if (!error->line) return;
  lua_pushnumber(co, (lua_Number)error->line);
  lua_setfield(co, -2, "line");
}

static void source_call_push_outcome(lua_State *co, const source_call_data *data) {
  lua_createtable(co, 0, 4);
  source_call_set(co, "revision", data->revision);
  source_call_set(co, "outcome", data->outcome);
  lua_pushnumber(co, (lua_Number)data->generation);
  lua_setfield(co, -2, "generation");
  lua_createtable(co, (int)data->error_count, 0);
  for (size_t i = 0; i < data->error_count; i++) {
    source_call_push_error(co, &data->errors[i]);
    lua_rawseti(co, -2, (int)i + 1);
  }
  lua_setfield(co, -2, "errors");
}

static int source_call_begin(lua_State *co, void *data, segue_error *err) {
  segue__source_call *n = data;
  const segue__script *script = &n->loaded->scripts[n->source->index];
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, n->is_want ? script->want : script->outcome);
  if (!n->is_want) {
    source_call_push_outcome(co, &n->now);
    return 1;
  }
  lua_createtable(co, (int)n->now.names.count, 0);
  for (size_t i = 0; i < n->now.names.count; i++) {
    lua_pushstring(co, n->now.names.items[i]);
    lua_rawseti(co, -2, (int)i + 1);
  }
  return 1;
}

static void source_call_threw(void *data) {
  ((segue__source_call *)data)->threw = true;
}

static void source_call_post(segue__source_call *n);

static void source_call_done(void *data, int status, const segue_error *err) {
  segue__source_call *n = data;
  n->runs = false;
  source_call_clear(&n->now);
  if (n->loaded && status < 0 && status != SEGUE_ECANCELLED) {
    char text[1024];
    segue_error shown = *err; /* it may quote a document that fetch has read */
    if (n->threw) segue__own_words_keep(&n->loaded->program, n->loaded->loader->library, &shown);
    segue_error_format(&shown, text, sizeof text);
    SEGUE__LOG(n->loaded->loader->log, SEGUE_WARN, "source", "a function of a source failed",
               SEGUE__FIELD("source", n->source->name),
               SEGUE__FIELD("function", n->is_want ? "want" : "outcome"),
               SEGUE__FIELD("error", text));
  }
  if (n->loaded && n->has_next)
    source_call_post(n);
  else
    source_call_release(n);
}

static void source_call_start(segue__source_call *n) {
  segue__loaded *loaded = n->loaded;
  segue_error err;
  n->now = n->then;
  memset(&n->then, 0, sizeof n->then);
  n->has_next = false;
  n->runs = true;
  n->threw = false;
  int rc = segue__loaded_repair(loaded, &err);
  if (!rc && n->source->index >= loaded->script_count)
    rc = segue__errorf(&err, SEGUE_EPOLICY, "it did not exist when the policy was built again");
  if (rc) {
    source_call_done(n, rc, &err);
    return;
  }
  segue__task_options options = {.name = n->is_want ? "want" : "outcome",
                                 .limit_ms = loaded->scripts[n->source->index].timeout_ms,
                                 .slice_cpu_ms = loaded->loader->options.slice_cpu_ms,
                                 .begin = source_call_begin,
                                 .done = source_call_done,
                                 .threw = source_call_threw,
                                 .data = n,
                                 .slot = &n->task};
  segue__task_start(loaded->lua, &options);
}

static void source_call_arrived(segue__message *message) {
  segue__source_call *n =
      (segue__source_call *)((char *)message - offsetof(segue__source_call, message));
  n->posted = false;
  if (!n->loaded)
    source_call_release(n);
  else if (n->has_next)
    source_call_start(n);
}

/* The list of names comes before the fetch that it is meant for. */
void segue__source_call_first(const segue__source *source) {
  segue__loaded *loaded = source->impl;
  segue__source_call *n = loaded->source_calls;
  while (n && (n->source != source || !n->is_want))
    n = n->next;
  if (n && n->has_next && !n->runs) source_call_start(n);
}

static void source_call_post(segue__source_call *n) {
  if (n->posted || n->runs) return;
  n->posted = true;
  n->message.fn = source_call_arrived;
  segue__post(n->loaded->loader->loop, &n->message);
}

/* ---- The operations -------------------------------------------------------------------------- */

/* Returns NULL if the source has no such function, or memory ran out: then this call is lost. */
static segue__source_call *source_call_of(const segue__source *source, bool is_want) {
  segue__loaded *loaded = source->impl;
  if (source->index >= loaded->script_count) return NULL;
  const segue__script *script = &loaded->scripts[source->index];
  if ((is_want ? script->want : script->outcome) == LUA_NOREF) return NULL;
  segue__source_call *n = loaded->source_calls;
  while (n && (n->source != source || n->is_want != is_want))
    n = n->next;
  if (n) return n;
  n = segue__calloc(1, sizeof *n);
  if (!n) return NULL;
  *n = (segue__source_call){
      .next = loaded->source_calls, .loaded = loaded, .source = source, .is_want = is_want};
  return loaded->source_calls = n;
}

static void source_call_put(segue__source_call *n, const source_call_data *data) {
  source_call_clear(&n->then);
  n->then = *data;
  n->has_next = true;
  source_call_post(n);
}

bool segue__lua_source_want(const segue__source *source, const char *const *names, size_t count) {
  segue__source_call *n = source_call_of(source, true);
  source_call_data data = {0};
  for (size_t i = 0; n && i < count; i++)
    if (segue__names_add(&data.names, "", 0, names[i]) < 0) n = NULL;
  if (n)
    source_call_put(n, &data);
  else
    source_call_clear(&data);
  return n != NULL;
}

void segue__lua_source_outcome(const segue__source *source, const segue_source_outcome *outcome) {
  segue__source_call *n = source_call_of(source, false);
  size_t count = outcome->error_count < ERRORS_MAX ? outcome->error_count : ERRORS_MAX;
  if (!n) return;
  source_call_data data = {.revision = segue__strdup(outcome->revision),
                           .outcome = outcome->outcome,
                           .generation = outcome->generation,
                           .errors = count ? segue__calloc(count, sizeof *data.errors) : NULL,
                           .error_count = count};
  if ((outcome->revision && !data.revision) || (count && !data.errors)) {
    source_call_clear(&data);
    return;
  }
  if (count) memcpy(data.errors, outcome->errors, count * sizeof *data.errors);
  source_call_put(n, &data);
}

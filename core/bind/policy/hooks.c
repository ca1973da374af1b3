/* SPDX-License-Identifier: MIT
 *
 * A policy's hooks: check, reload and the probe, each a task that ends its operation. One rule for
 * the results of check and reload: nil and a reason reject; nil, a reason and the code of a system
 * error fail, so that the reload is tried again; error() is a bug of the policy.
 */
#include <string.h>
#include <uv.h>

#include "../runtime/task.h"
#include "../runtime/value.h"
#include "policy.h"
#include "saved_state.h"
#include "txn.h"

enum { STRATEGY_MS = 5000 }; /* what the engine waits for it */

/* One call of a hook. */
struct run {
  segue__loaded *loaded;
  int hook;
  segue_op *op;
  const segue_snapshot *next, *prev; /* borrowed until the first resume */
  segue__txn_handle *txn;
  const segue__source_health *source;
  bool *push; /* strategy's answer */
  segue__task *task;
};

static void hooks_cancelled(void *data) {
  struct run *run = data;
  segue__task_cancel(run->task);
}

/* { name =, kind =, failures =, healthy =, can_push =, error = } */
static void push_source(lua_State *co, const segue__source_health *source) {
  lua_createtable(co, 0, 6);
  lua_pushstring(co, source->name);
  lua_setfield(co, -2, "name");
  lua_pushstring(co, source->kind);
  lua_setfield(co, -2, "kind");
  lua_pushnumber(co, (lua_Number)source->failures);
  lua_setfield(co, -2, "failures");
  lua_pushboolean(co, source->failures == 0);
  lua_setfield(co, -2, "healthy");
  lua_pushboolean(co, source->can_push);
  lua_setfield(co, -2, "can_push");
  if (!source->error) return;
  lua_pushstring(co, source->error);
  lua_setfield(co, -2, "error");
}

static int hooks_begin(lua_State *co, void *data, segue_error *err) {
  (void)err;
  struct run *run = data;
  lua_rawgeti(co, LUA_REGISTRYINDEX, run->loaded->hooks[run->hook]);
  if (run->hook == SEGUE__HOOK_RELOAD) {
    segue__lua_pace(co, segue__config_bytes(segue__txn_next(run->txn->txn)->config));
    segue__txn_push(co, run->txn);
    return 1;
  }
  if (run->hook == SEGUE__HOOK_PROBE) return 0;
  if (run->hook == SEGUE__HOOK_STRATEGY) {
    push_source(co, run->source);
    return 1;
  }
  segue__lua_pace(co, segue__config_bytes(run->next->config));
  segue__value_push(co, run->next, segue_snapshot_root(run->next));
  segue__value_push(co, run->prev, run->prev ? segue_snapshot_root(run->prev) : NULL);
  return 2;
}

/* A tail call leaves no line behind: then the hook's own has to do. */
static segue_error with_place(const struct run *run, int status, const segue_error *err) {
  const segue__place *place = &run->loaded->places[run->hook];
  segue_error reported;
  memset(&reported, 0, sizeof reported);
  if (err) reported = *err;
  if (err && !reported.file[0] &&
      (status == SEGUE_EPOLICY || status == SEGUE_ETIMEOUT || status == SEGUE_ELIMIT))
    segue__error_set_place(&reported, place->file, place->line, 0);
  return reported;
}

static void hooks_done(void *data, int status, const segue_error *err) {
  struct run *run = data;
  segue_op *op = run->op;
  segue_error reported = with_place(run, status, err);
  if (run->txn) run->txn->txn = NULL;
  segue__txn_handle_unref(run->txn);
  run->loaded->last_used = ++run->loaded->loader->uses;
  segue__free(run);
  segue__op_on_cancel(op, NULL, NULL);
  segue_op_done(op, status, err ? &reported : NULL);
}

/* ---- Results --------------------------------------------------------------------------------- */

static const char *hook_name(const struct run *run) {
  return run->hook == SEGUE__HOOK_CHECK    ? "check"
         : run->hook == SEGUE__HOOK_RELOAD ? "reload"
                                           : "probe";
}

/* The content is wrong, although a function of segue reported the error. */
static bool blames_content(int code) {
  static const int codes[] = {SEGUE_ESYNTAX, SEGUE_EENCODING, SEGUE_ELIMIT,  SEGUE_ETYPE,
                              SEGUE_ERANGE,  SEGUE_EPATH,     SEGUE_EEMPTY,  SEGUE_EUSAGE,
                              SEGUE_EPOLICY, SEGUE_EVETO,     SEGUE_ESCHEMA, SEGUE_ECONFIG};
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (code == codes[i]) return true;
  return false;
}

/* The third result of check and reload, behind a text: "ECONNREFUSED", "SEGUE_ETIMEOUT", as the
 * functions of segue return it. A time limit of the hook itself is SEGUE_ETIMEOUT and rejects, so
 * one that the hook reports gets the code of the system. */
static int add_code(lua_State *co, const struct run *run, segue_error *err) {
  int code = lua_type(co, 3) == LUA_TSTRING ? segue__error_find(lua_tostring(co, 3)) : 0;
  if (!code)
    return segue__errorf(
        err, SEGUE_EPOLICY,
        "%s: its third result must be the name of an error, such as \"ECONNREFUSED\", not a %s; "
        "its "
        "reason is: %s",
        hook_name(run), lua_type(co, 3) == LUA_TSTRING ? "text of its own" : luaL_typename(co, 3),
        lua_tostring(co, 2));
  if (blames_content(code)) return err->code;
  if (code == SEGUE_ETIMEOUT) code = UV_ETIMEDOUT;
  bool known = code > -5000 || code == SEGUE_EMODULE || code == SEGUE_ERECORD ||
               code == SEGUE_ECLOSED || code == SEGUE_ECANCELLED;
  return err->code = known ? code : SEGUE_ESOURCE;
}

/* A list of {message, file, line, column, path} at index. */
static void hooks_take_errors(lua_State *L, int index, int code, segue__errors *out) {
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

/* The reason is one text, or a list of problems as segue.validate collects them. */
static int reason_of(lua_State *co, struct run *run, int code, segue_error *err) {
  segue__errors *found = &run->loaded->found;
  if (lua_type(co, 2) == LUA_TSTRING) return segue__errorf(err, code, "%s", lua_tostring(co, 2));
  if (lua_istable(co, 2)) {
    hooks_take_errors(co, 2, code, found);
    if (found->count) {
      *err = found->items[0];
      return code;
    }
    if (found->total) return segue__errorf(err, UV_ENOMEM, "no memory for the reasons");
  }
  return segue__errorf(err, SEGUE_EPOLICY,
                       "%s returned a %s as its reason: return nil and a text with the reason",
                       hook_name(run), luaL_typename(co, 2));
}

static int hooks_refuse(lua_State *co, int n, struct run *run, int code, segue_error *err) {
  int rc = reason_of(co, run, code, err);
  if (rc != SEGUE_EVETO || n < 3 || lua_isnil(co, 3) || lua_istable(co, 2)) return rc;
  return add_code(co, run, err);
}

static int hooks_decide(lua_State *co, int n, const struct run *run, segue_error *err) {
  const char *answer = n >= 1 && lua_type(co, 1) == LUA_TSTRING ? lua_tostring(co, 1) : "";
  if (strcmp(answer, "push") != 0 && strcmp(answer, "pull") != 0)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "strategy returned %s for source '%s': return \"pull\" or \"push\"",
                         *answer ? answer
                         : n     ? luaL_typename(co, 1)
                                 : "nothing",
                         run->source->name);
  *run->push = answer[2] == 's';
  return 0;
}

static int hooks_finish(lua_State *co, int n, void *data, segue_error *err) {
  struct run *run = data;
  if (run->hook == SEGUE__HOOK_STRATEGY) return hooks_decide(co, n, run, err);
  int code = run->hook == SEGUE__HOOK_PROBE ? SEGUE_EPROBE : SEGUE_EVETO;
  if (n >= 1 && lua_type(co, 1) == LUA_TBOOLEAN && lua_toboolean(co, 1)) return 0;
  bool refused = n >= 1 && !lua_toboolean(co, 1);
  if (refused && n >= 2 && !lua_isnil(co, 2)) return hooks_refuse(co, n, run, code, err);
  if (run->hook == SEGUE__HOOK_RELOAD) return 0; /* the transaction knows how far it got */
  const char *what = n ? luaL_typename(co, 1) : "nothing", *article = n && !refused ? "a " : "";
  if (refused) what = lua_isnil(co, 1) ? "nil without a reason" : "false without a reason";
  return segue__errorf(err, SEGUE_EPOLICY,
                       "%s returned %s%s: return true, or nil and a text with the reason",
                       hook_name(run), article, what);
}

/* ---- Starting -------------------------------------------------------------------------------- */

int segue__loaded_repair(segue__loaded *loaded, segue_error *err) {
  if (loaded->lua && !segue__lua_is_broken(loaded->lua)) return 0;
  segue__buf saved;
  segue__buf_init(&saved);
  if (loaded->lua) segue__saved_state_save(loaded->lua, &saved);
  segue__lua_free(loaded->lua);
  loaded->lua = NULL;
  for (int i = 0; i < SEGUE__HOOK_COUNT; i++)
    loaded->hooks[i] = LUA_NOREF;
  int rc = segue__loaded_evaluate(loaded, NULL, &saved, NULL, err);
  segue__buf_deinit(&saved);
  if (!rc) {
    SEGUE__LOG(loaded->loader->log, SEGUE_WARN, "policy", "the policy's state was built again",
               SEGUE__FIELD("file", loaded->program.chunks[0].path));
    return 0;
  }
  segue__lua_free(loaded->lua);
  loaded->lua = NULL;
  return rc;
}

/* One millisecond less than the engine waits, so that the error is that of the hook, which is more
 * precise than that of the engine. On a busy machine more than this millisecond passes before the
 * task waits for the first time and starts its timer, so both end by the clock of the engine. */
static void hooks_limit(const struct run *run, segue__task_options *options) {
  const segue__loaded *loaded = run->loaded;
  uint64_t ms = run->hook == SEGUE__HOOK_CHECK      ? loaded->check_ms
                : run->hook == SEGUE__HOOK_RELOAD   ? loaded->reload_ms
                : run->hook == SEGUE__HOOK_STRATEGY ? STRATEGY_MS
                                                    : loaded->confirm_within_ms;
  options->limit_ms = ms > 1 ? ms - 1 : ms;
  /* A probe may have less time, that until the end of its window: the engine reports that. */
  uint64_t due = run->op->deadline_ms == ms ? segue__op_due_ms(run->op) : 0;
  options->due_ms = due ? due - 1 : 0;
}

static void hooks_start(struct run *run) {
  static const char *const names[] = {
#define X(name, text) text,
      SEGUE__HOOKS(X)
#undef X
  };
  segue__loaded *loaded = run->loaded;
  segue_error err;
  int rc = segue__loaded_repair(loaded, &err);
  if (rc) {
    hooks_done(run, rc, &err);
    return;
  }
  segue__op_on_cancel(run->op, hooks_cancelled, run);
  segue__task_options options = {.name = names[run->hook],
                                 .slice_cpu_ms = loaded->loader->options.slice_cpu_ms,
                                 .begin = hooks_begin,
                                 .finish = hooks_finish,
                                 .done = hooks_done,
                                 .data = run,
                                 .slot = &run->task};
  hooks_limit(run, &options);
  segue__task_start(loaded->lua, &options);
}

static void no_memory(segue_op *op) {
  segue_error err;
  segue__errorf(&err, UV_ENOMEM, "the policy's hook: out of memory");
  segue_op_done(op, UV_ENOMEM, &err);
}

static struct run *hooks_run_new(void *impl, segue_op *op, int hook) {
  struct run *run = segue__calloc(1, sizeof *run);
  if (!run) {
    no_memory(op);
    return NULL;
  }
  run->loaded = impl;
  run->op = op;
  run->hook = hook;
  return run;
}

static void hooks_check(void *impl, segue_op *op, const segue_snapshot *next,
                        const segue_snapshot *prev) {
  struct run *run = hooks_run_new(impl, op, SEGUE__HOOK_CHECK);
  if (!run) return;
  segue__errors_deinit(&run->loaded->found);
  run->next = next;
  run->prev = prev;
  hooks_start(run);
}

static void hooks_reload(void *impl, segue_op *op, segue__txn *txn) {
  struct run *run = hooks_run_new(impl, op, SEGUE__HOOK_RELOAD);
  if (!run) return;
  segue__errors_deinit(&run->loaded->found);
  if (segue__txn_handle_new(&run->txn, txn)) {
    segue__free(run);
    no_memory(op);
    return;
  }
  hooks_start(run);
}

static void hooks_probe(void *impl, segue_op *op) {
  struct run *run = hooks_run_new(impl, op, SEGUE__HOOK_PROBE);
  if (run) hooks_start(run);
}

static void hooks_strategy(void *impl, segue_op *op, const segue__source_health *source,
                           bool *push) {
  struct run *run = hooks_run_new(impl, op, SEGUE__HOOK_STRATEGY);
  if (!run) return;
  run->source = source;
  run->push = push;
  hooks_start(run);
}

static void hooks_explain(void *impl, segue__errors *out) {
  segue__loaded *loaded = impl;
  for (size_t i = 0; i < loaded->found.count; i++)
    segue__errors_add(out, &loaded->found.items[i]);
}

static void hooks_release(void *impl) {
  segue__loaded_free(impl);
}

const segue__policy_ops segue__lua_policy_ops = {.check = hooks_check,
                                                 .reload = hooks_reload,
                                                 .probe = hooks_probe,
                                                 .strategy = hooks_strategy,
                                                 .explain = hooks_explain,
                                                 .triggers_start = segue__watchers_start,
                                                 .triggers_stop = segue__watchers_stop,
                                                 .free = hooks_release};

/* SPDX-License-Identifier: MIT
 *
 * bind_harness.h: drives the Lua binding from the specs: a manual loop, a log that is kept, a
 * loader, and policy hooks called as the engine calls them.
 */
#ifndef SEGUE_SPEC_BIND_HARNESS_H
#define SEGUE_SPEC_BIND_HARNESS_H

#include "core/bind/policy/loader.h"
#include "core/os/op.h"
#include "core/reload/engine.h"

typedef struct bind_harness {
  segue__loop *loop;
  segue__logger log;
  const segue__os *os;
  segue__lua_loader *loader;
  bool *over;
  segue__buf logged; /* lines "level group: message key=value ..." */
} bind_harness;

typedef struct bind_options {
  const segue__os *os;
  const char *lua_dir;
  bool use_signal, stress;
  struct uv_loop_s *uv; /* NULL: a manual loop */
  size_t memory_bytes;
  uint64_t load_cpu_ms, slice_cpu_ms;
  const segue__host_module *modules;
  size_t module_count;
} bind_options;

int bind_open(bind_harness **out, const bind_options *options);
void bind_close(bind_harness *bind);
/* On a uv loop: run it until *over, which may be at once. */
void bind_close_uv(bind_harness *bind, bool *over);
int bind_load(bind_harness *bind, const char *path, segue__policy **out, segue__errors *errors);

/* One snapshot from YAML text. */
int bind_snapshot(const char *name, const char *yaml, uint64_t generation, segue_snapshot **out,
                  segue_error *err);

/* A hook that was called; poll `over` after stepping the loop. */
typedef struct bind_call {
  segue_op op;
  bool over, finished;
  int status;
  segue_error error;
} bind_call;
bind_call *bind_check(bind_harness *bind, segue__policy *policy, const segue_snapshot *next,
                      const segue_snapshot *prev, uint64_t deadline_ms);
bind_call *bind_probe(bind_harness *bind, segue__policy *policy, uint64_t deadline_ms);
void bind_call_free(bind_call *call); /* over */
void bind_explain(segue__policy *policy, segue__errors *out);

/* An engine over the loader and one reload of it, waited for. */
segue__engine *bind_engine(bind_harness *bind, const char *path, segue__publication *publication);
typedef struct bind_waiter {
  segue__waiter waiter;
  bool over;
  int status;
  segue__result *result; /* a reference */
} bind_waiter;
bind_waiter *bind_request(segue__engine *engine, bool force);
void bind_waiter_free(bind_waiter *waiter);
/* Advances until the waiter has its answer, at most limit_ms of simulated time. */
bool bind_wait(bind_harness *bind, bind_waiter *waiter, uint64_t limit_ms);
void bind_engine_close(bind_harness *bind, segue__engine *engine);

#endif

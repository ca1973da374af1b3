/* SPDX-License-Identifier: MIT
 *
 * modules.h: the kind "lua": modules that are written in Lua. What the program has to do for them,
 * without knowing Lua. Control thread.
 */
#ifndef SEGUE_BIND_MODULES_H
#define SEGUE_BIND_MODULES_H

#include "../../module/worker_threads.h"
#include "../policy/loader.h"

typedef struct segue__lua_modules segue__lua_modules;

typedef struct segue__lua_modules_options {
  size_t size;
  segue__loop *loop; /* of the control thread */
  const segue__logger *log;
  const char *lua_dir;
  int signal;                           /* as in segue__lua_options */
  segue__worker_threads worker_threads; /* on which they run; outlive this */
  segue__lua_services services;
} segue__lua_modules_options;

int segue__lua_modules_new(segue__lua_modules **out, const segue__lua_modules_options *options);
/* All instances and policies are gone. cb comes when nothing of them is left on the lanes. NULL
 * allowed: cb runs at once. */
void segue__lua_modules_close(segue__lua_modules *modules, void (*cb)(void *data), void *data);
/* Whose code runs on this lane right now; NULL: none does, or nobody knows. NULL allowed. */
const char *segue__lua_modules_busy(const segue__lua_modules *modules, size_t worker_index);
/* The daemon ends, and this lane does not come back: what was asked of it counts as done, and what
 * it may still use is never freed. NULL allowed. */
void segue__lua_modules_abandon_thread(segue__lua_modules *modules, size_t worker_index);
/* The kind; NULL: modules of it can be judged, and not run. */
segue__module_kind segue__module_kind_lua(segue__lua_modules *modules);
/* What went wrong in their code, for /metrics. NULL allowed. */
void segue__lua_modules_metrics(segue__lua_modules *modules, segue__buf *out);

#endif

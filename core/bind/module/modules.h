/* SPDX-License-Identifier: MIT
 *
 * modules.h: the module kind "lua", for the rest of the program, which does not know Lua. Control
 * thread.
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
  int signal; /* real-time signal of the CPU budget, as in segue__lua_options */
  segue__worker_threads worker_threads; /* they run the modules; must outlive this struct */
  segue__lua_services services;
} segue__lua_modules_options;

int segue__lua_modules_new(segue__lua_modules **out, const segue__lua_modules_options *options);
/* Call it when all instances and policies are gone. cb runs once, when no worker thread uses
 * anything of the modules any more. modules NULL: cb runs at once. */
void segue__lua_modules_close(segue__lua_modules *modules, void (*cb)(void *data), void *data);
/* Returns the name of the module whose code runs on this worker thread now; NULL: none. modules may
 * be NULL. */
const char *segue__lua_modules_busy(const segue__lua_modules *modules, size_t worker_index);
/* The program ends and this worker thread does not return from a module. Its outstanding operations
 * count as done, and memory that its code may still use is never freed. modules may be NULL. */
void segue__lua_modules_abandon_thread(segue__lua_modules *modules, size_t worker_index);
/* Fills in all kinds of modules that a policy may name: the one list for the loader, the
 * validation, the help and rehearsals. NULL: policies with such modules can be validated, but not
 * run. */
enum { SEGUE__MODULE_KINDS = 4 };
void segue__module_kinds(segue__module_kind out[SEGUE__MODULE_KINDS],
                         const segue__c_modules *c_modules, segue__lua_modules *lua_modules,
                         segue__file_world *files, segue__process_world *processes);
/* Appends the error counters of modules in Lua to the /metrics page. modules may be NULL. */
void segue__lua_modules_metrics(segue__lua_modules *modules, segue__buf *out);

#endif

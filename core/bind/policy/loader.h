/* SPDX-License-Identifier: MIT
 *
 * loader.h: policies from reload.lua, for the daemon and embedders, which do not know Lua: a loader
 * that evaluates a policy in a fresh Lua state and fills a segue__policy whose hooks run in that
 * state. The state lives until the policy's last reference is dropped.
 * Control thread.
 */
#ifndef SEGUE_BIND_LOADER_H
#define SEGUE_BIND_LOADER_H

#include "../../files/kind.h"
#include "../../os/loop.h"
#include "../../process/kind.h"
#include "../../reload/policy.h"
#include "../runtime/services.h"

/* A kind of module that policies may name. options: its own, beside those of all modules; NULL:
 * none. */
typedef struct segue__module_kind segue__module_kind;
typedef struct segue__kind_place {
  const segue__os *os;
  segue__policy *policy;
  const char *folder; /* the policy's; "" = the current one */
  /* Of the tree of the policy, for options that resolve validates; with the path of the module. */
  const segue__options_env *env;
  segue__errors *errors; /* mistakes in these are added; then resolve returns a code, err unset */
  const segue__renderer *renderer; /* of the files of modules; NULL: of a source */
} segue__kind_place;
struct segue__module_kind {
  const char *name;
  const segue_option_table *options;
  /* Sets spec->ops, spec->userdata and spec->inputs, from the name, from the policy's table for the
   * module (node), and from the struct that its options filled (NULL: the kind has no options).
   * Both are borrowed for the call, but what the struct owns may be taken. Files that it reads
   * become inputs of the policy. */
  int (*resolve)(const segue__module_kind *kind, const segue__kind_place *place,
                 const segue_node *node, void *options, segue__module_spec *spec, segue_error *err);
  void *data;
};

/* Modules of the kind "c" are found by the key `plugin`, else by their name: among those that the
 * host registered, then as FOLDER/NAME.so in the folders that the policy names (`plugins`), then in
 * the one that segue brings; with a slash it is the path of a file. */
typedef struct segue__host_module {
  const char *name;
  const segue_module_ops *ops;
  void *userdata;
  const segue_option_table *options; /* NULL: it has none */
  segue__option_values *values;      /* without a policy: the defaults; else NULL */
} segue__host_module;
typedef struct segue__host_modules {
  const segue__host_module *items;
  size_t count;
} segue__host_modules;
typedef struct segue__c_modules {
  segue__host_modules host;
  const segue_source_descriptor *const *sources; /* that the host registered */
  size_t source_count;
  segue__plugins *plugins; /* those that are loaded; NULL: none can be */
  const char *folder;      /* where those are that segue brings; NULL: nowhere */
} segue__c_modules;
/* The kind "c" over these, which must live as long as the loader (kinds.c). */
segue__module_kind segue__module_kind_c(const segue__c_modules *modules);
extern const segue_option_table segue__module_c_options;
/* The kind "files" (files.c). world NULL: policies with such modules can be validated, but not run.
 */
segue__module_kind segue__module_kind_files(segue__file_world *world);
/* The kind "process" (processes.c). world: as above. */
segue__module_kind segue__module_kind_process(segue__process_world *world);

typedef struct segue__lua_options {
  size_t size;
  const char *lua_dir; /* the folder that holds segue/init.lua */
  /* A real-time signal for the time budget: its handler (SA_SIGINFO | SA_RESTART, installed by the
   * program) calls segue__budget_on_signal(info->si_value.sival_ptr). 0: the budget is kept by a
   * count hook, which costs speed and needs no signal. */
  int signal;
  size_t memory_bytes; /* per state; 0 = 256 MiB */
  /* CPU time for evaluating a policy, 0 = 1 s, and between two waits of a hook, 0 = 200 ms. For so
   * long, at most, a script can keep the loop from everything else. */
  uint64_t load_cpu_ms, slice_cpu_ms;
  const segue__module_kind *kinds;
  size_t kind_count;
  const struct segue__fake_io *fake_io; /* async_io.h; NULL: this is no rehearsal */
  segue__lua_services services;
  struct segue__answers
      *answers; /* record/recorded_answers.h; NULL: what policies are answered is not kept */
} segue__lua_options;

typedef struct segue__lua_loader segue__lua_loader;
/* loop, log, os and everything in options but the struct itself are borrowed. */
int segue__lua_loader_new(segue__lua_loader **out, segue__loop *loop, const segue__logger *log,
                          const segue__os *os, const segue__lua_options *options);
/* All its policies must be freed. cb runs when the operations that they have started have ended too
 * (commands, which were stopped, and connections), at once if there are none; the loop must not be
 * closed before. NULL loader and cb are allowed. */
void segue__lua_loader_close(segue__lua_loader *loader, void (*cb)(void *data), void *data);
/* The same without a callback. */
void segue__lua_loader_free(segue__lua_loader *loader);
/* For segue__engine_options.loader. */
segue__policy_loader segue__lua_loader_get(segue__lua_loader *loader);

/* For status and leak checks: what all states of the loader hold. */
typedef struct segue__lua_stats {
  size_t states, tasks, refs, bytes;
} segue__lua_stats;
void segue__lua_loader_stats(const segue__lua_loader *loader, segue__lua_stats *out);

#endif

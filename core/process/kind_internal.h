/* SPDX-License-Identifier: MIT
 *
 * kind_internal.h: what the files of the kind "process" share.
 */
#ifndef SEGUE_PROCESS_KIND_INTERNAL_H
#define SEGUE_PROCESS_KIND_INTERNAL_H

#include "../os/environment.h"
#include "../reload/action.h"
#include "kind.h"
#include "managed.h"
#include "restart_budget.h"

/* Counts of the children of a module, across generations. */
typedef struct segue__process_record segue__process_record;
struct segue__process_record {
  char *name;
  segue__process_record *next;
  uint64_t starts, restarts, lost_lines, reloads;
  uint64_t ready_ms; /* of the last start; 0: it was never ready */
};

struct segue__process_world {
  int refs; /* of the instance of segue, the modules, and jobs */
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  char *folder;
  uint64_t files; /* numbers of files of slices */
  segue__process_record *records;
  segue__sockets *sockets; /* NULL: none */
  struct segue__child_socket *child_sockets;
};
void segue__process_world_unref(segue__process_world *world);

/* A module, as its policy declares it. Counted, because instances outlive policies. */
typedef struct segue__process_module {
  int refs;
  segue__process_world *world;
  char *name, *config, *folder; /* folder: absolute, of the policy */
  segue__process_kind_options options;
  segue__hash launch; /* of the options that only a new child can take */
  segue__process_record *record;
  segue__effect probe; /* of ready.http; borrows from options */
  segue__address port; /* of ready.port */
} segue__process_module;
void segue__process_module_unref(segue__process_module *module);

/* A child from its start to its end, and its files. It belongs to an instance, and moves to the
 * next one where a change does not replace it. */
typedef struct segue__process_instance segue__process_instance;
typedef struct segue__process_child {
  segue__managed *managed;
  char **argv;
  char *slice_path; /* NULL: no file */
  uint64_t generation;
} segue__process_child;
/* Frees all of it, and removes the file. A managed child that runs is killed. */
void segue__process_child_drop(segue__process_child *child);

/* slice.c: writes the bytes of a slice into a file, on a worker; user NULL: this process's. cb runs
 * once, later, with SEGUE_ECANCELLED if the loop closes. On failure it does not run. */
typedef struct segue__slice_write segue__slice_write;
int segue__slice_write_start(segue__slice_write **out, segue__process_world *world,
                             const char *path, const char *text, size_t len,
                             const segue__user *user,
                             void (*cb)(void *data, int status, const segue_error *error),
                             void *data);
/* Its end is of no interest any more: cb does not run. NULL allowed. */
void segue__slice_write_forget(segue__slice_write *write);
/* A path for a new child. NULL: out of memory. */
char *segue__slice_new_path(segue__process_world *world, const char *module);

/* child_sockets.c. acquire does nothing if the instance has its sockets. fd: a duplicate, which the
 * caller closes, or a negative code. */
typedef struct segue__child_socket segue__child_socket;
int segue__child_sockets_check(const segue__process_kind_options *options, bool handover,
                               segue_error *err);
int segue__child_sockets_acquire(segue__process_instance *instance, segue_error *err);
void segue__child_sockets_release(segue__process_instance *instance);
int segue__child_socket_fd(const segue__child_socket *socket, segue_error *err);

/* One generation of a module. */
struct segue__process_instance {
  segue__process_module *module;
  segue_op *op; /* of its prepare: for its failure */
  segue_op *start_op, *stop_op;
  uint64_t generation;
  segue__buf slice; /* JSON */
  segue__hash slice_hash;
  segue__user_entry user;
  struct process_lookup *lookup; /* of the user, while it is prepared */
  segue__process_child child;
  segue__slice_write *write;     /* before a start */
  segue__child_socket **sockets; /* as many as its options have; NULL: not acquired */
  bool on_trial; /* between its commit and its settle: the end of the child fails the reload */
  bool stopping;
  bool finished; /* its child has ended and is not started again */
  segue__restart_budget budget;
  segue__timer again;                 /* its next start */
  struct segue__child_change *change; /* of its commit or undo; reload.c */
};
extern const segue_module_ops segue__process_module_ops;
/* Callbacks of its managed child. */
void segue__process_on_ready(void *data);
void segue__process_on_notice(void *data, const segue__notice *notice);
void segue__process_on_end(void *data, const segue__child_exit *end, const segue_error *why);
/* Starts a child, after its slice is written: start_op ends then, or the change. */
void segue__process_begin(segue__process_instance *instance);
segue__process_manner segue__process_manner_of(const segue__process_kind_options *options);

/* launch.c: starts a child for the instance; its slice is written. err names the program. */
int segue__process_launch(segue__process_instance *instance, segue_error *err);
/* Its environment with these variables. Also on failure the caller frees *changes and its texts. */
int segue__process_environment(const segue__process_instance *instance, const char *const *more,
                               segue__environment *out, char ***changes);

/* kind_action.c: the action for a change of the module. */
const segue__action *segue__process_choose(const segue__module_spec *spec, const void *live,
                                           const segue_snapshot *next, bool forced);
/* The child of an instance has started for a change, or has ended during it. Returns whether that
 * was awaited. */
bool segue__process_changed(segue__process_instance *instance, int status,
                            const segue_error *error);

#endif

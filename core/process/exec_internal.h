/* SPDX-License-Identifier: MIT
 *
 * exec_internal.h: what the files of the module "exec" share.
 */
#ifndef SEGUE_PROCESS_EXEC_INTERNAL_H
#define SEGUE_PROCESS_EXEC_INTERNAL_H

#include "../os/environment.h"
#include "../reload/action.h"
#include "exec.h"

/* The environment of a child. Counted: the instance that made it, and the child that runs. */
typedef struct segue__exec_env {
  int refs;
  char *texts;    /* "NAME=value", or "NAME" where a variable is removed; each terminated */
  char **changes; /* NULL-terminated, into texts */
  segue__environment environment;
} segue__exec_env;

/* err names the variable and the path, never a value. */
int segue__exec_env_new(segue__exec_env **out, const segue__exec_options *options,
                        const segue_snapshot *snapshot, const segue__os *os, segue_error *err);
segue__exec_env *segue__exec_env_ref(segue__exec_env *env);
void segue__exec_env_unref(segue__exec_env *env); /* NULL allowed */
bool segue__exec_env_equal(const segue__exec_env *a, const segue__exec_env *b);

/* One generation of the module. */
typedef struct segue__exec_instance {
  segue__exec *exec;
  segue_op *op; /* of its prepare */
  segue__exec_env *env;
  segue__process_manner manner;
  bool restarts;     /* a change restarts the child */
  int reload_signal; /* 0: none */
  uint64_t splay_ms;
  /* Paths of the configuration whose change concerns the child, and the hashes of their values. The
   * last one is the part of the option `config`, if has_part. */
  char **paths;
  segue__hash *hashes;
  size_t count;
  bool has_part;
} segue__exec_instance;

/* The effect of a commit on the child. */
typedef enum segue__exec_deed {
  SEGUE__EXEC_NOTHING,
  SEGUE__EXEC_STARTED,
  SEGUE__EXEC_RESTARTED,
  SEGUE__EXEC_SIGNALLED
} segue__exec_deed;

struct segue__exec {
  int refs; /* of the instance of segue, the specs and the instances of the module */
  segue__exec_setup setup;
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__process *process; /* NULL: closed */

  /* Of the child that runs. */
  segue__exec_env *env;
  segue__hash part;
  segue__process_manner manner;
  int pid; /* also after its end */

  segue__exec_instance *live; /* settled */
  /* The step between its commit and its end; NULL: none. */
  segue__step *step;
  segue__exec_instance *changing; /* its instance, if the commit has touched the child */
  segue__exec_deed deed;
  segue__exec_env *was_env; /* before it */
  segue__hash was_part;
  segue__process_manner was_manner;
  bool hurried, died, over;
  segue__timer splay;
  bool awaited;              /* the child is being stopped, and then: */
  segue__exec_env *next_env; /* NULL: no child is started */
  void (*then)(segue__exec *exec, int status, const segue_error *error);
  segue_op *stop_op;
};

extern const segue__action segue__action_exec;
void segue__exec_unref(segue__exec *exec);
/* Called if the program cannot be run: sets the exit code that a shell uses. */
void segue__exec_not_run(segue__exec *exec, int status);
/* exec_action.c: called when a child has ended. */
void segue__exec_on_end(void *data, const segue__child_exit *end);
/* Stops the child, then starts one with env (NULL: none), then calls `then`. */
void segue__exec_replace(segue__exec *exec, segue__exec_env *env,
                         void (*then)(segue__exec *exec, int status, const segue_error *error));

#endif

/* SPDX-License-Identifier: MIT
 *
 * instance.h: the parts of one instance, shared by the files that put it together (instance.c: the
 * parts; lifecycle.c: start, run, stop, close; host.c: options of the host) and by the daemon,
 * which uses more than the public header.
 */
#ifndef SEGUE_INSTANCE_H
#define SEGUE_INSTANCE_H

#include <pthread.h>

#include "../admin/admin.h"
#include "../bind/module/modules.h"
#include "../bind/policy/loader.h"
#include "../config/snapshot.h"
#include "../ingress/ingress.h"
#include "../os/fork.h"
#include "../process/exec.h"
#include "../process/kind.h"
#include "../record/recorded_answers.h"
#include "../record/writer.h"
#include "../reload/engine.h"
#include "../socket/socket.h"
#include "../trigger/triggers.h"
#include "state_folder.h"

typedef enum segue__stage {
  SEGUE__NEW,
  SEGUE__RUNNING,
  SEGUE__STOPPING,
  SEGUE__STOPPED
} segue__stage;

/* secrets.c: removes secrets from log lines and metrics. */
typedef struct segue__secret_masks segue__secret_masks;
typedef struct segue__secrets {
  pthread_mutex_t lock;
  segue__secret_masks
      *masks; /* atomic; of the configurations that were checked last; NULL: none has secrets */
  bool stuck; /* atomic; the newest mask could not be kept: no text is shown */
} segue__secrets;
void segue__secrets_init(segue__secrets *secrets);
void segue__secrets_deinit(segue__secrets *secrets);
void segue__secrets_add(segue__secrets *secrets, segue__publication *publication,
                        const segue__mask *mask);
bool segue__secrets_any(const segue__secrets *secrets); /* [any thread] */
/* Returns whether a text holds a secret; a copy of it without secrets, NULL if memory ran out. Both
 * inside a read section. [any thread] */
bool segue__secrets_find(const segue__secrets *secrets, const char *text);
char *segue__secrets_clean(const segue__secrets *secrets, const char *text);
/* Passes the entry without secrets to sink, and returns the result of sink. Without memory the
 * fields are left out. [any thread] */
int segue__secrets_log(segue__secrets *secrets, const segue_log_entry *entry,
                       int (*sink)(void *data, const segue_log_entry *entry), void *data);

struct segue {
  segue__publication *publication; /* first: reading needs nothing else */
  const uint32_t *mark;            /* os/fork.h */
  segue__gates *gates;
  segue_options options; /* the strings in it are copies */

  /* Calls from any thread may race with the end of the instance, so all of this is under the lock.
   * Only the control thread writes the stage once the loop runs, and so it may read the stage
   * without the lock. */
  pthread_mutex_t life;
  segue__stage stage;
  segue__loop *inbox;      /* takes messages of other threads; NULL: the loop takes none */
  bool is_entered;         /* a thread is inside the loop: `control` */
  bool close_when_stopped; /* segue_close was called while it could not free the instance */
  bool stop_asked;

  struct uv_loop_s *own_uv, *uv; /* own_uv: NULL on a host's loop */
  segue__logger log;
  segue__secrets secrets;
  segue__observer secret_observer;
  segue__host_module *modules;             /* what registered.host points to */
  const segue_source_descriptor **sources; /* what registered.sources points to */
  segue__c_modules registered;
  char *plugin_dir; /* folder of the plugins that come with segue; NULL: none */
  segue__services services;
  pthread_t control; /* atomic; this thread never waits for a log */
  segue__module_kind kinds[SEGUE__MODULE_KINDS];
  segue__file_world *files;
  const segue__exec_setup *exec_setup; /* segue__instance_exec */
  segue__exec *exec;                   /* NULL: no child */
  segue__process_world *processes;     /* of modules of the kind "process" */
  segue__state state;
  segue__loop *loop;
  uint64_t child_files; /* segue__limit_children */
  segue__engine *engine;
  segue__lua_loader *lua;
  segue__lua_modules *lua_modules;
  char *lua_dir;
  segue__triggers *triggers;
  segue__admin *admin;
  segue__ingress *ingress;
  segue__sockets *sockets;   /* NULL: the instance has stopped */
  segue__answers *answers;   /* recorded answers of the policy */
  segue__record *record;     /* NULL: no state folder, or no reload.lua */
  segue__observer observer;  /* notices when the sources are valid again */
  segue__timer housekeeping; /* checks the state folder */
  bool folder_lost;          /* another process has it */
  bool many_snapshots;       /* it was logged that many snapshots are kept */
  bool socket_reported;      /* a failure to make the socket again is in the log */
  segue__timer try_again;    /* after a start from the last good generation */
  bool started;              /* the host has got the result of the start */
  bool first_waits;          /* the first generation waits for its confirmation */
  bool replaying, held;      /* held: the sources are valid, but their generation was reverted */
  bool age_known;            /* the policy on disk was loaded and states: */
  uint64_t age_ms;           /* how old the last good generation may be; 0: any age */
  void (*after_replay)(segue__waiter *waiter, int status, segue__result *result);
  segue__record_call replay;
  segue__waiter first;
  size_t workers_stuck; /* worker threads that did not return from a module: memory that they may
                           use is not freed */
  segue__message stop_message;
  segue__message entered; /* on a host's loop: shows which thread runs it */
};

void segue__options_free(segue_options *options); /* the strings in it */
/* instance.c: assembles the parts; releases, by callbacks of the loop, the parts that begin made;
 * frees a stopped instance. */
int segue__instance_begin(segue *s, segue_error *error);
void segue__instance_tear_down(segue *s);
void segue__instance_free(segue *s);
/* forked.c: replaces both in a child after fork. */
void segue__instance_abandon(segue *s);

/* housekeeping.c: the state folder and the control socket while the instance runs. keep_folder
 * creates the folder again if it was deleted; returns false if it belongs to another process, and
 * nothing may be written there. */
int segue__start_housekeeping(segue *s);
bool segue__keep_folder(segue *s);

/* start.c: opens the record, and starts from the last good generation if the sources give none. */
int segue__open_record(segue *s);
/* start.c: what the modules of the kinds "files" and "process" share. */
int segue__open_worlds(segue *s);
void segue__watch_sources(segue *s); /* call it when the engine exists */
const segue__os *segue__instance_os(const segue *s);
/* Checks the age of the last good generation against the policy. Returns SEGUE_ESOURCE and adds an
 * error if the generation is too old to be served. */
int segue__last_good_validate(segue *s, const segue__policy *policy, segue__errors *errors);
/* Requests a run that replays the last good generation. Returns 0: cb gets the outcome. held: the
 * sources are valid, but their generation was reverted, or reloads are frozen. */
int segue__start_from_last_good(segue *s, bool held,
                                void (*cb)(segue__waiter *, int, segue__result *));
bool segue__start_good(const segue__result *result);
/* The last good generation is live, and the run that a start had it replayed for did not succeed.
 * Marks it as stale, unless an operator holds the sources back, and returns the result of the
 * replay. */
const segue__result *segue__started_stale(segue *s, bool held);

/* instance.c: reports to the host that nothing is live, in the same way as a first load that
 * failed. */
void segue__nothing_left(segue *s, const segue__result *result);

/* services.c: makes the calling thread the control thread. */
void segue__services_here(segue *s);
bool segue__services_is_here(const segue *s); /* [any thread] */
int segue__services_log(segue *s, const segue_log_entry *entry);
int segue__services_record(void *instance, segue_metric metric, const char *series, double value);

/* Translates a log record for the sink of the host. */
void segue__host_log(void *data, const segue_log_entry *entry);
/* The policy of an instance that has no reload.lua: its one configuration file and its modules. */
int segue__host_policy(const segue *s, segue__policy **out);
void segue__host_modules_free(segue *s);
/* CPU time for evaluating a policy: the control thread does nothing else meanwhile. */
#define SEGUE__POLICY_LOAD_MS 1000
/* If a policy exceeded its CPU time while it was loaded, the error is the policy's and not the
 * system's: another attempt will not help. Corrects status and errors, and returns the status. */
int segue__policy_blame(int status, segue__errors *errors);
/* Checks the listeners of a policy: may they listen on their addresses? Only the folders that open
 * listeners know that. */
int segue__validate_policy(segue__policy *policy, const segue__os *os, segue__errors *errors);
/* After the stop: returns the number of worker threads that were abandoned because a module did not
 * return. */
size_t segue__stuck_threads(const segue *s);
/* Returns whether the live policy, or the one that is going live, has a trigger for this signal. */
bool segue__handles_signal(const segue *s, int signum);
/* Runs the trigger as if the signal had just arrived; returns false if there is none. */
bool segue__deliver_signal(segue *s, int signum);
/* Between segue_new and segue_start: listeners use these sockets, which another process passed on;
 * passed is empty afterwards. */
int segue__adopt_sockets(segue *s, segue__passed *passed, segue_error *error);
/* Between segue_new and segue_start: a child runs beside the instance. setup is borrowed until the
 * stop. */
void segue__instance_exec(segue *s, const segue__exec_setup *setup);
segue__process *segue__instance_child(const segue *s); /* NULL: there is none */
/* Between segue_new and segue_start: the soft limit of open files that commands get. */
void segue__limit_children(segue *s, uint64_t files);

#endif

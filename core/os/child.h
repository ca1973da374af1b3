/* SPDX-License-Identifier: MIT
 *
 * child.h: a child process on the loop, for as long as it lives: its descriptors, its output as a
 * stream, its messages (sd_notify(3)) and its end. A command with a time limit (spawn.h) is one use
 * of it. Control thread; needs a real loop.
 *
 * The exit of a child is noticed by its pidfd: there is no handler for SIGCHLD, and only this
 * child's own process id is waited for, so the other children of an embedding host are not touched.
 * This library never makes its process the reaper of orphans (PR_SET_CHILD_SUBREAPER): that would
 * be an attribute of the whole process, and a host would get zombies of strangers that it does not
 * know and does not wait for. The consequence: a grandchild that leaves the child's session (a
 * daemon that forks itself away) is out of reach. Its messages are refused, and a stop does not end
 * it. A program that may become the reaper of orphans is segue's own, as process 1 or as a keeper.
 */
#ifndef SEGUE_OS_CHILD_H
#define SEGUE_OS_CHILD_H

#include "../segue.h"
#include "child_notify.h"
#include "loop.h"
#include "user.h"

typedef enum segue__stream { SEGUE__STDOUT, SEGUE__STDERR } segue__stream;

#define SEGUE__CHILD_KILL_MS 5000
#define SEGUE__CHILD_LINGER_MS 200
#define SEGUE__CHILD_FILES_MAX 250

/* A descriptor that the child gets: as number 3, 4, 5 ... in the order of the list. It is
 * duplicated before the start returns: the caller keeps its own. It shares the open file
 * description, so O_NONBLOCK and the like are as the caller set them. */
typedef struct segue__child_file {
  int fd;
  const char *name; /* NULL: the child knows what it is for. Otherwise it is announced by
                       sd_listen_fds(3): LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID. Announced
                       descriptors come first; a name has 1 to 255 printable ASCII characters, no
                       colon */
} segue__child_file;

/* A resource limit, setrlimit(2). */
typedef struct segue__child_limit {
  int resource; /* RLIMIT_x */
  uint64_t soft, hard;
} segue__child_limit;
/* The resource of a name as prlimit(1) has it ("nofile", "core", "as"), or -1; and its name. */
int segue__child_limit_find(const char *name);
const char *segue__child_limit_name(int resource);

typedef struct segue__child_exit {
  int status;      /* 0: the next two count. UV_ECHILD: another part of this process reaped it */
  int exit_code;   /* -1: a signal ended it */
  int term_signal; /* 0: it exited */
  bool stopped;    /* segue__child_stop was called before */
  uint64_t duration_ms;
} segue__child_exit;

/* Everything is copied, or duplicated, before the start returns. Zero means the default. */
typedef struct segue__child_options {
  size_t size;             /* sizeof(segue__child_options) */
  const char *const *argv; /* NULL-terminated. argv[0] with a slash is a path (relative to cwd),
                              without one it is looked up in the PATH of env */
  const char *const *env;  /* NULL-terminated "NAME=value". NULL: this process's, without what
                              segue__child_withholds names. The variables that the options below
                              set replace those of the same name */
  const char *cwd;         /* NULL: this process's. Entered as the child's user */
  const segue__user *user; /* NULL: this process's; another one needs root. The child gets exactly
                              these groups */
  const void *input;       /* its standard input, all of it; NULL: empty */
  size_t input_len;
  const int *stdio; /* NULL, or three descriptors that become 0, 1 and 2. -1: as the options say.
                       For output that is not streamed: a log file, the terminal of exec mode */
  bool join_output; /* standard error goes into standard output, in order */
  const segue__child_file *files;
  size_t file_count;
  const segue__child_limit *limits; /* the soft limit of open files is otherwise the loop's */
  size_t limit_count;
  const unsigned *umask;    /* NULL: this process's; the same for the next two */
  const int *nice;          /* -20 .. 19 */
  const int *oom_score_adj; /* -1000 .. 1000 */
  bool notify;              /* NOTIFY_SOCKET is set, and messages go to on_notice */
  bool notify_main_only;    /* messages of the child's own children are refused */
  uint64_t watchdog_ms;     /* WATCHDOG_USEC and WATCHDOG_PID are set; the caller measures */
  int stop_signal;          /* the first signal of segue__child_stop; 0: SIGTERM */
  uint64_t kill_ms;         /* from the stop signal to SIGKILL; 0: SEGUE__CHILD_KILL_MS */
  uint64_t linger_ms;       /* how long output that other processes hold open is read after its
                               exit; 0: SEGUE__CHILD_LINGER_MS */
  bool stop_alone;          /* the stop signal goes to the child only, not to its process group;
                               SIGKILL still goes to the group */
  bool own_group;        /* a process group of its own in this process's session, so that it keeps
                            the controlling terminal; default: a session of its own */
  const int *terminal;   /* with own_group: a descriptor of the controlling terminal, whose
                            foreground group the child becomes before its program runs */
  bool dies_with_parent; /* SIGKILL for it when the thread that started it ends, however it does */
  bool
      kill_rest; /* when it exits by itself its process group gets SIGKILL. Default: the
                    group continues to run, because it may be a daemon that a command has started */
  /* Each may be NULL but on_closed, and may call the functions below. They run on the control
   * thread, and none runs before the start returned.
   * Output as it comes, at most 64 KiB for each turn of the loop and stream; must not block. */
  void (*on_output)(void *data, segue__stream stream, const char *bytes, size_t len);
  void (*on_notice)(void *data, const segue__notice *notice);
  /* A message that was rejected, or requests an action that is not supported; why is one
   * sentence. */
  void (*on_refused)(void *data, const char *why);
  /* Once, as soon as the child has exited and is reaped. Its messages came before; output may still
   * follow. */
  void (*on_exit)(void *data, const segue__child_exit *result);
  /* Once, and last: the output is read and every handle is closed. output_cut: other processes kept
   * the output open and were not waited for. The segue__child is freed when it returns. */
  void (*on_closed)(void *data, bool output_cut);
  void *data;
} segue__child_options;

/* A running child. The head is open so that a replacement in a test can embed it. */
typedef struct segue__child segue__child;
struct segue__child {
  int pid;
  void (*stop)(segue__child *child);
  void (*pause)(segue__child *child, bool paused); /* may be NULL */
  int (*signal)(segue__child *child, int signum, bool group);
  void (*set_stop)(segue__child *child, int signum, uint64_t kill_ms, bool alone); /* may be NULL */
};

/* Starts the child in a session and process group of its own (see own_group), with default signal
 * dispositions, an empty signal mask, and no descriptor but 0, 1, 2 and those of the list. Blocks
 * until the program is executed. Returns 0 or a negative code; then err names the program, folder,
 * user, descriptor or limit, no callback runs, and no process is left behind. */
int segue__child_start(segue__loop *loop, const segue__child_options *options, segue__child **out,
                       segue_error *err);
/* The whole process group gets the stop signal and, kill_ms later or as soon as the child itself
 * has ended, SIGKILL. Further calls, and calls after the exit, do nothing. NULL is allowed. */
void segue__child_stop(segue__child *child);
/* Replaces the stop signal, the time until SIGKILL and stop_alone of the start. 0: the default. No
 * effect on a stop that has begun. */
void segue__child_set_stop(segue__child *child, int signum, uint64_t kill_ms, bool alone);
/* While paused its output is not read: the child blocks as soon as its pipes are full. */
void segue__child_pause(segue__child *child, bool paused);
/* Sends a signal to the child, or to its whole process group. Returns 0, UV_ESRCH after its exit,
 * or another negative code. */
int segue__child_signal(segue__child *child, int signum, bool group);

/* Whether a variable ("NAME=value") is about this process and its service manager (LISTEN_FDS,
 * NOTIFY_SOCKET, WATCHDOG_PID ...): a child that inherits it takes itself for the addressee. */
bool segue__child_withholds(const char *variable);

#endif

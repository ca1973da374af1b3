/* SPDX-License-Identifier: MIT
 *
 * async_io.h: what tasks start in the outside world: commands, requests, file jobs, name look-ups.
 * Each is a segue__io: made from checked arguments without any effect, started when its task first
 * waits for it (after Lua has been left), and answered event by event. Who is no longer waited for
 * is stopped; its memory goes when both Lua and the outside have let go of it. A segue__async_io is
 * what all states of a loader share, and what has to be over before the loop can close.
 */
#ifndef SEGUE_BIND_ASYNC_IO_H
#define SEGUE_BIND_ASYNC_IO_H

#include "../../http/fetch.h"
#include "../../os/os.h"
#include "../../record/recorded_answers.h"
#include "../runtime/task.h"

/* The way back for threads that may return after everything is gone. */
typedef struct segue__bridge {
  pthread_mutex_t mutex;
  segue__loop *loop; /* NULL: nobody is there any more */
  size_t refs, threads;
} segue__bridge;

/* A rehearsal touches nothing: somebody stands in for requests, look-ups and what lies at a path.
 * (Commands and the bytes of files are replaced in segue__os.) */
struct stat;
/* The answer that a replay gives to one io. */
typedef struct segue__recalled {
  int id;
  size_t count, pushed; /* events */
  uint64_t ms;
  segue__timer timer;
} segue__recalled;
typedef struct segue__fake_io {
  /* Calls on_done (and on_data before it) later, unless the request is forgotten. */
  int (*fetch)(void *data, const segue__fetch_options *options, segue_error *err);
  void (*forget)(void *data, const void *whose); /* options.data */
  int (*resolve)(void *data, const char *name, segue__names *out, segue_error *err);
  int (*stat)(void *data, const char *path, struct stat *out); /* worker thread */
  /* Finds the recorded answer to a request: its id, the number of its events, and the time from the
   * request to them (ms; UINT64_MAX: they never come). False: there is none. NULL: there is no
   * recording. */
  bool (*recall)(void *data, const char *kind, const char *key, segue__recalled *out);
  /* Protected: pushes the values of the event number `pushed`, returns how many. */
  int (*push_recalled)(void *data, const segue__recalled *recalled, lua_State *co);
  void *recall_data;
  void *data;
} segue__fake_io;

/* The queue of tasks that are ready and wait for a turn of the loop; task.c. */
typedef struct segue__turns {
  struct segue__task *first, **last;
  uint64_t used_ns; /* CPU time that tasks used since the loop last ran other work */
  segue__message message;
  bool posted;
} segue__turns;

typedef struct segue__async_io {
  segue__loop *loop;
  segue__turns turns;
  const segue__fake_io *fake_io; /* NULL: this is no rehearsal */
  segue__answers *answers;       /* NULL: they are not kept */
  const segue__logger *log;
  segue__fetcher *fetcher; /* from the first request on */
  segue__bridge *bridge;   /* from the first look-up on */
  size_t open;             /* commands that are not over */
  bool closing;
  void (*closed_cb)(void *data);
  void *closed_data;
} segue__async_io;

/* A held outside cannot close before it is released. */
void segue__async_io_hold(segue__async_io *async_io);
void segue__async_io_release(segue__async_io *async_io);

int segue__async_io_new(segue__async_io **out, segue__loop *loop, const segue__logger *log);
/* Waits for the commands, which have been told to stop; then cb, at once if nothing is open. The
 * Lua states must be closed. NULL outside is allowed. */
void segue__async_io_close(segue__async_io *async_io, void (*cb)(void *data), void *data);

typedef struct segue__io segue__io;

typedef struct segue__io_kind {
  const char *metatable; /* "segue.run", also for messages */
  size_t size;           /* of the struct that begins with a segue__io */
  /* Outside of Lua. Failures are events like any other: fill io->error and call segue__io_ready. */
  void (*start)(segue__io *io);
  /* Protected: pushes the event that is there, returns how many values. */
  int (*push)(lua_State *co, segue__io *io);
  /* Nobody waits any more: end it soon. Only while it is alive. */
  void (*stop)(segue__io *io);
  void (*free)(segue__io *io); /* what it owns; not io */
  /* Writes the text by which a replay finds the answer. False: it must not be recorded. */
  bool (*key)(const segue__io *io, segue__buf *out);
} segue__io_kind;

struct segue__io {
  segue__wait wait; /* first */
  const segue__io_kind *kind;
  segue__lua *lua; /* NULL: its state has let go of it */
  segue__async_io *async_io;
  segue__io **box; /* the userdata */
  segue__message message;
  size_t charged;
  bool posted, starting, started;
  bool ready;   /* an event is there */
  bool alive;   /* the outside holds it */
  bool counted; /* and the loop cannot close before it is over */
  bool stopped;
  bool over; /* the last event is there, or was taken */
  segue_error error;
  segue__policy_answer *answer; /* NULL: it is not recorded */
  uint64_t asked_ms;
  segue__recalled *recalled; /* answered by a recording; NULL: by the outside */
};

/* recorded_answers.c: what a recording keeps of an io, and what a replay gives back. */
void segue__io_ask(segue__io *io);                        /* it starts */
void segue__io_note(segue__io *io, lua_State *co, int n); /* an event of n values was pushed */
void segue__io_answered(segue__io *io);                   /* nothing comes after it */
void segue__io_unanswered(segue__io *io);                 /* its task was cancelled before */
bool segue__io_recall(segue__io *io); /* false: there is no answer, the kind has to start it */

/* Pushes a userdata and returns its zeroed io; raises for lack of memory. */
void *segue__io_new(lua_State *L, const segue__io_kind *kind);
/* Lua: next(io) -> event. Starts it the first time. */
int segue__io_next(lua_State *L);
/* From the outside: an event is there. Resumes the task if it waits (never within start). */
void segue__io_ready(segue__io *io);
/* It holds on to io until segue__io_end, which may free it. counted: see above. */
void segue__io_begin(segue__io *io, bool counted);
void segue__io_end(segue__io *io);
/* Its last event is there; then segue__io_end, if it was alive. */
void segue__io_finish(segue__io *io);
/* Bytes held for a state outside of it count against its memory limit. False: past it, and
 * io->error says so. */
bool segue__io_charge(segue__io *io, size_t bytes);
/* nil, message, code from io->error. */
int segue__io_push_error(lua_State *co, const segue__io *io);

/* ---- Arguments, which the Lua half has checked; texts are copied, and charged to io ---- */
char *segue__arg_text(segue__io *io, lua_State *L, int index); /* NULL for nil */
/* NULL for nil. */
char *segue__arg_bytes(segue__io *io, lua_State *L, int index, size_t *len);
uint64_t segue__arg_number(lua_State *L, int index); /* 0 for nil */
/* NULL-terminated copy of a list of texts; NULL for nil. */
char **segue__arg_texts(segue__io *io, lua_State *L, int index);
void segue__texts_free(char **texts);
/* A path relative to the policy's folder. */
char *segue__arg_path(segue__io *io, lua_State *L, int index);

/* What segue.core gets of this, file by file; the table is on top. */
void segue__run_open(lua_State *L);     /* run.c */
void segue__fetch_open(lua_State *L);   /* fetch.c */
void segue__files_open(lua_State *L);   /* files.c */
void segue__resolve_open(lua_State *L); /* resolve.c */
void segue__spawn_open(lua_State *L);   /* subtasks.c: tasks of tasks */

#endif

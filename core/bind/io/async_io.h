/* SPDX-License-Identifier: MIT
 *
 * async_io.h: operations that tasks start outside of Lua: commands, HTTP requests, file jobs, name
 * resolution. Each is a segue__io: created from checked arguments without an effect, started when
 * its task first waits for it (after Lua has returned), and completed by one event or more. An
 * operation that no task waits for any more is stopped; its memory is freed when neither Lua nor
 * the operation uses it. A segue__async_io belongs to all states of one loader; it must be closed
 * before the loop.
 */
#ifndef SEGUE_BIND_ASYNC_IO_H
#define SEGUE_BIND_ASYNC_IO_H

#include "../../http/fetch.h"
#include "../../os/os.h"
#include "../../record/recorded_answers.h"
#include "../runtime/task.h"

/* The way back to the loop for threads that may return after the loop has closed. */
typedef struct segue__bridge {
  pthread_mutex_t mutex;
  segue__loop *loop; /* NULL: it has closed */
  size_t refs, threads;
} segue__bridge;

/* Replacements for HTTP requests, name resolution and file status in a rehearsal, which has no
 * effects. (Commands and file contents are replaced in segue__os.) */
struct stat;
/* The recorded result of one operation, for a replay. */
typedef struct segue__recalled {
  int id;
  size_t count, pushed; /* events */
  uint64_t ms;
  segue__timer timer;
} segue__recalled;
/* A connection of a rehearsal; `connection` is the data of its callbacks. */
typedef struct segue__fake_connect {
  const char *address;
  bool tls;
  uint64_t connect_ms;
  void *connection;
  void (*on_open)(void *connection, int status, const segue_error *err);
  void (*on_data)(void *connection, const char *bytes, size_t len);
  void (*on_end)(void *connection, int code, const segue_error *err);
} segue__fake_connect;
struct segue__dns_records;
typedef struct segue__fake_io {
  /* Calls on_data and on_done later, unless `forget` is called with the data of the options first.
   */
  int (*fetch)(void *data, const segue__fetch_options *options, segue_error *err);
  void (*forget)(void *data, const void *whose); /* options.data */
  int (*resolve)(void *data, const char *name, segue__names *out, segue_error *err);
  /* type: "SRV" or "TXT". */
  int (*records)(void *data, const char *name, const char *type, struct segue__dns_records *out,
                 segue_error *err);
  /* Calls on_open later, then on_data and on_end, until hang_up is called for the connection. */
  int (*connect)(void *data, const segue__fake_connect *options, segue_error *err);
  int (*send)(void *data, void *connection, const char *bytes, size_t len, segue_error *err);
  void (*hang_up)(void *data, void *connection);
  int (*stat)(void *data, const char *path, struct stat *out); /* worker thread */
  /* Finds the recorded result of an operation: its id, the number of its events, and their time
   * after the start in ms (UINT64_MAX: they never came). Returns false if there is none. NULL:
   * nothing is replayed. */
  bool (*recall)(void *data, const char *kind, const char *key, segue__recalled *out);
  /* Pushes the values of event number `pushed` and returns how many. Called in protected mode. */
  int (*push_recalled)(void *data, const segue__recalled *recalled, lua_State *co);
  void *recall_data;
  void *data;
} segue__fake_io;

typedef struct segue__async_io {
  segue__loop *loop;
  segue__turns turns;
  const segue__fake_io *fake_io; /* NULL: outside of rehearsals */
  segue__answers *answers;       /* NULL: results are not recorded */
  const segue__logger *log;
  segue__fetcher *fetcher; /* created by the first request */
  segue__bridge *bridge;   /* created by the first name resolution */
  size_t open;             /* commands and sockets that have not ended */
  size_t connections;      /* of segue.connect */
  uint32_t spaces;         /* key spaces that were opened */
  bool closing;
  void (*closed_cb)(void *data);
  void *closed_data;
} segue__async_io;

int segue__async_io_new(segue__async_io **out, segue__loop *loop, const segue__logger *log);
/* Delays the close until the matching release. */
void segue__async_io_hold(segue__async_io *async_io);
void segue__async_io_release(segue__async_io *async_io);
/* Waits for the commands, which were asked to stop; then calls cb (at once if there is none). The
 * Lua states must be closed before. async_io may be NULL. */
void segue__async_io_close(segue__async_io *async_io, void (*cb)(void *data), void *data);

typedef struct segue__io segue__io;

typedef struct segue__io_kind {
  const char *metatable; /* "segue.run", also for messages */
  size_t size;           /* of the struct that begins with a segue__io */
  /* Starts the operation, outside of Lua. Failures are events too: fill io->error and call
   * segue__io_ready. */
  void (*start)(segue__io *io);
  /* Pushes the values of the current event and returns how many. Called in protected mode. */
  int (*push)(lua_State *co, segue__io *io);
  /* No task waits any more: end it soon. Called only while it is alive. */
  void (*stop)(segue__io *io);
  void (*free)(segue__io *io); /* frees the members, not io */
  /* Writes the key by which a replay finds the result. Returns false if the result must not be
   * recorded. */
  bool (*key)(const segue__io *io, segue__buf *out);
} segue__io_kind;

struct segue__io {
  segue__wait wait; /* first */
  const segue__io_kind *kind;
  segue__lua *lua; /* NULL: its state released it */
  segue__async_io *async_io;
  segue__io **box; /* the userdata */
  segue__message message;
  size_t charged;
  bool posted, starting, started;
  bool ready;   /* an event can be pushed */
  bool alive;   /* the operation uses the memory */
  bool counted; /* and the loop must not close before it ends */
  bool stopped;
  bool over; /* no event follows */
  segue_error error;
  segue__policy_answer *answer; /* NULL: it is not recorded */
  uint64_t asked_ms;
  segue__recalled *recalled; /* the result comes from a recording; NULL: from the operation */
};

/* recorded_answers.c: records and replays results. */
void segue__io_ask(segue__io *io);                        /* it starts */
void segue__io_note(segue__io *io, lua_State *co, int n); /* an event of n values was pushed */
void segue__io_answered(segue__io *io);                   /* the last event was pushed */
void segue__io_unanswered(segue__io *io); /* its task was cancelled before the last event */
bool segue__io_recall(segue__io *io);     /* false: nothing is recorded; the kind must start it */

/* Pushes a userdata and returns its zeroed io; raises an error if memory is short. */
void *segue__io_new(lua_State *L, const segue__io_kind *kind);
/* An event can be pushed. Resumes the task if it waits; never inside `start`. */
void segue__io_ready(segue__io *io);
/* The operation uses io until segue__io_end, which may free it. counted: see segue__io. */
void segue__io_begin(segue__io *io, bool counted);
void segue__io_end(segue__io *io);
/* The last event can be pushed; calls segue__io_end if the operation was alive. */
void segue__io_finish(segue__io *io);
/* Counts bytes that are held outside of a state against its memory limit. Returns false past the
 * limit, with io->error set. */
bool segue__io_charge(segue__io *io, size_t bytes);
/* Pushes nil, message, code from io->error. */
int segue__io_push_error(lua_State *co, const segue__io *io);

/* ---- Arguments (checked by the Lua half): texts are copied and charged to io ----------------- */
char *segue__arg_text(segue__io *io, lua_State *L, int index); /* NULL for nil */
/* NULL for nil. */
char *segue__arg_bytes(segue__io *io, lua_State *L, int index, size_t *len);
/* NULL-terminated copy of a list of texts; NULL for nil. */
char **segue__arg_texts(segue__io *io, lua_State *L, int index);
void segue__texts_free(char **texts);
/* The path, relative to the folder of the program; owned by the caller, not charged. NULL: no
 * memory. */
char *segue__policy_path(const segue__program *program, const char *path);
/* A path relative to the policy's folder. */
char *segue__arg_path(segue__io *io, lua_State *L, int index);

/* Adds the functions of this folder to segue.core, the table on top of the stack. For
 * segue__lua_setup.open. */
void segue__io_open(lua_State *L);
void segue__run_open(lua_State *L);     /* run.c */
void segue__fetch_open(lua_State *L);   /* fetch.c */
void segue__files_open(lua_State *L);   /* files.c */
void segue__resolve_open(lua_State *L); /* resolve.c */
void segue__connect_open(lua_State *L); /* connect.c */

#endif

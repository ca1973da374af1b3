/* SPDX-License-Identifier: MIT
 *
 * rehearsal.h: runs a policy without the outside world: the real engine, the real policy and the
 * real Lua library under a simulated clock. Files come from memory if the author of the spec put
 * them there, and from the disk otherwise (which is never written); commands, requests and name
 * resolutions get the author's results; modules of the kind "files" render into memory, and what
 * applies their files gets the author's results; other modules do what the author decides.
 * Single-threaded. `segue test` is built from this; testing.c makes it available to Lua.
 *
 * rehearsal.c: engine, clock, triggers, results. fakes.c: files, environment, commands, requests,
 * modules. fake_connections.c: connections and DNS records. fake_files.c: rendered files and their
 * effects.
 */
#ifndef SEGUE_BIND_REHEARSAL_H
#define SEGUE_BIND_REHEARSAL_H

#include "../../files/effect.h"
#include "../../files/simulation.h"
#include "../../reload/engine.h"
#include "../io/async_io.h"
#include "../module/modules.h"
#include "../policy/loader.h"

/* A question to the author of the spec, and the answer. Texts of the answer are owned by the
 * question. */
typedef enum segue__rehearsal_question {
  SEGUE__ASKED_RUN,
  SEGUE__ASKED_FETCH,
  SEGUE__ASKED_RESOLVE,
  SEGUE__ASKED_MODULE,
  SEGUE__ASKED_SIGNAL,
  SEGUE__ASKED_CONNECT,
  SEGUE__ASKED_RECEIVE,
  SEGUE__ASKED_HANG_UP
} segue__rehearsal_question;

typedef struct segue__question {
  segue__rehearsal_question what;
  const segue__spawn_options *run;
  const segue__fetch_options *fetch;
  const segue__effect_asked
      *effect; /* run, fetch, signal: of a module of the kind files; or NULL */
  /* resolve: the host and the type of its records; module: its name and the operation; connect:
   * the address */
  const char *name, *verb;
  int id;            /* connect, receive, hang up: of the connection */
  bool tls;          /* connect */
  const char *bytes; /* receive: what the policy has written */
  size_t bytes_len;
  const segue_slice *config; /* module, prepare: its configuration */
  /* The answer. */
  char *message; /* error message; NULL: it succeeds */
  int code;      /* error code */
  char *text[2]; /* standard output and error; headers and body */
  size_t len[2];
  int number; /* exit code; HTTP status */
  int signal; /* signal that ended the command; 0: none */
  uint64_t delay_ms;
  segue__names addresses;
  struct segue__dns_records *records; /* NULL: addresses are asked */
} segue__question;

typedef struct segue__rehearsal_options {
  size_t size;
  const char *policy_path, *lua_dir; /* copied */
  int64_t wall_ms;                   /* initial time of the clock */
  int signal;                        /* as in segue__lua_options */
  /* Further validation of a loaded policy; may be NULL. */
  int (*validate)(segue__policy *policy, const segue__os *os, segue__errors *errors);
  void (*ask)(void *data, segue__question *question);
  /* As in segue__fake_io; NULL: there is no recording. */
  bool (*recall)(void *data, const char *kind, const char *key, segue__recalled *out);
  int (*push_recalled)(void *data, const segue__recalled *recalled, lua_State *co);
  void *data;
} segue__rehearsal_options;

/* A file in memory: bytes, or an error. */
typedef struct segue__fake_file {
  char *path, *data;
  size_t len;
  unsigned mode;
  char *owner; /* NULL: of this process */
  int code;    /* 0: it exists */
  char *message;
} segue__fake_file;

/* A trigger that the spec fired, and its outcome. */
typedef struct segue__fired {
  segue__waiter waiter;
  bool answered;
  int status;
  segue__result *result; /* a reference, or NULL */
} segue__fired;

typedef struct segue__fake_call segue__fake_call;
typedef struct segue__fake_module segue__fake_module;
typedef struct segue__fake_delay segue__fake_delay;
typedef struct segue__fake_poll segue__fake_poll;
typedef struct segue__fake_connection segue__fake_connection;

typedef struct segue__rehearsal {
  segue__rehearsal_options options;
  segue__loop *loop;
  segue__publication *publication;
  segue__lua_loader *lua;
  segue__engine *engine;
  segue__policy *staged, *live; /* a reference each: their triggers are armed */
  segue__fake_poll *polls;
  segue__observer observer;
  segue__result **results; /* results of all runs, in order; a reference each */
  size_t result_count;
  segue__fired **fired;
  size_t fired_count;
  segue__logger log;
  pthread_mutex_t log_mutex;
  segue__buf log_text;
  /* fakes.c */
  segue__os os;
  segue__fake_file *files;
  size_t file_count;
  char **environment;
  segue__fake_io fake_io;
  segue__fake_call *calls;
  segue__fake_connection *connections;
  int connection_count; /* so far */
  segue__fake_module *modules;
  segue__fake_delay *delays;
  segue__file_world *file_world;
  segue__effect_outside outside;
  const segue__file_set *shown; /* a check sees its staged files in place of the live ones */
  segue__module_kind kinds[SEGUE__MODULE_KINDS];
  bool sealed;                             /* nothing of the disk is visible except the Lua half */
  bool engine_stopped, lua_closed, failed; /* failed: no memory for a result */
} segue__rehearsal;

int segue__rehearsal_new(segue__rehearsal **out, const segue__rehearsal_options *options,
                         segue_error *err);
void segue__rehearsal_free(segue__rehearsal *r); /* NULL allowed */

/* Fires a trigger without running anything; *index is its place in `fired`. */
int segue__rehearsal_fire(segue__rehearsal *r, const segue__reload_request *request, size_t *index);
/* Advances the clock until the trigger is answered, at most by most_ms. */
bool segue__rehearsal_await(segue__rehearsal *r, size_t index, uint64_t most_ms);

/* data NULL: the file does not exist, or reading it fails with code and message. A file that is
 * there keeps its mode and its owner; a new one has mode, or 0644 if it is 0. */
int segue__fakes_put(segue__rehearsal *r, const char *path, const char *data, size_t len, int code,
                     unsigned mode, const char *message);
const segue__fake_file *segue__fakes_find(const segue__rehearsal *r, const char *path);
void segue__fakes_remove(segue__rehearsal *r,
                         const char *path); /* the file of the disk is visible again */
int segue__fakes_setenv(segue__rehearsal *r, const char *name, const char *value); /* NULL: unset */
void segue__fakes_expedite(segue__rehearsal *r); /* modules complete their running operations */
void segue__fakes_init(segue__rehearsal *r);
/* The kinds of modules; when there is a loop. */
int segue__fakes_open_modules(segue__rehearsal *r);
/* A command or a request; effect NULL: of the policy. */
int segue__fakes_spawn(segue__rehearsal *r, const segue__effect_asked *effect,
                       const segue__spawn_options *options, segue__spawn **out, segue_error *err);
int segue__fakes_fetch(segue__rehearsal *r, const segue__effect_asked *effect,
                       const segue__fetch_options *options, segue_error *err);
int segue__fakes_signal(segue__rehearsal *r, const segue__effect_asked *effect,
                        void (*done)(void *data, int status, const segue_error *error), void *data,
                        segue_error *err);
void segue__fakes_forget(segue__rehearsal *r, const void *whose);
void segue__question_deinit(segue__question *q);
/* fake_connections.c */
void segue__fakes_open_connections(segue__rehearsal *r);
/* To the policy, from the other side of a connection. Return false if it has ended. message NULL:
 * the other side closes it. */
bool segue__fakes_send(segue__rehearsal *r, int id, const char *bytes, size_t len);
bool segue__fakes_end_connection(segue__rehearsal *r, int id, int code, const char *message);
/* fake_files.c: the shared state of modules of the kind files. */
int segue__fake_files_open(segue__rehearsal *r);
/* The file as a check sees it that begins now, else the one in memory. Returns false if there is
 * none. */
bool segue__fake_files_look(const segue__rehearsal *r, const char *path,
                            segue__simulated_file *out);
void segue__fakes_deinit(segue__rehearsal *r);

/* Lua: delivery(bytes) -> text, format; delivery.c */
int segue__testing_delivery(lua_State *L);

#endif

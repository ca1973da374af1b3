/* SPDX-License-Identifier: MIT
 *
 * source.h: the origins of configuration. A source spec is plain data in a policy; the operations
 * of its kind deliver documents. There are two sorts of kinds.
 *
 * Kinds that read local data do so on the worker. Four of them are built in: file: one file; absent
 * and optional: no document. dir: the files that match folder/glob, sorted by byte value, a
 * document each; a missing folder and no match are an error unless optional. env: one document of
 * the variables whose names begin with prefix: the rest, in lower case, split at separator, is the
 * path; a value gets a type only where writing that type gives the same text back, or never
 * (as_text). value: the document that the policy built.
 *
 * Kinds that read from another machine are asynchronous and run on the control thread: they fetch
 * and, if they can, watch. The engine does retries and fallback, and holds deliveries, in the same
 * way for all.
 */
#ifndef SEGUE_SOURCE_SOURCE_H
#define SEGUE_SOURCE_SOURCE_H

#include <pthread.h>

#include "../config/tree.h"
#include "../options/options.h"
#include "../os/loop.h"
#include "../os/os.h"

typedef struct segue__source segue__source;
typedef struct segue__documents {
  segue__document **items; /* a reference on each */
  size_t count, capacity;
} segue__documents;
void segue__documents_deinit(segue__documents *docs);
int segue__documents_add(segue__documents *docs, segue__document *doc); /* takes the reference */
int segue__documents_copy(segue__documents *to, const segue__documents *from); /* appends */

/* One delivery of an asynchronous source: all of its documents, or changes against a revision. */
typedef struct segue_delivery segue__emission;
struct segue_delivery {
  bool unchanged;             /* what was delivered last is still all; no documents */
  bool ask;                   /* watch only: something changed, fetch it; no documents */
  bool lost;                  /* watch only: deliveries before it were dropped, fetch everything */
  char *revision;             /* the source's own, owned; NULL: it has none, or the same */
  segue__documents documents; /* bytes that are not parsed (any id), or built ones */
  /* A delta: documents are put by name in the order of their names, those in removed are taken
   * away, if the revision that is held is `base`; else the delta is of no use. */
  char *base; /* owned; NULL: no delta */
  segue__names removed;

  segue__emission *next; /* in the queue of a watch */
  void *instance;        /* c_source.c: for cancel */
  segue_op *op;
};
void segue__delivery_deinit(segue__emission *delivery);

/* The receiver of pushes. Control thread. emit takes the contents of delivery, which is empty
 * afterwards. */
typedef struct segue_watch segue__emitter;
struct segue_watch {
  void (*emit)(void *data, segue__emission *delivery);
  void *data;
  /* Pushes from other threads (delivery.c). close is called before the result of the watch is
   * dropped: from then on a push touches nothing but this struct. */
  pthread_mutex_t mutex;
  segue__loop *loop; /* NULL: closed */
  segue__message message;
  segue__emission *first, *last; /* posted to the control thread */
  size_t count;                  /* of those */
  bool posted;
  void *instance; /* c_source.c: for cancel */
  segue_op *op;
};
void segue__emitter_init(segue__emitter *emitter, segue__loop *loop,
                         void (*emit)(void *data, segue__emission *delivery), void *data);
void segue__emitter_close(segue__emitter *emitter);
void segue__emitter_deinit(segue__emitter *emitter);

/* Asynchronous kinds. Control thread; each ends by exactly one segue_op_done, from any thread, and
 * segue__op_on_cancel calls it if the operation is cancelled. revision is that of what is held,
 * NULL: nothing is, or it has none; borrowed for the call. */
typedef struct segue__remote_ops {
  bool timed; /* the engine cancels a fetch after timeout_ms; false: the kind does so itself */
  /* Fills *out before segue_op_done with 0; out stays valid until the op has ended. */
  void (*fetch)(const segue__source *source, const char *revision, segue__emission *out,
                segue_op *op);
  /* Runs until it fails, ends or is cancelled, and emits each change. emitter stays valid until the
   * op has ended. Only called for sources that push. */
  void (*watch)(const segue__source *source, const char *revision, segue__emitter *emitter,
                segue_op *op);
  /* The following may be NULL. */
  /* Only the documents of these names are used. Returns false if this source has no such operation.
   */
  bool (*want)(const segue__source *source, const char *const *names, size_t count);
  /* A reload that used a delivery has settled. */
  void (*outcome)(const segue__source *source, const segue_source_outcome *outcome);
  /* Removes from an error that the op is marked for (op->scripted) everything that may be a value
   * of a configuration. */
  void (*conceal)(const segue__source *source, segue_error *error);
  /* The last use of the source: its policy is freed. */
  void (*close)(segue__source *source);
} segue__remote_ops;

/* A kind of source. */
typedef struct segue__source_kind {
  const char *name;
  const segue_option_table *options; /* of a source of this kind; NULL: no policy names it */
  /* Worker thread: delivers documents, not parsed (or built). `previous` holds the documents of the
   * last fetch: a kind that finds the same bytes hands the old document on (with a new reference),
   * and it is not parsed again. next_id numbers new documents. */
  int (*fetch)(const segue__source *source, const segue__os *os, const segue__limits *limits,
               const segue__documents *previous, uint32_t *next_id, segue__documents *out,
               segue_error *err); /* NULL: asynchronous */
  /* Paths whose change means that the source may have changed; appended, copied. */
  int (*watch)(const segue__source *source, segue__names *paths);
  const segue__remote_ops *remote; /* NULL: it reads on the worker */
} segue__source_kind;

/* Conditions that a source must meet before it may go live; zeroed: none. Items are the members
 * of a map or the items of a list at the root of a document, summed over the documents of the
 * source. */
typedef struct segue__guard {
  uint64_t min_items;
  bool shrink_limited;
  double max_shrink; /* the part of the items applied last that may go, 0 to 1 */
  char **required;   /* paths, owned; each is in at least one document */
  size_t required_count;
  uint64_t max_age_ms; /* of what is held for a source that is away; 0 = any */
} segue__guard;

/* Defaults of the times of asynchronous sources. */
#define SEGUE__SAFETY_MS 300000
#define SEGUE__RETRY_MIN_MS 1000
#define SEGUE__RETRY_MAX_MS 60000

struct segue__source {
  const segue__source_kind *kind;
  char *name;          /* how errors and metrics call it: the path, "env APP_", "value" */
  char *path;          /* file: the file; dir: folder/glob */
  char *prefix;        /* env: prefix of the variable names */
  char *separator;     /* env: what splits a name into a path, default "__" */
  bool as_text;        /* env: all values are text */
  int format;          /* segue__format or -1: by extension (.json; else YAML) */
  bool by_file;        /* dir, file: the name of the file is the key of its content */
  bool allow_empty;    /* a file without content is an empty map, or an empty text */
  bool allow_writing;  /* the file is read even while a program has it open for writing */
  uint64_t cpu_ms;     /* for a kind that computes: CPU time for one fetch, and memory; 0 = the */
  size_t memory_bytes; /* kind's own limit */
  bool optional;       /* absence is an empty document instead of an error */
  bool expand;         /* ${NAME} in values */
  segue__document *value; /* value: built by the policy */
  segue__guard guard;
  segue_option_kind_value made; /* from the policy's table: the kind's own options */

  /* Asynchronous kinds. Times of 0 are the defaults in brackets. */
  bool pushes;           /* it can watch */
  segue__hash spec;      /* what is held for a source stays its own while this is the same */
  uint64_t interval_ms;  /* between pulls [none; 30 s while a watch that is wanted is down] */
  uint64_t safety_ms;    /* between pulls beside a watch that runs [5 min] */
  uint64_t retry_min_ms; /* first and longest pause after a failure, with full jitter [1 s] */
  uint64_t retry_max_ms; /* [1 min] */
  uint64_t timeout_ms;   /* of one fetch [10 s] */
  uint64_t debounce_ms;  /* from a push to the reload, if given [that of the policy] */
  bool debounce_given;
  uint64_t idle_ms; /* a watch that emits nothing for this long is started again [none] */
  bool resumes;     /* a watch from a revision emits all that has changed since */
  void *impl;       /* the kind's own */
  struct segue__plugin *plugin; /* whose code it is; a reference, freed with the policy */
  size_t index;
  uint64_t wants_passed; /* the list of names that it has (reload/wants.c); 0: none */
};

void segue__source_deinit(segue__source *source);

#endif

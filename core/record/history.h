/* SPDX-License-Identifier: MIT
 *
 * history.h: the history, in SQLite (history.db, WAL, mode 0600): every reload with its cause,
 * timings, changes and errors; every generation with the files and documents that made it, each
 * content once; the requests to the admin API. The engine does not depend on it: a damaged history
 * is renamed, and a new one is created. The functions block, so only the record thread calls them.
 */
#ifndef SEGUE_RECORD_HISTORY_H
#define SEGUE_RECORD_HISTORY_H

#include "../config/snapshot.h"
#include "../os/log.h"
#include "file_change.h"
#include "inputs.h"

typedef struct segue__history segue__history;

/* Defaults of the limits. */
#define SEGUE__HISTORY_RELOADS 100000
#define SEGUE__HISTORY_GENERATIONS 1000
#define SEGUE__HISTORY_AGE_MS (365ULL * 86400 * 1000)
#define SEGUE__HISTORY_BYTES (256ULL << 20)

/* The bounds of the history; the newest reload and generation are always kept. Zero fields mean the
 * default. The history may exceed a bound by a sixteenth before old rows are deleted. */
typedef struct segue__history_limits {
  uint64_t reloads, generations, age_ms, bytes;
} segue__history_limits;

/* path: of the database; log is borrowed. Waits for at most wait_ms while another process locks it
 * (UV_EBUSY). The highest numbers that it knows: 0 if it is new. UV_ENOTSUP: a newer version has
 * written it. */
int segue__history_open(segue__history **out, const segue__logger *log, const char *path,
                        unsigned wait_ms, uint64_t *generation, uint64_t *reload);
void segue__history_close(segue__history *history); /* NULL allowed */
void segue__history_limit(segue__history *history, const segue__history_limits *limits);

/* One settled reload. */
typedef struct segue__history_entry {
  uint64_t id;
  int64_t wall_ms;
  const char *outcome;
  const char *summary, *detail; /* JSON, as it is given back */
  /* Where it made a generation: */
  const segue_snapshot *snapshot; /* NULL: it did not */
  segue__hash input;
  const segue__files *files; /* NULL: they are not known, and a rollback to it is not possible */
  char *const *paths;        /* that changed */
  size_t path_count;
  bool more_paths; /* than are listed */
} segue__history_entry;

/* UV_EBUSY: another process locks the database, try again. */
int segue__history_add(segue__history *history, const segue__history_entry *entry);

/* One request to the admin API that changes something, or was refused. */
typedef struct segue__audit {
  int64_t wall_ms;
  char who[128]; /* the client by token or certificate; "": not known */
  char peer[64], method[24], path[320];
  int status; /* of the answer; 0: the client had left */
  bool refused;
  uint64_t reload; /* in the answer; 0: none */
  uint64_t folded; /* refusals since the last one that has an entry */
} segue__audit;
/* As many are kept as reloads; beside them a tenth as many refusals, at least 100. UV_EBUSY as
 * above. */
int segue__history_add_audit(segue__history *history, const segue__audit *audit);
/* A JSON array, newest first, at most `limit`. */
int segue__history_audits(segue__history *history, uint64_t limit, segue__buf *out);

/* A JSON array of summaries, newest first: at most `limit`, with ids below `before` (0: all). */
int segue__history_reloads(segue__history *history, uint64_t limit, uint64_t before,
                           segue__buf *out);
/* The detail of one. UV_ENOENT: it is not in the history. */
int segue__history_reload(segue__history *history, uint64_t id, segue__buf *out);
/* The newest generation below `number` whose files are kept. UV_ENOENT: none. */
int segue__history_before(segue__history *history, uint64_t number, uint64_t *out);
/* Files and configuration of a generation. UV_ENOENT: not kept. */
int segue__history_files(segue__history *history, uint64_t generation, segue__files **out);
int segue__history_snapshot(segue__history *history, uint64_t generation, segue_snapshot **out,
                            segue_error *error);
/* Adds up what the reloads that made the generations after `from` up to `to` changed outside of the
 * state folder. *missing: the first generation whose reload is not kept, or never was, then the
 * list is empty; else 0. SEGUE_ELIMIT: more than 1,000 reloads, 16 MiB of their details, or too
 * many lines. backward: see segue__file_fold_finish. */
int segue__history_file_changes(segue__history *history, uint64_t from, uint64_t to, bool backward,
                                segue__file_changes *out, uint64_t *missing);
/* Finds the newest generation up to `until` (inclusive) that changed the value at path, a value
 * below it, or a value above it whose path has `min_len` bytes or more. Appends JSON {"generation",
 * "path" (the change's own), "exact", "reload": summary}. UV_ENOENT: no such change is kept. */
int segue__history_why(segue__history *history, const char *path, size_t min_len, uint64_t until,
                       segue__buf *out);
/* Ends of the paths above this one: "a.b[3].c" has "a.b[3]", "a.b" and "a". A separator inside of
 * quotes does not count. Returns the length of the next shorter one, 0 at the end. */
size_t segue__history_parent(const char *path, size_t len);

#endif

/* SPDX-License-Identifier: MIT
 *
 * queue.h: what the files of the queue share. Calls are put in by any thread, under a lock that is
 * held for a moment; everything else belongs to the queue's one thread: it writes what came into
 * the journal, all at once, answers 202, and hands calls to the dispatcher.
 */
#ifndef BIGPIPE_QUEUE_H
#define BIGPIPE_QUEUE_H

#include <pthread.h>

#include "pipe.h"

/* ---- calls.c: the calls that are kept, by id, by target, by the time when they are due ---- */

typedef enum entry_state { WAITING, LATER, OUT } entry_state;

typedef struct entry {
  pipe_call *call; /* a reference */
  uint32_t attempts;
  entry_state state;
  uint64_t due_ms;
  size_t slot; /* in the heap, from 1 */
  struct entry *chain, *next;
} entry;

typedef struct line {
  char target[PIPE_TARGET_MAX + 1];
  entry *first, *last;
  struct line *next;
} line;

typedef struct calls {
  entry **buckets;
  size_t bucket_count, count, bytes, waiting;
  line *lines;
  entry **heap;
  size_t heap_count, heap_capacity;
} calls;

int calls_init(calls *c);
void calls_deinit(calls *c);
entry *entry_new(pipe_call *call); /* takes the reference, unless it is NULL: out of memory */
void entry_free(entry *e);
void calls_add(calls *c, entry *e); /* in no line yet */
entry *calls_find(const calls *c, uint64_t id);
void calls_remove(calls *c, entry *e); /* and frees it */
int calls_wait(calls *c, entry *e);    /* at the end of its target's line; UV_ENOMEM */
int calls_wait_until(calls *c, entry *e, uint64_t due_ms);
void calls_out(calls *c, line *l); /* the first of the line is handed out */
/* Moves those that are due into their lines; the time of the next one, or UINT64_MAX. */
uint64_t calls_due(calls *c, uint64_t now_ms);
/* All of them by id, NULL: out of memory. To be freed. */
entry **calls_sorted(const calls *c);

/* ---- journal.c: the file ---- */

typedef struct bytes {
  char *data;
  size_t len, capacity;
  bool failed; /* out of memory: what is in it is not to be used */
} bytes;

typedef struct journal {
  char *path, *next_path, *dead_path;
  int folder, lock, fd, dead;
  uint64_t size;  /* of what is good */
  bool torn;      /* there is something behind it */
  uint64_t began; /* size when it was last written again, or that was tried */
  uint64_t next_id, process;
} journal;

int journal_open(journal *j, const char *folder, segue_error *error); /* takes the lock */
void journal_close(journal *j);
/* Reads what is there; writes it again if it is torn or of another process. */
int journal_load(journal *j, calls *c, segue_error *error);
int journal_rewrite(journal *j, const calls *c);
bool journal_is_long(const journal *j, const calls *c);
int journal_remove(journal *j);
int journal_append(journal *j, const bytes *records); /* all of it or nothing */
int journal_sync(journal *j);
int journal_bury(journal *j, const pipe_call *call, uint32_t attempts);

void record_kept(bytes *out, const pipe_call *call, uint32_t attempts, uint64_t due_ms);
void record_tried(bytes *out, uint64_t id, uint32_t attempts, uint64_t due_ms);
void record_gone(bytes *out, uint64_t id);
void record_out(bytes *out, uint64_t id);
uint64_t now_ms(void); /* monotonic */

/* Takes over what another instance left, if the journal is still what that one wrote. */
bool journal_resume(journal *j, uint64_t inode, uint64_t size, uint64_t next_id);
uint64_t journal_inode(const journal *j);

/* ---- queue.c, work.c ---- */

enum { SYNC_NEVER = 0, SYNC_ALWAYS = 1 };

/* Data that an instance passes to the next one in the same process, so that the next one need
 * not read it from disk. Filled when the instance has stopped; another build may have another
 * layout. */
enum { LEGACY_LAYOUT = 1 };
typedef struct legacy {
  uint32_t layout;
  atomic_int refs;
  bool full;
  calls calls;
  uint64_t inode, size, next_id;
} legacy;

void legacy_unref(legacy *l);

typedef struct queue {
  pipe_queue face; /* first */
  legacy *left;    /* second, in every build: for the next one */
  legacy *got;     /* of the one before */
  segue *s;
  segue_gate *dispatcher;
  char *folder;
  bool memory;
  uint64_t sync_ms; /* or one of the above */
  uint64_t max_calls, max_bytes;

  pthread_mutex_t lock;
  pthread_cond_t wake;
  pipe_call *put_first, *put_last, *report_first, *report_last;
  size_t put_count, put_bytes, kept_count, kept_bytes;
  bool stop, locks;
  pthread_t thread;
  bool running;
  segue_op *start_op, *stop_op;

  /* The thread's. */
  journal journal;
  calls calls;
  bytes unwritten; /* what became of calls, and could not be written yet */
  uint64_t synced_ms;
  bool unsynced, refused, broken;
} queue;

void *queue_work(void *instance);

#endif

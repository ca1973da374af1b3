/* SPDX-License-Identifier: MIT
 *
 * journal.h: the intents of actions that have effects outside memory. An action that moves files
 * into place or runs a command cannot be undone by a process that was killed. So, before it
 * commits, its intent is on disk: what will be done, and all that is needed to finish it or to undo
 * it. The intent is removed when the transaction has settled or was undone. At a start, each intent
 * that is still there is given to the `recover` of its action, before anything is served.
 *
 * An intent is a list of named texts. "action", "module", "generation", "reload" and "does" are the
 * engine's; the other names belong to the action.
 *
 * Where it is. The journal has no file of its own: its lines are part of the state file, beside the
 * decisions (decisions.h). So "the intent is removed" and "the decisions are these" are one write,
 * under one checksum, and a reload without effects outside memory writes nothing more than before.
 *
 * Format. A record begins with the line "intent=ACTION"; the lines "intent.NAME=TEXT" that follow
 * are its other fields. "\\", "\n" and "\0" stand for a backslash, a line feed and a zero byte.
 * Names identify everything, no number does: a version that does not know an action or a field
 * keeps it as it is and writes it again, and a version from before the journal ignores these lines.
 *
 * Plain data without a lock: for one thread at a time.
 */
#ifndef SEGUE_RECORD_JOURNAL_H
#define SEGUE_RECORD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../os/mem.h"

/* The bounds of the journal. An action keeps larger data (the previous bytes of files) in files of
 * its own, and its intent has their paths. */
#define SEGUE__INTENTS_MAX 1024
#define SEGUE__INTENT_BYTES (64 * 1024)
#define SEGUE__JOURNAL_BYTES (1024 * 1024)

typedef struct segue__intent_field {
  char *name, *value; /* owned; value is terminated past len */
  size_t len;
} segue__intent_field;

typedef struct segue__intent {
  uint64_t id; /* in this process; 0: it is in no journal */
  segue__intent_field *fields;
  size_t count, bytes;
} segue__intent;

void segue__intent_init(segue__intent *intent);
void segue__intent_deinit(segue__intent *intent); /* zeroed or init */
/* Sets a field to a text, or to len bytes; a field of the same name is replaced. Names have
 * letters, digits, "_" and "-": else UV_EINVAL. UV_E2BIG: the intent would be too large. On failure
 * the intent stays as it was. */
int segue__intent_set(segue__intent *intent, const char *name, const char *text);
int segue__intent_set_bytes(segue__intent *intent, const char *name, const void *data, size_t len);
int segue__intent_set_number(segue__intent *intent, const char *name, uint64_t number);
/* NULL and 0 if there is no such field. Borrowed until the field is set again. */
const char *segue__intent_get(const segue__intent *intent, const char *name);
uint64_t segue__intent_get_number(const segue__intent *intent, const char *name);

typedef struct segue__journal {
  segue__intent *items; /* in the order in which they were added */
  size_t count, capacity, bytes;
  uint64_t last_id;
  bool incomplete; /* a line could not be read: no memory, too long, or part of no record */
} segue__journal;

void segue__journal_init(segue__journal *journal);
void segue__journal_deinit(segue__journal *journal); /* zeroed or init */
/* Adds a copy; *id gets its number. UV_EINVAL: the intent names no action. UV_ENOSPC: the journal
 * is full. On failure the journal stays as it was. */
int segue__journal_add(segue__journal *journal, const segue__intent *intent, uint64_t *id);
void segue__journal_remove(segue__journal *journal, uint64_t id); /* harmless if it is missing */
const segue__intent *segue__journal_find(const segue__journal *journal, uint64_t id); /* or NULL */
/* The open intent of a module; NULL: there is none. */
const segue__intent *segue__journal_of_module(const segue__journal *journal, const char *module);

/* Appends the lines of all intents. */
void segue__journal_write(const segue__journal *journal, segue__buf *out);
/* Reads one line of the state file, split at its first "=". Returns false if the line is none of
 * the journal's. A line that cannot be used is dropped and sets `incomplete`. */
bool segue__journal_read_line(segue__journal *journal, const char *name, const char *value);

#endif

/* SPDX-License-Identifier: MIT
 *
 * book_internal.h: the inside of the book, for book.c and book_scan.c. The mutex guards all of it.
 */
#ifndef SEGUE_FILES_BOOK_INTERNAL_H
#define SEGUE_FILES_BOOK_INTERNAL_H

#include <pthread.h>

#include "internal.h"

/* The lock file of a folder, open once for all destinations in it. */
typedef struct book_folder {
  char *path;
  int fd;
  size_t locks;
} book_folder;

typedef struct book_entry {
  char *path, *module; /* module NULL: it is not taken */
  size_t taken;
  bool known, accepts; /* accepts: the version `accepted` is live by the policy's wish */
  segue__file_version version, accepted;
  char *owner;  /* the module that wrote the version; NULL: not known */
  char *before; /* of segue__file_book_own */
  segue__file_part part;
  segue__removed_mode removed;
  segue__drift_mode mode;
  bool guarded;
  size_t busy;
  /* Of the last scan. sure: the stamp is so old that a later write has another one. */
  bool sure, drifted;
  segue__file_stamp stamp;
  segue__file_version found;
} book_entry;

struct segue__file_book {
  pthread_mutex_t mutex;
  char *record;
  bool changed;
  bool rehearses;       /* nothing is locked or written */
  bool passes;          /* staying is known */
  segue__names staying; /* the modules of the next policy */
  book_entry *entries;
  size_t count, capacity;
  segue__path_index index; /* of the entries, which are never removed */
  book_folder *folders;
  size_t folder_count, folder_capacity;
};

book_entry *segue__book_find(segue__file_book *book, const char *path); /* NULL: none */
void segue__book_disown(book_entry *entry);
/* Whether its module leaves, so that another one may take it. */
bool segue__book_leaves(const segue__file_book *book, const book_entry *entry);
/* Members of its object in the record, each after a comma; and back (0 or UV_ENOMEM). */
void segue__book_write_owner(const book_entry *entry, segue__buf *json);
int segue__book_read_owner(const segue_node *node, book_entry *entry);

#endif

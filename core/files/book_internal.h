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
  /* Of a link: the attributes of its folder as it was written, and the change of it that was found
   * (0: none) or that the policy adopts (book_folder.c). */
  bool folder_known, folder_sure;
  segue__folder_attributes folder;
  segue__file_stamp folder_stamp;
  segue__hash folder_found, folder_adopted;
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

/* A folder of generations as a scan found it. */
typedef struct book_folder_look {
  bool same; /* it was not read, because nothing has changed since the last scan */
  bool sure; /* the stamp is so old that a later change has another one */
  segue__file_stamp stamp;
  segue__hash state; /* of what another program has changed; 0: nothing, or the link is another */
  char how[160];
} book_folder_look;
/* Compares the folder that the link at path leads to with what was written. Files that another
 * program has changed or removed are drift of their own. The mutex is not held. before: of the last
 * scan, NULL: it has to be read. Returns 0, or the failure to read it. */
int segue__book_folder_look(segue__file_book *book, const char *path,
                            const segue__file_stamp *before, book_folder_look *out);
void segue__book_forget_folder(book_entry *entry); /* the next scan finds its changes again */
/* Whether a stamp of this moment is sure. */
bool segue__book_stamp_is_sure(const segue__file_stamp *stamp);

book_entry *segue__book_find(segue__file_book *book, const char *path); /* NULL: none */
void segue__book_disown(book_entry *entry);
/* Whether its module leaves, so that another one may take it. */
bool segue__book_leaves(const segue__file_book *book, const book_entry *entry);
/* Members of its object in the record, each after a comma; and back (0 or UV_ENOMEM). */
void segue__book_write_owner(const book_entry *entry, segue__buf *json);
int segue__book_read_owner(const segue_node *node, book_entry *entry);

#endif

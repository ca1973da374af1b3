/* SPDX-License-Identifier: MIT
 *
 * folder_internal.h: the names and the content of folders of generations, for folder.c and
 * folder_collect.c.
 */
#ifndef SEGUE_FILES_FOLDER_INTERNAL_H
#define SEGUE_FILES_FOLDER_INTERNAL_H

#include "internal.h"

enum { SEGUE__FOLDER_HASH = 16 }; /* digits in the name of a folder */

typedef struct segue__folder_entry {
  char *name;
  segue__file_version version;
} segue__folder_entry;

typedef struct segue__folder_content {
  segue__folder_entry *entries; /* by name */
  size_t count, capacity;
  unsigned mode, uid, gid;
  bool exists;
  bool odd; /* it has something that is neither a file nor a link, or cannot be read */
} segue__folder_content;

/* "/etc/nginx/NAME" of "/etc/nginx/segue.d". NULL: no memory. */
char *segue__folder_beside(const char *path, const char *name);
/* Whether the name is ".segue.d.gen-HASH" for /etc/nginx/segue.d. */
bool segue__folder_is_of(const char *path, const char *name);

/* A folder that does not exist has no content. Fails if this process, or the disk, cannot read it
 * now: a folder whose content is not known is not one that another program has changed. */
int segue__folder_content_read(segue__folder_content *content, const char *folder);
void segue__folder_content_deinit(segue__folder_content *content);
/* Returns the new entry; NULL: no memory. The entries are not in order until they are sorted. */
segue__folder_entry *segue__folder_content_add(segue__folder_content *content, const char *name);
void segue__folder_content_sort(segue__folder_content *content);
const segue__folder_entry *segue__folder_content_find(const segue__folder_content *content,
                                                      const char *name);
bool segue__folder_content_same_attributes(const segue__folder_content *a,
                                           const segue__folder_content *b);
bool segue__folder_content_equal(const segue__folder_content *a, const segue__folder_content *b);
/* The digits in the name of a folder with this content. Returns 0 or UV_ENOMEM. */
int segue__folder_content_hash(const segue__folder_content *content,
                               char out[SEGUE__FOLDER_HASH + 1]);
/* Whether the folder of this name is as it was written: its content has the hash of its name.
 * Returns 0 or UV_ENOMEM. */
int segue__folder_content_is_intact(const segue__folder_content *content, const char *name,
                                    bool *intact);

#endif

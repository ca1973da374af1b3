/* SPDX-License-Identifier: MIT
 *
 * folder_sync.h: the folders in which names have changed, each of which is synced once.
 */
#ifndef SEGUE_FILES_FOLDER_SYNC_H
#define SEGUE_FILES_FOLDER_SYNC_H

#include "../segue.h"
#include "path_index.h"

typedef struct segue__folder_sync {
  const char *path; /* of a file in it; borrowed */
  int rc;
} segue__folder_sync;

typedef struct segue__folders { /* zeroed: empty */
  segue__path_index index;
  segue__folder_sync *items;
  size_t capacity;
} segue__folders;

void segue__folders_deinit(segue__folders *folders);
/* Adds the folder of the file at path, which is borrowed. Returns 0 or UV_ENOMEM. */
int segue__folders_add(segue__folders *folders, const char *path);
/* Syncs all, several at a time. A folder that fails does not keep the others. Returns the first
 * failure. */
int segue__folders_sync(segue__folders *folders, segue_error *err);
/* The result for the folder of the file at path; 0 if it was not added. */
int segue__folders_result(const segue__folders *folders, const char *path);

#endif

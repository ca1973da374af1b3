/* SPDX-License-Identifier: MIT
 *
 * Syncing folders. A rename is on disk when its folder was synced, and one sync is enough for all
 * renames in a folder.
 */
#include "folder_sync.h"

#include <string.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/mem.h"
#include "each.h"
#include "internal.h"

void segue__folders_deinit(segue__folders *folders) {
  segue__path_index_deinit(&folders->index);
  segue__free(folders->items);
  *folders = (segue__folders){0};
}

int segue__folders_add(segue__folders *folders, const char *path) {
  size_t count = folders->index.count;
  if (count == folders->capacity) {
    size_t capacity = count ? count * 2 : 4;
    segue__folder_sync *items = segue__realloc(folders->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    folders->items = items;
    folders->capacity = capacity;
  }
  int rc = segue__path_index_add(&folders->index, path, segue__file_folder_len(path), count);
  if (folders->index.count > count) folders->items[count] = (segue__folder_sync){.path = path};
  return rc;
}

static int folders_sync_one(void *data, size_t index, segue_error *err) {
  segue__folder_sync *folder = &((segue__folders *)data)->items[index];
  (void)err;
  folder->rc = segue__file_sync_folder(folder->path);
  return 0;
}

int segue__folders_sync(segue__folders *folders, segue_error *err) {
  size_t count = folders->index.count;
  (void)segue__file_each(count, true, folders_sync_one, folders, NULL);
  for (size_t i = 0; i < count; i++)
    if (folders->items[i].rc)
      return segue__explain(err, folders->items[i].rc, "write", folders->items[i].path);
  return 0;
}

int segue__folders_result(const segue__folders *folders, const char *path) {
  size_t at = segue__path_index_find(&folders->index, path, segue__file_folder_len(path));
  return at == SEGUE__PATH_NONE ? 0 : folders->items[at].rc;
}

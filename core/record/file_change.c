/* SPDX-License-Identifier: MIT
 *
 * Lists of changed files.
 */
#include "file_change.h"

#include <string.h>
#include <uv.h>

#include "../os/mem.h"

void segue__file_changes_deinit(segue__file_changes *changes) {
  for (size_t i = 0; i < changes->count; i++) {
    segue__free(changes->items[i].module);
    segue__free(changes->items[i].path);
    segue__free(changes->items[i].diff);
  }
  segue__free(changes->items);
  *changes = (segue__file_changes){0};
}

int segue__file_changes_move(segue__file_changes *to, segue__file_changes *from) {
  if (!from->count) return 0;
  segue__file_change *items = segue__realloc(to->items, (to->count + from->count) * sizeof *items);
  if (!items) {
    segue__file_changes_deinit(from);
    return UV_ENOMEM;
  }
  memcpy(items + to->count, from->items, from->count * sizeof *items);
  to->items = items;
  to->count += from->count;
  segue__free(from->items);
  *from = (segue__file_changes){0};
  return 0;
}

static size_t cut_count_lines(const char *text) {
  size_t count = 0;
  for (; (text = strchr(text, '\n')) != NULL; text++)
    count++;
  return count;
}

static void cut_one(segue__file_change *change, size_t room) {
  if (!change->diff || strlen(change->diff) <= room) return;
  size_t end = room;
  while (end && change->diff[end - 1] != '\n')
    end--;
  change->left_out += cut_count_lines(change->diff + end);
  change->diff[end] = 0;
}

void segue__file_changes_cut(segue__file_changes *changes, size_t each, size_t all) {
  for (size_t i = 0; i < changes->count; i++) {
    segue__file_change *change = &changes->items[i];
    cut_one(change, each < all ? each : all);
    if (change->diff) all -= strlen(change->diff);
  }
}

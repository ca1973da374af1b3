/* SPDX-License-Identifier: MIT
 *
 * Lists of changed files.
 */
#include "file_change.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/mem.h"

void segue__file_changes_deinit(segue__file_changes *changes) {
  for (size_t i = 0; i < changes->count; i++) {
    segue__free(changes->items[i].module);
    segue__free(changes->items[i].path);
    segue__free(changes->items[i].diff);
    segue__free(changes->items[i].note);
  }
  segue__free(changes->items);
  *changes = (segue__file_changes){0};
}

int segue__file_changes_move(segue__file_changes *to, segue__file_changes *from) {
  to->more += from->more;
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

/* ---- From JSON ---- */

static const char *read_text(const segue_node *node, const char *key) {
  const char *text = NULL;
  segue_node_string(segue_node_get(node, key), &text, NULL);
  return text;
}

static uint64_t read_number(const segue_node *node, const char *key) {
  int64_t n = 0;
  segue_node_int(segue_node_get(node, key), &n);
  return n > 0 ? (uint64_t)n : 0;
}

static void read_side(segue__file_side *side, const segue_node *node) {
  const char *mode = read_text(node, "mode"), *hash = read_text(node, "hash");
  *side = (segue__file_side){.exists = segue_node_type(node) == SEGUE_MAP};
  if (!side->exists) return;
  side->mode = mode ? (unsigned)strtoul(mode, NULL, 8) : 0;
  side->uid = (unsigned)read_number(node, "uid");
  side->gid = (unsigned)read_number(node, "gid");
  side->size = read_number(node, "size");
  segue_node_bool(segue_node_get(node, "link"), &side->link);
  snprintf(side->hash, sizeof side->hash, "%s", hash ? hash : "");
}

/* Copies a text, which may be missing. */
static char *read_copy(const segue_node *node, const char *key, int *rc) {
  const char *text = read_text(node, key);
  char *copy = segue__strdup(text);
  if (text && !copy) *rc = UV_ENOMEM;
  return copy;
}

static int read_change(segue__file_change *change, const segue_node *node) {
  int rc = 0;
  change->module = read_copy(node, "module", &rc);
  change->path = read_copy(node, "path", &rc);
  change->diff = read_copy(node, "diff", &rc);
  change->note = read_copy(node, "note", &rc);
  if (!change->module) change->module = segue__strdup("-");
  if (!change->path) change->path = segue__strdup("-");
  change->added = (size_t)read_number(node, "added");
  change->removed = (size_t)read_number(node, "removed");
  change->left_out = (size_t)read_number(node, "left_out");
  read_side(&change->before, segue_node_get(node, "before"));
  read_side(&change->after, segue_node_get(node, "after"));
  return change->module && change->path ? rc : UV_ENOMEM;
}

int segue__file_changes_read(segue__file_changes *out, const segue_node *answer) {
  const segue_node *list = segue_node_get(answer, "files");
  size_t count = segue_node_count(list);
  *out = (segue__file_changes){.items = segue__calloc(count + 1, sizeof *out->items),
                               .more = (size_t)read_number(answer, "files_more")};
  int rc = out->items ? 0 : UV_ENOMEM;
  while (!rc && out->count < count) {
    const segue_node *node = segue_node_at(list, out->count, NULL);
    rc = read_change(&out->items[out->count++], node);
  }
  if (rc) segue__file_changes_deinit(out);
  return rc;
}

/* ---- Secrets ---- */

static int clean_one(segue__file_change *change, const segue__mask *mask, bool hidden) {
  segue__buf clean;
  if (!change->diff) return 0;
  segue__buf_init(&clean);
  if (!hidden) segue__mask_diff(mask, change->diff, strlen(change->diff), &clean);
  int rc = clean.failed ? UV_ENOMEM : 0;
  segue__free(change->diff);
  change->diff = rc ? NULL : clean.data;
  if (rc) segue__buf_deinit(&clean);
  if (!hidden) return rc;
  segue__free(change->note);
  change->note = segue__strdup("its secrets are not known, so no text is shown");
  return change->note ? 0 : UV_ENOMEM;
}

int segue__file_changes_clean(segue__file_changes *changes, const segue__mask *mask) {
  bool hidden = segue__mask_hides(mask, "");
  int rc = 0;
  for (size_t i = 0; i < changes->count && !rc; i++)
    rc = clean_one(&changes->items[i], mask, hidden);
  return rc;
}

/* ---- Cutting ---- */

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

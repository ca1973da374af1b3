/* SPDX-License-Identifier: MIT
 *
 * Paths that were read, and the hashes of what is there. A path that leads nowhere has a hash too:
 * it depends on where the walk ended and on what stood there, because a template that found nothing
 * must run again when a value appears anywhere on its path.
 */
#include "touched.h"

#include <string.h>
#include <uv.h>

static const segue_node *item_at(const segue_node *list, const char *digits, size_t len) {
  uint64_t index = 0;
  if (!len || len > 9) return NULL;
  for (size_t i = 0; i < len; i++) {
    if (digits[i] < '0' || digits[i] > '9') return NULL;
    index = index * 10 + (uint64_t)(digits[i] - '0');
  }
  return index < list->count ? &list->v.items[index] : NULL;
}

static const segue_node *child_at(const segue_node *node, const char *key, size_t len) {
  if (node->type == SEGUE_LIST) return item_at(node, key, len);
  const segue__member *member = segue__node_find(node, key, len);
  return member ? &member->value : NULL;
}

const segue_node *segue__keys_find(const segue_node *root, const char *path, size_t len) {
  if (!root || !len) return root;
  if (root->type != SEGUE_MAP && root->type != SEGUE_LIST) return NULL;
  for (size_t end = 0; end <= len; end++) {
    if (end < len && path[end] != '/') continue;
    const segue_node *child = child_at(root, path, end);
    if (!child) continue;
    if (end == len) return child;
    const segue_node *found = segue__keys_find(child, path + end + 1, len - end - 1);
    if (found) return found;
  }
  return NULL;
}

/* Where the walk along a path ends that leads nowhere. */
static segue__hash missing_hash(const segue_node *node, const char *path) {
  static const segue__hash seed = {0x6d697373, 0x696e67};
  uint32_t end[2] = {0, node ? node->type : UINT32_MAX};
  while (node && (node->type == SEGUE_MAP || node->type == SEGUE_LIST)) {
    size_t len = strcspn(path, "/");
    node = child_at(node, path, len);
    if (!node) break;
    end[0]++;
    end[1] = node->type;
    path += len + (path[len] == '/');
  }
  return segue__hash_bytes(end, sizeof end, seed);
}

static segue__hash touch_hash(const segue_node *root, const char *path) {
  const segue_node *node = segue__keys_find(root, path, strlen(path));
  return node ? segue__node_hash(node) : missing_hash(root, path);
}

int segue__touched_add(segue__touched *touched, const segue__touch *touch, const segue_node *root) {
  if (touched->count == touched->capacity) {
    size_t capacity = touched->capacity ? touched->capacity * 2 : 8;
    segue__touch *items = segue__realloc(touched->items, capacity * sizeof *items);
    if (!items) return UV_ENOMEM;
    touched->items = items;
    touched->capacity = capacity;
  }
  segue__touch *added = &touched->items[touched->count];
  *added = *touch;
  added->path = segue__strdup(touch->path);
  if (!added->path) return UV_ENOMEM;
  added->hash = touch_hash(root, added->path);
  touched->count++;
  return 0;
}

int segue__touched_copy(segue__touched *to, const segue__touched *from) {
  segue__touched_deinit(to);
  if (!from->count) return 0;
  to->items = segue__calloc(from->count, sizeof *to->items);
  if (!to->items) return UV_ENOMEM;
  to->capacity = from->count;
  for (size_t i = 0; i < from->count; i++) {
    to->items[i] = from->items[i];
    to->items[i].path = segue__strdup(from->items[i].path);
    if (!to->items[i].path) {
      segue__touched_deinit(to);
      return UV_ENOMEM;
    }
    to->count++;
  }
  return 0;
}

void segue__touched_deinit(segue__touched *touched) {
  for (size_t i = 0; i < touched->count; i++)
    segue__free(touched->items[i].path);
  segue__free(touched->items);
  *touched = (segue__touched){0};
}

const char *segue__touched_differs(const segue__touched *touched, const segue_node *part,
                                   const segue_node *whole) {
  for (size_t i = 0; i < touched->count; i++) {
    const segue__touch *touch = &touched->items[i];
    if (!segue__hash_equal(touch_hash(touch->whole ? whole : part, touch->path), touch->hash))
      return touch->path;
  }
  return NULL;
}

/* SPDX-License-Identifier: MIT
 *
 * Versions of a key space, and the memory that they share.
 *
 * A block (a map, an item, a place) is in an uninterrupted row of versions: from its birth to the
 * version before the one whose `dead` list it is on. Counting references to each block would touch
 * all 100,000 members of a folder at each change. Instead each version has the list of the blocks
 * that the version before it had and it lacks. When a version is freed, a block of the next
 * version's list whose birth is behind the version before is in no other version, and is freed; the
 * others stay on that list, together with those of the freed version's own list. The cost is that
 * of the changes, on the thread that frees the document. A document that is kept for hours keeps
 * only its own blocks.
 */
#include <string.h>
#include <uv.h>

#include "space_internal.h"

enum { SPARE_BYTES = 64 * 1024 };

int space_store_new(space_store **out, const char *value_key) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->value_key = segue__strdup(value_key);
  if (value_key && !(*out)->value_key) {
    segue__free(*out);
    *out = NULL;
    return UV_ENOMEM;
  }
  pthread_mutex_init(&(*out)->mutex, NULL);
  (*out)->slot_count = 1;
  return 0;
}

static void store_free(space_store *store) {
  pthread_mutex_destroy(&store->mutex);
  segue__free((void *)store->slots);
  segue__free(store->free_slots);
  segue__free(store->value_key);
  segue__free(store->spare);
  segue__free(store);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* Room for each number that may become free, so that freeing cannot fail. */
static int slots_grow(space_store *store) {
  if (store->slot_count < store->slot_capacity) return 0;
  uint32_t capacity = store->slot_capacity ? store->slot_capacity * 2 : 64;
  if (capacity > UINT32_MAX / 4) return UV_ENOMEM;
  space_item **slots = segue__realloc((void *)store->slots, capacity * sizeof(space_item *));
  if (!slots) return UV_ENOMEM;
  store->slots = slots;
  uint32_t *numbers = segue__realloc(store->free_slots, capacity * sizeof *numbers);
  if (!numbers) return UV_ENOMEM;
  store->free_slots = numbers;
  store->slot_capacity = capacity;
  return 0;
}

int space_store_number(space_store *store, space_item *item) {
  int rc = 0;
  uint32_t number = 0;
  pthread_mutex_lock(&store->mutex);
  if (store->free_count)
    number = store->free_slots[--store->free_count];
  else if (!(rc = slots_grow(store)))
    number = store->slot_count++;
  if (number) store->slots[number] = item;
  pthread_mutex_unlock(&store->mutex);
  if (!rc) space_item_set_number(item, number);
  return rc;
}

void space_store_unnumber(space_store *store, space_item *item) {
  if (!item->number) return;
  pthread_mutex_lock(&store->mutex);
  store->slots[item->number] = NULL;
  store->free_slots[store->free_count++] = item->number;
  pthread_mutex_unlock(&store->mutex);
  item->number = 0;
}

static const char *version_label(const segue__key_table *table, uint32_t number) {
  space_store *store = ((const space_version *)table)->store; /* its first member */
  pthread_mutex_lock(&store->mutex);
  const space_item *item = number && number < store->slot_count ? store->slots[number] : NULL;
  pthread_mutex_unlock(&store->mutex);
  return item ? space_item_label(item) : NULL;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* The map of a wide folder is copied for each change, and its last copy but one is freed then. A
 * block of some megabytes from the system costs a page fault for each 4 KiB, more than the copy: so
 * one such block is used again. */
void *space_map_new(space_store *store, size_t bytes, space_block **out) {
  space_map_block *block = NULL;
  pthread_mutex_lock(&store->mutex);
  if (store->spare && store->spare->room >= bytes && store->spare->room / 2 <= bytes) {
    block = store->spare;
    store->spare = NULL;
  }
  pthread_mutex_unlock(&store->mutex);
  if (!block) {
    size_t more = bytes >= SPARE_BYTES ? bytes / 64 : 0; /* for the keys that are added next */
    block = segue__malloc(sizeof *block + bytes + more);
    if (block) block->room = bytes + more;
  }
  *out = block ? &block->block : NULL;
  if (!block) return NULL;
  block->block = (space_block){.tag = SPACE_MAP};
  return block + 1;
}

static void map_free(space_store *store, space_map_block *block) {
  space_map_block *other = block;
  if (block->room >= SPARE_BYTES) {
    pthread_mutex_lock(&store->mutex);
    other = store->spare;
    store->spare = block;
    pthread_mutex_unlock(&store->mutex);
  }
  segue__free(other);
}

void space_block_free(space_store *store, space_block *block) {
  if (space_kind(block) == SPACE_MAP) {
    map_free(store, (space_map_block *)block); /* its first member */
    return;
  }
  if (space_kind(block) == SPACE_ITEM) {
    space_item *item = (space_item *)block; /* its first member */
    space_store_unnumber(store, item);
    space_item_free(item);
    return;
  }
  segue__free(block);
}

static void blocks_free(space_store *store, space_blocks *list) {
  for (space_block *next, *block = list->first; block; block = next) {
    next = block->next;
    space_block_free(store, block);
  }
  *list = (space_blocks){0};
}

/* Moves the blocks with a birth behind `number` to `out`, and the others to `kept`. */
static void blocks_split(space_blocks *list, uint64_t number, space_blocks *kept,
                         space_blocks *out) {
  space_block *block = list->first;
  *list = (space_blocks){0};
  while (block) {
    space_block *next = block->next;
    space_blocks_add(space_birth(block) > number ? out : kept, block);
    block = next;
  }
}

/* ---- Versions -------------------------------------------------------------------------------- */

/* The version is freed: fills `out` with the blocks that no version has any more. */
static void version_unlink(space_version *version, space_blocks *out) {
  space_store *store = version->store;
  space_version *newer = version->newer ? version->newer : &store->end;
  uint64_t number = version->older ? version->older->number : 0;
  space_blocks kept = {0};
  blocks_split(&newer->dead, number, &kept, out);
  if (newer->kept_birth > number)
    blocks_split(&newer->kept, number, &kept, out);
  else
    space_blocks_join(&kept, &newer->kept);
  space_blocks_join(&kept, &version->dead);
  space_blocks_join(&kept, &version->kept);
  newer->kept = kept;
  newer->kept_birth = number;
  if (version->older) version->older->newer = version->newer;
  if (version->newer)
    version->newer->older = version->older;
  else
    store->newest = version->older;
  if (store->oldest == version) store->oldest = version->newer;
}

static void version_release(segue__key_table *table) {
  space_version *version = (space_version *)table; /* its first member */
  space_store *store = version->store;
  space_blocks out = {0};
  pthread_mutex_lock(&store->mutex);
  version_unlink(version, &out);
  bool last = store->closed && !store->newest;
  pthread_mutex_unlock(&store->mutex);
  blocks_free(store, &out);
  segue__free(version);
  if (last) store_free(store);
}

int space_version_new(space_store *store, uint64_t keys, space_version **out) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  (*out)->table = (segue__key_table){keys, version_label, version_release};
  (*out)->store = store;
  return 0;
}

void space_version_publish(space_version *version) {
  space_store *store = version->store;
  pthread_mutex_lock(&store->mutex);
  version->older = store->newest;
  if (store->newest)
    store->newest->newer = version;
  else
    store->oldest = version;
  store->newest = version;
  pthread_mutex_unlock(&store->mutex);
}

void space_store_close(space_store *store, space_blocks *alive) {
  pthread_mutex_lock(&store->mutex);
  space_blocks_join(&store->end.dead, alive);
  store->closed = true;
  bool last = !store->newest;
  pthread_mutex_unlock(&store->mutex);
  if (!last) return;
  blocks_free(store, &store->end.dead);
  store_free(store);
}

/* SPDX-License-Identifier: MIT
 *
 * space_internal.h: the parts of a key space.
 *
 * rules (space_rules.c) map a key of the store to a path. An item (space_item.c) is one version of
 * one key, immutable. A place (space.c) is one path of the tree, and holds the items that belong
 * there: `now` from the store, `live` in the last document. A place with children has a folder,
 * with the map of the last document. space_take.c makes the next document, and space_version.c
 * frees what no document uses any more.
 */
#ifndef SEGUE_SOURCE_SPACE_INTERNAL_H
#define SEGUE_SOURCE_SPACE_INTERNAL_H

#include <pthread.h>

#include "../config/node.h"
#include "space.h"

enum {
  SPACE_KEY_MAX = 64 * 1024, /* bytes of a key */
  SPACE_DEPTH_MAX = 120,     /* folders on a path; with the depth of a value below 128 */
  SPACE_NODES = 4000000,     /* of all values, aliases expanded: as in a document */
  SPACE_LABEL_MAX = 240      /* bytes of a label: what a file name in segue_error can hold */
};

/* ---- space_rules.c ---- */

typedef struct space_mount {
  char *prefix;
  size_t prefix_len;
  char **at; /* keys of the tree */
  size_t at_count;
  bool whole;
} space_mount;

typedef struct space_rules {
  space_mount *mounts; /* the longest prefix first */
  size_t mount_count;
  char *separator, *value_key, *commit;
  size_t separator_len, commit_len;
  char **include, **exclude;
  size_t include_count, exclude_count;
  segue__space_values values;
  bool by_suffix, lists, base64;
  uint64_t max_keys, max_bytes;
} space_rules;

/* Where a key is. */
typedef struct space_route {
  enum { SPACE_IGNORED, SPACE_IN_TREE, SPACE_MARKER, SPACE_BAD_KEY } where;
  const space_mount *mount;
  const char *rest; /* of the key, behind the prefix */
  size_t rest_len;
  const char *wrong; /* of a bad key: a sentence with its remedy */
} space_route;

int space_rules_init(space_rules *rules, const segue__space_options *options, segue_error *err);
void space_rules_deinit(space_rules *rules);
space_route space_find_route(const space_rules *rules, const char *key, size_t len);
/* The next part of a key; parts without a byte are skipped. false: there is none. */
bool space_next_part(const space_rules *rules, space_route *route, const char **part, size_t *len);

/* ---- Memory that documents share ---- */

typedef enum space_block_kind { SPACE_MAP, SPACE_ITEM, SPACE_PLACE } space_block_kind;

/* Before each block that documents refer to. tag: the kind, and above it the first version with it;
 * 0: none has it. */
typedef struct space_block {
  struct space_block *next;
  uint64_t tag;
} space_block;

/* A block with a map or a list, which is behind the header. */
typedef struct space_map_block {
  space_block block; /* first */
  size_t room;       /* bytes behind the header */
} space_map_block;

static inline uint64_t space_birth(const space_block *block) {
  return block->tag >> 4;
}

static inline space_block_kind space_kind(const space_block *block) {
  return (space_block_kind)(block->tag & 15);
}

static inline void space_set_birth(space_block *block, uint64_t version) {
  block->tag = version << 4 | (block->tag & 15);
}

typedef struct space_blocks {
  space_block *first, *last;
} space_blocks;

static inline void space_blocks_add(space_blocks *list, space_block *block) {
  block->next = NULL;
  if (list->last)
    list->last->next = block;
  else
    list->first = block;
  list->last = block;
}

static inline void space_blocks_join(space_blocks *list, space_blocks *more) {
  if (!more->first) return;
  if (list->last)
    list->last->next = more->first;
  else
    list->first = more->first;
  list->last = more->last;
  *more = (space_blocks){0};
}

/* One document. `dead`: blocks that the version before has and this one lacks. */
typedef struct space_version {
  segue__key_table table; /* first */
  struct space_store *store;
  uint64_t number;
  struct space_version *older, *newer;
  space_blocks dead;
  space_blocks kept; /* the same, whose birth is at most kept_birth: checked before */
  uint64_t kept_birth;
} space_version;

typedef struct space_item space_item;

/* The part that the space and its documents share; it lives as long as one of them. */
typedef struct space_store {
  pthread_mutex_t mutex;
  space_version *oldest, *newest;
  space_version end; /* behind the newest, once the space is closed */
  bool closed;
  char *value_key;        /* members of maps refer to it */
  space_map_block *spare; /* a large block that is free; NULL: there is none */
  space_item **slots;     /* by number; the number 0 is none */
  uint32_t slot_count, slot_capacity;
  uint32_t *free_slots;
  uint32_t free_count, free_capacity;
} space_store;

int space_store_new(space_store **out, const char *value_key);
/* Gives the item a number, by which nodes refer to it. */
int space_store_number(space_store *store, space_item *item);
void space_store_unnumber(space_store *store, space_item *item);
int space_version_new(space_store *store, uint64_t keys, space_version **out);
/* The version is the newest one now. */
void space_version_publish(space_version *version);
/* The space is closed; alive: all blocks of the newest version. */
void space_store_close(space_store *store, space_blocks *alive);
void space_block_free(space_store *store, space_block *block);
/* Returns memory for a map or a list, and its block. */
void *space_map_new(space_store *store, size_t bytes, space_block **out);

/* ---- space_item.c ---- */

struct space_item {
  space_block block; /* first */
  uint32_t number;   /* in the store; 0: none yet */
  uint32_t key_len;
  uint64_t size;          /* bytes of key and value, aliases expanded */
  uint32_t nodes;         /* of the value, aliases expanded */
  uint64_t revision;      /* the newest that was reported, if it is a number; else 0 */
  space_item *beside;     /* another key of the same place, or the next one of a read */
  segue__document *value; /* the parsed value; NULL: a scalar */
  segue_error *wrong;     /* why the key is refused */
  segue_node node;
  uint32_t seen;     /* by the read of this number */
  bool removed;      /* of changes that wait */
  bool marker, mark; /* the key of options.commit; a folder mark */
  char text[];       /* the key, its label, the value; each terminated */
};

static inline const char *space_item_label(const space_item *item) {
  return item->text + item->key_len + 1;
}

/* Any thread. 1: the key does not count, and *out is NULL. */
int space_item_new(space_item **out, const space_rules *rules, uint32_t document,
                   const segue__space_write *write);
void space_item_free(space_item *item);
uint64_t space_revision_number(const char *text, size_t len); /* 0: it is none */
/* Writes the number of the item into its nodes. */
void space_item_set_number(space_item *item, uint32_t number);

/* ---- space.c ---- */

typedef struct space_folder space_folder;
typedef struct space_place space_place;

struct space_place {
  space_block block;  /* first */
  space_place *chain; /* of its bucket */
  space_place *up;    /* NULL: the root, or the folder of bad keys */
  space_item *now, *live;
  space_folder *folder; /* NULL: it has no children */
  space_place *next_pending;
  uint32_t hash, name_len;
  bool pending;
  char name[]; /* terminated: members of maps refer to it */
};

struct space_folder {
  space_place *own;
  space_place *pending; /* children that may differ from the last document */
  size_t pending_count;
  size_t places;     /* children in the table of places */
  uint32_t depth;    /* 0: the root */
  uint32_t children; /* in the map, without the value of value_key */
  segue_node map;    /* of the last document; count 0: it is not in it */
  segue_node shown;  /* the same, or a list */
  space_block *map_block, *list_block;
  space_folder *next; /* of the same depth, while it is dirty */
  bool dirty, staged;
  /* While a document is made: */
  uint32_t next_children;
  segue_node next_map, next_shown;
  space_block *next_map_block, *next_list_block;
};

/* A change that came while a full read was under way. */
typedef struct space_logged {
  struct space_logged *next;
  segue__space_write write; /* its texts are behind the struct */
  bool prefix;              /* everything below the key is gone */
} space_logged;

struct segue__space {
  space_rules rules;
  uint32_t document;
  char *source, *name;
  space_store *store;
  space_place **buckets;
  size_t bucket_count, place_count;
  space_place *root, *bad;                  /* bad: keys without a path; not a part of the tree */
  space_folder *dirty[SPACE_DEPTH_MAX + 2]; /* by depth */
  uint32_t deepest;
  uint64_t keys, bytes, nodes;
  uint32_t reads; /* number of the last read */
  uint32_t open_reads;
  space_logged *log, *log_last;
  space_item *marker; /* what the store has at options.commit */
  bool marker_due;    /* it has changed since the last document */
  /* A worker applies a read. Then the fields above and `last` are the worker's. */
  bool busy;
  bool log_lost;          /* a change that came meanwhile is missing */
  segue__document *shown; /* meanwhile: the last document, and the counts */
  uint64_t shown_keys, shown_bytes;
  bool unlimited; /* items of a read are counted already */
  bool ready;     /* everything was read once */
  bool lost;      /* a change is missing: everything must be read again */
  bool over;      /* there was more than the limits allow */
  segue__document *last;
  uint64_t versions;
  size_t refs; /* one for each read */
};

struct segue__space_read {
  segue__space *space;
  space_item *items, *last;
  size_t count;
  uint64_t keys, bytes;
  const space_logged *after; /* changes behind this one are newer than the read; NULL: all */
  bool over, lost, ended;
};

/* Adds or replaces the item of its key, which moves into the space. */
int space_set_item(segue__space *space, space_item *item);
/* The place differs from the last document, perhaps. */
void space_note(segue__space *space, space_place *place);
/* The folder has to be looked at, for its own value. */
void space_note_folder(segue__space *space, space_folder *folder);
/* Finds the child of a place; NULL: there is none. */
space_place *space_find_child(const segue__space *space, const space_place *up, const char *name);
/* Takes a place out of the table and frees its folder. Its memory belongs to the caller. */
void space_place_free(segue__space *space, space_place *place);
void space_folder_free(space_folder *folder);

#endif

/* SPDX-License-Identifier: MIT
 *
 * config.h: the merged tree of all documents, the differences between two of them, and writing one
 * out. Pure functions over immutable data: [any thread], meant for the worker.
 */
#ifndef SEGUE_CONFIG_CONFIG_H
#define SEGUE_CONFIG_CONFIG_H

#include "tree.h"

/* The merged tree. Maps merge; any other value of a later document replaces the earlier one (null
 * too, which is how a later document removes a value). Members keep the order in which they first
 * appear. A map made by merging has the position of the last map that was merged into it. Counted.
 */
typedef struct segue__config segue__config;
typedef struct segue__config_view segue__config_view;
struct segue__config {
  int refs;                    /* atomic */
  segue__document **documents; /* in declared order; a reference on each */
  segue__document **by_id;     /* the same, sorted by id */
  size_t document_count;
  segue__arena arena; /* the nodes that merging created */
  segue_node root;    /* a map */
  /* Only in a config that was filled with defaults: */
  segue__config *base;     /* a reference: the one without */
  segue__document *filled; /* references: the documents that own the new nodes */
  segue__document **schemas;
  size_t schema_count;
  segue__config_view *views; /* source_view.c; control thread */
};

/* Merges parsed documents; takes its own references. n may be 0 (an empty map). */
int segue__config_merge(segue__config **out, segue__document *const *docs, size_t n,
                        segue_error *err);
/* The same. hidden gets a warning for each list that a later document of the same source replaces;
 * NULL allowed. */
int segue__config_merge_warned(segue__config **out, segue__document *const *docs, size_t n,
                               segue__errors *hidden, segue_error *err);
/* The same documents with the root of `filled`, which shares nodes with base and with the documents
 * of the schema. Takes references. */
int segue__config_fill(segue__config **out, segue__config *base, segue__document *filled,
                       segue__document *const *schemas, size_t count);
segue__config *segue__config_ref(segue__config *config);
void segue__config_unref(segue__config *config); /* NULL allowed */
/* Returns the bytes that are freed with its last reference, if no other config holds its documents.
 */
size_t segue__config_bytes(const segue__config *config);
/* Returns the document that a node was read from; NULL if the node is not of this config. O(log n).
 */
const segue__document *segue__config_document(const segue__config *config, const segue_node *node);

/* Finds what one source delivered: its documents, merged by themselves; an empty map if it has
 * none. The tree lives as long as the config. like, which the caller owns, is a merged config of
 * the same source or NULL: it is used again if its documents are the same, and else replaced. O(1)
 * once it was found. UV_ENOMEM. Control thread. */
int segue__config_source(segue__config *config, const char *source, segue__config **like,
                         const segue_node **out);
void segue__config_views_free(segue__config_view *view); /* for segue__config_unref */

/* Structural difference. Subtrees of equal hash are not entered. Maps are compared by key. Lists
 * are compared item by item after their common ends are removed; items that only one list has count
 * as added or removed. The path of an item that was removed from a list is its path in the old
 * list. */
typedef enum segue__change_op { SEGUE__ADD, SEGUE__REMOVE, SEGUE__CHANGE } segue__change_op;
typedef struct segue__change {
  segue__change_op op;
  char *path;                  /* owned by the list */
  const segue_node *from, *to; /* borrowed from the two trees; NULL where there is none */
  bool secret; /* set by segue__mask_changes: the path is cut, the values are never shown */
} segue__change;
#define SEGUE__CHANGES_MAX 1000
typedef struct segue__changes {
  segue__change *items;
  size_t count, capacity, total; /* total also counts the changes past SEGUE__CHANGES_MAX */
} segue__changes;
int segue__diff(const segue_node *from, const segue_node *to, segue__changes *out);
void segue__changes_deinit(segue__changes *changes);

/* Writes a node as JSON text (RFC 8259). indent 0 = compact. 64-bit integers are written exactly;
 * floats with the fewest digits that read back equal; .inf and .nan as strings. */
void segue__json_write(segue__buf *out, const segue_node *node, unsigned indent);
/* For a message that shows the beginning of a value: the first `limit` bytes equal those of
 * segue__json_write; the caller must ignore the bytes after them. The cost depends on limit, not on
 * the size of the value. out must be empty. */
void segue__json_write_start(segue__buf *out, const segue_node *node, size_t limit);
/* As segue__json_write. Nothing more is begun once out holds `limit` bytes (0: no limit): a text
 * that is as long as that may be incomplete. */
void segue__json_write_within(segue__buf *out, const segue_node *node, unsigned indent,
                              size_t limit);
/* YAML 1.2 text of a node, which YAML 1.1 readers read alike; limit as above. */
void segue__yaml_write(segue__buf *out, const segue_node *node, size_t limit);
/* Writes a JSON string literal with quotes. */
void segue__json_string(segue__buf *out, const char *s, size_t len);
/* The same for bytes that may not be UTF-8; for those it writes {"hex": "..."}. */
void segue__json_bytes(segue__buf *out, const char *data, size_t len);

#endif

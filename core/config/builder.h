/* SPDX-License-Identifier: MIT
 *
 * builder.h: the builder from the inside, for the parsers: text that is already checked, shared
 * subtrees, merge keys, and errors with position and path.
 */
#ifndef SEGUE_CONFIG_BUILDER_H
#define SEGUE_CONFIG_BUILDER_H

#include "node.h"
#include "quote.h"

/* A container that is open. Its own entry lies just below its children. */
typedef struct segue__frame {
  size_t start;    /* its first child in entries */
  uint32_t nodes;  /* counted before it */
  size_t text;     /* bytes of text, counted before it */
  uint32_t height; /* of the highest child so far */
  size_t merge;    /* entry of its merge key, 0 = none */
  segue_type type;
  bool keyed; /* a key waits for its value */
} segue__frame;

struct segue__builder {
  segue__document *doc;
  uint32_t depth_max, nodes_max;
  segue__tree_entry *entries; /* all children of all open containers */
  size_t count, capacity;
  segue__frame *frames;
  size_t depth, frame_capacity;
  uint32_t document, line, column; /* of the next value */
  uint32_t nodes;                  /* so far, shared ones counted each time */
  size_t text, text_max;
  /* The value that was completed last: an anchor names this one. */
  const segue__tree_entry *last;
  uint32_t last_nodes, last_height;
  size_t last_text;
  struct {
    uint64_t hash;
    const char *key;
    uint32_t len;
  } keys[256]; /* keys seen lately: equal ones share their text */
  int status;
  segue_error error;
  const struct segue__mask *(*mask)(void *data); /* as in segue__limits */
  void *mask_data;
  bool (*may_go_on)(void *data); /* as in segue__limits */
  void *may_go_on_data;
};

static inline bool segue__builder_wants_key(const segue__builder *b) {
  return b->depth && b->frames[b->depth - 1].type == SEGUE_MAP && !b->frames[b->depth - 1].keyed;
}

/* Fails the build unless it failed before; position and path are those of the next value. The
 * message must get texts of the document only from the functions below. */
int segue__builder_fail(segue__builder *b, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Quotes a text of the document for a message: the next value, or a key of the open map where a key
 * is expected; "***" if the text may belong to a secret. Returns out->text. */
const char *segue__builder_quote(segue__builder *b, segue__quoted *out, const char *s, size_t len);
/* The same for a text in a broken part of the document, where the reader does not know the path. */
const char *segue__builder_quote_stray(segue__builder *b, segue__quoted *out, const char *s,
                                       size_t len);
/* The same for a key of the innermost open map. */
const char *segue__builder_quote_key(segue__builder *b, segue__quoted *out, const char *s,
                                     size_t len);
/* Writes the whole path of the next value into err, secrets included: for a builder whose values
 * are not those of a configuration. */
void segue__builder_path(const segue__builder *b, segue_error *err);
/* Marks the following values with the number of another document. */
void segue__builder_in(segue__builder *b, uint32_t document);
/* Fails with SEGUE_ETIMEOUT if the reader's time is over. */
int segue__builder_check_time(segue__builder *b);
/* For SEGUE_ERANGE from scalar.h: names the number and the remedy. */
int segue__builder_fail_range(segue__builder *b, const char *s, size_t len);
/* Counts in the document that the next value is an integer beyond 64 bits, read as a float. */
void segue__builder_wide(segue__builder *b);
/* As segue__builder_key and segue__builder_string, for a text that is known to be UTF-8 without
 * NUL. */
int segue__builder_add_key(segue__builder *b, const char *key, size_t len);
int segue__builder_add_string(segue__builder *b, const char *s, size_t len);
/* Adds a scalar whose type and value are known; fills in its position. */
int segue__builder_add_scalar(segue__builder *b, segue_node node);
/* The next value comes from "<<": its members are added to the map where the map has no such key.
 */
int segue__builder_merge_key(segue__builder *b);
/* Adds a value that was built before; nodes, text and height are its number of nodes, its bytes of
 * text and its depth. */
int segue__builder_share(segue__builder *b, const segue_node *node, uint32_t nodes, size_t text,
                         uint32_t height);

#endif

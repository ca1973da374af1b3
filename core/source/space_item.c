/* SPDX-License-Identifier: MIT
 *
 * Items of a key space: from the bytes of one key to an immutable node. Pure functions of the rules
 * and the bytes, so that the answer with 100,000 keys is read on a worker.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../config/printable.h"
#include "../config/scalar.h"
#include "../config/utf8.h"
#include "../os/base64.h"
#include "../os/text.h"
#include "space_internal.h"

uint64_t space_revision_number(const char *text, size_t len) {
  uint64_t number = 0;
  if (!len || len > 19) return 0;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9') return 0;
    number = number * 10 + (uint64_t)(text[i] - '0');
  }
  return number;
}

/* ---- Labels ---------------------------------------------------------------------------------- */

static void label_cut(segue__buf *out, size_t len) {
  if (out->failed || out->len <= len) return;
  while (len && ((unsigned char)out->data[len] & 0xc0) == 0x80)
    len--;
  out->len = len;
  out->data[len] = 0;
}

/* "KEY@REVISION" for messages: one printable line. A long key lacks its beginning, because its end
 * is more specific. */
static void label_write(segue__buf *out, const segue__space_write *w) {
  size_t revision = w->revision_len <= 60 ? w->revision_len : 60, room = SPACE_LABEL_MAX - 66;
  size_t cut = w->key_len > room ? w->key_len - room : 0;
  if (cut) segue__buf_adds(out, "...");
  segue__printable_add(out, w->key + cut, w->key_len - cut);
  label_cut(out, SPACE_LABEL_MAX - 62); /* escapes are longer than what they stand for */
  if (!revision) return;
  segue__buf_addc(out, '@');
  segue__printable_add(out, w->revision, revision);
  label_cut(out, SPACE_LABEL_MAX);
}

/* ---- Values ---------------------------------------------------------------------------------- */

static int item_refuse(space_item *item, const char *why) {
  if (item->wrong) return 0;
  item->wrong = segue__calloc(1, sizeof *item->wrong);
  if (!item->wrong) return UV_ENOMEM;
  segue__errorf(item->wrong, SEGUE_ECONFIG, "%s", why);
  segue__error_set_place(item->wrong, space_item_label(item), 0, 0);
  return 0;
}

static bool ends_with(const char *key, size_t len, const char *end) {
  size_t n = strlen(end);
  return len > n && !memcmp(key + len - n, end, n);
}

static segue__space_values values_of(const space_rules *rules, const space_route *route,
                                     const char *key, size_t len) {
  if (rules->by_suffix || route->mount->whole) {
    if (ends_with(key, len, ".json")) return SEGUE__SPACE_JSON;
    if (ends_with(key, len, ".yaml") || ends_with(key, len, ".yml")) return SEGUE__SPACE_YAML;
  }
  if (route->mount->whole && rules->values < SEGUE__SPACE_YAML) return SEGUE__SPACE_YAML;
  return rules->values;
}

/* The nodes of a value refer to its key, and to their line in the value. A subtree that aliases
 * share is placed once. */
static void item_place_nodes(segue_node *node, uint32_t document, uint32_t number) {
  if (node->line == number) return;
  if (number) {
    node->line = number;
  } else {
    node->column = node->line < SEGUE__COLUMN_MAX ? node->line : SEGUE__COLUMN_MAX;
    node->document = document;
    node->line = 0;
  }
  for (uint32_t i = 0; i < node->count && node->type >= SEGUE_LIST; i++)
    item_place_nodes(node->type == SEGUE_LIST ? (segue_node *)&node->v.items[i]
                                              : (segue_node *)&node->v.members[i].value,
                     document, number);
}

void space_item_set_number(space_item *item, uint32_t number) {
  item->number = number;
  item_place_nodes(&item->node, item->node.document, number);
}

/* Nodes and bytes of text, aliases expanded: as many as a writer of the tree writes. The parser has
 * limited both. */
static void item_measure(space_item *item, const segue_node *node, uint64_t *text) {
  item->nodes++;
  if (node->type == SEGUE_STRING) *text += node->count;
  for (uint32_t i = 0; i < node->count && node->type >= SEGUE_LIST; i++) {
    if (node->type == SEGUE_MAP) *text += node->v.members[i].key_len;
    item_measure(item, segue_node_at(node, i, NULL), text);
  }
}

static bool is_null(const char *value, size_t len) {
  while (len && segue__is_one_of(value[len - 1], " \t\r\n"))
    len--;
  return (len == 4 && !memcmp(value, "null", 4)) || (len == 1 && *value == '~');
}

/* Parses a value as a document of any type. */
static int item_parse(space_item *item, segue__space_values values, uint32_t document,
                      const char *value, size_t len) {
  segue_error error = {0};
  segue__limits limits = {.nodes = SPACE_NODES};
  if (is_null(value, len)) { /* a file with this content is rejected as empty */
    item->node = (segue_node){.type = SEGUE_NULL, .document = document, .column = 1};
    return 0;
  }
  char *bytes = segue__strndup(value, len);
  if (!bytes) return UV_ENOMEM;
  int rc = segue__document_new(&item->value, document, "", "value",
                               values == SEGUE__SPACE_JSON ? SEGUE__JSON : SEGUE__YAML, bytes, len);
  if (rc) return rc;
  item->value->by_file = true; /* any type, and else as strict as a file */
  rc = segue__document_parse(item->value, &limits, NULL, NULL, &error);
  segue__free(item->value->data); /* its hash remains */
  item->value->data = NULL;
  if (rc == UV_ENOMEM) return rc;
  if (rc) {
    bool empty = rc == SEGUE_EEMPTY;
    int failed = item_refuse(item, empty ? "the value is empty, and no document: write {}, \"\" or "
                                           "null, or delete the key"
                                         : error.message);
    if (failed) return failed;
    item->wrong->code = rc;
    if (!empty)
      segue__error_set_place(item->wrong, space_item_label(item), error.line, error.column);
    return 0;
  }
  uint64_t text = 0;
  item->node = item->value->root.v.members[0].value;
  item_place_nodes(&item->node, document, 0);
  item->nodes = 0;
  item_measure(item, &item->node, &text);
  if (text > len) item->size += text - len;
  return 0;
}

static bool is_text(const segue__space_write *w) {
  return segue__utf8_check(w->value, w->value_len) == w->value_len &&
         !memchr(w->value, 0, w->value_len);
}

static int item_set_scalar(space_item *item, const space_rules *rules, segue__space_values values,
                           uint32_t document, const segue__space_write *w, char *room) {
  bool text = is_text(w);
  segue_node node = {.type = SEGUE_STRING};
  if (!text && !rules->base64)
    return item_refuse(item, "the value is not UTF-8 text: binary = \"base64\" keeps it as text, "
                             "and exclude leaves the key out");
  int rc = 1;
  if (text && values == SEGUE__SPACE_SCALAR)
    rc = segue__scalar_resolve(w->value, w->value_len, &node);
  if (rc == UV_ENOMEM) return rc;
  if (rc || !segue__scalar_is_text_of(&node, w->value, w->value_len)) {
    size_t len = w->value_len;
    if (text)
      memcpy(room, w->value, len);
    else
      len = segue__base64_encode(room, w->value, len, false);
    room[len] = 0;
    node = (segue_node){.type = SEGUE_STRING, .count = (uint32_t)len, .v.s = room};
  }
  node.document = document;
  item->node = node;
  return 0;
}

/* ---- Items ----------------------------------------------------------------------------------- */

static int item_alloc(space_item **out, const segue__space_write *w, size_t room) {
  segue__buf label;
  segue__buf_init(&label);
  label_write(&label, w);
  space_item *item =
      label.failed ? NULL : segue__calloc(1, sizeof *item + w->key_len + label.len + room + 3);
  if (item) {
    item->block.tag = SPACE_ITEM;
    item->key_len = (uint32_t)w->key_len;
    item->size = w->key_len + w->value_len;
    item->nodes = 1;
    item->revision = space_revision_number(w->revision, w->revision_len);
    item->removed = w->removed;
    memcpy(item->text, w->key, w->key_len);
    memcpy(item->text + w->key_len + 1, label.data ? label.data : "", label.len);
  }
  segue__buf_deinit(&label);
  *out = item;
  return item ? 0 : UV_ENOMEM;
}

/* Bytes for a value that is kept as text, or as base64. */
static size_t item_room(const space_rules *rules, const space_route *route,
                        const segue__space_write *w) {
  if (!w->value || w->removed || route->where != SPACE_IN_TREE ||
      values_of(rules, route, w->key, w->key_len) >= SEGUE__SPACE_YAML)
    return 0;
  return is_text(w) ? w->value_len + 1 : rules->base64 ? SEGUE__BASE64_SIZE(w->value_len) + 1 : 0;
}

static int item_fill(space_item *item, const space_rules *rules, const space_route *route,
                     uint32_t document, const segue__space_write *w) {
  if (route->where == SPACE_BAD_KEY) return item_refuse(item, route->wrong);
  if (item->marker && !w->removed) { /* its value only shows that it has changed */
    segue__hash hash = segue__hash_bytes(w->value, w->value_len, (segue__hash){0, 0});
    item->node = (segue_node){.type = SEGUE_INT, .v.u = hash.lo};
  }
  if (item->marker || item->mark || w->removed) return 0;
  if (w->value_len > rules->max_bytes || w->value_len > UINT32_MAX / 2)
    return item_refuse(item, "the value is larger than max_bytes allows for all values: raise it, "
                             "or leave the key out with exclude");
  segue__space_values values = values_of(rules, route, w->key, w->key_len);
  const char *label = space_item_label(item);
  if (values < SEGUE__SPACE_YAML)
    return item_set_scalar(item, rules, values, document, w, (char *)label + strlen(label) + 1);
  return item_parse(item, values, document, w->value, w->value_len);
}

int space_item_new(space_item **out, const space_rules *rules, uint32_t document,
                   const segue__space_write *w) {
  *out = NULL;
  space_route route = space_find_route(rules, w->key, w->key_len);
  if (route.where == SPACE_IGNORED) return 1;
  size_t sep = rules->separator_len;
  bool marker = route.where == SPACE_MARKER;
  bool folder = w->key_len >= sep && !memcmp(w->key + w->key_len - sep, rules->separator, sep) &&
                !w->value_len;
  bool mark = !marker && !w->removed && (!w->value || folder);
  int rc = item_alloc(out, w, item_room(rules, &route, w));
  if (rc) return rc;
  (*out)->marker = marker;
  (*out)->mark = mark;
  rc = item_fill(*out, rules, &route, document, w);
  if (rc) {
    space_item_free(*out);
    *out = NULL;
  }
  return rc;
}

void space_item_free(space_item *item) {
  if (!item) return;
  segue__document_unref(item->value);
  segue__free(item->wrong);
  segue__free(item);
}

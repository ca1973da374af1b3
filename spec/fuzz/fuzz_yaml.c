/* SPDX-License-Identifier: MIT
 *
 * Any bytes as YAML: the parser ends with a tree or with a complete error, and an accepted document
 * is equal after it was written as JSON or YAML and read back. The first byte decides whether
 * variables are expanded.
 */
#include <assert.h>
#include <string.h>

#include "core/config/config.h"

static const char *env(void *data, const char *name) {
  (void)data;
  return !strcmp(name, "A") ? "1" : !strcmp(name, "B") ? "x: [y" : !strcmp(name, "E") ? "" : NULL;
}

static segue__document *document(segue__format format, const void *data, size_t len) {
  segue__document *doc;
  char *copy = segue__strndup(data, len);
  assert(copy);
  assert(!segue__document_new(&doc, 1, "source", "file", format, copy, len));
  return doc;
}

/* JSON has no infinity and no NaN: they are written as strings, and differ when read back. */
static bool finite_only(const segue_node *node) {
  double value = 0;
  if (segue_node_type(node) == SEGUE_FLOAT && !segue_node_double(node, &value))
    return value - value == 0;
  bool good = true;
  if (node->type >= SEGUE_LIST)
    for (size_t i = 0; good && i < segue_node_count(node); i++)
      good = finite_only(segue_node_at(node, i, NULL));
  return good;
}

static void check_yaml(const segue__document *doc, const segue__limits *limits) {
  segue__buf yaml;
  segue__buf_init(&yaml);
  segue__yaml_write(&yaml, &doc->root, 0);
  segue__document *again = document(SEGUE__YAML, yaml.data, yaml.len);
  again->allow_empty = doc->allow_empty;
  assert(!segue__document_parse(again, limits, NULL, NULL, NULL));
  if (finite_only(&doc->root)) assert(segue__node_equal(&doc->root, &again->root));
  segue__document_unref(again);
  segue__buf_deinit(&yaml);
}

static void check_round_trip(const segue__document *doc, const segue__limits *limits) {
  segue__buf json;
  segue__buf_init(&json);
  segue__json_write(&json, &doc->root, doc->root.count % 3);
  segue__document *again = document(SEGUE__JSON, json.data, json.len);
  assert(!segue__document_parse(again, limits, NULL, NULL, NULL));
  if (finite_only(&doc->root)) assert(segue__node_equal(&doc->root, &again->root));
  segue__document_unref(again);
  segue__buf_deinit(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!size) return 0;
  segue__limits limits = {.nodes = 5000, .depth = 60};
  segue__document *doc = document(SEGUE__YAML, data + 1, size - 1);
  doc->expand = data[0] == '$';
  segue_error err = {0};
  int rc = segue__document_parse(doc, &limits, env, NULL, &err);
  if (rc)
    assert(err.code == rc && rc < 0 && err.message[0] && err.line <= size + 1 &&
           err.column <= size + 1);
  else {
    check_round_trip(doc, &limits);
    check_yaml(doc, &limits);
  }
  segue__document_unref(doc);
  return 0;
}

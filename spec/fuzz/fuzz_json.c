/* SPDX-License-Identifier: MIT
 *
 * Any bytes as JSON: a tree or a complete error. An accepted document is equal after it was written
 * as JSON or YAML and read back, and is written the same again. It is read as a foreign document,
 * which may hold any type at the top and zero bytes in texts.
 */
#include <assert.h>
#include <string.h>

#include "core/config/config.h"

static segue__document *document(const void *data, size_t len, segue__format format) {
  segue__document *doc;
  char *copy = segue__strndup(data, len);
  assert(copy);
  assert(!segue__document_new(&doc, 1, "source", "file", format, copy, len));
  doc->foreign = true;
  return doc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  segue__limits limits = {.nodes = 5000, .depth = 60};
  segue__document *doc = document(data, size, SEGUE__JSON);
  segue_error err = {0};
  int rc = segue__document_parse(doc, &limits, NULL, NULL, &err);
  if (rc) {
    assert(err.code == rc && rc < 0 && err.message[0] && err.line <= size + 1 &&
           err.column <= size + 1);
  } else {
    segue__buf json, twice;
    segue__buf_init(&json);
    segue__buf_init(&twice);
    segue__json_write(&json, &doc->root, 0);
    segue__document *again = document(json.data, json.len, SEGUE__JSON);
    assert(!segue__document_parse(again, &limits, NULL, NULL, NULL));
    assert(segue__node_equal(&doc->root, &again->root));
    segue__json_write(&twice, &again->root, 0);
    assert(json.len == twice.len && !memcmp(json.data, twice.data, json.len));
    segue__document_unref(again);
    twice.len = 0;
    segue__yaml_write(&twice, &doc->root, 0);
    again = document(twice.data, twice.len, SEGUE__YAML);
    assert(!segue__document_parse(again, &limits, NULL, NULL, NULL));
    assert(segue__node_equal(&doc->root, &again->root));
    segue__document_unref(again);
    segue__buf_deinit(&json);
    segue__buf_deinit(&twice);
  }
  segue__document_unref(doc);
  return 0;
}

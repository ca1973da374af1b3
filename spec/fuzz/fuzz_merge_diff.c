/* SPDX-License-Identifier: MIT
 *
 * Documents, one after the other with "%%" lines between them: merging agrees with a plain merge
 * that looks at one key at a time, and differences are complete, symmetric, and found at the paths
 * that they name.
 */
#include <assert.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/path.h"

enum { DOCUMENTS = 4 };

static size_t parse_all(const char *text, size_t size, segue__document **docs) {
  segue__limits limits = {.nodes = 2000, .depth = 30};
  size_t n = 0;
  while (n < DOCUMENTS && size) {
    const char *end = memmem(text, size, "%%\n", 3);
    size_t len = end ? (size_t)(end - text) : size, used = end ? len + 3 : len;
    assert(!segue__document_new(&docs[n], (uint32_t)n + 1, "source", "file", SEGUE__YAML,
                                segue__strndup(text, len), len));
    if (segue__document_parse(docs[n], &limits, NULL, NULL, NULL))
      segue__document_unref(docs[n]);
    else
      n++;
    text += used;
    size -= used;
  }
  return n;
}

/* The value that merging gives at one place: the last one, or the maps at the end together. */
static void check_merged(const segue_node *merged, const segue_node **values, size_t n) {
  const segue_node *last = values[n - 1];
  assert(merged->type == last->type);
  if (last->type != SEGUE_MAP) {
    assert(segue__node_equal(merged, last));
    return;
  }
  size_t first = n;
  while (first && values[first - 1]->type == SEGUE_MAP)
    first--;
  for (size_t i = 0; i < merged->count; i++) {
    const segue__member *m = &merged->v.members[i];
    assert(segue__node_find(merged, m->key, m->key_len) == m);
    const segue_node *below[DOCUMENTS];
    size_t count = 0;
    for (size_t k = first; k < n; k++) {
      const segue__member *found = segue__node_find(values[k], m->key, m->key_len);
      if (found) below[count++] = &found->value;
    }
    assert(count);
    check_merged(&m->value, below, count);
  }
  for (size_t k = first; k < n; k++)
    for (size_t i = 0; i < values[k]->count; i++)
      assert(
          segue__node_find(merged, values[k]->v.members[i].key, values[k]->v.members[i].key_len));
}

static void check_diff(const segue_node *from, const segue_node *to) {
  segue__changes there, back;
  assert(!segue__diff(from, to, &there) && !segue__diff(to, from, &back));
  assert(there.total == back.total);
  assert(!there.total == segue__node_equal(from, to));
  for (size_t i = 0; i < there.count; i++) {
    const segue__change *c = &there.items[i];
    assert(!c->from == (c->op == SEGUE__ADD) && !c->to == (c->op == SEGUE__REMOVE));
    if (c->from) assert(segue_node_get(from, c->path) == c->from);
    if (c->to) assert(segue_node_get(to, c->path) == c->to);
  }
  segue__changes_deinit(&there);
  segue__changes_deinit(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  segue__document *docs[DOCUMENTS];
  size_t n = parse_all((const char *)data, size, docs);
  segue__config *config;
  assert(!segue__config_merge(&config, docs, n, NULL));
  const segue_node *roots[DOCUMENTS];
  for (size_t i = 0; i < n; i++) {
    roots[i] = &docs[i]->root;
    check_diff(roots[i], &config->root);
  }
  if (n) check_merged(&config->root, roots, n);
  segue__config_unref(config);
  for (size_t i = 0; i < n; i++)
    segue__document_unref(docs[i]);
  return 0;
}

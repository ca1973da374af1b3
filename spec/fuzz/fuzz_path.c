/* SPDX-License-Identifier: MIT
 *
 * Any text as a path: both ways to look it up agree, and a path that is written from its steps is
 * read back as the same steps.
 */
#include <assert.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/path.h"

static const char tree[] = "{\"a\":[{\"b\":1},[2,3]],\"\":{\"\":4},\"a.b\":{\"\\\"\\\\\":[5]},"
                           "\"c1\":1,\"c2\":2,\"c3\":3,\"c4\":4,\"c5\":5,\"c6\":6,\"c7\":7}";

static void check_again(const segue__path *path) {
  segue__buf text;
  segue__buf_init(&text);
  for (size_t i = 0; i < path->count; i++)
    if (path->steps[i].key)
      segue__path_add_key(&text, path->steps[i].key, path->steps[i].key_len);
    else
      segue__path_add_index(&text, path->steps[i].index);
  segue__path again;
  assert(!segue__path_parse(&again, text.data ? text.data : "", NULL));
  assert(again.count == path->count);
  for (size_t i = 0; i < path->count; i++) {
    const segue__path_step *a = &path->steps[i], *b = &again.steps[i];
    assert(!a->key == !b->key && a->index == b->index && a->key_len == b->key_len);
    assert(!a->key || !strcmp(a->key, b->key));
  }
  segue__path_deinit(&again);
  segue__buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static segue__document *doc;
  if (!doc) {
    assert(!segue__document_new(&doc, 1, "s", "f", SEGUE__JSON,
                                segue__strndup(tree, sizeof tree - 1), sizeof tree - 1));
    assert(!segue__document_parse(doc, NULL, NULL, NULL, NULL));
  }
  char *text = segue__strndup((const char *)data, size);
  segue__path path;
  segue_error err = {0};
  const segue_node *direct = segue_node_get(&doc->root, text);
  if (segue__path_parse(&path, text, &err)) {
    assert(!direct && err.code == SEGUE_EPATH && err.message[0]);
  } else {
    assert(segue__path_find(&path, &doc->root) == direct);
    check_again(&path);
    segue__path_deinit(&path);
  }
  segue__free(text);
  return 0;
}

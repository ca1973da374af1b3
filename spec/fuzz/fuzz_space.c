/* SPDX-License-Identifier: MIT
 *
 * A key space against a plain list of keys: each line of the input is one operation. After each
 * take, a space that gets the same keys in one full read is refused or gives the same tree and
 * hash, and a document that was taken before is still as it was.
 *
 *   first line: flags (l lists, b base64, v value_key, y YAML, s suffixes, c commit)
 *   +KEY=VALUE   a key is written        -KEY   a key is gone
 *   ~PREFIX      all below is gone       =      a full read of what there is
 *   ?            a document is taken
 */
#include <assert.h>
#include <string.h>

#include "core/config/config.h"
#include "core/source/space.h"

enum { KEYS = 200, HELD = 3 };

typedef struct pair {
  const char *key, *value;
  size_t key_len, value_len;
} pair;

typedef struct model {
  segue__space_options options;
  segue__space_mount mount;
  pair pairs[KEYS];
  size_t count;
} model;

typedef struct held {
  segue__document *doc;
  segue__buf text;
} held;

static void model_remove(model *m, const char *key, size_t len, bool below) {
  for (size_t i = 0; i < m->count;) {
    const pair *p = &m->pairs[i];
    bool gone = p->key_len >= len && !memcmp(p->key, key, len) && (below || p->key_len == len);
    if (gone)
      m->pairs[i] = m->pairs[--m->count];
    else
      i++;
  }
}

static segue__space *open_space(const model *m) {
  segue__space *space;
  segue_error err;
  segue__space_options options = m->options;
  options.mounts = &m->mount;
  assert(!segue__space_open(&space, &options, &err));
  return space;
}

static void read_all(const model *m, segue__space *space) {
  segue__space_read *read;
  assert(!segue__space_begin(space, &read));
  for (size_t i = 0; i < m->count; i++) {
    const pair *p = &m->pairs[i];
    segue__space_write w = {
        .key = p->key, .key_len = p->key_len, .value = p->value, .value_len = p->value_len};
    assert(!segue__space_read_put(read, &w));
  }
  assert(!segue__space_apply(space, read, NULL));
  segue__space_read_free(read);
}

static void check_held(const held *h) {
  segue__buf text;
  if (!h->doc) return;
  segue__buf_init(&text);
  segue__json_write(&text, &h->doc->root, 0);
  assert(text.len == h->text.len && !memcmp(text.data, h->text.data, text.len));
  segue__buf_deinit(&text);
}

static void hold(held *h, segue__document *doc) {
  check_held(h);
  segue__document_unref(h->doc);
  segue__buf_deinit(&h->text);
  h->doc = doc;
  segue__buf_init(&h->text);
  if (doc) segue__json_write(&h->text, &doc->root, 0);
}

/* The other space has no history. With a commit key the two may differ: one waits. */
static segue__document *take(const model *m, segue__space *space) {
  segue__document *doc, *other;
  segue_error err;
  int rc = segue__space_take(space, &doc, &err);
  if (m->options.commit) return doc;
  segue__space *fresh = open_space(m);
  read_all(m, fresh);
  assert(segue__space_count(fresh) == segue__space_count(space));
  int expected = segue__space_take(fresh, &other, &err);
  assert(!rc == !expected);
  if (!rc) {
    held a = {0};
    assert(segue__node_equal(&doc->root, &other->root));
    hold(&a, segue__document_ref(doc));
    segue__document_unref(a.doc);
    a.doc = other;
    check_held(&a); /* the members are in the same order, too */
    a.doc = segue__document_ref(other);
    hold(&a, NULL);
  }
  segue__document_unref(other);
  segue__space_close(fresh);
  return doc;
}

static void step(model *m, segue__space *space, const char *line, size_t len, held *documents,
                 size_t *taken) {
  const char *equal = memchr(line, '=', len);
  segue__space_write w = {.key = line + 1, .key_len = len - 1};
  if (*line == '+' && equal && m->count < KEYS) {
    w.key_len = (size_t)(equal - line) - 1;
    w.value = equal + 1;
    w.value_len = len - w.key_len - 2;
    model_remove(m, w.key, w.key_len, false);
    m->pairs[m->count++] = (pair){w.key, w.value, w.key_len, w.value_len};
    assert(!segue__space_put(space, &w));
  } else if (*line == '-') {
    w.removed = true;
    model_remove(m, w.key, w.key_len, false);
    assert(!segue__space_put(space, &w));
  } else if (*line == '~') {
    model_remove(m, w.key, w.key_len, true);
    assert(!segue__space_delete_prefix(space, w.key, w.key_len));
  } else if (*line == '=') {
    read_all(m, space);
  } else if (*line == '?') {
    hold(&documents[(*taken)++ % HELD], take(m, space));
  }
}

static void set_options(model *m, const char *flags, size_t len) {
  m->options = (segue__space_options){.size = sizeof m->options,
                                      .document = 1,
                                      .source = "fuzz",
                                      .mount_count = 1,
                                      .lists = memchr(flags, 'l', len) != NULL,
                                      .base64 = memchr(flags, 'b', len) != NULL,
                                      .by_suffix = memchr(flags, 's', len) != NULL};
  m->mount.prefix = "";
  if (memchr(flags, 'v', len)) m->options.value_key = "_";
  if (memchr(flags, 'y', len)) m->options.values = SEGUE__SPACE_YAML;
  if (memchr(flags, 'c', len)) m->options.commit = "c";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *text = (const char *)data, *end = text + size;
  model m = {0};
  held documents[HELD] = {0};
  size_t taken = 0;
  segue__space *space = NULL;
  while (text < end) {
    const char *stop = memchr(text, '\n', (size_t)(end - text));
    size_t len = (size_t)((stop ? stop : end) - text);
    if (!space) {
      set_options(&m, text, len);
      space = open_space(&m);
    } else if (len) {
      step(&m, space, text, len, documents, &taken);
    }
    text += len + 1;
  }
  segue__space_close(space);
  for (size_t i = 0; i < HELD; i++)
    hold(&documents[i], NULL);
  return 0;
}

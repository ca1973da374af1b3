/* SPDX-License-Identifier: MIT
 *
 * Bulk answers of servers into a key space. One reader serves them all, because a small table names
 * the places of the keys in an answer: etcd's range and watch, Consul's KV list, Kubernetes'
 * ConfigMaps.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../config/path.h"
#include "../os/base64.h"
#include "space_internal.h"

/* The paths of a format, parsed once for all records. */
typedef struct reader {
  segue__space *space;
  segue__space_read *read;
  const segue__space_format *format;
  segue__path list, key, value, revision, all_revision, removed, within, map;
  segue__buf key_text, value_text, revision_text; /* of one record */
  segue__buf *last_key;
  char all[24]; /* a revision for all records, if it is a number */
  size_t count;
  segue_error *err;
} reader;

static int reader_path(segue__path *path, const char *text, segue_error *err) {
  return text && *text ? segue__path_parse(path, text, err) : 0;
}

static int reader_init(reader *r) {
  const segue__space_format *f = r->format;
  const struct {
    segue__path *path;
    const char *text;
  } paths[] = {{&r->list, f->list},       {&r->key, f->key},
               {&r->value, f->value},     {&r->revision, f->revision},
               {&r->removed, f->removed}, {&r->all_revision, f->all_revision},
               {&r->within, f->within},   {&r->map, f->map}};
  int rc = 0;
  for (size_t i = 0; i < sizeof paths / sizeof *paths && !rc; i++)
    rc = reader_path(paths[i].path, paths[i].text, r->err);
  return rc;
}

static void reader_deinit(reader *r) {
  segue__path *const paths[] = {&r->list,    &r->key,          &r->value,  &r->revision,
                                &r->removed, &r->all_revision, &r->within, &r->map};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
    segue__path_deinit(paths[i]);
  segue__buf_deinit(&r->key_text);
  segue__buf_deinit(&r->value_text);
  segue__buf_deinit(&r->revision_text);
}

/* Appends a field as bytes: a string, or another value as its JSON text. */
static int reader_add(reader *r, segue__buf *out, const segue_node *node, bool base64,
                      const char *what) {
  size_t at, used;
  if (!node || node->type == SEGUE_NULL) return 0;
  if (node->type != SEGUE_STRING) {
    segue__json_write(out, node, 0);
    return out->failed ? UV_ENOMEM : 0;
  }
  if (!base64) {
    segue__buf_add(out, node->v.s, node->count);
    return out->failed ? UV_ENOMEM : 0;
  }
  size_t letters = segue__base64_letters(node->v.s, node->count, false), before = out->len;
  if (letters == (size_t)-1)
    return segue__errorf(r->err, SEGUE_ESYNTAX, "%s %zu of the answer is no base64", what,
                         r->count + 1);
  segue__buf_add(out, node->v.s, letters); /* the bytes take less room than their letters */
  if (out->failed) return UV_ENOMEM;
  if (segue__base64_decode((unsigned char *)out->data + before, node->v.s, letters, false, &used,
                           &at))
    return segue__errorf(r->err, SEGUE_ESYNTAX, "%s %zu of the answer is no base64", what,
                         r->count + 1);
  out->len = before + used;
  out->data[out->len] = 0;
  return 0;
}

static void buf_clear(segue__buf *b) {
  b->len = 0;
  if (b->data) b->data[0] = 0;
}

static int reader_put(reader *r, const segue__space_write *w) {
  int rc = r->read ? segue__space_read_put(r->read, w) : segue__space_put(r->space, w);
  r->count++;
  if (rc || !r->last_key) return rc;
  buf_clear(r->last_key);
  segue__buf_add(r->last_key, w->key, w->key_len);
  return r->last_key->failed ? UV_ENOMEM : 0;
}

static bool reader_is_removal(const reader *r, const segue_node *record) {
  const segue_node *node = r->format->removed ? segue__path_find(&r->removed, record) : NULL;
  return node && node->type == SEGUE_STRING && r->format->removed_is &&
         !strcmp(node->v.s, r->format->removed_is);
}

/* Writes one key. A value that is missing is empty: servers leave out what is empty. */
static int reader_write(reader *r, const segue_node *value, bool removed) {
  buf_clear(&r->value_text);
  int rc = reader_add(r, &r->value_text, value, r->format->value_base64, "value");
  if (rc) return rc;
  const segue__space_write w = {.key = r->key_text.data ? r->key_text.data : "",
                                .key_len = r->key_text.len,
                                .value = removed              ? NULL
                                         : r->value_text.data ? r->value_text.data
                                                              : "",
                                .value_len = removed ? 0 : r->value_text.len,
                                .revision = r->revision_text.len ? r->revision_text.data
                                            : *r->all            ? r->all
                                                                 : NULL,
                                .revision_len =
                                    r->revision_text.len ? r->revision_text.len : strlen(r->all),
                                .removed = removed};
  return reader_put(r, &w);
}

static int reader_begin_key(reader *r, const segue_node *record) {
  const segue__space_format *f = r->format;
  buf_clear(&r->key_text);
  buf_clear(&r->revision_text);
  if (f->prefix) segue__buf_adds(&r->key_text, f->prefix);
  int rc = f->revision ? reader_add(r, &r->revision_text, segue__path_find(&r->revision, record),
                                    false, "revision")
                       : 0;
  if (rc || !f->within) return rc;
  rc = reader_add(r, &r->key_text, segue__path_find(&r->within, record), false, "name");
  segue__buf_adds(&r->key_text, r->space->rules.separator);
  return rc ? rc : r->key_text.failed ? UV_ENOMEM : 0;
}

/* A record that holds a map from keys to values. A removal removes all of its keys. */
static int reader_map(reader *r, const segue_node *record) {
  int rc = reader_begin_key(r, record);
  const segue_node *map = segue__path_find(&r->map, record);
  size_t start = r->key_text.len;
  if (!rc && !r->read) /* what the record no longer has is gone */
    rc = segue__space_delete_prefix(r->space, r->key_text.data ? r->key_text.data : "", start);
  if (rc || reader_is_removal(r, record) || !map || map->type != SEGUE_MAP) return rc;
  for (uint32_t i = 0; i < map->count && !rc; i++) {
    const segue__member *m = &map->v.members[i];
    r->key_text.len = start;
    segue__buf_add(&r->key_text, m->key, m->key_len);
    rc = r->key_text.failed ? UV_ENOMEM : reader_write(r, &m->value, false);
  }
  return rc;
}

static int reader_record(reader *r, const segue_node *record) {
  if (r->format->map) return reader_map(r, record);
  const segue_node *key = segue__path_find(&r->key, record);
  if (!key || key->type != SEGUE_STRING)
    return segue__errorf(r->err, SEGUE_ESYNTAX, "record %zu of the answer has no key at \"%s\"",
                         r->count + 1, r->format->key ? r->format->key : "");
  int rc = reader_begin_key(r, record);
  if (!rc) rc = reader_add(r, &r->key_text, key, r->format->key_base64, "key");
  return rc ? rc
            : reader_write(r, segue__path_find(&r->value, record), reader_is_removal(r, record));
}

static int reader_all(reader *r, const segue_node *answer) {
  const segue_node *list = segue__path_find(&r->list, answer),
                   *all = r->format->all_revision ? segue__path_find(&r->all_revision, answer) : 0;
  int64_t number;
  int rc = 0;
  if (all && !segue_node_int(all, &number)) snprintf(r->all, sizeof r->all, "%" PRId64, number);
  if (all && all->type == SEGUE_STRING && all->count < sizeof r->all)
    memcpy(r->all, all->v.s, all->count);
  if (!list || list->type == SEGUE_NULL) return 0; /* servers leave out an empty list */
  if (list->type == SEGUE_MAP) return reader_record(r, list);
  if (list->type != SEGUE_LIST)
    return segue__errorf(r->err, SEGUE_ESYNTAX, "the answer has no list at \"%s\"",
                         r->format->list ? r->format->list : "");
  for (uint32_t i = 0; i < list->count && !rc; i++)
    rc = reader_record(r, &list->v.items[i]);
  return rc;
}

int segue__space_parse(segue__space *space, segue__space_read *read,
                       const segue__space_format *format, const segue_node *answer, size_t *count,
                       segue__buf *last_key, segue_error *err) {
  reader r = {.space = space, .read = read, .format = format, .last_key = last_key, .err = err};
  err->code = 0;
  int rc = reader_init(&r);
  if (!rc) rc = reader_all(&r, answer);
  *count = r.count;
  reader_deinit(&r);
  if (rc && !err->code) segue__errorf(err, rc, "out of memory for the keys of %s", space->source);
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * The deliveries of sources on a network, among the files of a generation, for a start while the
 * sources are away, and for a rollback. A value (little endian): i64 wall ms of the delivery, u32
 * length of the revision or all ones for none, revision, u32 documents, then for each: u8 format,
 * u32 length of name, u64 length of data, name, data. The format is the first letter of its name;
 * older versions wrote the number that it had in them.
 */
#include "cache.h"

#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/fault.h"

/* ---- Writing ---- */

static void cache_put(segue__buf *b, uint64_t n, int bytes) {
  for (int i = 0; i < bytes; i++)
    segue__buf_addc(b, (char)(n >> (8 * i)));
}

/* A document that never had text is stored as text. */
static void put_document(segue__buf *b, const segue__document *doc) {
  segue__buf text;
  segue__buf_init(&text);
  bool built = doc->format == SEGUE__BUILT;
  if (built) segue__json_write(&text, &doc->root, 0);
  const char *data = built ? text.data : doc->data;
  size_t len = built ? text.len : doc->len, name = strlen(doc->name);
  if (text.failed) b->failed = 1;
  segue__buf_addc(b, segue__document_format_name(built ? SEGUE__JSON : doc->format)[0]);
  cache_put(b, name, 4);
  cache_put(b, len, 8);
  segue__buf_add(b, doc->name, name);
  segue__buf_add(b, data ? data : "", len);
  segue__buf_deinit(&text);
}

int segue__cached_delivery_write(segue__buf *out, const segue__cached_delivery *head,
                                 const segue__documents *documents) {
  size_t revision = head->revision ? strlen(head->revision) : 0;
  cache_put(out, (uint64_t)head->wall_ms, 8);
  cache_put(out, head->revision ? revision : UINT32_MAX, 4);
  segue__buf_add(out, head->revision ? head->revision : "", revision);
  cache_put(out, documents->count, 4);
  for (size_t i = 0; i < documents->count; i++)
    put_document(out, documents->items[i]);
  return out->failed ? UV_ENOMEM : SEGUE_FAULT("remote.keep");
}

/* ---- Reading ---- */

typedef struct cursor {
  const char *at, *end;
} cursor;

static bool cache_get(cursor *c, int bytes, uint64_t *out) {
  if (c->end - c->at < bytes) return false;
  *out = 0;
  for (int i = bytes; i-- > 0;)
    *out = *out << 8 | (unsigned char)c->at[i];
  c->at += bytes;
  return true;
}

static bool cache_get_text(cursor *c, uint64_t len, char **out) {
  if ((uint64_t)(c->end - c->at) < len) return false;
  *out = segue__strndup(c->at, len);
  c->at += len;
  return true;
}

/* 0, 1 and 3 are the numbers of older versions. */
static bool format_get(uint64_t byte, segue__format *out) {
  *out = byte == 'j' || byte == 1   ? SEGUE__JSON
         : byte == 't' || byte == 3 ? SEGUE__TEXT
                                    : SEGUE__YAML;
  return byte == 'y' || byte == 0 || *out != SEGUE__YAML;
}

static int get_document(cursor *c, const char *source, segue__documents *out) {
  uint64_t byte, name_len, len;
  segue__format format;
  char *name = NULL, *data = NULL;
  segue__document *doc = NULL;
  if (!cache_get(c, 1, &byte) || !cache_get(c, 4, &name_len) || !cache_get(c, 8, &len) ||
      !format_get(byte, &format) || !cache_get_text(c, name_len, &name))
    return UV_EINVAL;
  if (!cache_get_text(c, len, &data)) {
    segue__free(name);
    return UV_EINVAL;
  }
  int rc = name && data ? 0 : UV_ENOMEM;
  if (!rc)
    rc = segue__document_new(&doc, 0, source, name, format, data, len);
  else
    segue__free(data);
  segue__free(name);
  return rc ? rc : segue__documents_add(out, doc);
}

int segue__cached_delivery_parse(const char *data, size_t len, const char *source,
                                 segue__cached_delivery *head, segue__documents *out) {
  uint64_t wall, revision, count;
  cursor c = {data, data + len};
  int rc = 0;
  *head = (segue__cached_delivery){0};
  if (!cache_get(&c, 8, &wall) || !cache_get(&c, 4, &revision) ||
      (revision != UINT32_MAX && !cache_get_text(&c, revision, &head->revision)) ||
      !cache_get(&c, 4, &count))
    rc = UV_EINVAL;
  else if (revision != UINT32_MAX && !head->revision)
    rc = UV_ENOMEM;
  for (uint64_t i = 0; !rc && i < count; i++)
    rc = get_document(&c, source, out);
  if (!rc) {
    head->wall_ms = (int64_t)wall;
    return 0;
  }
  segue__cached_delivery_deinit(head);
  segue__documents_deinit(out);
  return rc;
}

void segue__cached_delivery_deinit(segue__cached_delivery *head) {
  segue__free(head->revision);
  *head = (segue__cached_delivery){0};
}

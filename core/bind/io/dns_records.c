/* SPDX-License-Identifier: MIT
 *
 * Reads the records of a DNS answer (RFC 1035, 2782). The bytes come from the network: every length
 * is checked against the end of the answer, and dn_expand(3) follows compressed names within it.
 */
#include <resolv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../../os/error.h"
#include "../../os/mem.h"
#include "dns_records.h"

typedef struct reader {
  const unsigned char *start, *at, *end;
} reader;

/* Returns 0 at the end of the answer, and stays there. */
static unsigned dns_u16(reader *r) {
  if (r->end - r->at < 2) {
    r->at = r->end;
    return 0;
  }
  unsigned n = (unsigned)r->at[0] << 8 | r->at[1];
  r->at += 2;
  return n;
}

static bool dns_name(reader *r, char *out, size_t size) {
  int n = dn_expand(r->start, r->end, r->at, out, (int)size);
  if (n < 0) return false;
  r->at += n;
  return true;
}

static int by_place(const void *left, const void *right) {
  const segue__dns_record *a = left, *b = right;
  if (a->priority != b->priority) return a->priority < b->priority ? -1 : 1;
  if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
  size_t len = a->len < b->len ? a->len : b->len;
  int order = memcmp(a->text, b->text, len);
  if (order) return order;
  if (a->len != b->len) return a->len < b->len ? -1 : 1;
  return (a->port > b->port) - (a->port < b->port);
}

/* A TXT record is a list of strings; their borders mean nothing (RFC 7208 3.3). */
static int read_txt(const unsigned char *data, size_t len, segue__dns_record *out) {
  out->text = segue__malloc(len + 1);
  if (!out->text) return UV_ENOMEM;
  for (size_t at = 0; at < len; at += 1u + data[at]) {
    size_t part = data[at];
    if (part > len - at - 1) return UV_EPROTO;
    memcpy(out->text + out->len, data + at + 1, part);
    out->len += part;
  }
  return 0;
}

static int read_srv(reader r, segue__dns_record *out) {
  char target[1025];
  if (r.end - r.at < 7) return UV_EPROTO;
  out->priority = (uint16_t)dns_u16(&r);
  out->weight = (uint16_t)dns_u16(&r);
  out->port = (uint16_t)dns_u16(&r);
  if (!dns_name(&r, target, sizeof target)) return UV_EPROTO;
  out->len = strlen(target);
  out->text = segue__strdup(target);
  return out->text ? 0 : UV_ENOMEM;
}

/* Reads the record at r and adds it to out if it is of the type. The answer may also have the
 * aliases (CNAME) that led to the records. */
static int read_record(reader *r, segue__dns_type type, segue__dns_records *out, size_t *room) {
  char owner[1025];
  if (!dns_name(r, owner, sizeof owner) || r->end - r->at < 10) return UV_EPROTO;
  unsigned its_type = dns_u16(r), its_class = dns_u16(r);
  uint32_t ttl = dns_u16(r) << 16;
  ttl |= dns_u16(r);
  size_t len = dns_u16(r);
  const unsigned char *data = r->at;
  if ((size_t)(r->end - data) < len) return UV_EPROTO;
  r->at = data + len;
  if (its_type != (unsigned)type || its_class != 1) return 0;
  if (out->count == SEGUE__RECORDS_MAX) return SEGUE_ELIMIT;
  if (out->count == *room) {
    size_t more = *room ? *room * 2 : 16;
    segue__dns_record *items = segue__realloc(out->items, more * sizeof *items);
    if (!items) return UV_ENOMEM;
    out->items = items;
    *room = more;
  }
  segue__dns_record *record = &out->items[out->count++];
  *record = (segue__dns_record){.ttl = ttl > INT32_MAX ? 0 : ttl}; /* RFC 2181 8 */
  /* A compressed target refers to the whole answer. */
  return type == SEGUE__DNS_TXT ? read_txt(data, len, record)
                                : read_srv((reader){r->start, data, r->end}, record);
}

static void remove_doubles(segue__dns_records *records) {
  size_t kept = 0;
  for (size_t i = 0; i < records->count; i++) {
    segue__dns_record *last = kept ? &records->items[kept - 1] : NULL;
    if (last && !by_place(last, &records->items[i])) {
      if (records->items[i].ttl < last->ttl) last->ttl = records->items[i].ttl;
      segue__free(records->items[i].text);
    } else {
      records->items[kept++] = records->items[i];
    }
  }
  records->count = kept;
}

int segue__dns_parse(const unsigned char *answer, size_t len, segue__dns_type type,
                     segue__dns_records *out) {
  reader r = {answer, answer + 4, answer + len};
  char name[1025];
  size_t room = 0;
  int rc = 0;
  *out = (segue__dns_records){0};
  if (len < 12) return UV_EPROTO;
  unsigned questions = dns_u16(&r), records = dns_u16(&r);
  r.at = answer + 12;
  for (unsigned i = 0; i < questions && !rc; i++) {
    if (!dns_name(&r, name, sizeof name) || r.end - r.at < 4)
      rc = UV_EPROTO;
    else
      r.at += 4;
  }
  for (unsigned i = 0; i < records && !rc; i++)
    rc = read_record(&r, type, out, &room);
  if (rc) {
    segue__dns_records_deinit(out);
    return rc;
  }
  if (out->count) qsort(out->items, out->count, sizeof *out->items, by_place);
  remove_doubles(out);
  return 0;
}

void segue__dns_records_deinit(segue__dns_records *records) {
  for (size_t i = 0; i < records->count; i++)
    segue__free(records->items[i].text);
  segue__free(records->items);
  *records = (segue__dns_records){0};
}

/* SPDX-License-Identifier: MIT
 *
 * Resolving a URI against a base (RFC 3986, section 5.2), as much as naming schemas needs: nothing
 * is looked up or opened by these names.
 */
#include <string.h>

#include "../os/hex.h"
#include "../os/text.h"
#include "schema_internal.h"

typedef struct span {
  const char *s;
  size_t len;
} span;

typedef struct parts {
  span scheme, authority, path, query, fragment; /* s NULL: missing (the path never is) */
} parts;

static bool scheme_char(char c, bool first) {
  bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
  return letter || (!first && ((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'));
}

static span uri_until(const char *s, const char *end, const char *stops) {
  const char *p = s;
  while (p < end && !segue__is_one_of(*p, stops))
    p++;
  return (span){s, (size_t)(p - s)};
}

static parts uri_split(const char *s, size_t len) {
  parts out = {0};
  const char *end = s + len, *p = s;
  while (p < end && scheme_char(*p, p == s))
    p++;
  if (p < end && p > s && *p == ':') {
    out.scheme = (span){s, (size_t)(p - s)};
    s = p + 1;
  }
  if (end - s >= 2 && s[0] == '/' && s[1] == '/') {
    out.authority = uri_until(s + 2, end, "/?#");
    s += 2 + out.authority.len;
  }
  out.path = uri_until(s, end, "?#");
  s += out.path.len;
  if (s < end && *s == '?') {
    out.query = uri_until(s + 1, end, "#");
    s += 1 + out.query.len;
  }
  if (s < end) out.fragment = (span){s + 1, (size_t)(end - s - 1)};
  return out;
}

static void uri_drop_segment(segue__buf *out, size_t start) {
  while (out->len > start && out->data[out->len - 1] != '/')
    out->len--;
  if (out->len > start) out->len--;
}

/* Appends a path with its "." and ".." resolved. */
static void uri_add_path(segue__buf *out, span path) {
  size_t start = out->len;
  const char *p = path.s, *end = path.s + path.len;
  while (p < end && !out->failed) {
    const char *segment = *p == '/' ? p + 1 : p;
    size_t len = uri_until(segment, end, "/").len;
    bool last = segment + len == end;
    if (len == 1 && segment[0] == '.') {
      if (last) segue__buf_addc(out, '/');
    } else if (len == 2 && segment[0] == '.' && segment[1] == '.') {
      uri_drop_segment(out, start);
      if (last) segue__buf_addc(out, '/');
    } else {
      segue__buf_add(out, p, (size_t)(segment - p) + len);
    }
    p = segment + len;
  }
}

static void add_part(segue__buf *out, const char *before, span part, const char *after) {
  if (!part.s) return;
  segue__buf_adds(out, before);
  segue__buf_add(out, part.s, part.len);
  segue__buf_adds(out, after);
}

static void add_merged(segue__buf *out, const parts *base, span path) {
  segue__buf merged;
  segue__buf_init(&merged);
  size_t keep = base->path.len;
  while (keep && base->path.s[keep - 1] != '/')
    keep--;
  if (base->authority.s && !base->path.len)
    segue__buf_addc(&merged, '/');
  else
    segue__buf_add(&merged, base->path.s, keep);
  segue__buf_add(&merged, path.s, path.len);
  if (merged.failed)
    out->failed = 1;
  else
    uri_add_path(out, (span){merged.data ? merged.data : "", merged.len});
  segue__buf_deinit(&merged);
}

void segue__uri_resolve(segue__buf *out, const char *base_text, const char *ref, size_t len,
                        const char **fragment, size_t *fragment_len) {
  parts base = uri_split(base_text, strlen(base_text)), r = uri_split(ref, len);
  *fragment = r.fragment.s;
  *fragment_len = r.fragment.len;
  bool absolute = r.scheme.s != NULL;
  add_part(out, "", absolute ? r.scheme : base.scheme, ":");
  if (absolute || r.authority.s) {
    add_part(out, "//", r.authority, "");
    if (absolute && !r.authority.s && (!r.path.len || r.path.s[0] != '/'))
      segue__buf_add(out, r.path.s, r.path.len); /* urn:... has no segments */
    else
      uri_add_path(out, r.path);
    add_part(out, "?", r.query, "");
    return;
  }
  add_part(out, "//", base.authority, "");
  if (!r.path.len) {
    segue__buf_add(out, base.path.s, base.path.len);
    add_part(out, "?", r.query.s ? r.query : base.query, "");
    return;
  }
  if (r.path.s[0] == '/')
    uri_add_path(out, r.path);
  else
    add_merged(out, &base, r.path);
  add_part(out, "?", r.query, "");
}

bool segue__uri_decode(segue__buf *out, const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (text[i] != '%') {
      segue__buf_addc(out, text[i]);
      continue;
    }
    int high = len - i > 2 ? segue__hex_value(text[i + 1]) : -1,
        low = high >= 0 ? segue__hex_value(text[i + 2]) : -1;
    if (low < 0) return false;
    segue__buf_addc(out, (char)(high * 16 + low));
    i += 2;
  }
  return true;
}

/* SPDX-License-Identifier: MIT
 *
 * Paths and queries: percent-decoding, slashes in a row and dot segments (RFC 3986). Decoding comes
 * first, because "%2e" and "." are the same character; slashes that were escaped stay escaped, so
 * that a decoded path has exactly the segments that the client sent.
 */
#include "parse.h"

#include <string.h>

#include "../os/hex.h"

/* The byte that "%XY" at s stands for, or -1. */
static int target_escaped(const char *s, const char *end) {
  if (end - s < 3 || segue__hex_value(s[1]) < 0 || segue__hex_value(s[2]) < 0) return -1;
  return segue__hex_value(s[1]) * 16 + segue__hex_value(s[2]);
}

static size_t target_decode(const char *raw, size_t len, char *out, bool *ok) {
  const char *end = raw + len;
  size_t n = 0;
  for (const char *s = raw; s < end; s++) {
    if (*s && *s != '%') {
      out[n++] = *s;
      continue;
    }
    int c = *s ? target_escaped(s, end) : 0;
    if (c <= 0) {
      *ok = false;
      return 0;
    }
    s += 2;
    if (c == '/' || c == '%') {
      out[n++] = '%';
      out[n++] = '2';
      out[n++] = c == '/' ? 'F' : '5';
    } else {
      out[n++] = (char)c;
    }
  }
  return n;
}

/* "//" is "/", as nginx has it: a proxy that lets through what lies outside of "/admin/" and this
 * server must not disagree about "/admin/users///../..". */
static size_t merge_slashes(char *path, size_t len) {
  size_t n = 0;
  for (size_t at = 0; at < len; at++)
    if (path[at] != '/' || n == 0 || path[n - 1] != '/') path[n++] = path[at];
  return n;
}

/* Returns the length of the separator at the n bytes at s: "/", or an escaped slash; 0 if there is
 * none. */
static size_t target_separator(const char *s, size_t n) {
  if (n && *s == '/') return 1;
  return n >= 3 && memcmp(s, "%2F", 3) == 0 ? 3 : 0;
}

/* Returns whether a dot segment stands beside an escaped slash. nginx decodes the slash, so there
 * "/admin/x%2f..%2f.." is "/"; here it is a name below "/admin/". No honest client sends it, so it
 * is rejected. */
static bool hides_dots(const char *path, size_t len) {
  for (size_t at = 0; at < len; at++) {
    size_t before = target_separator(path + at, len - at), dots = 0;
    if (!before) continue;
    const char *name = path + at + before;
    size_t left = len - at - before;
    while (dots < left && name[dots] == '.')
      dots++;
    size_t after = target_separator(name + dots, left - dots);
    bool whole = dots && dots <= 2 && (after || dots == left);
    if (whole && (before == 3 || after == 3)) return true;
  }
  return false;
}

/* Removes the last segment of the n bytes at out and returns the new length. */
static size_t target_drop_segment(const char *out, size_t n) {
  while (n > 0 && out[n - 1] != '/')
    n--;
  return n ? n - 1 : 0;
}

/* Removes dot segments (RFC 3986 5.2.4): copies each segment, with its slash, to the front. */
static int remove_dots(char *path, size_t len) {
  size_t n = 0;
  for (size_t at = 0; at < len;) {
    const char *next = memchr(path + at + 1, '/', len - at - 1);
    size_t end = next ? (size_t)(next - path) : len, size = end - at;
    bool one = size == 2 && path[at + 1] == '.';
    bool two = size == 3 && path[at + 1] == '.' && path[at + 2] == '.';
    if (two && n == 0) return SEGUE_ESYNTAX;
    if (two) n = target_drop_segment(path, n);
    if (!one && !two) {
      memmove(path + n, path + at, size);
      n += size;
    } else if (end == len) {
      path[n++] = '/';
    }
    at = end;
  }
  return (int)n;
}

int segue__http_path_decode(const char *raw, size_t len, char *out) {
  bool ok = true;
  if (len == 0 || len > 1 << 30 || raw[0] != '/') return SEGUE_ESYNTAX;
  size_t n = target_decode(raw, len, out, &ok);
  if (!ok || hides_dots(out, n)) return SEGUE_ESYNTAX;
  int r = remove_dots(out, merge_slashes(out, n));
  if (r >= 0) out[r] = 0;
  return r;
}

int segue__http_query_decode(segue__http_text text, char *out, size_t size) {
  const char *s = text.s, *end = text.s + text.len;
  size_t n = 0;
  for (; s < end; s++) {
    int c = *s == '+' ? ' ' : (unsigned char)*s;
    if (*s == '%') {
      c = target_escaped(s, end);
      s += 2;
    }
    if (c <= 0 || (out && n + 1 >= size)) return SEGUE_ESYNTAX;
    if (out) out[n] = (char)c;
    n++;
  }
  if (out) out[n] = 0;
  return (int)n;
}

bool segue__http_query_next(segue__http_text *rest, segue__http_text *name,
                            segue__http_text *value) {
  if (!rest->len) return false;
  const char *s = rest->s, *end = rest->s + rest->len;
  const char *stop = memchr(s, '&', rest->len);
  if (!stop) stop = end;
  const char *equals = memchr(s, '=', (size_t)(stop - s));
  *name = (segue__http_text){s, (size_t)((equals ? equals : stop) - s)};
  *value = equals ? (segue__http_text){equals + 1, (size_t)(stop - equals - 1)}
                  : (segue__http_text){stop, 0};
  rest->s = stop < end ? stop + 1 : end;
  rest->len = (size_t)(end - rest->s);
  return true;
}

bool segue__http_query_find(segue__http_text query, const char *name, char *buf, size_t size) {
  segue__http_text this_name, value;
  while (segue__http_query_next(&query, &this_name, &value)) {
    char key[64];
    if (segue__http_query_decode(this_name, key, sizeof key) < 0 || strcmp(key, name) != 0)
      continue;
    return size && segue__http_query_decode(value, buf, size) >= 0;
  }
  return false;
}

/* SPDX-License-Identifier: MIT
 *
 * Formats of names and addresses: IPv4, IPv6, host names (RFC 1123), URIs and references (RFC 3986;
 * IRIs of RFC 3987 allow what lies above ASCII), URI templates (RFC 6570), mail addresses (RFC
 * 5321).
 */
#include <string.h>

#include "../os/hex.h"
#include "../os/text.h"
#include "schema_internal.h"

static bool format_uri_is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool format_uri_is_letter(char c) {
  return (c | 32) >= 'a' && (c | 32) <= 'z';
}

int segue__format_ipv4(const char *s, size_t len) {
  const char *end = s + len;
  for (int part = 0; part < 4; part++) {
    if (part && (s == end || *s++ != '.')) return 0;
    int value = 0;
    const char *start = s;
    for (; s < end && format_uri_is_digit(*s) && s - start < 3; s++)
      value = value * 10 + (*s - '0');
    if (s == start || value > 255 || (s - start > 1 && *start == '0')) return 0;
  }
  return s == end;
}

int segue__format_ipv6(const char *s, size_t len) {
  const char *end = s + len;
  int groups = 0;
  bool gap = false, after_colon = false;
  if (len >= 2 && s[0] == ':' && s[1] == ':') {
    gap = true;
    s += 2;
  }
  while (s < end) {
    const char *start = s;
    while (s < end && segue__hex_value(*s) >= 0)
      s++;
    if (s < end && *s == '.') { /* the last 32 bits as IPv4 */
      if (!segue__format_ipv4(start, (size_t)(end - start))) return 0;
      groups += 2;
      after_colon = false;
      break;
    }
    if (s == start || s - start > 4) return 0;
    groups++;
    after_colon = false;
    if (s == end) break;
    if (*s++ != ':') return 0;
    after_colon = true;
    if (s < end && *s == ':') {
      if (gap) return 0;
      gap = true;
      after_colon = false;
      s++;
    }
  }
  return !after_colon && (gap ? groups < 8 : groups == 8);
}

int segue__format_hostname(const char *s, size_t len) {
  if (!len || len > 253) return 0;
  size_t label = 0;
  for (size_t i = 0; i <= len; i++) {
    if (i == len || s[i] == '.') {
      if (!label || label > 63 || s[i - 1] == '-' || s[i - label] == '-') return 0;
      /* "--" in the third place is kept for encodings; only "xn--" is one. */
      if (label > 4 && s[i - label + 2] == '-' && s[i - label + 3] == '-' &&
          ((s[i - label] | 32) != 'x' || (s[i - label + 1] | 32) != 'n'))
        return 0;
      label = 0;
    } else if (format_uri_is_letter(s[i]) || format_uri_is_digit(s[i]) || s[i] == '-') {
      label++;
    } else {
      return 0;
    }
  }
  return 1;
}

/* ---- URIs ------------------------------------------------------------------------------------ */

/* Accepts only characters that are allowed in this part, and complete %XX. */
static bool format_uri_part(const char *s, const char *end, const char *more, bool wide) {
  for (; s < end; s++) {
    if (*s == '%') {
      if (end - s < 3 || segue__hex_value(s[1]) < 0 || segue__hex_value(s[2]) < 0) return false;
      s += 2;
    } else if (!(format_uri_is_letter(*s) || format_uri_is_digit(*s) ||
                 segue__is_one_of(*s, "-._~!$&'()*+,;=") || segue__is_one_of(*s, more) ||
                 (wide && (unsigned char)*s >= 128))) {
      return false;
    }
  }
  return true;
}

static const char *format_uri_until(const char *s, const char *end, const char *stops) {
  while (s < end && !segue__is_one_of(*s, stops))
    s++;
  return s;
}

/* Checks [v6] or [vX.y]. */
static bool ip_literal(const char *s, const char *end) {
  if (s < end && (*s | 32) == 'v') {
    const char *dot = s + 1;
    while (dot < end && segue__hex_value(*dot) >= 0)
      dot++;
    return dot > s + 1 && dot + 1 < end && *dot == '.' && format_uri_part(dot + 1, end, ":", false);
  }
  return segue__format_ipv6(s, (size_t)(end - s)) == 1;
}

static bool format_uri_authority(const char *s, const char *end, bool wide) {
  const char *at = memchr(s, '@', (size_t)(end - s));
  if (at) {
    if (!format_uri_part(s, at, ":", wide)) return false;
    s = at + 1;
  }
  const char *host_end = s;
  if (s < end && *s == '[') {
    const char *close = memchr(s, ']', (size_t)(end - s));
    if (!close || !ip_literal(s + 1, close)) return false;
    host_end = close + 1;
  } else {
    host_end = format_uri_until(s, end, ":");
    if (!format_uri_part(s, host_end, "", wide)) return false;
  }
  if (host_end < end && *host_end++ != ':') return false;
  for (; host_end < end; host_end++)
    if (!format_uri_is_digit(*host_end)) return false;
  return true;
}

static int format_uri_reference(const char *s, size_t len, bool absolute, bool wide) {
  const char *end = s + len, *p = s;
  while (p < end && (format_uri_is_letter(*p) ||
                     (p > s && (format_uri_is_digit(*p) || segue__is_one_of(*p, "+-.")))))
    p++;
  bool scheme = p > s && p < end && *p == ':';
  if (absolute && !scheme) return 0;
  if (scheme) s = p + 1;
  bool has_authority = end - s >= 2 && s[0] == '/' && s[1] == '/';
  if (has_authority) {
    const char *stop = format_uri_until(s + 2, end, "/?#");
    if (!format_uri_authority(s + 2, stop, wide)) return 0;
    s = stop;
  }
  const char *path_end = format_uri_until(s, end, "?#");
  /* Without a scheme a colon in the first segment would make one. */
  if (!scheme && !has_authority && memchr(s, ':', (size_t)(format_uri_until(s, path_end, "/") - s)))
    return 0;
  if (!format_uri_part(s, path_end, "/:@", wide)) return 0;
  s = path_end;
  if (s < end && *s == '?') {
    const char *stop = format_uri_until(s + 1, end, "#");
    if (!format_uri_part(s + 1, stop, "/?:@", wide)) return 0;
    s = stop;
  }
  return s == end || format_uri_part(s + 1, end, "/?:@", wide);
}

int segue__format_uri(const char *s, size_t len) {
  return format_uri_reference(s, len, true, false);
}

int segue__format_uri_reference(const char *s, size_t len) {
  return format_uri_reference(s, len, false, false);
}

int segue__format_iri(const char *s, size_t len) {
  return format_uri_reference(s, len, true, true);
}

int segue__format_iri_reference(const char *s, size_t len) {
  return format_uri_reference(s, len, false, true);
}

/* Reads one variable of an expression: its name, then ":n" or "*". */
static const char *template_variable(const char *s, const char *end) {
  const char *start = s;
  while (s < end && (format_uri_is_letter(*s) || format_uri_is_digit(*s) || *s == '_' ||
                     *s == '.' || *s == '%')) {
    if (*s == '.' && (s == start || s[-1] == '.')) return NULL;
    if (*s == '%') {
      if (end - s < 3 || segue__hex_value(s[1]) < 0 || segue__hex_value(s[2]) < 0) return NULL;
      s += 2;
    }
    s++;
  }
  if (s == start || s[-1] == '.') return NULL;
  if (s < end && *s == '*') return s + 1;
  if (s < end && *s == ':') {
    const char *number = ++s;
    while (s < end && format_uri_is_digit(*s))
      s++;
    if (s == number || s - number > 4 || *number == '0') return NULL;
  }
  return s;
}

static const char *template_expression(const char *s, const char *end) {
  if (s < end && segue__is_one_of(*s, "+#./;?&=,!@|")) s++;
  for (;;) {
    s = template_variable(s, end);
    if (!s || s == end) return NULL;
    if (*s == '}') return s + 1;
    if (*s++ != ',') return NULL;
  }
}

int segue__format_uri_template(const char *s, size_t len) {
  const char *end = s + len;
  while (s < end) {
    if (*s == '{') {
      s = template_expression(s + 1, end);
      if (!s) return 0;
    } else if (*s == '%') {
      if (end - s < 3 || segue__hex_value(s[1]) < 0 || segue__hex_value(s[2]) < 0) return 0;
      s += 3;
    } else {
      if ((unsigned char)*s <= ' ' || segue__is_one_of(*s, "\"<>\\^`|}") || *s == 127) return 0;
      s++;
    }
  }
  return 1;
}

/* ---- Mail ------------------------------------------------------------------------------------ */

/* Reads the local part. Returns its end (at "@"), or NULL. */
static const char *quoted_local(const char *s, const char *end, bool wide) {
  for (s++; s < end && *s != '"'; s++) {
    if (*s == '\\') s++;
    if (s == end || (unsigned char)*s < ' ' || (!wide && (unsigned char)*s > 126)) return NULL;
  }
  return s < end ? s + 1 : NULL;
}

static const char *plain_local(const char *s, const char *end, bool wide) {
  const char *start = s;
  for (; s < end && *s != '@'; s++) {
    if (*s == '.' && (s == start || s[-1] == '.' || s + 1 == end || s[1] == '@')) return NULL;
    if (!(format_uri_is_letter(*s) || format_uri_is_digit(*s) ||
          segue__is_one_of(*s, ".!#$%&'*+-/=?^_`{|}~") || (wide && (unsigned char)*s >= 128)))
      return NULL;
  }
  return s > start ? s : NULL;
}

static int format_uri_mail(const char *s, size_t len, bool wide) {
  const char *end = s + len;
  const char *at = len && *s == '"' ? quoted_local(s, end, wide) : plain_local(s, end, wide);
  if (!at || at == end || *at != '@' || at - s > 64) return 0;
  const char *domain = at + 1;
  size_t left = (size_t)(end - domain);
  if (left > 2 && *domain == '[' && end[-1] == ']') {
    if (left > 7 && !memcmp(domain, "[IPv6:", 6)) return segue__format_ipv6(domain + 6, left - 7);
    return segue__format_ipv4(domain + 1, left - 2);
  }
  if (!wide) return segue__format_hostname(domain, left);
  for (const char *p = domain; p < end; p++)
    if (!(format_uri_is_letter(*p) || format_uri_is_digit(*p) || *p == '-' ||
          (unsigned char)*p >= 128 || (*p == '.' && p > domain && p + 1 < end && p[-1] != '.')))
      return 0;
  return left > 0;
}

int segue__format_email(const char *s, size_t len) {
  return format_uri_mail(s, len, false);
}

int segue__format_idn_email(const char *s, size_t len) {
  return format_uri_mail(s, len, true);
}

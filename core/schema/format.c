/* SPDX-License-Identifier: MIT
 *
 * Formats: dates and times (RFC 3339), pointers, UUIDs, regular expressions, and our own notation
 * for times and sizes. Addresses and URIs are in format_uri.c.
 */
#include <string.h>
#include <uv.h>

#include "../os/hex.h"
#include "../os/units.h"
#include "schema_internal.h"

static bool format_is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* Returns the value of n digits at s, or -1. */
static int format_digits(const char *s, size_t n) {
  int value = 0;
  for (size_t i = 0; i < n; i++) {
    if (!format_is_digit(s[i])) return -1;
    value = value * 10 + (s[i] - '0');
  }
  return value;
}

static int check_date(const char *s, size_t len) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (len != 10 || s[4] != '-' || s[7] != '-') return 0;
  int year = format_digits(s, 4), month = format_digits(s + 5, 2), day = format_digits(s + 8, 2);
  if (year < 0 || month < 1 || month > 12 || day < 1) return 0;
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return day <= days[month - 1] + (month == 2 && leap);
}

/* Reads "Z" or "+hh:mm". *offset is the number of minutes east of Greenwich. */
static bool check_zone(const char *s, size_t len, int *offset) {
  *offset = 0;
  if (len == 1) return (*s | 32) == 'z';
  if (len != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':') return false;
  int hour = format_digits(s + 1, 2), minute = format_digits(s + 4, 2);
  *offset = (hour * 60 + minute) * (s[0] == '-' ? -1 : 1);
  return hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59;
}

static int check_time(const char *s, size_t len) {
  if (len < 9 || s[2] != ':' || s[5] != ':') return 0;
  int hour = format_digits(s, 2), minute = format_digits(s + 3, 2),
      second = format_digits(s + 6, 2), offset;
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return 0;
  size_t i = 8;
  if (s[i] == '.') {
    for (i++; i < len && format_is_digit(s[i]);)
      i++;
    if (i == 9) return 0;
  }
  if (i >= len || !check_zone(s + i, len - i, &offset)) return 0;
  /* A leap second is the last one of a day in UTC. */
  int utc = ((hour * 60 + minute - offset) % 1440 + 1440) % 1440;
  return second < 60 || utc == 1439;
}

static int check_date_time(const char *s, size_t len) {
  return len > 11 && (s[10] | 32) == 't' && check_date(s, 10) && check_time(s + 11, len - 11);
}

/* Reads numbers with units. Each unit must stand right behind the previous one in `units`. Returns
 * the end, or NULL. */
static const char *read_units(const char *p, const char *end, const char *units) {
  const char *unit = NULL;
  while (p < end && *p != 'T') {
    const char *number = p;
    while (p < end && format_is_digit(*p))
      p++;
    const char *found = p < end && p > number ? memchr(units, *p, strlen(units)) : NULL;
    if (!found || (unit && found != unit + 1)) return NULL;
    unit = found;
    p++;
  }
  return unit ? p : NULL;
}

/* The form is that of RFC 3339, appendix A: no unit between two others is left out, and weeks
 * exclude other units. */
static int check_duration(const char *s, size_t len) {
  const char *p = s + 1, *end = s + len;
  if (len < 3 || *s != 'P') return 0;
  if (end[-1] == 'W') return read_units(p, end, "W") == end;
  if (*p != 'T') p = read_units(p, end, "YMD");
  if (p && p < end) p = read_units(p + 1, end, "HMS");
  return p == end;
}

static int check_uuid(const char *s, size_t len) {
  if (len != 36) return 0;
  for (size_t i = 0; i < len; i++) {
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? s[i] != '-' : segue__hex_value(s[i]) < 0) return 0;
  }
  return 1;
}

static int check_json_pointer(const char *s, size_t len) {
  if (len && *s != '/') return 0;
  for (size_t i = 0; i < len; i++)
    if (s[i] == '~' && (i + 1 == len || (s[i + 1] != '0' && s[i + 1] != '1'))) return 0;
  return 1;
}

static int check_relative_pointer(const char *s, size_t len) {
  size_t n = 0;
  while (n < len && format_is_digit(s[n]))
    n++;
  if (!n || (n > 1 && *s == '0')) return 0;
  return (len - n == 1 && s[n] == '#') || check_json_pointer(s + n, len - n);
}

static int check_regex(const char *s, size_t len) {
  segue__regex *regex;
  segue_error err;
  int rc = segue__regex_new(&regex, s, len, &err);
  segue__regex_free(regex);
  return rc == UV_ENOMEM ? rc : rc == 0 || rc == UV_ENOTSUP; /* good is not only what we can run */
}

static int check_segue_duration(const char *s, size_t len) {
  double ms;
  return segue__duration_read(s, len, &ms);
}

static int check_segue_bytesize(const char *s, size_t len) {
  double bytes;
  return segue__size_read(s, len, &bytes);
}

static const segue__format_def formats[] = {
    {"ipv4", "an IPv4 address such as 192.0.2.1", segue__format_ipv4, false},
    {"ipv6", "an IPv6 address such as 2001:db8::1", segue__format_ipv6, false},
    {"hostname", "a host name", segue__format_hostname, false},
    {"uri", "an absolute URI such as https://example.com/", segue__format_uri, false},
    {"uri-reference", "a URI or a relative reference", segue__format_uri_reference, false},
    {"iri", "an absolute IRI", segue__format_iri, false},
    {"iri-reference", "an IRI or a relative reference", segue__format_iri_reference, false},
    {"uri-template", "a URI template", segue__format_uri_template, false},
    {"email", "an e-mail address", segue__format_email, false},
    {"idn-email", "an e-mail address", segue__format_idn_email, false},
    {"idn-hostname", "an internationalized host name", NULL, false},
    {"date-time", "a date and time such as 2030-12-31T23:59:00Z", check_date_time, false},
    {"date", "a date such as 2030-12-31", check_date, false},
    {"time", "a time such as 23:59:00Z", check_time, false},
    {"duration", "an ISO 8601 duration such as PT1H30M", check_duration, false},
    {"uuid", "a UUID", check_uuid, false},
    {"regex", "a regular expression of ECMA-262", check_regex, false},
    {"json-pointer", "a JSON pointer", check_json_pointer, false},
    {"relative-json-pointer", "a relative JSON pointer", check_relative_pointer, false},
    {"segue-duration", "a duration such as 500ms, 10s or 1h30m", check_segue_duration, true},
    {"segue-bytesize", "a size such as 4096, 10kB or 64MiB", check_segue_bytesize, true},
};

const segue__format_def *segue__format_find(const char *name, size_t len) {
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
    if (strlen(formats[i].name) == len && !memcmp(formats[i].name, name, len)) return &formats[i];
  return NULL;
}

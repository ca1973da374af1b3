/* SPDX-License-Identifier: MIT
 *
 * Durations and sizes as text.
 */
#include "units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct unit {
  const char *name;
  double factor;
} unit;

static const unit times[] = {{"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
static const unit sizes[] = {{"B", 1},     {"kB", 1e3},
                             {"KB", 1e3},  {"KiB", 1024},
                             {"MB", 1e6},  {"MiB", 1024.0 * 1024},
                             {"GB", 1e9},  {"GiB", 1024.0 * 1024 * 1024},
                             {"TB", 1e12}, {"TiB", 1024.0 * 1024 * 1024 * 1024},
                             {"PB", 1e15}, {"PiB", 1024.0 * 1024 * 1024 * 1024 * 1024}};

/* Reads digits with an optional fraction. strtod(3) is not used: it accepts signs, exponents,
 * hexadecimal digits and "inf", and depends on the locale. Returns the end, or s itself if there is
 * no number. */
static const char *units_number(const char *s, const char *end, double *n) {
  const char *p = s;
  double scale = 1;
  *n = 0;
  for (; p < end && *p >= '0' && *p <= '9'; p++)
    *n = *n * 10 + (*p - '0');
  if (p == s || p == end || *p != '.') return p;
  for (p++; p < end && *p >= '0' && *p <= '9'; p++) {
    scale /= 10;
    *n += (*p - '0') * scale;
  }
  return p;
}

static const char *units_letters(const char *s, const char *end) {
  while (s < end && ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
    s++;
  return s;
}

static const unit *units_find(const unit *units, size_t count, const char *s, size_t len) {
  for (size_t i = 0; i < count; i++)
    if (strlen(units[i].name) == len && !memcmp(units[i].name, s, len)) return &units[i];
  return NULL;
}

bool segue__duration_read(const char *s, size_t len, double *ms) {
  const char *end = s + len;
  double total = 0;
  if (!len) return false;
  while (s < end) {
    double n;
    const char *name = units_number(s, end, &n);
    const char *after = units_letters(name, end);
    const unit *found =
        units_find(times, sizeof times / sizeof *times, name, (size_t)(after - name));
    if (name == s || !found) return false;
    total += n * found->factor;
    s = after;
  }
  *ms = total;
  return true;
}

bool segue__size_read(const char *s, size_t len, double *bytes) {
  const char *end = s + len;
  double n;
  const char *name = units_number(s, end, &n);
  if (name == s) return false;
  const unit *found = units_find(sizes, sizeof sizes / sizeof *sizes, name, (size_t)(end - name));
  if (!found && name < end) return false;
  *bytes = n * (found ? found->factor : 1);
  return true;
}

bool segue__duration_of(const char *text, uint64_t *ms) {
  size_t len = strlen(text);
  double value;
  if (len && units_number(text, text + len, &value) == text + len)
    value *= 1000;
  else if (!segue__duration_read(text, len, &value))
    return false;
  if (!(value <= SEGUE__DURATION_MAX_MS)) return false;
  *ms = (uint64_t)llround(value);
  return true;
}

const char *segue__duration_text(double ms, char buf[SEGUE__UNITS_SIZE]) {
  size_t len = 0;
  buf[0] = 0;
  for (size_t i = sizeof times / sizeof *times; i-- > 0 && ms > 0 && len < 32;) {
    double n = i ? floor(ms / times[i].factor) : ms;
    if (!(n > 0)) continue;
    int added = snprintf(buf + len, (size_t)SEGUE__UNITS_SIZE - len, "%.12g%s", n, times[i].name);
    if (added > 0) len += (size_t)added;
    ms -= n * times[i].factor;
  }
  if (!len) snprintf(buf, SEGUE__UNITS_SIZE, "0s");
  return buf;
}

const char *segue__size_text(double bytes, char buf[SEGUE__UNITS_SIZE]) {
  const unit *best = &sizes[0];
  for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++)
    if (bytes >= sizes[i].factor && fmod(bytes, sizes[i].factor) == 0 &&
        strcmp(sizes[i].name, "KB"))
      best = &sizes[i];
  snprintf(buf, SEGUE__UNITS_SIZE, "%.15g%s", bytes / best->factor, best->name);
  return buf;
}

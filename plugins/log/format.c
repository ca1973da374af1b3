/* SPDX-License-Identifier: MIT
 *
 * Formats entries as text for people or as JSON for machines. An entry is one line: line breaks and
 * other control characters are escaped, so that a logged value cannot forge a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static const char *const levels[] = {"error", "warn", "info", "debug"};

/* ---- Text that grows ---- */

void log_text_init(log_text *text, char *memory, size_t size) {
  *text = (log_text){.data = memory, .cap = size};
}

void log_text_deinit(log_text *text) {
  if (text->owned) free(text->data);
}

static bool format_grow(log_text *text, size_t len) {
  size_t cap = text->cap * 2 > text->len + len ? text->cap * 2 : text->len + len;
  char *more = text->failed ? NULL : malloc(cap);
  if (!more) {
    text->failed = true;
    return false;
  }
  memcpy(more, text->data, text->len);
  log_text_deinit(text);
  text->data = more;
  text->cap = cap;
  text->owned = true;
  return true;
}

static void format_add(log_text *text, const char *data, size_t len) {
  if (len > text->cap - text->len && !format_grow(text, len)) return;
  memcpy(text->data + text->len, data, len);
  text->len += len;
}

static void format_adds(log_text *text, const char *s) {
  format_add(text, s, strlen(s));
}

static void format_add_number(log_text *text, int64_t number) {
  char digits[24], *end = digits + sizeof digits, *at = end;
  uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
  do
    *--at = (char)('0' + rest % 10);
  while (rest /= 10);
  if (number < 0) *--at = '-';
  format_add(text, at, (size_t)(end - at));
}

/* ---- Escaping ---- */

/* Returns the number of bytes of the UTF-8 sequence at s, or 0 if it is malformed: only shortest
 * forms, no surrogates. */
static size_t format_sequence(const unsigned char *s) {
  size_t len = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
  for (size_t i = 1; i < len; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
      (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
    return 0;
  return len;
}

static void add_control(log_text *text, unsigned char c, bool json) {
  char escaped[8];
  if (c == '\n')
    format_adds(text, "\\n");
  else if (c == '\t' && json)
    format_adds(text, "\\t");
  else if (c == '\r')
    format_adds(text, "\\r");
  else
    format_add(text, escaped,
               (size_t)snprintf(escaped, sizeof escaped, json ? "\\u%04x" : "\\x%02x", c));
}

/* Returns the code point of a sequence that a terminal obeys or that changes the direction of text
 * (C1, U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069), else 0. */
static unsigned odd_sequence(const unsigned char *s, size_t len) {
  unsigned code = len == 2   ? (s[0] & 31u) << 6 | (s[1] & 63u)
                  : len == 3 ? (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u)
                             : 0;
  bool odd = (code >= 0x80 && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
             (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  return odd ? code : 0;
}

static void add_odd(log_text *text, unsigned code) {
  char escaped[8];
  format_add(text, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", code));
}

/* quoted: quotes and backslashes are escaped too. Runs of ordinary characters are copied at once.
 */
static void add_clean(log_text *text, const char *s, bool quoted, bool json) {
  const char *run = s;
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    size_t len = c < 0x80 ? 1 : format_sequence((const unsigned char *)s);
    unsigned odd = odd_sequence((const unsigned char *)s, len);
    bool plain = (len > 1 && !odd) ||
                 (len == 1 && c >= 32 && c != 127 && !(quoted && (c == '"' || c == '\\')));
    if (plain) {
      s += len - 1;
      continue;
    }
    format_add(text, run, (size_t)(s - run));
    s += len > 1 ? len - 1 : 0;
    run = s + 1;
    if (odd)
      add_odd(text, odd);
    else if (!len)
      format_adds(text, "\xef\xbf\xbd"); /* U+FFFD for a byte that is not UTF-8 */
    else if (c == '"' || c == '\\')
      format_add(text, (char[]){'\\', (char)c}, 2);
    else
      add_control(text, c, json);
  }
  format_add(text, run, (size_t)(s - run));
}

static void add_string(log_text *text, const char *s, bool json) {
  format_add(text, "\"", 1);
  add_clean(text, s, true, json);
  format_add(text, "\"", 1);
}

/* ---- Lines ---- */

/* Writes the text in quotes if it would not be read as one word. */
static void format_add_word(log_text *text, const char *s) {
  if (!*s || strpbrk(s, " \"=\\\t\r\n"))
    add_string(text, s, false);
  else
    add_clean(text, s, false, false);
}

static void format_text(log_text *out, const segue_log_entry *entry) {
  format_add(out, " ", 1);
  format_adds(out, levels[entry->level]);
  if (strlen(levels[entry->level]) < 5) format_add(out, " ", 1);
  format_add(out, " ", 1);
  if (*entry->group) {
    add_clean(out, entry->group, false, false);
    format_add(out, ": ", 2);
  }
  add_clean(out, entry->message, false, false);
  for (size_t i = 0; i < entry->field_count; i++) {
    format_add(out, " ", 1);
    format_add_word(out, entry->fields[i].key);
    format_add(out, "=", 1);
    if (entry->fields[i].text)
      format_add_word(out, entry->fields[i].text);
    else
      format_add_number(out, entry->fields[i].number);
  }
  format_add(out, "\n", 1);
}

static void format_json(log_text *out, const segue_log_entry *entry) {
  format_adds(out, "\",\"level\":\"");
  format_adds(out, levels[entry->level]);
  format_adds(out, "\",\"group\":");
  add_string(out, entry->group, true);
  format_adds(out, ",\"message\":");
  add_string(out, entry->message, true);
  for (size_t i = 0; i < entry->field_count; i++) {
    format_add(out, ",", 1);
    add_string(out, entry->fields[i].key, true);
    format_add(out, ":", 1);
    if (entry->fields[i].text)
      add_string(out, entry->fields[i].text, true);
    else
      format_add_number(out, entry->fields[i].number);
  }
  format_add(out, "}\n", 2);
}

void log_format(log_text *out, const segue_log_entry *entry, bool json) {
  if (json)
    format_json(out, entry);
  else
    format_text(out, entry);
}

uint64_t log_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void log_clock_format(log_clock *clock, uint64_t ns, char *out) {
  struct tm tm;
  time_t second = (time_t)(ns / 1000000000);
  if (clock->second != second || !clock->text[0]) {
    gmtime_r(&second, &tm);
    strftime(clock->text, sizeof clock->text, "%Y-%m-%dT%H:%M:%S", &tm);
    clock->second = second;
  }
  unsigned ms = (unsigned)(ns / 1000000 % 1000);
  memcpy(out, clock->text, 19);
  out[19] = '.';
  out[20] = (char)('0' + ms / 100 % 10);
  out[21] = (char)('0' + ms / 10 % 10);
  out[22] = (char)('0' + ms % 10);
  out[23] = 'Z';
}

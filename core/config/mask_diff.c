/* SPDX-License-Identifier: MIT
 *
 * Secrets in unified diffs. A value of several lines (a key, wrapped base64) has a sign of the diff
 * before each of its lines, and the lines of the other version stand between them, so no search
 * through the diff as it is finds it. Each hunk is split into the lines of the earlier version and
 * those of the later one; both are searched as texts, and the hunk is put together again. A line of
 * both versions is hidden where either search hides it: only in one of them the lines around it may
 * belong to the same value.
 *
 * A hunk shows a part of a file, so its first line may be the middle of an encoded value.
 */
#include <string.h>

#include "mask_internal.h"

enum { EARLIER, LATER, VERSIONS };

/* A line without its sign and its line break; text NULL: there is none. */
typedef struct diff_text {
  const char *text;
  size_t len;
} diff_text;

static size_t diff_line_len(const char *text, size_t left) {
  const char *end = memchr(text, '\n', left);
  return end ? (size_t)(end - text) : left;
}

/* Returns whether a line of a hunk, which begins with this sign, is one of a version. */
static bool diff_is_of(char sign, int version) {
  return sign == ' ' || sign == (version == EARLIER ? '-' : '+');
}

/* Collects the lines of one version, and hides its secrets. */
static void diff_clean_version(const segue__mask *mask, const char *hunk, size_t len, int version,
                               segue__buf *plain, segue__buf *clean) {
  for (size_t i = 0; i < len;) {
    size_t n = diff_line_len(hunk + i, len - i);
    if (n && diff_is_of(hunk[i], version)) {
      segue__buf_add(plain, hunk + i + 1, n - 1);
      segue__buf_addc(plain, '\n');
    }
    i += n + 1;
  }
  if (plain->len && !plain->failed) segue__mask_part(mask, plain->data, plain->len, clean);
}

/* Takes the next line off a text. */
static diff_text diff_next(const segue__buf *text, size_t *at) {
  size_t len = *at < text->len ? diff_line_len(text->data + *at, text->len - *at) : 0;
  diff_text line = {len ? text->data + *at : "", len};
  *at += len + 1;
  return line;
}

static bool diff_same(diff_text a, diff_text b) {
  return a.len == b.len && !memcmp(a.text, b.text, a.len);
}

/* Writes a line of both versions. Where the two searches hid different parts of it, nothing of it
 * is shown. */
static void diff_write_common(segue__buf *out, diff_text plain, const diff_text clean[2]) {
  bool first = diff_same(plain, clean[EARLIER]), second = diff_same(plain, clean[LATER]);
  diff_text shown = first ? clean[LATER] : clean[EARLIER];
  if (!first && !second && !diff_same(clean[EARLIER], clean[LATER]))
    shown = (diff_text){SEGUE__MASKED, sizeof SEGUE__MASKED - 1};
  segue__buf_add(out, shown.text, shown.len);
}

static void diff_clean_hunk(const segue__mask *mask, const char *hunk, size_t len,
                            segue__buf *out) {
  segue__buf plain[VERSIONS], clean[VERSIONS];
  size_t at[VERSIONS] = {0};
  for (int i = 0; i < VERSIONS; i++) {
    segue__buf_init(&plain[i]);
    segue__buf_init(&clean[i]);
    diff_clean_version(mask, hunk, len, i, &plain[i], &clean[i]);
    out->failed |= plain[i].failed || clean[i].failed;
  }
  for (size_t i = 0; i < len && !out->failed;) {
    size_t n = diff_line_len(hunk + i, len - i);
    diff_text next[VERSIONS] = {{0}};
    for (int v = 0; v < VERSIONS; v++)
      if (n && diff_is_of(hunk[i], v)) next[v] = diff_next(&clean[v], &at[v]);
    segue__buf_add(out, hunk + i, n ? 1 : 0);
    if (next[EARLIER].text && next[LATER].text)
      diff_write_common(out, (diff_text){hunk + i + 1, n - 1}, next);
    else if (next[EARLIER].text || next[LATER].text)
      segue__buf_add(out, next[next[LATER].text != NULL].text, next[next[LATER].text != NULL].len);
    else if (n) /* "\ No newline at end of file" */
      segue__mask_lines(mask, hunk + i + 1, n - 1, out);
    i += n;
    if (i < len) segue__buf_addc(out, hunk[i++]);
  }
  for (int i = 0; i < VERSIONS; i++) {
    segue__buf_deinit(&plain[i]);
    segue__buf_deinit(&clean[i]);
  }
}

/* Returns the length of the lines up to the next head of a hunk. */
static size_t diff_hunk_len(const char *text, size_t left) {
  size_t len = 0;
  while (len < left && text[len] != '@') {
    len += diff_line_len(text + len, left - len);
    if (len < left) len++;
  }
  return len;
}

void segue__mask_diff(const segue__mask *mask, const char *diff, size_t len, segue__buf *out) {
  if (!segue__mask_knows(mask)) {
    segue__buf_add(out, diff, len);
    return;
  }
  size_t head = diff_hunk_len(diff, len); /* "--- name" and "+++ name" */
  segue__mask_lines(mask, diff, head, out);
  for (size_t i = head; i < len;) {
    size_t n = diff_line_len(diff + i, len - i);
    if (i + n < len) n++;
    segue__mask_lines(mask, diff + i, n, out);
    i += n;
    n = diff_hunk_len(diff + i, len - i);
    diff_clean_hunk(mask, diff + i, n, out);
    i += n;
  }
}

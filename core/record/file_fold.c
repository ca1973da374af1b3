/* SPDX-License-Identifier: MIT
 *
 * Joins unified diffs. A file is a list of lines from its first version to its last one: a line of
 * both ("kept"), of the first one only ("removed"), of the last one only ("added"), and numbers of
 * kept lines that no diff has shown ("unseen"). The next diff is applied to the lines of the last
 * version: it drops a line that was added, and turns a kept line into a removed line. Lines are
 * found by their numbers alone, never by their text, because different secrets look alike (***);
 * for the same reason a removed and an added line with *** in it never count as equal.
 */
#include "file_fold.h"
#include "../os/text.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/mask.h"
#include "../config/printable.h"
#include "../os/mem.h"

/* FOLD_WORK: lines and names of files that are looked at, some 0.1 s of them: each reload that
 * changes a file walks over all lines that are known of it. */
enum { CONTEXT = 3, FOLD_WORK = 5000000, FILE_ROOM = 64 << 10, LIST_ROOM = 1 << 20 };

static const char broken_note[] =
    "another program changed it in between, so there is no difference";
static const char partial_note[] = "the history has only a part of its differences";

typedef enum fold_kind { FOLD_UNSEEN, FOLD_KEPT, FOLD_REMOVED, FOLD_ADDED } fold_kind;

typedef struct fold_line {
  fold_kind kind;
  bool no_break;    /* the last line of a file without a line break at its end */
  size_t count;     /* of unseen lines; else 1 */
  const char *text; /* in the arena, without the line break */
  size_t len;
} fold_line;

typedef struct fold_lines {
  fold_line *items;
  size_t count, capacity;
  bool failed; /* no memory */
} fold_lines;

typedef struct fold_file {
  const char *module, *path, *note; /* in the arena, or constant */
  segue__file_side before, after;
  fold_lines lines;
} fold_file;

struct segue__file_fold {
  segue__arena arena;
  fold_file *files;
  size_t count, capacity;
  size_t hint; /* reloads list the same files in the same order: the search begins here */
  size_t work, more;
};

int segue__file_fold_new(segue__file_fold **out) {
  *out = segue__calloc(1, sizeof **out);
  if (!*out) return UV_ENOMEM;
  segue__arena_init(&(*out)->arena);
  return 0;
}

void segue__file_fold_free(segue__file_fold *fold) {
  if (!fold) return;
  for (size_t i = 0; i < fold->count; i++)
    segue__free(fold->files[i].lines.items);
  segue__free(fold->files);
  segue__arena_deinit(&fold->arena);
  segue__free(fold);
}

/* ---- One diff ---- */

static fold_line *lines_add(fold_lines *lines, fold_line line) {
  if (lines->count == lines->capacity) {
    size_t capacity = lines->capacity ? lines->capacity * 2 : 64;
    fold_line *items = segue__realloc(lines->items, capacity * sizeof *items);
    if (!items) {
      lines->failed = true;
      return NULL;
    }
    lines->items = items;
    lines->capacity = capacity;
  }
  lines->items[lines->count] = line;
  return &lines->items[lines->count++];
}

/* The lines before a diff, and behind it. Past the last line of `from` all lines are unseen. */
typedef struct fold_walk {
  fold_lines *from;
  fold_lines to;
  size_t at, taken; /* the next line of `from`, and how many of it are gone if it is unseen ones */
  size_t number;    /* of the next line of the last version, from 1 */
} fold_walk;

/* Moves at most `most` lines of the last version to the new list. The removed lines in front of
 * them go with them. Returns how many it moved. */
static size_t walk_copy(fold_walk *walk, size_t most) {
  while (walk->at < walk->from->count && walk->from->items[walk->at].kind == FOLD_REMOVED)
    lines_add(&walk->to, walk->from->items[walk->at++]);
  fold_line unseen = {.kind = FOLD_UNSEEN, .count = most};
  const fold_line *line = walk->at < walk->from->count ? &walk->from->items[walk->at] : &unseen;
  fold_line part = *line;
  if (line->kind == FOLD_UNSEEN && line != &unseen) part.count -= walk->taken;
  if (part.count > most) part.count = most;
  lines_add(&walk->to, part);
  walk->number += part.count;
  if (line == &unseen) return part.count;
  walk->taken += part.count;
  if (walk->taken < line->count) return part.count;
  walk->at++;
  walk->taken = 0;
  return part.count;
}

static void walk_to(fold_walk *walk, size_t number) {
  while (walk->number < number && !walk->to.failed)
    walk_copy(walk, number - walk->number);
}

static void walk_end(fold_walk *walk) {
  while (walk->at < walk->from->count && !walk->to.failed) {
    const fold_line *line = &walk->from->items[walk->at];
    if (line->kind == FOLD_REMOVED)
      lines_add(&walk->to, walk->from->items[walk->at++]);
    else
      walk_copy(walk, line->count);
  }
}

/* Applies one line of a hunk. Returns the line of the new list that shows its text, or NULL. */
static fold_line *walk_apply(fold_walk *walk, char sign, const char *text, size_t len) {
  fold_line line = {.kind = FOLD_ADDED, .count = 1, .text = text, .len = len};
  if (sign == '+') return lines_add(&walk->to, line);
  walk_copy(walk, 1);
  if (walk->to.failed) return NULL;
  fold_line *last = &walk->to.items[walk->to.count - 1];
  fold_kind was = last->kind;
  line.kind = sign == '-' ? FOLD_REMOVED : FOLD_KEPT;
  if (was == FOLD_UNSEEN) {
    *last = line;
    return last;
  }
  if (sign == '-' && was == FOLD_ADDED)
    walk->to.count--;
  else if (sign == '-')
    last->kind = FOLD_REMOVED;
  return NULL;
}

/* Reads "@@ -a,b +c,d @@". *first: the line before which the hunk begins, from 1. */
static bool hunk_read(const char *text, size_t len, size_t *first) {
  char *end;
  if (len < 5 || memcmp(text, "@@ -", 4) != 0) return false;
  size_t begin = strtoul(text + 4, &end, 10), count = 1;
  if (*end == ',') count = strtoul(end + 1, NULL, 10);
  *first = count ? begin : begin + 1;
  return true;
}

/* Returns false if the text is not the rest of a diff behind its two first lines. A diff of the
 * daemon always is; the history on disk may be damaged. */
static bool diff_apply(fold_walk *walk, const char *text) {
  fold_line *last = NULL;
  bool inside = false;
  while (*text) {
    size_t len = strcspn(text, "\n"), first;
    if (*text == '@') {
      if (!hunk_read(text, len, &first) || first < walk->number) return false;
      walk_to(walk, first);
      inside = true;
    } else if (!inside || !segue__is_one_of(*text, "+- \\")) {
      return false;
    } else if (*text == '\\') {
      if (last) last->no_break = true;
    } else {
      last = walk_apply(walk, *text, text + 1, len - 1);
    }
    if (walk->to.failed) return true;
    text += len + (text[len] == '\n');
  }
  return true;
}

static int file_apply(segue__file_fold *fold, fold_file *file, const char *diff) {
  fold_walk walk = {.from = &file->lines, .number = 1};
  const char *text = strncmp(diff, "--- ", 4) == 0 ? strstr(diff, "\n+++ ") : NULL;
  if (text) text = strchr(text + 1, '\n');
  if (!text || !diff_apply(&walk, text + 1)) file->note = partial_note;
  walk_end(&walk);
  fold->work += walk.to.count;
  segue__free(file->lines.items);
  file->lines = walk.to;
  return walk.to.failed ? UV_ENOMEM : 0;
}

/* ---- Adding ---- */

static bool side_same_text(const segue__file_side *a, const segue__file_side *b) {
  return a->exists == b->exists && a->link == b->link && !strcmp(a->hash, b->hash);
}

static char *fold_copy(segue__file_fold *fold, const char *text) {
  return segue__arena_strndup(&fold->arena, text, strlen(text));
}

/* Finds the file, or adds it. NULL: no memory. */
static fold_file *fold_file_of(segue__file_fold *fold, const segue__file_change *change) {
  for (size_t i = 0; i < fold->count; i++) {
    fold_file *file = &fold->files[(fold->hint + i) % fold->count];
    fold->work++;
    if (strcmp(file->path, change->path) != 0) continue;
    fold->hint = (size_t)(file - fold->files) + 1;
    return file;
  }
  if (fold->count == fold->capacity) {
    size_t capacity = fold->capacity ? fold->capacity * 2 : 16;
    fold_file *files = segue__realloc(fold->files, capacity * sizeof *files);
    if (!files) return NULL;
    fold->files = files;
    fold->capacity = capacity;
  }
  fold_file file = {.module = "",
                    .path = fold_copy(fold, change->path),
                    .before = change->before,
                    .after = change->before};
  if (!file.path) return NULL;
  fold->files[fold->count] = file;
  return &fold->files[fold->count++];
}

static int fold_add_one(segue__file_fold *fold, const segue__file_change *change) {
  if (fold->work > FOLD_WORK) return SEGUE_ELIMIT;
  fold_file *file = fold_file_of(fold, change);
  if (!file) return UV_ENOMEM;
  if (strcmp(file->module, change->module) != 0) file->module = fold_copy(fold, change->module);
  if (!file->module) return UV_ENOMEM;
  if (!side_same_text(&file->after, &change->before)) file->note = broken_note;
  bool text = !side_same_text(&change->before, &change->after);
  bool whole = change->diff && !change->left_out;
  file->after = change->after;
  if (!text || file->note) return 0;
  /* An empty file has no lines: its difference to none is no diff. */
  if (!change->diff && !change->note && !change->before.size && !change->after.size) return 0;
  if (!whole) {
    file->note = change->note ? fold_copy(fold, change->note) : partial_note;
    return file->note ? 0 : UV_ENOMEM;
  }
  char *diff = fold_copy(fold, change->diff);
  return diff ? file_apply(fold, file, diff) : UV_ENOMEM;
}

int segue__file_fold_add(segue__file_fold *fold, const segue__file_changes *changes) {
  int rc = 0;
  if (fold->more < changes->more) fold->more = changes->more;
  for (size_t i = 0; i < changes->count && !rc; i++)
    rc = fold_add_one(fold, &changes->items[i]);
  return rc;
}

/* ---- The result ---- */

static bool line_equal(const fold_line *a, const fold_line *b) {
  return a->len == b->len && a->no_break == b->no_break && !memcmp(a->text, b->text, a->len) &&
         !memmem(a->text, a->len, SEGUE__MASKED, sizeof SEGUE__MASKED - 1);
}

static bool is_change(const fold_line *line) {
  return line->kind == FOLD_REMOVED || line->kind == FOLD_ADDED;
}

/* Returns the first line at or behind i that is not a change. */
static size_t block_end(const fold_lines *lines, size_t i) {
  while (i < lines->count && is_change(&lines->items[i]))
    i++;
  return i;
}

static void block_copy(fold_lines *out, const fold_lines *lines, size_t begin, size_t end,
                       fold_kind kind) {
  for (size_t i = begin; i < end; i++)
    if (lines->items[i].kind == kind) lines_add(out, lines->items[i]);
}

/* Adds the lines of a block: first the removed ones, then the added ones, but those that both have
 * at the beginning and at the end become kept ones. */
static void block_add(fold_lines *out, const fold_lines *lines, size_t begin, size_t end) {
  fold_lines a = {0}, b = {0};
  block_copy(&a, lines, begin, end, FOLD_REMOVED);
  block_copy(&b, lines, begin, end, FOLD_ADDED);
  size_t head = 0, tail = 0, least = a.count < b.count ? a.count : b.count;
  while (head < least && line_equal(&a.items[head], &b.items[head]))
    head++;
  while (tail < least - head &&
         line_equal(&a.items[a.count - tail - 1], &b.items[b.count - tail - 1]))
    tail++;
  for (size_t i = 0; i < a.count; i++)
    if (i < head || i >= a.count - tail) a.items[i].kind = FOLD_KEPT;
  for (size_t i = 0; i < a.count - tail; i++)
    lines_add(out, a.items[i]);
  for (size_t i = head; i < b.count - tail; i++)
    lines_add(out, b.items[i]);
  for (size_t i = a.count - tail; i < a.count; i++)
    lines_add(out, a.items[i]);
  if (a.failed || b.failed) out->failed = true;
  segue__free(a.items);
  segue__free(b.items);
}

static void lines_join(fold_lines *out, const fold_lines *lines) {
  for (size_t i = 0; i < lines->count && !out->failed;) {
    size_t end = block_end(lines, i);
    if (end > i)
      block_add(out, lines, i, end);
    else
      lines_add(out, lines->items[end++]);
    i = end;
  }
}

/* A hunk: lines [begin, end) of the list, and the numbers of the lines before it in both versions.
 */
typedef struct fold_hunk {
  size_t begin, end, a, b;
} fold_hunk;

static void write_range(segue__buf *out, char sign, size_t before, size_t count) {
  segue__buf_addf(out, "%c%zu", sign, count ? before + 1 : before);
  if (count != 1) segue__buf_addf(out, ",%zu", count);
}

static size_t count_kind(const fold_lines *lines, size_t begin, size_t end, fold_kind kind) {
  size_t count = 0;
  for (size_t i = begin; i < end; i++)
    count += lines->items[i].kind == kind;
  return count;
}

static void write_hunk(segue__buf *out, const fold_lines *lines, const fold_hunk *hunk) {
  size_t removed = count_kind(lines, hunk->begin, hunk->end, FOLD_REMOVED);
  size_t added = count_kind(lines, hunk->begin, hunk->end, FOLD_ADDED);
  size_t kept = hunk->end - hunk->begin - removed - added;
  segue__buf_adds(out, "@@ ");
  write_range(out, '-', hunk->a, kept + removed);
  segue__buf_addc(out, ' ');
  write_range(out, '+', hunk->b, kept + added);
  segue__buf_adds(out, " @@\n");
  for (size_t i = hunk->begin; i < hunk->end; i++) {
    const fold_line *line = &lines->items[i];
    segue__buf_addc(out, line->kind == FOLD_REMOVED ? '-' : line->kind == FOLD_ADDED ? '+' : ' ');
    segue__buf_add(out, line->text, line->len);
    segue__buf_addc(out, '\n');
    if (line->no_break) segue__buf_adds(out, "\\ No newline at end of file\n");
  }
}

/* Returns how many lines from i on, at most `most`, are kept ones with a known text. */
static size_t context_from(const fold_lines *lines, size_t i, size_t most) {
  size_t n = 0;
  while (n < most && i + n < lines->count && lines->items[i + n].kind == FOLD_KEPT)
    n++;
  return n;
}

static size_t context_before(const fold_lines *lines, size_t i) {
  size_t n = 0;
  while (n < CONTEXT && n < i && lines->items[i - n - 1].kind == FOLD_KEPT)
    n++;
  return n;
}

/* Two changes with at most twice the context between them are one hunk, as in text_diff.c. */
static void write_hunks(segue__buf *out, const fold_lines *lines) {
  size_t a = 0, b = 0; /* lines of both versions before i */
  for (size_t i = 0; i < lines->count;) {
    const fold_line *line = &lines->items[i];
    if (!is_change(line)) {
      a += line->count;
      b += line->count;
      i++;
      continue;
    }
    size_t before = context_before(lines, i), end = block_end(lines, i), between;
    for (;;) {
      between = context_from(lines, end, 2 * CONTEXT + 1);
      size_t next = end + between;
      if (between > 2 * CONTEXT || next == lines->count || !is_change(&lines->items[next])) break;
      end = block_end(lines, next);
    }
    size_t after = between < CONTEXT ? between : CONTEXT;
    write_hunk(out, lines, &(fold_hunk){i - before, end + after, a - before, b - before});
    a += (end - i) - count_kind(lines, i, end, FOLD_ADDED);
    b += (end - i) - count_kind(lines, i, end, FOLD_REMOVED);
    i = end;
  }
}

static int result_diff(const fold_file *file, segue__file_change *change) {
  segue__buf out;
  fold_lines lines = {0};
  lines_join(&lines, &file->lines);
  change->removed = count_kind(&lines, 0, lines.count, FOLD_REMOVED);
  change->added = count_kind(&lines, 0, lines.count, FOLD_ADDED);
  segue__buf_init(&out);
  const segue__file_side *sides[] = {&change->before, &change->after};
  for (size_t i = 0; i < 2; i++) {
    segue__buf_adds(&out, i ? "+++ " : "--- ");
    if (sides[i]->exists)
      segue__printable_add(&out, file->path, strlen(file->path));
    else
      segue__buf_adds(&out, "/dev/null");
    segue__buf_addc(&out, '\n');
  }
  write_hunks(&out, &lines);
  int rc = lines.failed || out.failed ? UV_ENOMEM : 0;
  segue__free(lines.items);
  if (!rc && (change->removed || change->added)) {
    change->diff = segue__strdup(out.data);
    if (!change->diff) rc = UV_ENOMEM;
  }
  segue__buf_deinit(&out);
  return rc;
}

static void file_turn(fold_file *file) {
  segue__file_side before = file->before;
  file->before = file->after;
  file->after = before;
  for (size_t i = 0; i < file->lines.count; i++) {
    fold_line *line = &file->lines.items[i];
    if (is_change(line)) line->kind = line->kind == FOLD_ADDED ? FOLD_REMOVED : FOLD_ADDED;
  }
}

static bool file_is_as_before(const fold_file *file) {
  const segue__file_side *a = &file->before, *b = &file->after;
  return side_same_text(a, b) && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

static int result_add(segue__file_changes *out, const fold_file *file) {
  segue__file_change *change = &out->items[out->count++];
  change->module = segue__strdup(file->module);
  change->path = segue__strdup(file->path);
  change->note = segue__strdup(file->note);
  change->before = file->before;
  change->after = file->after;
  if (!change->module || !change->path || (file->note && !change->note)) return UV_ENOMEM;
  if (file->note || side_same_text(&file->before, &file->after)) return 0;
  return result_diff(file, change);
}

int segue__file_fold_finish(segue__file_fold *fold, bool backward, segue__file_changes *out) {
  *out = (segue__file_changes){.items = segue__calloc(fold->count + 1, sizeof *out->items),
                               .more = fold->more};
  int rc = out->items ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < fold->count && !rc; i++) {
    fold_file *file = &fold->files[i];
    if (file_is_as_before(file)) continue;
    if (backward) file_turn(file);
    rc = result_add(out, file);
  }
  if (rc)
    segue__file_changes_deinit(out);
  else
    segue__file_changes_cut(out, FILE_ROOM, LIST_ROOM);
  return rc;
}

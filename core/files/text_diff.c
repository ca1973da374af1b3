/* SPDX-License-Identifier: MIT
 *
 * The diff of two texts. Lines become numbers (equal lines have the same one); lines that only one
 * side has are marked at once, and the algorithm of Myers finds the others: from both ends of a
 * region it follows the edit paths with ever more edits until they meet, and does the same with the
 * two parts. Its time grows with the square of the edits, so a region in which they did not meet
 * after a number of edits is divided at the path that got furthest: the diff is then correct, but
 * maybe longer than it has to be. Beside this the whole diff has a number of steps; what is left
 * when they are used up is one replaced block. So the time is bounded without a clock, and the same
 * texts have the same diff on any machine.
 */
#include "text_diff.h"

#include <limits.h>
#include <string.h>
#include <uv.h>

#include "../config/tree.h"
#include "../segue.h"

enum { CONTEXT = 3, EDITS_LEAST = 256, STEPS_MAX = 64 << 20 };

typedef struct diff_line {
  const char *text;
  size_t len; /* with the line break, if there is one */
} diff_line;

/* One side. The lines of `kept` are those that the other side has too: the algorithm sees only
 * these. */
typedef struct diff_side {
  diff_line *lines, *shown;
  uint32_t *numbers; /* of the lines; then of the kept ones */
  uint32_t *kept;    /* their indexes */
  uint8_t *changed;
  size_t count, kept_count;
} diff_side;

typedef struct diff_work {
  diff_side a, b;
  int32_t *forward, *backward; /* furthest column on each diagonal, x - y */
  int64_t steps;               /* that are left */
  int32_t edits_max;
} diff_work;

/* ---- Lines ---- */

static size_t diff_count_lines(const char *text, size_t len) {
  size_t count = 0;
  for (const char *at = text, *end = text + len; at < end; count++) {
    const char *next = memchr(at, '\n', (size_t)(end - at));
    at = next ? next + 1 : end;
  }
  return count;
}

static void diff_split(diff_line *lines, const char *text, size_t len) {
  for (const char *at = text, *end = text + len; at < end;) {
    const char *next = memchr(at, '\n', (size_t)(end - at));
    const char *past = next ? next + 1 : end;
    *lines++ = (diff_line){at, (size_t)(past - at)};
    at = past;
  }
}

static int diff_side_init(diff_side *side, const segue__diff_side *from) {
  if (from->len > SEGUE__DIFF_BYTES) return SEGUE_ELIMIT;
  size_t count = diff_count_lines(from->data, from->len);
  if (count > SEGUE__DIFF_LINES) return SEGUE_ELIMIT;
  side->count = count;
  side->lines = segue__calloc(count + 1, sizeof *side->lines);
  side->numbers = segue__calloc(count + 1, sizeof *side->numbers);
  side->kept = segue__calloc(count + 1, sizeof *side->kept);
  side->changed = segue__calloc(count + 1, 1);
  if (!side->lines || !side->numbers || !side->kept || !side->changed) return UV_ENOMEM;
  diff_split(side->lines, from->data, from->len);
  side->shown = side->lines;
  if (!from->shown) return 0;
  if (diff_count_lines(from->shown, from->shown_len) != count) return UV_EINVAL;
  side->shown = segue__calloc(count + 1, sizeof *side->shown);
  if (!side->shown) return UV_ENOMEM;
  diff_split(side->shown, from->shown, from->shown_len);
  return 0;
}

static void diff_side_deinit(diff_side *side) {
  if (side->shown != side->lines) segue__free(side->shown);
  segue__free(side->lines);
  segue__free(side->numbers);
  segue__free(side->kept);
  segue__free(side->changed);
}

/* ---- Numbers ---- */

/* A table of the different lines, open addressing. `sides` has a bit for each side that has the
 * line. */
typedef struct diff_entry {
  const diff_line *line;
  uint64_t hash;
  uint8_t sides;
} diff_entry;

static void diff_enter(diff_entry *table, size_t mask, diff_side *side, uint8_t bit) {
  for (size_t i = 0; i < side->count; i++) {
    const diff_line *line = &side->lines[i];
    segue__hash full = segue__hash_bytes(line->text, line->len, (segue__hash){0, 0});
    uint64_t hash;
    memcpy(&hash, &full, sizeof hash);
    size_t at = (size_t)hash & mask;
    while (table[at].line && (table[at].hash != hash || table[at].line->len != line->len ||
                              memcmp(table[at].line->text, line->text, line->len) != 0))
      at = (at + 1) & mask;
    if (!table[at].line) table[at] = (diff_entry){.line = line, .hash = hash};
    table[at].sides |= bit;
    side->numbers[i] = (uint32_t)at;
  }
}

static void diff_keep(const diff_entry *table, diff_side *side) {
  for (size_t i = 0; i < side->count; i++) {
    uint32_t number = side->numbers[i];
    side->changed[i] = table[number].sides != 3;
    if (side->changed[i]) continue;
    side->numbers[side->kept_count] = number;
    side->kept[side->kept_count++] = (uint32_t)i;
  }
}

static int diff_number(diff_work *work) {
  size_t size = 16;
  while (size < 2 * (work->a.count + work->b.count))
    size *= 2;
  diff_entry *table = segue__calloc(size, sizeof *table);
  if (!table) return UV_ENOMEM;
  diff_enter(table, size - 1, &work->a, 1);
  diff_enter(table, size - 1, &work->b, 2);
  diff_keep(table, &work->a);
  diff_keep(table, &work->b);
  segue__free(table);
  return 0;
}

/* ---- The algorithm ---- */

/* A part of both sequences of kept lines. */
typedef struct diff_region {
  int32_t x, x_end, y, y_end;
} diff_region;

/* The paths of one direction: the diagonals that they have reached. */
typedef struct diff_front {
  int32_t low, high;
} diff_front;

static void diff_widen(diff_front *front, const diff_region *r, int32_t *furthest, int32_t none) {
  if (front->low > r->x - r->y_end)
    furthest[--front->low - 1] = none;
  else
    front->low++;
  if (front->high < r->x_end - r->y)
    furthest[++front->high + 1] = none;
  else
    front->high--;
}

/* One more edit from the beginning. Returns true, with the place, if a path meets one from the
 * end. */
static bool diff_forward(diff_work *work, const diff_region *r, diff_front *front,
                         const diff_front *other, int32_t *x_out, int32_t *y_out) {
  int32_t *furthest = work->forward;
  diff_widen(front, r, furthest, -1);
  for (int32_t d = front->high; d >= front->low; d -= 2) {
    int32_t left = furthest[d - 1], right = furthest[d + 1];
    int32_t x = left < right ? right : left + 1, begin = x;
    while (x < r->x_end && x - d < r->y_end && work->a.numbers[x] == work->b.numbers[x - d])
      x++;
    furthest[d] = x;
    work->steps -= 1 + x - begin;
    if (!other || d < other->low || d > other->high || work->backward[d] > x) continue;
    *x_out = x;
    *y_out = x - d;
    return true;
  }
  return false;
}

static bool diff_backward(diff_work *work, const diff_region *r, diff_front *front,
                          const diff_front *other, int32_t *x_out, int32_t *y_out) {
  int32_t *furthest = work->backward;
  diff_widen(front, r, furthest, INT32_MAX);
  for (int32_t d = front->high; d >= front->low; d -= 2) {
    int32_t left = furthest[d - 1], right = furthest[d + 1];
    int32_t x = left < right ? left : right - 1, begin = x;
    while (r->x < x && r->y < x - d && work->a.numbers[x - 1] == work->b.numbers[x - d - 1])
      x--;
    furthest[d] = x;
    work->steps -= 1 + begin - x;
    if (!other || d < other->low || d > other->high || x > work->forward[d]) continue;
    *x_out = x;
    *y_out = x - d;
    return true;
  }
  return false;
}

/* The place that a path has reached with the most lines behind it, seen from its own end. */
static void diff_furthest(const diff_work *work, const diff_region *r, const diff_front *forward,
                          const diff_front *backward, int32_t *x_out, int32_t *y_out) {
  int64_t best = -1;
  for (int32_t d = forward->low; d <= forward->high; d += 2) {
    int32_t x = work->forward[d] < r->x_end ? work->forward[d] : r->x_end;
    if (x - d > r->y_end) x = r->y_end + d;
    int64_t gone = (int64_t)x - r->x + (x - d) - r->y;
    if (gone <= best) continue;
    best = gone;
    *x_out = x;
    *y_out = x - d;
  }
  for (int32_t d = backward->low; d <= backward->high; d += 2) {
    int32_t x = work->backward[d] > r->x ? work->backward[d] : r->x;
    if (x - d < r->y) x = r->y + d;
    int64_t gone = (int64_t)r->x_end - x + r->y_end - (x - d);
    if (gone <= best) continue;
    best = gone;
    *x_out = x;
    *y_out = x - d;
  }
}

/* Finds a place that a short diff passes through. The parity of the distance of the two corners
 * decides in which direction the paths can meet. */
static void diff_middle(diff_work *work, const diff_region *r, int32_t *x, int32_t *y) {
  diff_front forward = {r->x - r->y, r->x - r->y},
             backward = {r->x_end - r->y_end, r->x_end - r->y_end};
  bool odd = ((forward.low - backward.low) & 1) != 0;
  work->forward[forward.low] = r->x;
  work->backward[backward.low] = r->x_end;
  for (int32_t edits = 1;; edits++) {
    if (diff_forward(work, r, &forward, odd ? &backward : NULL, x, y)) return;
    if (diff_backward(work, r, &backward, odd ? NULL : &forward, x, y)) return;
    if (edits < work->edits_max && work->steps > 0) continue;
    diff_furthest(work, r, &forward, &backward, x, y);
    return;
  }
}

static void diff_mark(diff_side *side, int32_t from, int32_t to) {
  for (int32_t i = from; i < to; i++)
    side->changed[side->kept[i]] = 1;
}

/* The larger part is done in the loop, so that the calls nest only as deep as a logarithm. */
static void diff_compare(diff_work *work, diff_region r) {
  for (;;) {
    const uint32_t *a = work->a.numbers, *b = work->b.numbers;
    while (r.x < r.x_end && r.y < r.y_end && a[r.x] == b[r.y])
      r.x++, r.y++;
    while (r.x < r.x_end && r.y < r.y_end && a[r.x_end - 1] == b[r.y_end - 1])
      r.x_end--, r.y_end--;
    int32_t x = r.x, y = r.y;
    bool whole = r.x == r.x_end || r.y == r.y_end || work->steps <= 0;
    if (!whole) diff_middle(work, &r, &x, &y);
    if (whole || (x == r.x && y == r.y) || (x == r.x_end && y == r.y_end)) {
      diff_mark(&work->a, r.x, r.x_end);
      diff_mark(&work->b, r.y, r.y_end);
      return;
    }
    diff_region first = {r.x, x, r.y, y}, second = {x, r.x_end, y, r.y_end};
    bool first_larger = (int64_t)(x - r.x) + (y - r.y) > (int64_t)(r.x_end - x) + (r.y_end - y);
    diff_compare(work, first_larger ? second : first);
    r = first_larger ? first : second;
  }
}

static int diff_run(diff_work *work) {
  size_t diagonals = work->a.kept_count + work->b.kept_count + 3;
  int32_t *furthest = segue__calloc(2 * diagonals, sizeof *furthest);
  if (!furthest) return UV_ENOMEM;
  work->forward = furthest + work->b.kept_count + 1;
  work->backward = work->forward + diagonals;
  work->steps = STEPS_MAX;
  work->edits_max = EDITS_LEAST;
  for (size_t n = diagonals; n > (size_t)EDITS_LEAST * EDITS_LEAST; n /= 4)
    work->edits_max *= 2;
  diff_compare(work, (diff_region){0, (int32_t)work->a.kept_count, 0, (int32_t)work->b.kept_count});
  segue__free(furthest);
  return 0;
}

/* ---- Writing ---- */

typedef struct diff_writer {
  const diff_work *work;
  const segue__diff_options *options;
  segue__diff_counts *counts;
  segue__buf *out;
  size_t begin; /* length of out before the diff */
} diff_writer;

static bool diff_fits(const diff_writer *w, size_t more) {
  size_t room = w->options->room;
  return !room || w->out->len - w->begin + more <= room;
}

static void diff_write_line(diff_writer *w, char sign, const diff_line *line,
                            const diff_line *shown) {
  static const char no_break[] = "\\ No newline at end of file\n";
  if (w->counts->left_out || !diff_fits(w, 2 + shown->len + sizeof no_break)) {
    w->counts->left_out++;
    return;
  }
  bool ends = line->len && line->text[line->len - 1] == '\n';
  size_t len = shown->len && shown->text[shown->len - 1] == '\n' ? shown->len - 1 : shown->len;
  segue__buf_addc(w->out, sign);
  if (sign == '-' && w->options->removed)
    w->options->removed(w->options->data, w->out, shown->text, len);
  else
    segue__buf_add(w->out, shown->text, len);
  segue__buf_addc(w->out, '\n');
  if (!ends) segue__buf_adds(w->out, no_break);
}

/* The range of a hunk; one of no lines names the line before it. */
static void diff_write_range(segue__buf *out, char sign, size_t begin, size_t end) {
  segue__buf_addf(out, "%c%zu", sign, begin == end ? begin : begin + 1);
  if (end - begin != 1) segue__buf_addf(out, ",%zu", end - begin);
}

/* A hunk, in lines of both sides. */
typedef struct diff_hunk {
  size_t a, a_end, b, b_end;
} diff_hunk;

static void diff_write_hunk(diff_writer *w, const diff_hunk *hunk) {
  const diff_side *a = &w->work->a, *b = &w->work->b;
  if (!w->counts->left_out && diff_fits(w, 128)) {
    segue__buf_adds(w->out, "@@ ");
    diff_write_range(w->out, '-', hunk->a, hunk->a_end);
    segue__buf_addc(w->out, ' ');
    diff_write_range(w->out, '+', hunk->b, hunk->b_end);
    segue__buf_adds(w->out, " @@\n");
  }
  size_t x = hunk->a, y = hunk->b;
  while (x < hunk->a_end || y < hunk->b_end) {
    if (x < hunk->a_end && a->changed[x]) {
      diff_write_line(w, '-', &a->lines[x], &a->shown[x]);
      x++;
    } else if (y < hunk->b_end && b->changed[y]) {
      diff_write_line(w, '+', &b->lines[y], &b->shown[y]);
      y++;
    } else {
      diff_write_line(w, ' ', &b->lines[y], &b->shown[y]);
      x++, y++;
    }
  }
}

static void diff_skip_changed(const diff_work *work, size_t *x, size_t *y) {
  while (*x < work->a.count && work->a.changed[*x])
    ++*x;
  while (*y < work->b.count && work->b.changed[*y])
    ++*y;
}

/* Two changes with at most twice the context between them are one hunk. */
static void diff_write(diff_writer *w) {
  const diff_work *work = w->work;
  size_t x = 0, y = 0;
  for (;;) {
    while (x < work->a.count && y < work->b.count && !work->a.changed[x] && !work->b.changed[y])
      x++, y++;
    if (x == work->a.count && y == work->b.count) return;
    size_t before = x < CONTEXT ? x : CONTEXT;
    if (y < before) before = y;
    diff_hunk hunk = {.a = x - before, .b = y - before};
    size_t same;
    do {
      diff_skip_changed(work, &x, &y);
      hunk.a_end = x;
      hunk.b_end = y;
      for (same = 0; same <= 2 * CONTEXT && x < work->a.count && y < work->b.count &&
                     !work->a.changed[x] && !work->b.changed[y];
           same++)
        x++, y++;
    } while (same <= 2 * CONTEXT && (x < work->a.count || y < work->b.count));
    size_t after = same < CONTEXT ? same : CONTEXT;
    hunk.a_end += after;
    hunk.b_end += after;
    diff_write_hunk(w, &hunk);
  }
}

static size_t diff_count_changed(const diff_side *side) {
  size_t count = 0;
  for (size_t i = 0; i < side->count; i++)
    count += side->changed[i];
  return count;
}

int segue__text_diff(segue__buf *out, const segue__diff_options *options,
                     segue__diff_counts *counts) {
  diff_work work = {0};
  *counts = (segue__diff_counts){0};
  int rc = diff_side_init(&work.a, &options->before);
  if (!rc) rc = diff_side_init(&work.b, &options->after);
  if (!rc) rc = diff_number(&work);
  if (!rc) rc = diff_run(&work);
  if (!rc) {
    counts->removed = diff_count_changed(&work.a);
    counts->added = diff_count_changed(&work.b);
  }
  if (!rc && (counts->removed || counts->added)) {
    diff_writer writer = {
        .work = &work, .options = options, .counts = counts, .out = out, .begin = out->len};
    segue__buf_addf(out, "--- %s\n+++ %s\n", options->before_name, options->after_name);
    diff_write(&writer);
    if (out->failed) rc = UV_ENOMEM;
  }
  diff_side_deinit(&work.a);
  diff_side_deinit(&work.b);
  return rc;
}

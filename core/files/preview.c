/* SPDX-License-Identifier: MIT
 *
 * The preview of a staged set. A diff must not show a secret of the configuration, and a rendered
 * file is full of them. The values that the two configurations mark as secrets are searched for in
 * both texts. The compared lines are the real ones, so a changed secret is a changed line; the
 * lines that are printed have *** in its place.
 *
 * The live file may have secrets that no known configuration has: another program has written it,
 * or an earlier process did, and the configuration has changed since. If the new configuration has
 * secrets at all, the removed lines of such a file show only words that the new text, without its
 * secrets, has too.
 */
#include "preview.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/mask.h"
#include "../config/printable.h"
#include "../config/snapshot.h"
#include "internal.h"
#include "text_diff.h"

enum { PLAN_ROOM = 64 << 10, KEPT_ROOM = 16 << 10, KEPT_BYTES = 256 << 10, FILES_MAX = 1000 };

typedef struct preview_job {
  segue__job job;
  segue__file_preview_options options;
  segue__shared_set *shared; /* a reference */
  segue__mask *next, *prev;  /* references; NULL: nothing is known */
  bool known;                /* the live configuration: prev has the secrets of the live files */
  segue__file_changes changes;
  int status;
} preview_job;

/* ---- Words of a text ---- */

/* The words of a text, sorted. */
typedef struct preview_word {
  const char *text;
  size_t len;
} preview_word;

typedef struct preview_words {
  preview_word *items;
  size_t count;
} preview_words;

static bool preview_is_letter(char c) {
  return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static int preview_word_order(const void *a, const void *b) {
  const preview_word *x = a, *y = b;
  int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
  return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Returns the length of the word at text, 0 if there is none. */
static size_t preview_word_len(const char *text, size_t len) {
  size_t n = 0;
  while (n < len && preview_is_letter(text[n]))
    n++;
  return n;
}

/* Called twice: without items it counts. */
static size_t preview_collect(preview_word *items, const char *text, size_t len) {
  size_t count = 0;
  for (size_t i = 0; i < len;) {
    size_t n = preview_word_len(text + i, len - i);
    if (n && items) items[count] = (preview_word){text + i, n};
    count += n > 0;
    i += n ? n : 1;
  }
  return count;
}

static int preview_words_init(preview_words *words, const char *text, size_t len) {
  words->count = preview_collect(NULL, text, len);
  words->items = segue__calloc(words->count + 1, sizeof *words->items);
  if (!words->items) return UV_ENOMEM;
  preview_collect(words->items, text, len);
  qsort(words->items, words->count, sizeof *words->items, preview_word_order);
  return 0;
}

/* A removed line with known words only. */
static void preview_removed(void *data, segue__buf *out, const char *line, size_t len) {
  const preview_words *words = data;
  for (size_t i = 0; i < len;) {
    preview_word word = {line + i, preview_word_len(line + i, len - i)};
    bool known = !word.len || bsearch(&word, words->items, words->count, sizeof word,
                                      preview_word_order) != NULL;
    if (known)
      segue__buf_add(out, line + i, word.len ? word.len : 1);
    else
      segue__buf_adds(out, SEGUE__MASKED);
    i += word.len ? word.len : 1;
  }
}

/* ---- One file ---- */

/* Masks with both configurations, one after the other. */
static int preview_mask(const preview_job *job, const segue__bytes *text, segue__buf *out) {
  segue__buf half;
  segue__buf_init(&half);
  segue__mask_lines(job->next, text->data, text->len, &half);
  if (!half.failed) segue__mask_lines(job->prev, half.len ? half.data : "", half.len, out);
  int rc = half.failed || out->failed ? UV_ENOMEM : 0;
  segue__buf_deinit(&half);
  return rc;
}

static int preview_diff(const preview_job *job, const segue__set_file *file,
                        const segue__bytes *before, const segue__bytes *after,
                        segue__file_change *change) {
  segue__buf shown[2], name, out;
  preview_words words = {0};
  segue__diff_counts counts = {0};
  for (size_t i = 0; i < 2; i++)
    segue__buf_init(&shown[i]);
  segue__buf_init(&name);
  segue__buf_init(&out);
  segue__printable_add(&name, file->path, strlen(file->path));
  int rc = preview_mask(job, before, &shown[0]);
  if (!rc) rc = preview_mask(job, after, &shown[1]);
  bool hides = (!job->known || file->foreign) &&
               (segue__mask_knows(job->next) || segue__mask_knows(job->prev));
  if (!rc && hides)
    rc = preview_words_init(&words, shown[1].data ? shown[1].data : "", shown[1].len);
  const segue__diff_options options = {
      .size = sizeof options,
      .before = {before->data, before->len, shown[0].len ? shown[0].data : "", shown[0].len},
      .after = {after->data, after->len, shown[1].len ? shown[1].data : "", shown[1].len},
      .before_name = change->before.exists ? name.data : "/dev/null",
      .after_name = change->after.exists ? name.data : "/dev/null",
      .room = job->options.plan ? PLAN_ROOM : KEPT_ROOM,
      .removed = hides ? preview_removed : NULL,
      .data = &words};
  if (!rc) rc = name.failed ? UV_ENOMEM : segue__text_diff(&out, &options, &counts);
  if (!rc && out.len) {
    change->diff = segue__strdup(out.data);
    if (!change->diff) rc = UV_ENOMEM;
  }
  change->added = counts.added;
  change->removed = counts.removed;
  change->left_out = counts.left_out;
  segue__free(words.items);
  for (size_t i = 0; i < 2; i++)
    segue__buf_deinit(&shown[i]);
  segue__buf_deinit(&name);
  segue__buf_deinit(&out);
  return rc;
}

static bool preview_is_binary(const segue__bytes *text) {
  return text->len && memchr(text->data, 0, text->len);
}

static int preview_read(const preview_job *job, const segue__file_side *side, const char *path,
                        segue__bytes *out) {
  segue__file_version version;
  *out = (segue__bytes){0};
  if (!side->exists) return 0;
  return segue__file_set_read(job->shared->set, path, &version, out, NULL);
}

/* A mask that hides everything has no list of values: nothing is shown then. */
static bool preview_is_hidden(const preview_job *job) {
  return segue__mask_hides(job->next, "") || segue__mask_hides(job->prev, "");
}

static void preview_text(const preview_job *job, const segue__set_file *file,
                         segue__file_change *change) {
  size_t most = job->options.plan ? SEGUE__DIFF_BYTES : KEPT_BYTES;
  segue__bytes before = {0}, after = {0};
  const char *note = NULL;
  int rc = 0;
  if (change->before.link || change->after.link)
    note = "a symbolic link";
  else if (change->before.size > most || change->after.size > most)
    note = "too large for a difference";
  else if (preview_is_hidden(job))
    note = "its secrets are not known, so no text is shown";
  if (!note) rc = preview_read(job, &change->before, file->path, &before);
  if (!note && !rc) rc = preview_read(job, &change->after, file->staged, &after);
  if (!note && !rc && (preview_is_binary(&before) || preview_is_binary(&after))) note = "binary";
  if (!note && !rc) rc = preview_diff(job, file, &before, &after, change);
  if (rc == SEGUE_ELIMIT) note = "too many lines for a difference";
  if (rc == UV_ENOMEM) note = "there was no memory for its difference";
  if (rc && !note) note = "it could not be read again for its difference";
  change->note = segue__strdup(note);
  segue__free((char *)before.data);
  segue__free((char *)after.data);
}

void segue__file_side_of(segue__file_side *side, const segue__file_version *version) {
  *side = (segue__file_side){.exists = version->kind != SEGUE__FILE_NONE,
                             .link = version->kind == SEGUE__FILE_LINK,
                             .mode = version->mode,
                             .uid = version->uid,
                             .gid = version->gid,
                             .size = version->size};
  if (side->exists) segue__hash_hex(version->hash, side->hash);
}

static int preview_file(preview_job *job, const segue__set_file *file) {
  segue__file_change *change = &job->changes.items[job->changes.count++];
  change->module = segue__strdup(job->options.module);
  change->path = segue__strdup(file->path);
  segue__file_side_of(&change->before, &file->previous);
  segue__file_side_of(&change->after, &file->next);
  if (!change->module || !change->path) return UV_ENOMEM;
  preview_text(job, file, change);
  return 0;
}

/* ---- The job ---- */

static bool preview_lists(const segue__file_set *set, size_t index) {
  segue__file_status file;
  segue__file_set_get(set, index, &file);
  return file.changed && file.shown;
}

static void preview_run(segue__job *base) {
  preview_job *job = (preview_job *)base;
  const segue__file_set *set = job->shared->set;
  job->status = 0;
  job->changes.items = segue__calloc(set->changed + 1, sizeof *job->changes.items);
  int rc = job->changes.items ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < set->count && !rc; i++) {
    if (!preview_lists(set, i)) continue;
    if (job->changes.count < FILES_MAX)
      rc = preview_file(job, &set->files[i]);
    else
      job->changes.more++;
  }
  if (rc) segue__file_changes_deinit(&job->changes);
}

static void preview_done(segue__job *base) {
  preview_job *job = (preview_job *)base;
  job->options.done(job->options.data, job->status, &job->changes);
  segue__file_changes_deinit(&job->changes);
  segue__mask_unref(job->next);
  segue__mask_unref(job->prev);
  segue__shared_set_unref(job->shared);
  segue__free(job);
}

static segue__mask *preview_mask_of(const segue_slice *slice) {
  const segue_snapshot *snapshot = slice ? slice->snapshot : NULL;
  return snapshot ? segue__mask_ref(snapshot->mask) : NULL;
}

void segue__file_preview_start(const segue__file_preview_options *options) {
  segue__file_changes none = {0};
  preview_job *job = segue__calloc(1, sizeof *job);
  if (!job) {
    options->done(options->data, 0, &none);
    return;
  }
  *job = (preview_job){.job = {.run = preview_run, .done = preview_done, .abandoned = preview_done},
                       .options = *options,
                       .shared = options->shared,
                       .next = preview_mask_of(options->next),
                       .prev = preview_mask_of(options->prev),
                       .known = options->prev && options->prev->snapshot,
                       .status = SEGUE_ECANCELLED};
  job->shared->refs++;
  int rc = segue__job_submit(job->shared->world->loop, SEGUE__QUEUE_FILES, &job->job);
  if (!rc) return;
  job->status = rc == UV_ECANCELED ? SEGUE_ECANCELLED : 0;
  preview_done(&job->job);
}

/* SPDX-License-Identifier: MIT
 *
 * The last good generation as one value of bytes. Unlike the history, this file is written and
 * synced before a reload is answered.
 */
#include "last_good.h"

#include <string.h>
#include <uv.h>

#include "../os/mem.h"

enum { HEADER = 8 + 8 + 8 + 32 + 16 + 4, FILE_HEADER = 12 };

int segue__last_good_write(segue__two_slot_file *state_file, const segue__last_good *info,
                           const segue__files *files) {
  segue__buf b;
  segue__buf_init(&b);
  segue__two_slot_file_begin(state_file, &b);
  segue__put_number(&b, info->generation, 8);
  segue__put_number(&b, info->reload, 8);
  segue__put_number(&b, (uint64_t)info->wall_ms, 8);
  segue__buf_add(&b, info->hash, 32);
  segue__put_number(&b, info->input.lo, 8);
  segue__put_number(&b, info->input.hi, 8);
  segue__put_number(&b, files->count, 4);
  int rc = 0;
  for (size_t i = 0; i < files->count && !rc; i++) {
    const segue__file *file = &files->items[i];
    const char *data;
    size_t path = strlen(file->path), len;
    rc = segue__file_bytes(file, &data, &len);
    if (rc) break;
    segue__put_number(&b, path, 4);
    segue__put_number(&b, len, 8);
    segue__buf_add(&b, file->path, path);
    segue__buf_add(&b, data, len);
  }
  segue__put_number(&b, info->sources.count, 4);
  for (size_t i = 0; i < info->sources.count; i++) {
    const segue__source_items *source = &info->sources.items[i];
    size_t len = strlen(source->source);
    segue__put_number(&b, len, 4);
    segue__put_number(&b, source->items, 8);
    segue__buf_add(&b, source->source, len);
  }
  if (!rc) rc = segue__two_slot_file_write(state_file, &b);
  segue__buf_deinit(&b);
  return rc;
}

/* The checksum is right, so segue wrote the lengths; they are compared with the end all the same,
 * so that a mistake in the format cannot read outside of the buffer. */
static int parse_file(const char **at, const char *end, segue__file *out) {
  const char *from = *at + FILE_HEADER;
  if (end - *at < FILE_HEADER) return UV_EINVAL;
  size_t path_len = segue__get_number(*at, 4), len = segue__get_number(*at + 4, 8);
  if ((size_t)(end - from) < path_len || (size_t)(end - from) - path_len < len) return UV_EINVAL;
  *out = (segue__file){segue__strndup(from, path_len), segue__strndup(from + path_len, len), len,
                       NULL};
  *at = from + path_len + len;
  if (out->path && out->data) return 0;
  segue__free(out->path);
  segue__free(out->data);
  return UV_ENOMEM;
}

void segue__source_counts_deinit(segue__source_counts *counts) {
  for (size_t i = 0; i < counts->count; i++)
    segue__free(counts->items[i].source);
  segue__free(counts->items);
  *counts = (segue__source_counts){0};
}

int segue__source_counts_add(segue__source_counts *counts, const char *source, size_t len,
                             uint64_t items) {
  segue__source_items *more = segue__realloc(counts->items, (counts->count + 1) * sizeof *more);
  if (!more) return UV_ENOMEM;
  counts->items = more;
  char *copy = segue__strndup(source, len);
  if (!copy) return UV_ENOMEM;
  more[counts->count++] = (segue__source_items){copy, items};
  return 0;
}

int segue__source_counts_copy(segue__source_counts *to, const segue__source_counts *from) {
  int rc = 0;
  for (size_t i = 0; from && i < from->count && !rc; i++)
    rc = segue__source_counts_add(to, from->items[i].source, strlen(from->items[i].source),
                                  from->items[i].items);
  return rc;
}

void segue__last_good_deinit(segue__last_good *info) {
  segue__source_counts_deinit(&info->sources);
}

static int parse_sources(const char *at, const char *end, segue__last_good *info) {
  if (end - at < 4) return UV_EINVAL;
  size_t count = segue__get_number(at, 4);
  at += 4;
  for (size_t i = 0; i < count; i++) {
    if (end - at < FILE_HEADER) return UV_EINVAL;
    size_t len = segue__get_number(at, 4);
    uint64_t items = segue__get_number(at + 4, 8);
    at += FILE_HEADER;
    if ((size_t)(end - at) < len) return UV_EINVAL;
    int rc = segue__source_counts_add(&info->sources, at, len, items);
    if (rc) return rc;
    at += len;
  }
  return 0;
}

/* Sets *next to the bytes after the files. */
static int parse_files(const char *at, const char *end, size_t count, segue__files **out,
                       const char **next) {
  if (count > (size_t)(end - at) / FILE_HEADER) return UV_EINVAL;
  segue__file *items = segue__calloc(count ? count : 1, sizeof *items);
  size_t done = 0;
  if (!items) return UV_ENOMEM;
  int rc = 0;
  while (done < count && !(rc = parse_file(&at, end, &items[done])))
    done++;
  *next = at;
  if (!rc) rc = segue__files_new(out, items, count);
  if (rc == 0) return 0;
  for (size_t i = 0; i < done; i++) {
    segue__free(items[i].path);
    segue__free(items[i].data);
  }
  segue__free(items);
  return rc;
}

int segue__last_good_read(segue__two_slot_file *state_file, segue__last_good *info,
                          segue__files **files) {
  segue__bytes file;
  const char *at, *next = NULL;
  size_t len;
  *info = (segue__last_good){0};
  *files = NULL;
  int rc = segue__two_slot_file_read(state_file, &file, &at, &len);
  if (rc) return rc;
  rc = len < HEADER
           ? UV_EINVAL
           : parse_files(at + HEADER, at + len, segue__get_number(at + 72, 4), files, &next);
  if (rc == 0) rc = parse_sources(next, at + len, info);
  if (rc < 0) {
    segue__last_good_deinit(info);
    segue__files_unref(*files);
    *files = NULL;
  } else {
    info->generation = segue__get_number(at, 8);
    info->reload = segue__get_number(at + 8, 8);
    info->wall_ms = (int64_t)segue__get_number(at + 16, 8);
    memcpy(info->hash, at + 24, 32);
    info->input.lo = segue__get_number(at + 56, 8);
    info->input.hi = segue__get_number(at + 64, 8);
  }
  segue__free(file.data);
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * The last good generation as one value of bytes.
 */
#include "last_good.h"

#include <string.h>
#include <uv.h>

#include "../os/mem.h"

enum { HEADER = 8 + 8 + 32 + 16 + 4, FILE_HEADER = 12 };

int segue__last_good_write(segue__slots *slots, const segue__last_good *info,
                           const segue__files *files) {
  segue__buf b;
  segue__buf_init(&b);
  segue__slots_begin(slots, &b);
  segue__put_number(&b, info->generation, 8);
  segue__put_number(&b, (uint64_t)info->wall_ms, 8);
  segue__buf_add(&b, info->hash, 32);
  segue__put_number(&b, info->input.lo, 8);
  segue__put_number(&b, info->input.hi, 8);
  segue__put_number(&b, files->count, 4);
  for (size_t i = 0; i < files->count; i++) {
    const segue__file *file = &files->items[i];
    size_t len = strlen(file->path);
    segue__put_number(&b, len, 4);
    segue__put_number(&b, file->len, 8);
    segue__buf_add(&b, file->path, len);
    segue__buf_add(&b, file->data, file->len);
  }
  int rc = segue__slots_write(slots, &b);
  segue__buf_deinit(&b);
  return rc;
}

/* The checksum has held, so lengths are believed, but not past the end. Returns what follows, or
 * NULL: out of memory, or cut short. */
static const char *parse_file(const char *at, const char *end, segue__file *out) {
  if (end - at < FILE_HEADER) return NULL;
  size_t path_len = segue__get_number(at, 4), len = segue__get_number(at + 4, 8);
  at += FILE_HEADER;
  if ((size_t)(end - at) < path_len || (size_t)(end - at) - path_len < len) return NULL;
  *out = (segue__file){segue__strndup(at, path_len), segue__strndup(at + path_len, len), len};
  if (out->path && out->data) return at + path_len + len;
  segue__free(out->path);
  segue__free(out->data);
  return NULL;
}

static int parse_files(const char *at, const char *end, size_t count, segue__files **out) {
  if (count > (size_t)(end - at) / FILE_HEADER) return UV_EINVAL;
  segue__file *items = segue__calloc(count ? count : 1, sizeof *items);
  size_t done = 0;
  if (!items) return UV_ENOMEM;
  while (done < count && (at = parse_file(at, end, &items[done])))
    done++;
  int rc = done == count ? segue__files_new(out, items, count) : UV_EINVAL;
  if (rc == 0) return 0;
  for (size_t i = 0; i < done; i++) {
    segue__free(items[i].path);
    segue__free(items[i].data);
  }
  segue__free(items);
  return rc;
}

int segue__last_good_read(segue__slots *slots, segue__last_good *info, segue__files **files) {
  segue__bytes file;
  const char *at;
  size_t len;
  *info = (segue__last_good){0};
  *files = NULL;
  int rc = segue__slots_read(slots, &file, &at, &len);
  if (rc) return rc;
  rc = len < HEADER ? UV_EINVAL
                    : parse_files(at + HEADER, at + len, segue__get_number(at + 64, 4), files);
  if (rc == 0) {
    info->generation = segue__get_number(at, 8);
    info->wall_ms = (int64_t)segue__get_number(at + 8, 8);
    memcpy(info->hash, at + 16, 32);
    info->input.lo = segue__get_number(at + 48, 8);
    info->input.hi = segue__get_number(at + 56, 8);
  }
  segue__free(file.data);
  return rc;
}

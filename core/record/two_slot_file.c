/* SPDX-License-Identifier: MIT
 *
 * Two slots, written in turn. The file that is written is never the one that counts, so it can be
 * written in place: no rename, and one fdatasync.
 */
#include "two_slot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/tree.h"
#include "../os/fault.h"
#include "../os/write.h"
#include "value_log.h"

enum { CHECKSUM = 16 };

void segue__put_number(segue__buf *b, uint64_t n, int bytes) {
  for (int i = 0; i < bytes; i++)
    segue__buf_addc(b, (char)(n >> (8 * i)));
}

uint64_t segue__get_number(const char *at, int bytes) {
  uint64_t n = 0;
  for (int i = bytes; i-- > 0;)
    n = n << 8 | (unsigned char)at[i];
  return n;
}

int segue__two_slot_file_init(segue__two_slot_file *state_file, const segue__logger *log,
                              const char *folder, const char *name, const char *magic) {
  *state_file = (segue__two_slot_file){.name = name, .magic = magic, .log = log, .last = 1};
  for (int i = 0; i < 2; i++) {
    segue__buf path;
    segue__buf_init(&path);
    segue__buf_addf(&path, "%s/%s.%c", folder, name, 'a' + i);
    state_file->paths[i] = path.failed ? NULL : segue__strdup(path.data);
    segue__buf_deinit(&path);
    if (state_file->paths[i]) continue;
    segue__two_slot_file_deinit(state_file);
    return UV_ENOMEM;
  }
  return 0;
}

void segue__two_slot_file_deinit(segue__two_slot_file *state_file) {
  segue__free(state_file->paths[0]);
  segue__free(state_file->paths[1]);
  state_file->paths[0] = state_file->paths[1] = NULL;
  segue__value_log_free(state_file->changes);
  state_file->changes = NULL;
}

int segue__two_slot_file_log(segue__two_slot_file *state_file, const char *folder,
                             const char *name) {
  return segue__value_log_new(&state_file->changes, folder, name);
}

void segue__two_slot_file_anew(segue__two_slot_file *state_file) {
  if (state_file->changes) segue__value_log_end(state_file->changes);
}

const char *segue__two_slot_file_next(const segue__two_slot_file *state_file) {
  return state_file->paths[1 - state_file->last];
}

/* ---- Reading ---- */

static bool sum_is_right(const segue__two_slot_file *state_file, const segue__bytes *file) {
  if (file->len < SEGUE__SLOT_HEADER + CHECKSUM || memcmp(file->data, state_file->magic, 8) != 0)
    return false;
  size_t len = file->len - CHECKSUM;
  segue__hash sum = segue__hash_bytes(file->data, len, (segue__hash){0, 0});
  return sum.lo == segue__get_number(file->data + len, 8) &&
         sum.hi == segue__get_number(file->data + len + 8, 8);
}

int segue__two_slot_file_read(segue__two_slot_file *state_file, segue__bytes *file,
                              const char **value, size_t *len) {
  const segue__os *os = segue__os_default();
  *file = (segue__bytes){0};
  for (int i = 0; i < 2; i++) {
    segue__bytes bytes = {0};
    segue_error error;
    int rc = os->read_file(os->data, state_file->paths[i], SIZE_MAX / 4, &bytes, &error);
    if (rc == UV_ENOMEM) {
      segue__free(file->data);
      *file = (segue__bytes){0};
      return rc;
    }
    /* An empty slot was never written, or its write failed and was undone. */
    if (rc == UV_ENOENT || (rc == 0 && !bytes.len)) {
      segue__free(bytes.data);
      continue;
    }
    if (rc == 0 && sum_is_right(state_file, &bytes)) {
      uint64_t sequence = segue__get_number(bytes.data + 8, 8);
      if (!file->data || sequence > state_file->sequence) {
        segue__free(file->data);
        *file = bytes;
        state_file->sequence = sequence;
        state_file->last = i;
        continue;
      }
    } else {
      SEGUE__LOG(state_file->log, SEGUE_WARN, "record",
                 "a state file is corrupt (checksum): using the other one",
                 SEGUE__FIELD("file", state_file->paths[i]),
                 SEGUE__FIELD("error", rc ? error.message : "its checksum is wrong"));
    }
    segue__free(bytes.data);
  }
  if (!file->data) return UV_ENOENT;
  *value = file->data + SEGUE__SLOT_HEADER;
  *len = file->len - SEGUE__SLOT_HEADER - CHECKSUM;
  int rc = state_file->changes ? segue__value_log_read(state_file->changes, file, value, len) : 0;
  if (!rc) return 0;
  segue__free(file->data);
  *file = (segue__bytes){0};
  return rc;
}

/* ---- Writing ---- */

void segue__two_slot_file_begin(const segue__two_slot_file *state_file, segue__buf *b) {
  segue__buf_add(b, state_file->magic, 8);
  segue__put_number(b, state_file->sequence + 1, 8);
}

static int slots_fault(const segue__two_slot_file *state_file, const char *step) {
  char point[48];
  snprintf(point, sizeof point, "%s.%s", state_file->name, step);
  for (char *c = point; (c = strchr(c, '-'));)
    *c = '_';
  return SEGUE_FAULT(point);
}

static int sync_folder(const char *path) {
  char *folder = segue__strdup(path);
  if (!folder) return UV_ENOMEM;
  *strrchr(folder, '/') = 0;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc = fd < 0 || fsync(fd) ? -errno : 0;
  if (fd >= 0) close(fd);
  segue__free(folder);
  return rc;
}

/* Empties a file after a failed write: the error was answered, so a later start must not find the
 * value. */
static void slots_undo(int fd) {
  if (ftruncate(fd, 0)) return; /* a disk that refuses even this stores nothing */
  (void)fdatasync(fd);
}

/* The order: write, cut off the rest of a longer older value, sync. The name of a new file is
 * durable only when its folder is synced as well; a file of length 0 counts as new, because its
 * folder may not have been synced. O_NOFOLLOW: a link in the state folder must not lead the write
 * to another file. */
static int slots_write_file(const segue__two_slot_file *state_file, const char *path,
                            const segue__buf *b) {
  struct stat st;
  bool is_new = stat(path, &st) != 0 || !st.st_size;
  int rc = slots_fault(state_file, "open");
  int fd = rc ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (!rc && fd < 0) rc = -errno;
  if (!rc) rc = slots_fault(state_file, "write");
  if (!rc) rc = segue__write_all(fd, b->data, b->len, NULL);
  if (!rc && ftruncate(fd, (off_t)b->len)) rc = -errno;
  if (!rc) rc = slots_fault(state_file, "sync");
  if (!rc && fdatasync(fd)) rc = -errno;
  if (!rc && is_new) rc = sync_folder(path);
  if (rc && fd >= 0) slots_undo(fd);
  if (fd >= 0) close(fd);
  return rc;
}

/* Returns whether the value is durable as a change of the one before. Where the disk refuses the
 * change, the whole value is tried: the log alone may be broken. */
static bool slots_append(segue__two_slot_file *state_file, const segue__buf *b) {
  struct stat st;
  const char *base = state_file->paths[state_file->last];
  if (!state_file->changes || stat(base, &st) || !st.st_size) return false;
  return segue__value_log_append(state_file->changes, b->data + SEGUE__SLOT_HEADER,
                                 b->len - SEGUE__SLOT_HEADER) == 0;
}

int segue__two_slot_file_write(segue__two_slot_file *state_file, segue__buf *b) {
  size_t len = b->len - SEGUE__SLOT_HEADER;
  if (b->failed) return UV_ENOMEM;
  if (slots_append(state_file, b)) return 0;
  segue__hash sum = segue__hash_bytes(b->data, b->len, (segue__hash){0, 0});
  segue__put_number(b, sum.lo, 8);
  segue__put_number(b, sum.hi, 8);
  if (b->failed) return UV_ENOMEM;
  int rc = slots_write_file(state_file, segue__two_slot_file_next(state_file), b);
  if (rc) return rc;
  state_file->sequence++;
  state_file->last = 1 - state_file->last;
  if (state_file->changes)
    segue__value_log_begin(state_file->changes, b->data + SEGUE__SLOT_HEADER, len);
  return 0;
}

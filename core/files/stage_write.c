/* SPDX-License-Identifier: MIT
 *
 * Writing the staged files: each one complete, with owner and mode, and on disk before the set
 * counts as staged.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/fault.h"
#include "../os/write.h"
#include "each.h"
#include "internal.h"

/* ---- One file ---- */

/* Owner before mode: changing the owner clears the set-user-id bits. */
static int write_attributes(int fd, const segue__file_version *next) {
  struct stat st;
  if (fstat(fd, &st)) return -errno;
  if ((st.st_uid != next->uid || st.st_gid != next->gid) && fchown(fd, next->uid, next->gid))
    return -errno;
  return fchmod(fd, next->mode) ? -errno : 0;
}

static int write_fill(const segue__file_set *set, int fd, const segue__set_file *file,
                      segue_error *err) {
  int rc = SEGUE_FAULT("files.stage.write");
  if (!rc) rc = segue__write_all(fd, file->data, file->len, NULL);
  if (rc) return segue__explain(err, rc, "write", file->path);
  rc = write_attributes(fd, &file->next);
  if (rc == UV_EPERM)
    return segue__errorf(err, rc,
                         "cannot give %s to uid %u, gid %u: only root may do that; run segue as "
                         "root, or set owner to its user",
                         file->path, file->next.uid, file->next.gid);
  if (!rc && !set->plan) rc = SEGUE_FAULT("files.stage.sync");
  if (!rc && !set->plan && fsync(fd)) rc = -errno;
  return rc ? segue__explain(err, rc, "write", file->path) : 0;
}

/* Created with mode 0600: the content may be a secret, and the file gets its final mode after the
 * content. */
static int write_file(const segue__file_set *set, const segue__set_file *file, const char *at,
                      segue_error *err) {
  int rc = SEGUE_FAULT("files.stage.open");
  int fd = rc ? -1 : open(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (!rc && fd < 0) rc = -errno;
  if (rc) return segue__explain(err, rc, "write", file->path);
  rc = write_fill(set, fd, file, err);
  /* Network file systems may report a failed write here and only here. */
  if (close(fd) && !rc && errno != EINTR) rc = segue__explain(err, -errno, "write", file->path);
  return rc;
}

/* ---- Many ---- */

typedef struct write_list {
  const segue__file_set *set;
  const segue__staged_write *items;
} write_list;

static int write_one(void *data, size_t index, segue_error *err) {
  const write_list *list = data;
  const segue__set_file *file = list->items[index].file;
  return file->dropped ? 0 : write_file(list->set, file, list->items[index].at, err);
}

/* A plan does not wait for the disk: it gains nothing from threads. */
int segue__file_write_all(const segue__file_set *set, const segue__staged_write *items,
                          size_t count, segue_error *err) {
  write_list list = {set, items};
  return segue__file_each(count, !set->plan, write_one, &list, err);
}

/* One after the other: it is a rare step, and a file that cannot be copied changes its set. */
static int write_dropped(segue__file_set *set, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < set->count && !rc; i++) {
    segue__set_file *file = &set->files[i];
    if (file->dropped && file->staged && file->before && file->part == SEGUE__PART_FILE)
      rc = segue__file_dropped_write(set, file, err);
  }
  return rc;
}

int segue__file_stage_write(segue__file_set *set, segue_error *err) {
  size_t count = 0;
  segue__staged_write *items = segue__calloc(set->count + 1, sizeof *items);
  if (!items) return segue__errorf(err, UV_ENOMEM, "module '%s': out of memory", set->module);
  for (size_t i = 0; i < set->count; i++)
    if (set->files[i].staged)
      items[count++] = (segue__staged_write){&set->files[i], set->files[i].staged};
  int rc = segue__file_write_all(set, items, count, err);
  segue__free(items);
  return rc ? rc : write_dropped(set, err);
}

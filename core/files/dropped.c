/* SPDX-License-Identifier: MIT
 *
 * Files that a module has written before and no longer declares. The book knows them, also those of
 * an earlier process. A set has them beside its own files, so that they are removed or restored by
 * the same commit, and are back after its undo.
 *
 * Nothing here rejects a reload: a file that cannot go as the policy wants stays as it is, because
 * the operator who drops a file wants the rest of the change in any case. The log has the reason.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "internal.h"

/* ---- Finding them ---- */

static bool dropped_is_wanted(const segue__file_set *set, const char *path) {
  return segue__path_index_find(&set->paths, path, strlen(path)) != SEGUE__PATH_NONE;
}

/* A damaged record may have any name: it must not lead out of the folder. */
static bool dropped_number_fits(const char *number) {
  return *number && !number[strspn(number, "0123456789TZ-")];
}

/* A missing file is left out, and its entry stays in the book: the file system may be one that is
 * not mounted now. If a file of segue is beside it, the file system is mounted and a process was
 * killed while it removed the file: then the remaining files are removed. */
static int dropped_take(segue__file_set *set, const segue__owned_file *owned) {
  struct stat st;
  size_t len = strlen(owned->path);
  /* The end of a member is decided where its link is there. */
  if (owned->part == SEGUE__PART_MEMBER) len = (size_t)(strrchr(owned->path, '/') - owned->path);
  char *path = segue__strndup(owned->path, len);
  bool gone = path && lstat(path, &st) && !segue__file_is_left(path);
  segue__free(path);
  if (!path || gone) return path ? 0 : UV_ENOMEM;
  segue__set_file *file = segue__file_set_grow(set);
  if (!file) return UV_ENOMEM;
  file->dropped = true;
  file->part = owned->part;
  file->to = segue__strdup(owned->path);
  file->path = segue__strdup(owned->path);
  bool restores = set->removed == SEGUE__REMOVED_RESTORE && file->part != SEGUE__PART_MEMBER;
  bool copied = restores && owned->before && dropped_number_fits(owned->before);
  if (copied)
    file->before = segue__file_hidden(owned->path, "changed", owned->before);
  else if (restores && !(owned->before && !*owned->before))
    file->why = "the version from before is not known";
  return file->to && file->path && (file->before || !copied) ? 0 : UV_ENOMEM;
}

int segue__file_dropped_add(segue__file_set *set, segue_error *err) {
  segue__owned_files owned = {0};
  int rc = set->book ? segue__file_book_owned(set->book, set->module, &owned) : 0;
  for (size_t i = 0; i < owned.count && !rc; i++)
    if (!dropped_is_wanted(set, owned.items[i].path)) rc = dropped_take(set, &owned.items[i]);
  segue__owned_files_deinit(&owned);
  return rc ? segue__errorf(err, rc, "module '%s': out of memory", set->module) : 0;
}

/* ---- Staging one ---- */

int segue__file_dropped_stays(segue__set_file *file, int rc) {
  if (segue__file_read_failed(rc)) return rc;
  if (rc == UV_EBUSY)
    file->why = "another module or process writes it";
  else if (rc == UV_EPERM)
    file->why = "it is marked as immutable or append-only";
  else if (rc)
    file->why = "it cannot be read or locked";
  return 0;
}

/* The copy stays until the set has settled; the staged file is a second one. */
static int dropped_stage_before(segue__file_set *set, segue__set_file *file,
                                const segue__file_version *known, segue_error *err) {
  segue__file_version before;
  int rc = segue__file_version_read(file->before, &before, NULL, err);
  if (segue__file_read_failed(rc)) return rc;
  if (rc || before.kind == SEGUE__FILE_NONE) {
    file->why = "the copy of the version from before is gone";
    return 0;
  }
  file->next = before;
  if (segue__file_version_equal(&file->previous, &before)) return 0;
  return segue__file_set_differs(set, file, known, err);
}

int segue__file_dropped_write(segue__file_set *set, segue__set_file *file, segue_error *err) {
  int rc = SEGUE_FAULT("files.stage.before");
  if (!rc) rc = segue__file_copy(file->before, file->staged, NULL);
  if (!rc) return 0;
  if (segue__file_read_failed(rc))
    return segue__errorf(err, rc, "cannot restore %s from %s: %s", file->path, file->before,
                         segue_strerror(rc));
  file->again = true;
  file->why = rc == UV_ENOSPC || rc == -EDQUOT
                  ? "the disk is full: the version from before cannot be copied; the next reload "
                    "tries again"
                  : "the version from before cannot be copied; the next reload tries again";
  (void)unlink(file->staged);
  segue__free(file->staged);
  segue__free(file->second);
  file->staged = file->second = NULL;
  file->next = file->previous;
  file->foreign = false;
  set->changed--;
  set->moves--;
  return 0;
}

int segue__file_dropped_stage(segue__file_set *set, segue__set_file *file,
                              const segue__file_version *known, segue_error *err) {
  file->next = file->previous;
  if (set->removed == SEGUE__REMOVED_KEEP || file->previous.kind == SEGUE__FILE_NONE) return 0;
  if (!file->why && file->in_place) file->why = "it is a mount point";
  if (file->why) return 0;
  if (file->before) return dropped_stage_before(set, file, known, err);
  memset(&file->next, 0, sizeof file->next);
  return segue__file_set_differs(set, file, known, err);
}

/* ---- The end ---- */

/* The copy that was restored is live now. The lock is released too: another module may take
 * the file in the next reload. */
int segue__file_dropped_settle(const segue__file_set *set, segue__set_file *file,
                               segue_error *err) {
  segue__file_version now;
  bool restored = file->before && !file->why && file->next.kind != SEGUE__FILE_NONE;
  int rc = restored ? segue__file_version_read(file->path, &now, NULL, err) : 0;
  if (restored && !rc && segue__file_version_equal(&now, &file->next)) (void)unlink(file->before);
  rc = segue__file_read_failed(rc) ? rc : 0;
  /* The next reload drops it again, and finds the copy. */
  if (!rc && !file->again) segue__file_book_forget(set->book, file->path, set->module);
  if (file->taken) segue__file_book_release(set->book, file->path);
  file->taken = false;
  return rc;
}

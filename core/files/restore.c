/* SPDX-License-Identifier: MIT
 *
 * Bringing a destination to one of its two versions. It is decided by content alone: where the
 * wanted version is (at the destination already, under the staged name, under its spare), and what
 * the destination has now. So it does not matter at which point a change, or an earlier restore,
 * was cut short, and a restore may run any number of times.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/fault.h"
#include "folder_sync.h"
#include "internal.h"

enum { RESTORE_NAMES = 100 };

/* ".NAME.changed-TIME", and "-2" and so on behind it. */
static char *restore_kept_name(const char *path, int number) {
  char when[64];
  struct tm now;
  time_t seconds = time(NULL);
  if (!gmtime_r(&seconds, &now)) return NULL;
  size_t len = strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &now);
  if (number > 1) snprintf(when + len, sizeof when - len, "-%d", number);
  return segue__file_hidden(path, "changed", when);
}

int segue__file_kept_name(const char *path, char **out) {
  struct stat st;
  for (int i = 1; i < RESTORE_NAMES; i++) {
    *out = restore_kept_name(path, i);
    if (!*out) return UV_ENOMEM;
    if (lstat(*out, &st)) return 0;
    segue__free(*out);
  }
  *out = NULL;
  return UV_EEXIST;
}

/* Keeps a version that segue has not written under a name of its own: moves `from` there, or copies
 * path if from is NULL. Returns the name, owned; NULL: that failed. */
static char *restore_keep(const char *path, const char *from) {
  for (int i = 1; i < RESTORE_NAMES; i++) {
    char *name = restore_kept_name(path, i);
    if (!name) return NULL;
    int rc = from                 ? segue__file_move_new(from, name)
             : access(name, F_OK) ? segue__file_copy(path, name, NULL)
                                  : UV_EEXIST;
    if (!rc) return name;
    segue__free(name);
    if (rc != UV_EEXIST) return NULL;
  }
  return NULL;
}

/* *from gets the file that has the wanted version; NULL: none has. A place that cannot be read now
 * may have it: that is a failure, after which the restore is tried again, and not "none". */
static int restore_find(const segue__file_restore *restore, const char *spare, const char **from,
                        segue_error *err) {
  const char *const places[] = {restore->staged, spare};
  segue__file_version version;
  *from = NULL;
  for (int i = 0; i < 2 && !*from; i++) {
    int rc = segue__file_version_read(places[i], &version, NULL, err);
    if (segue__file_read_failed(rc) || rc == UV_EIO) return rc;
    if (!rc && segue__file_version_equal(&version, restore->wanted)) *from = places[i];
  }
  return 0;
}

/* Another program has put a folder, a pipe or a device in the place of a file: no version of it can
 * be read or compared. */
static bool restore_is_no_file(const char *path) {
  struct stat st;
  return !lstat(path, &st) && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode);
}

/* A version that another program wrote between staging and commit, and moved away by the commit: it
 * is neither of the two, and an undo has to restore it. */
static int restore_find_replaced(const segue__file_restore *restore, const char *spare,
                                 const char **from, segue_error *err) {
  const char *const places[] = {restore->staged, spare};
  segue__file_version version;
  for (int i = 0; i < 2 && !*from; i++) {
    int rc = segue__file_version_read(places[i], &version, NULL, err);
    if (segue__file_read_failed(rc)) return rc;
    bool third = !rc && version.kind != SEGUE__FILE_NONE &&
                 !segue__file_version_equal(&version, restore->other);
    /* No file at all: it goes back as it is. */
    if (third || rc == UV_EISDIR || rc == UV_EFTYPE) *from = places[i];
  }
  return 0;
}

/* Returns whether `now` is what a write of `a` over `b` leaves that was cut short: bytes of a up to
 * some place, and from there on those of b. */
static bool restore_is_cut(const segue__bytes *now, const segue__bytes *a, const segue__bytes *b) {
  size_t prefix = 0;
  while (prefix < now->len && prefix < a->len && now->data[prefix] == a->data[prefix])
    prefix++;
  if (prefix == now->len && (now->len > b->len || now->len == a->len)) return true;
  if (now->len != b->len) return false;
  return !memcmp(now->data + prefix, b->data + prefix, b->len - prefix);
}

/* A file that is written in place is a mixture where a crash cut that short. The mixture is no
 * version of another program, and is not kept. */
static int restore_is_mixture(const segue__file_restore *restore, const char *spare, bool *mixture,
                              segue_error *err) {
  const char *const paths[] = {restore->path, restore->staged, spare};
  segue__bytes bytes[3] = {{0}, {0}, {0}};
  segue__file_version version;
  int rc = 0;
  for (int i = 0; i < 3 && !rc; i++) {
    rc = segue__file_version_read(paths[i], &version, &bytes[i], err);
    if (!rc && !bytes[i].data) rc = UV_ENOENT;
  }
  *mixture = !rc && (restore_is_cut(&bytes[0], &bytes[1], &bytes[2]) ||
                     restore_is_cut(&bytes[0], &bytes[2], &bytes[1]));
  for (int i = 0; i < 3; i++)
    segue__free(bytes[i].data);
  return segue__file_read_failed(rc) ? rc : 0;
}

static int restore_written(const segue__file_restore *restore, segue_error *err) {
  return segue__errorf(err, SEGUE_EUNDO,
                       "%s is being written by another program: it stays as it is until the next "
                       "try",
                       restore->path);
}

static int restore_lost(const segue__file_restore *restore, segue_error *err) {
  return segue__errorf(err, SEGUE_EUNDO,
                       "%s was changed by another program, and no copy of it can be made: it "
                       "stays as it is",
                       restore->path);
}

static int restore_in_place(segue__file_restore *restore, const char *from, const char *spare,
                            const segue__file_version *now, segue_error *err) {
  segue__file_stamp before;
  segue__file_version again;
  bool third = !segue__file_version_equal(now, restore->other), mixture = false;
  int rc = segue__file_stamp_read(restore->path, &before);
  if (rc) return segue__explain(err, rc, "write", restore->path);
  rc = segue__file_version_read(restore->path, &again, NULL, err);
  if (rc) return rc;
  if (!segue__file_version_equal(&again, now)) return restore_written(restore, err);
  if (third) rc = restore_is_mixture(restore, spare, &mixture, err);
  if (rc) return rc;
  if (third && !mixture) {
    restore->kept = restore_keep(restore->path, NULL);
    if (!restore->kept) return restore_lost(restore, err);
  }
  rc = segue__file_overwrite(restore->path, from, &before);
  if (rc == UV_EAGAIN || rc == SEGUE_ECONFLICT) return restore_written(restore, err);
  return rc ? segue__explain(err, rc, "write", restore->path) : 0;
}

/* The destination exists and has another version. */
static int restore_replace(segue__file_restore *restore, const char *from, const char *spare,
                           const segue__file_version *now, segue_error *err) {
  /* The wanted version may be under the spare name itself, which an exchange by links overwrites.
   */
  char *swap = segue__file_beside(restore->staged, "swap");
  if (!swap) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", restore->path);
  int rc = segue__file_exchange(restore->path, from, from == spare ? swap : spare);
  segue__free(swap);
  if (rc == UV_EBUSY || rc == UV_EXDEV) return restore_in_place(restore, from, spare, now, err);
  return rc ? segue__explain(err, rc, "write", restore->path) : 0;
}

/* A third version that the exchange has moved away gets a name of its own. Not only an exchange of
 * this run: one that failed, or was killed, right behind it is repeated, and the next set would
 * remove what has a staged name. */
static int restore_keep_third(segue__file_restore *restore, const char *spare, segue_error *err) {
  const char *const places[] = {restore->staged, spare};
  segue__file_version version;
  for (int i = 0; i < 2; i++) {
    int rc = segue__file_version_read(places[i], &version, NULL, err);
    if (segue__file_read_failed(rc)) return rc;
    if (rc || version.kind == SEGUE__FILE_NONE ||
        segue__file_version_equal(&version, restore->other) ||
        segue__file_version_equal(&version, restore->wanted))
      continue;
    segue__free(restore->kept);
    restore->kept = restore_keep(restore->path, places[i]);
    if (!restore->kept) return restore_lost(restore, err);
  }
  return 0;
}

static int restore_remove(segue__file_restore *restore, const segue__file_version *now,
                          segue_error *err) {
  if (!segue__file_version_equal(now, restore->other)) {
    restore->left = true;
    return 0;
  }
  return unlink(restore->path) ? segue__explain(err, -errno, "remove", restore->path) : 0;
}

static int restore_step(segue__file_restore *restore, const char *spare,
                        const segue__file_version *now, segue_error *err) {
  if (restore->wanted->kind == SEGUE__FILE_NONE) return restore_remove(restore, now, err);
  const char *from;
  int rc = restore_find(restore, spare, &from, err);
  bool is_other = segue__file_version_equal(now, restore->other);
  if (!rc && !from && is_other && restore->back)
    rc = restore_find_replaced(restore, spare, &from, err);
  if (rc) return rc;
  if (!from && !is_other) {
    restore->left = true;
    return 0;
  }
  if (!from)
    return segue__errorf(err, SEGUE_EUNDO,
                         "%s cannot be brought back: its other version, %s, does not exist",
                         restore->path, restore->staged);
  if (now->kind != SEGUE__FILE_NONE) return restore_replace(restore, from, spare, now, err);
  rc = segue__file_move_new(from, restore->path);
  return rc ? segue__explain(err, rc, "write", restore->path) : 0;
}

/* A copy that was cut short. */
static void restore_remove_part(const char *spare) {
  char *part = segue__file_beside(spare, "part");
  if (part) (void)unlink(part);
  segue__free(part);
}

static bool restore_may_remove(const segue__file_restore *restore, const char *path) {
  segue__file_version version;
  return !segue__file_version_read(path, &version, NULL, NULL) &&
         (segue__file_version_equal(&version, restore->wanted) ||
          segue__file_version_equal(&version, restore->other));
}

/* All but what has to wait for the sync of the folder. */
static int restore_move(segue__file_restore *restore, segue_error *err) {
  segue__file_version now;
  char *spare = segue__file_beside(restore->staged, "old");
  if (!spare) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", restore->path);
  int rc = SEGUE_FAULT("files.restore");
  if (rc) segue__explain(err, rc, "write", restore->path);
  restore->left = !rc && restore_is_no_file(restore->path);
  if (!rc && !restore->left) rc = segue__file_version_read(restore->path, &now, NULL, err);
  if (!rc && !restore->left && !segue__file_version_equal(&now, restore->wanted))
    rc = restore_step(restore, spare, &now, err);
  if (!rc && !restore->left) rc = restore_keep_third(restore, spare, err);
  segue__free(spare);
  return rc;
}

static void restore_clean(const segue__file_restore *restore) {
  if (SEGUE_FAULT("files.restore.clean")) return; /* the next set removes them */
  char *spare = segue__file_beside(restore->staged, "old");
  if (restore_may_remove(restore, restore->staged)) (void)unlink(restore->staged);
  if (!spare) return; /* the next set removes it */
  if (restore_may_remove(restore, spare)) (void)unlink(spare);
  restore_remove_part(spare);
  segue__free(spare);
}

static void restore_failed(int rc, const segue_error *error, int *first, segue_error *err) {
  if (!*first && err) *err = *error;
  if (!*first) *first = rc;
}

/* A folder is synced before the other version of any file in it is removed: else a power loss could
 * leave neither. Until then both versions of all files exist, in whichever order the renames
 * reached the disk, so a recovery finds each of them by its content. */
int segue__file_restore_all(segue__file_restore *list, size_t count, segue_error *err) {
  segue__folders folders = {0};
  segue_error error;
  int first = 0;
  for (size_t i = 0; i < count; i++) {
    segue__file_restore *restore = &list[i];
    restore->rc = restore_move(restore, &error);
    if (!restore->rc && segue__folders_add(&folders, restore->path) &&
        (restore->rc = segue__file_sync_folder(restore->path))) /* no memory: at once */
      segue__explain(&error, restore->rc, "write", restore->path);
    if (restore->rc) restore_failed(restore->rc, &error, &first, err);
  }
  int rc = segue__folders_sync(&folders, &error);
  if (rc) restore_failed(rc, &error, &first, err);
  for (size_t i = 0; i < count; i++) {
    if (!list[i].rc) list[i].rc = segue__folders_result(&folders, list[i].path);
    if (!list[i].rc) restore_clean(&list[i]);
  }
  segue__folders_deinit(&folders);
  return first;
}

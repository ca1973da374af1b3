/* SPDX-License-Identifier: MIT
 *
 * Writing a file so that a crash at any instant leaves the old one or the new one, whole: temporary
 * file in the same folder, fsync, rename, fsync of the folder. The order is the guarantee; each
 * step is a fault point.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "explain.h"
#include "file.h"

enum { TEMP_TRIES = 16 };

/* The target of a write, and the file that is there now. */
typedef struct target {
  char path[PATH_MAX]; /* symbolic links resolved */
  const char *name;    /* its last part */
  char temp[NAME_MAX + 1];
  int folder;
  bool exists;
  struct stat old;
} target;

static int folder_open(target *t) {
  char *slash = strrchr(t->path, '/');
  t->name = slash ? slash + 1 : t->path;
  if (!*t->name) return UV_EISDIR;
  int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  if (!slash) {
    t->folder = open(".", flags);
  } else if (slash == t->path) {
    t->folder = open("/", flags);
  } else {
    *slash = 0;
    t->folder = open(t->path, flags);
    *slash = '/';
  }
  return t->folder < 0 ? -errno : 0;
}

static int target_open(target *t, const char *path) {
  t->folder = -1;
  t->temp[0] = 0;
  if (!realpath(path, t->path)) {
    if (errno != ENOENT) return -errno;
    if (strlen(path) >= sizeof t->path) return UV_ENAMETOOLONG;
    strcpy(t->path, path);
  }
  int rc = folder_open(t);
  if (rc) return rc;
  t->exists = !fstatat(t->folder, t->name, &t->old, 0);
  if (!t->exists && errno != ENOENT) return -errno;
  if (t->exists && S_ISDIR(t->old.st_mode)) return UV_EISDIR;
  return 0;
}

static void target_close(target *t) {
  if (t->folder < 0) return;
  if (t->temp[0]) unlinkat(t->folder, t->temp, 0);
  close(t->folder);
}

/* Creates the temporary file with mode 0600: the content may be a secret, and the file gets its
 * final mode only after the content is written. */
static int temp_open(target *t) {
  int rc = SEGUE_FAULT("write.temp");
  if (rc) return rc;
  for (int i = 0; i < TEMP_TRIES; i++) {
    unsigned random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
      random = (unsigned)uv_hrtime();
    /* The name is cut so that the temporary one is never too long where the final one is not. */
    snprintf(t->temp, sizeof t->temp, ".%.200s.segue-%08x", t->name, random);
    int fd = openat(t->folder, t->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    if (errno != EEXIST) break;
  }
  rc = -errno;
  t->temp[0] = 0;
  return rc;
}

/* The owner is set before the mode, because changing the owner clears the set-user-id bits. */
static int set_attributes(int fd, const target *t, const segue__write *w) {
  if (w->keep_owner && t->exists && fchown(fd, t->old.st_uid, t->old.st_gid)) return -errno;
  mode_t mode = w->mode ? w->mode : t->exists ? t->old.st_mode & 07777 : 0600;
  return fchmod(fd, mode) ? -errno : 0;
}

static int file_write_fill(int fd, const target *t, const segue__write *w) {
  int rc = segue__write_all(fd, w->data, w->len, NULL);
  if (!rc) rc = set_attributes(fd, t, w);
  if (!rc) rc = SEGUE_FAULT("write.sync");
  if (!rc && fsync(fd)) rc = -errno;
  return rc;
}

static int write_temp(target *t, const segue__write *w) {
  int fd = temp_open(t);
  if (fd < 0) return fd;
  int rc = file_write_fill(fd, t, w);
  /* Network file systems may report a failed write here and only here. */
  if (close(fd) && !rc && errno != EINTR) rc = -errno;
  return rc;
}

/* The folder is synced too: without that the rename itself may be lost at a power failure, although
 * the content of the new file is on disk. */
static int move_into_place(target *t, segue__claim *claim) {
  int rc = SEGUE_FAULT("write.rename");
  if (rc) return rc;
  if (claim && !segue__claim_act(claim)) return SEGUE_ECANCELLED;
  if (renameat(t->folder, t->temp, t->folder, t->name)) return -errno;
  t->temp[0] = 0;
  rc = SEGUE_FAULT("write.dirsync");
  if (rc) return rc;
  /* Some file systems cannot sync a folder, and return EINVAL or EROFS. */
  return fsync(t->folder) && errno != EINVAL && errno != EROFS ? -errno : 0;
}

int segue__file_write(void *data, const segue__write *w, segue_error *err) {
  (void)data;
  target t;
  int rc = target_open(&t, w->path);
  if (!rc) rc = write_temp(&t, w);
  if (!rc) rc = move_into_place(&t, w->claim);
  target_close(&t);
  return rc ? segue__explain(err, rc, "write", w->path) : 0;
}

/* SPDX-License-Identifier: MIT
 *
 * The operations on one destination. A file is replaced by exchanging it with the staged one: one
 * step of the file system, after which the staged name has the previous file, with its inode, its
 * attributes and the bytes that another program wrote into it at the last instant. So undo is the
 * same exchange, and nothing that was live is lost before the change has settled.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fault.h"
#include "../os/write.h"
#include "internal.h"

/* NFS and some others know no flags of renameat2: then the previous file gets a second name before
 * it is replaced. */
static int put_exchange_slowly(const char *path, const char *other, const char *spare) {
  (void)unlink(spare);
  if (link(path, spare)) {
    if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK) return -errno;
    int rc = segue__file_copy(path, spare); /* a file system without hard links */
    if (rc) return rc;
  }
  int rc = SEGUE_FAULT("files.exchange.linked");
  if (!rc && rename(other, path)) rc = -errno;
  if (rc) {
    (void)unlink(spare);
    return rc;
  }
  rc = SEGUE_FAULT("files.exchange.renamed");
  return rc ? rc : rename(spare, other) ? -errno : 0;
}

int segue__file_exchange(const char *path, const char *other, const char *spare) {
  int rc = SEGUE_FAULT("files.exchange");
  if (!rc && renameat2(AT_FDCWD, other, AT_FDCWD, path, RENAME_EXCHANGE)) rc = -errno;
  return rc == UV_EINVAL || rc == UV_ENOSYS ? put_exchange_slowly(path, other, spare) : rc;
}

int segue__file_move_new(const char *from, const char *path) {
  int rc = SEGUE_FAULT("files.move");
  if (!rc && renameat2(AT_FDCWD, from, AT_FDCWD, path, RENAME_NOREPLACE)) rc = -errno;
  if (rc != UV_EINVAL && rc != UV_ENOSYS) return rc;
  if (link(from, path)) return -errno;
  return unlink(from) ? -errno : 0;
}

static int put_copy_bytes(int from, int to) {
  char block[65536];
  for (;;) {
    ssize_t n = read(from, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? -errno : 0;
    int rc = segue__write_all(to, block, (size_t)n, NULL);
    if (rc) return rc;
  }
}

/* Owner before mode: changing the owner clears the set-user-id bits. */
static int put_attributes(int from, int to) {
  struct stat want, have;
  if (fstat(from, &want) || fstat(to, &have)) return -errno;
  if ((want.st_uid != have.st_uid || want.st_gid != have.st_gid) &&
      fchown(to, want.st_uid, want.st_gid))
    return -errno;
  return fchmod(to, want.st_mode & 07777) ? -errno : 0;
}

/* No one may read the new bytes whom their mode excludes, and the old mode could allow that. */
static int put_restrict(int from, int to) {
  struct stat want, have;
  if (fstat(from, &want) || fstat(to, &have)) return -errno;
  return fchmod(to, want.st_mode & have.st_mode & 07777) ? -errno : 0;
}

/* The file is shortened last: a crash before leaves bytes of both versions, which recovery writes
 * again from a file of its own. */
static int put_fill(int source, int target) {
  int rc = put_restrict(source, target);
  if (!rc) rc = put_copy_bytes(source, target);
  if (!rc) rc = SEGUE_FAULT("files.overwrite.cut");
  if (!rc && ftruncate(target, lseek(target, 0, SEEK_CUR))) rc = -errno;
  if (!rc) rc = put_attributes(source, target);
  if (!rc) rc = SEGUE_FAULT("files.overwrite.sync");
  return rc ? rc : fsync(target) ? -errno : 0;
}

static int put_write(const char *path, const char *from, int flags) {
  int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (source < 0) return -errno;
  int target = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  int rc = target < 0 ? -errno : put_fill(source, target);
  if (target >= 0 && close(target) && !rc && errno != EINTR) rc = -errno;
  (void)close(source);
  return rc;
}

int segue__file_overwrite(const char *path, const char *from) {
  int rc = SEGUE_FAULT("files.overwrite");
  return rc ? rc : put_write(path, from, 0);
}

int segue__file_copy(const char *from, const char *to) {
  char *part = segue__file_beside(to, "part");
  if (!part) return UV_ENOMEM;
  (void)unlink(part);
  int rc = put_write(part, from, O_CREAT | O_EXCL);
  if (!rc && rename(part, to)) rc = -errno;
  if (rc) (void)unlink(part);
  if (!rc) rc = segue__file_sync_folder(to); /* else a power loss could undo the rename */
  segue__free(part);
  return rc;
}

int segue__file_sync_folder(const char *path) {
  char folder[PATH_MAX];
  size_t len = (size_t)(strrchr(path, '/') + 1 - path);
  if (len >= sizeof folder) return UV_ENAMETOOLONG;
  memcpy(folder, path, len);
  folder[len] = 0;
  int rc = SEGUE_FAULT("files.dirsync");
  if (rc) return rc;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  /* Some file systems cannot sync a folder, and return EINVAL or EROFS. */
  if (fsync(fd) && errno != EINVAL && errno != EROFS) rc = -errno;
  (void)close(fd);
  return rc;
}

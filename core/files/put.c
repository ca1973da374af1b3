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
#include <signal.h>
#include <stdbool.h>
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
    int rc = segue__file_copy(path, spare, NULL); /* a file system without hard links */
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

/* Restricts the mode before the new bytes are written: the old mode may let users read them whom
 * the new mode excludes. */
static int put_restrict(int from, int to) {
  struct stat want, have;
  if (fstat(from, &want) || fstat(to, &have)) return -errno;
  return fchmod(to, want.st_mode & have.st_mode & 07777) ? -errno : 0;
}

/* Another program may write the file at the same time. A lease keeps it out: the kernel lets no
 * open for reading or writing end before the lease is released, which is a few milliseconds later.
 * It is refused where a program has the file open already, or where the file is another user's. The
 * kernel reports an open that waits by a signal, SIGIO unless another one is chosen, which would
 * end the process; SIGURG is ignored unless the process wants it. */
static bool put_lease(int target) {
  if (SEGUE_FAULT("files.overwrite.lease")) return false;
  return !fcntl(target, F_SETSIG, SIGURG) && !fcntl(target, F_SETLEASE, F_WRLCK);
}

static segue__file_stamp put_stamp(const struct stat *st) {
  return (segue__file_stamp){st->st_ino, (uint64_t)st->st_size, st->st_mtim, st->st_ctim};
}

static bool put_same_time(const struct timespec *a, const struct timespec *b) {
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool segue__file_stamp_equal(const segue__file_stamp *a, const segue__file_stamp *b) {
  return a->inode == b->inode && a->size == b->size && put_same_time(&a->written, &b->written) &&
         put_same_time(&a->changed, &b->changed);
}

int segue__file_stamp_read(const char *path, segue__file_stamp *out) {
  struct stat st;
  memset(out, 0, sizeof *out);
  if (lstat(path, &st)) return -errno;
  *out = put_stamp(&st);
  return 0;
}

static int put_check_stamp(int target, const segue__file_stamp *expected) {
  struct stat st;
  if (fstat(target, &st)) return -errno;
  segue__file_stamp now = put_stamp(&st);
  return segue__file_stamp_equal(&now, expected) ? 0 : UV_EAGAIN;
}

/* Compares the bytes that are in the file now with those that were to be written. */
static int put_check_written(int source, int target) {
  char want[16384], have[sizeof want];
  for (off_t at = 0;;) {
    ssize_t n = pread(source, want, sizeof want, at), m = pread(target, have, sizeof have, at);
    if (n < 0 || m < 0) return -errno;
    if (n != m || memcmp(want, have, (size_t)n) != 0) return SEGUE_ECONFLICT;
    if (!n) return 0;
    at += n;
  }
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

static int put_fill_exclusively(int source, int target, const segue__file_stamp *expected) {
  bool leased = put_lease(target);
  int rc = put_check_stamp(target, expected);
  if (!rc) rc = put_fill(source, target);
  if (!rc) rc = SEGUE_FAULT("files.overwrite.check");
  if (!rc) rc = put_check_written(source, target);
  if (leased) (void)fcntl(target, F_SETLEASE, F_UNLCK);
  return rc;
}

static int put_write(const char *path, const char *from, int flags, segue__file_stamp *copied) {
  struct stat st;
  int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (source < 0) return -errno;
  int target = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  int rc = target < 0 || fstat(source, &st) ? -errno : put_fill(source, target);
  if (!rc && copied) *copied = put_stamp(&st); /* from before the first byte was read */
  if (target >= 0 && close(target) && !rc && errno != EINTR) rc = -errno;
  (void)close(source);
  return rc;
}

int segue__file_overwrite(const char *path, const char *from, const segue__file_stamp *expected) {
  int rc = SEGUE_FAULT("files.overwrite");
  if (rc) return rc;
  int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (source < 0) return -errno;
  int target = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  rc = target < 0 ? -errno : put_fill_exclusively(source, target, expected);
  if (target >= 0 && close(target) && !rc && errno != EINTR) rc = -errno;
  (void)close(source);
  return rc;
}

static int put_copy_link(const char *from, const char *part) {
  char target[PATH_MAX];
  ssize_t len = readlink(from, target, sizeof target - 1);
  if (len < 0) return -errno;
  target[len] = 0;
  return symlink(target, part) ? -errno : 0;
}

int segue__file_copy(const char *from, const char *to, segue__file_stamp *copied) {
  struct stat st;
  char *part = segue__file_beside(to, "part");
  if (!part) return UV_ENOMEM;
  (void)unlink(part);
  int rc = lstat(from, &st) ? -errno : 0;
  if (!rc) {
    bool link = S_ISLNK(st.st_mode);
    rc = link ? put_copy_link(from, part) : put_write(part, from, O_CREAT | O_EXCL, copied);
  }
  if (!rc && rename(part, to)) rc = -errno;
  if (rc) (void)unlink(part);
  if (!rc) rc = segue__file_sync_folder(to); /* else a power loss could undo the rename */
  segue__free(part);
  return rc;
}

int segue__file_sync_folder(const char *path) {
  char folder[PATH_MAX];
  size_t len = segue__file_folder_len(path);
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

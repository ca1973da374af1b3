/* SPDX-License-Identifier: MIT
 *
 * The file under the writer. While one log is swapped for another, both may write to one file, and
 * both may find that it has to be rotated. So each batch is written, and each rotation done, under
 * a lock of the file, and a writer that gets the lock checks whether the other one has rotated
 * meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

/* Returns the time at which the file was created if the file system stores it, else the present
 * time. */
static time_t made_at(int fd) {
  struct statx st;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) == 0 && (st.stx_mask & STATX_BTIME))
    return (time_t)st.stx_btime.tv_sec;
  return time(NULL);
}

int log_file_open(log_writer *writer) {
  const log_config *config = &writer->config;
  segue__line_file *file = &writer->file;
  if (!strcmp(config->file, "-")) {
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return -errno;
    segue__line_file_set(file, fd);
    return 0;
  }
  int rc = segue__line_file_open(file, config->file, config->mode);
  if (!rc && file->is_regular) writer->file_since = made_at(file->fd);
  return rc;
}

/* file.3 -> file.4, and so on. NULL: out of memory. */
static char *file_numbered(const log_writer *writer, unsigned number) {
  size_t size = strlen(writer->config.file) + 16;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s.%u", writer->config.file, number);
  return path;
}

static bool same_file(const char *path, const struct stat *st) {
  struct stat other;
  return path && stat(path, &other) == 0 && other.st_dev == st->st_dev &&
         other.st_ino == st->st_ino;
}

/* Returns whether the file was deleted, or the other instance has rotated: then the file that is
 * open here is file.1 now, or has no name with `keep: 0`. A file that another program has moved
 * away is written until that program asks the log to reopen its file. */
static bool was_rotated(const log_writer *writer) {
  struct stat st;
  if (segue__line_file_is_deleted(&writer->file)) return true;
  if (!writer->config.rotate_bytes && !writer->config.rotate_s) return false;
  char *first = file_numbered(writer, 1);
  bool yes = fstat(writer->file.fd, &st) == 0 && same_file(first, &st);
  free(first);
  return yes;
}

static bool is_due(const log_writer *writer, size_t coming) {
  const log_config *config = &writer->config;
  struct stat st;
  if (fstat(writer->file.fd, &st) || !st.st_size) return false;
  if (config->rotate_bytes && (uint64_t)st.st_size + coming > config->rotate_bytes) return true;
  return config->rotate_s && time(NULL) - writer->file_since >= (time_t)config->rotate_s;
}

static void file_lock(log_writer *writer) {
  while (flock(writer->file.fd, LOCK_EX) && errno == EINTR)
    ;
}

/* After a failure the current file stays in use and continues to grow: no line is lost. */
static void file_rotate(log_writer *writer) {
  unsigned keep = writer->config.keep;
  struct stat st;
  if (fstat(writer->file.fd, &st) || !same_file(writer->config.file, &st)) return;
  for (unsigned i = keep; i > 1; i--) {
    char *from = file_numbered(writer, i - 1), *to = file_numbered(writer, i);
    if (from && to) (void)rename(from, to);
    free(from);
    free(to);
  }
  char *first = keep ? file_numbered(writer, 1) : NULL;
  int rc = !keep ? unlink(writer->config.file) : first ? rename(writer->config.file, first) : -1;
  free(first);
  if (rc) return;
  if (log_file_open(writer)) { /* closing the old file releases its lock */
    atomic_fetch_add(&writer->counts->failures, 1);
    return;
  }
  if (writer->file.is_regular) file_lock(writer);
  atomic_fetch_add(&writer->counts->rotations, 1);
}

static void lock_and_rotate(log_writer *writer, size_t coming) {
  file_lock(writer);
  while (was_rotated(writer) && !log_file_open(writer) && writer->file.is_regular)
    file_lock(writer);
  if (writer->file.is_regular && is_due(writer, coming)) file_rotate(writer);
}

static unsigned long long inode_of(const log_writer *writer) {
  struct stat st;
  return fstat(writer->file.fd, &st) ? 0 : st.st_ino;
}

/* A drain that is cut may end in the middle of a line. The instance that comes next begins a new
 * line, if it has the same file. */
static void adopt_torn(log_writer *writer) {
  atomic_ullong *torn = &writer->counts->torn_inode;
  if (!atomic_load_explicit(torn, memory_order_relaxed)) return;
  unsigned long long mine = inode_of(writer);
  if (mine && atomic_compare_exchange_strong(torn, &mine, 0)) writer->file.torn = true;
}

void log_file_begin(log_writer *writer, size_t coming) {
  if (writer->file.is_regular) lock_and_rotate(writer, coming);
  adopt_torn(writer);
}

void log_file_end(log_writer *writer) {
  if (writer->file.is_regular) flock(writer->file.fd, LOCK_UN);
  if (writer->file.torn) atomic_store(&writer->counts->torn_inode, inode_of(writer));
}

/* If the file cannot be opened, the old one stays in use. */
void log_file_reopen(log_writer *writer) {
  if (log_file_open(writer))
    atomic_fetch_add(&writer->counts->failures, 1);
  else
    atomic_fetch_add(&writer->counts->reopened, 1);
}

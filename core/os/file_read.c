/* SPDX-License-Identifier: MIT
 *
 * Reading a file as it was at one instant, and listing a folder. A file that a program saves in
 * place may be read half-written. So its size, times and inode are compared before and after, and
 * it is read again until they agree. A writer that pauses in the middle changes none of these: the
 * kernel then refuses a lease, because the file is open for writing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "explain.h"
#include "file.h"
#include "glob.h"
#include "mem.h"

enum { TRIES = 5, AGAIN = 1 };

static bool file_read_same(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
         a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static const char *file_read_type_name(mode_t mode) {
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

static int file_read_check_type(const char *path, const struct stat *st, segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  if (S_ISREG(st->st_mode)) return 0;
  const char *name = segue__shown(path, shown);
  if (S_ISDIR(st->st_mode))
    return segue__errorf(err, UV_EISDIR,
                         "cannot read %s: it is a directory; name a file, or all of them with a "
                         "dir source (%s/*.yaml)",
                         name, name);
  return segue__errorf(err, UV_EFTYPE,
                       "cannot read %s: it is %s, not a regular file; name a file, which can "
                       "be read again and again",
                       name, file_read_type_name(st->st_mode));
}

static int too_large(const char *path, uint64_t size, bool at_least, size_t max, segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  return segue__errorf(err, SEGUE_ELIMIT,
                       "%s is %s%llu bytes; the limit is %zu: split the file, perhaps into a "
                       "folder that a dir source reads",
                       segue__shown(path, shown), at_least ? "at least " : "",
                       (unsigned long long)size, max);
}

/* The type is checked before the file is opened, because opening a device can have effects, and
 * again afterwards, because the file may have been replaced in between. */
static int open_regular(const char *path, struct stat *st, segue_error *err) {
  if (stat(path, st)) return segue__explain(err, -errno, "read", path);
  int rc = file_read_check_type(path, st, err);
  if (rc) return rc;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return segue__explain(err, -errno, "read", path);
  rc = fstat(fd, st) ? segue__explain(err, -errno, "read", path)
                     : file_read_check_type(path, st, err);
  if (!rc) return fd;
  close(fd);
  return rc;
}

static int file_read_grow(segue__bytes *bytes, size_t *capacity, size_t max) {
  size_t next = *capacity < 4096 ? 4096 : *capacity * 2;
  if (next > max + 1 || next < *capacity) next = max + 1;
  char *data = segue__realloc(bytes->data, next + 1);
  if (!data) return UV_ENOMEM;
  bytes->data = data;
  *capacity = next;
  return 0;
}

/* Reads to the end, of at most max + 1 bytes: one more byte shows that the limit is exceeded. The
 * size is only a hint: files under /proc have the size 0. */
static int file_read_read_all(int fd, size_t hint, size_t max, segue__bytes *bytes) {
  size_t capacity = hint + 1;
  bytes->len = 0;
  bytes->data = segue__malloc(capacity + 1);
  if (!bytes->data) return UV_ENOMEM;
  for (;;) {
    if (bytes->len == capacity) {
      if (capacity > max) return 0;
      int rc = file_read_grow(bytes, &capacity, max);
      if (rc) return rc;
    }
    ssize_t n = read(fd, bytes->data + bytes->len, capacity - bytes->len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;
    bytes->len += (size_t)n;
  }
  bytes->data[bytes->len] = 0;
  return 0;
}

/* Returns whether the file is on a network file system, whose server may refuse leases for reasons
 * of its own. */
static bool file_read_is_remote(int fd) {
  struct statfs fs;
  if (fstatfs(fd, &fs)) return true;
  switch ((uint32_t)fs.f_type) {
  case 0x6969:     /* NFS */
  case 0xff534d42: /* CIFS */
  case 0xfe534d42: /* SMB2 */
  case 0x517b:     /* SMB */
    return true;
  default:
    return false;
  }
}

/* Returns whether a process has the file open for writing. The kernel grants a read lease only if
 * none has (EAGAIN). It grants one only to the owner of the file or with CAP_LEASE (EACCES), and
 * not on all file systems (EINVAL); in these cases the function returns false.
 *
 * A program that opens the file for writing in the microsecond between the two fcntl calls waits
 * for the second call (with O_NONBLOCK it gets EWOULDBLOCK), and this process gets a signal:
 * SIGURG, which is ignored by default, in place of SIGIO, which would end the process. */
static bool is_being_written(int fd) {
  if (file_read_is_remote(fd) || fcntl(fd, F_SETSIG, SIGURG)) return false;
  if (fcntl(fd, F_SETLEASE, F_RDLCK)) return errno == EAGAIN;
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return false;
}

static int fail_writing(const char *path, segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  return segue__errorf(err, UV_ETXTBSY,
                       "%s is being written: a program has it open, and it may be incomplete; "
                       "better is to write another file and rename it",
                       segue__shown(path, shown));
}

/* The bytes are complete if there is one instant without a writer, and no change from the opening
 * of the file to the end. So the lease is requested after the read and before the second fstat. */
static int read_open(int fd, const char *path, const struct stat *before, size_t max, bool whole,
                     segue__bytes *out, segue_error *err) {
  if (before->st_size > 0 && (uint64_t)before->st_size > max)
    return too_large(path, (uint64_t)before->st_size, false, max, err);
  int rc = file_read_read_all(fd, (size_t)before->st_size, max, out);
  if (!rc && SEGUE_FAULT("read.changed")) return AGAIN;
  if (rc == -ESTALE) return AGAIN; /* NFS: the file was replaced while it was read */
  if (rc) return segue__explain(err, rc, "read", path);
  if (out->len > max) return too_large(path, out->len, true, max, err);
  if (whole && is_being_written(fd)) return fail_writing(path, err);
  struct stat after, now;
  if (fstat(fd, &after) || !file_read_same(before, &after)) return AGAIN;
  return stat(path, &now) || !file_read_same(before, &now) ? AGAIN : 0;
}

static int read_once(const char *path, size_t max, bool whole, segue__bytes *out,
                     segue_error *err) {
  struct stat st;
  int fd = open_regular(path, &st, err);
  if (fd < 0) return fd;
  int rc = read_open(fd, path, &st, max, whole, out, err);
  close(fd);
  if (!rc) return 0;
  segue__free(out->data);
  *out = (segue__bytes){0};
  return rc;
}

static int read_steady(const char *path, size_t max, bool whole, segue__bytes *out,
                       segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  *out = (segue__bytes){0};
  if (max > SIZE_MAX / 4) max = SIZE_MAX / 4;
  for (int i = 0; i < TRIES; i++) {
    int rc = read_once(path, max, whole, out, err);
    if (rc != AGAIN) return rc;
  }
  return segue__errorf(err, UV_EAGAIN,
                       "cannot read %s: it changed each of %d times while it was read; write it "
                       "to another name and rename it",
                       segue__shown(path, shown), TRIES);
}

int segue__file_read(void *data, const char *path, size_t max, segue__bytes *out,
                     segue_error *err) {
  (void)data;
  return read_steady(path, max, false, out, err);
}

int segue__file_read_whole(void *data, const char *path, size_t max, segue__bytes *out,
                           segue_error *err) {
  (void)data;
  return read_steady(path, max, true, out, err);
}

/* ---- Listing ---- */

void segue__names_deinit(segue__names *names) {
  for (size_t i = 0; i < names->count; i++)
    segue__free(names->items[i]);
  segue__free(names->items);
  segue__free(names->odd);
  *names = (segue__names){0};
}

/* The array's room is the next power of two, so it need not be stored. */
int segue__names_add(segue__names *names, const char *folder, size_t folder_len, const char *name) {
  size_t count = names->count;
  if ((count & (count - 1)) == 0) {
    char **items = segue__realloc(names->items, (count ? count * 2 : 1) * sizeof *items);
    if (!items) return UV_ENOMEM;
    names->items = items;
  }
  size_t len = strlen(name);
  char *path = segue__malloc(folder_len + len + 1);
  if (!path) return UV_ENOMEM;
  if (folder_len) memcpy(path, folder, folder_len);
  memcpy(path + folder_len, name, len + 1);
  names->items[names->count++] = path;
  return 0;
}

static int file_read_compare(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A pattern with an ending, such as *.yaml or *.{yaml,yml}, means files; * alone and *.* match the
 * folders beside them too. */
static bool has_ending(const char *glob) {
  const char *dot = strrchr(glob, '.');
  return dot && dot[1] && dot[1] != '*';
}

typedef enum listed { LISTED, PASSED_OVER, ODD } listed;

/* Decides about one entry of a folder. A link that leads nowhere counts, so that the missing file
 * is an error; a file that vanished since readdir does not. */
static listed validate_entry(int folder, const struct dirent *entry, bool ending) {
  struct stat st;
  if (entry->d_type == DT_REG) return LISTED;
  if (fstatat(folder, entry->d_name, &st, 0) != 0)
    return fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ? PASSED_OVER : LISTED;
  if (S_ISREG(st.st_mode)) return LISTED;
  return S_ISDIR(st.st_mode) && !ending ? PASSED_OVER : ODD;
}

/* Keeps the first odd entry by name, so that the error message does not depend on the order of the
 * folder. */
static int keep_odd(segue__names *names, const char *folder, size_t folder_len, const char *name) {
  if (names->odd && strcmp(names->odd + folder_len, name) <= 0) return 0;
  size_t len = strlen(name);
  char *path = segue__malloc(folder_len + len + 1);
  if (!path) return UV_ENOMEM;
  memcpy(path, folder, folder_len);
  memcpy(path + folder_len, name, len + 1);
  segue__free(names->odd);
  names->odd = path;
  return 0;
}

static int list_open(DIR *dir, const char *pattern, const char *glob, segue__names *out) {
  size_t folder_len = (size_t)(glob - pattern);
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (!entry) return -errno;
    if (!segue__glob_match(glob, entry->d_name)) continue;
    listed kind = validate_entry(dirfd(dir), entry, has_ending(glob));
    int rc = 0;
    if (kind == LISTED) rc = segue__names_add(out, pattern, folder_len, entry->d_name);
    if (kind == ODD) rc = keep_odd(out, pattern, folder_len, entry->d_name);
    if (rc) return rc;
  }
}

int segue__file_list(void *data, const char *pattern, segue__names *out, segue_error *err) {
  (void)data;
  char shown[SEGUE__SHOWN_MAX];
  *out = (segue__names){0};
  const char *slash = strrchr(pattern, '/'), *glob = slash ? slash + 1 : pattern;
  size_t len = (size_t)(glob - pattern);
  if (!*glob || strcspn(pattern, "*?[") < len)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "cannot list %s: the last part, and only it, is a pattern, such as "
                         "conf.d/*.yaml",
                         segue__shown(pattern, shown));
  const char *problem = segue__glob_problem(glob);
  if (problem)
    return segue__errorf(err, SEGUE_EUSAGE, "cannot list %s: %s", segue__shown(pattern, shown),
                         problem);
  char *folder = len ? segue__strndup(pattern, len > 1 ? len - 1 : 1) : segue__strdup(".");
  if (!folder) return segue__errorf(err, UV_ENOMEM, "out of memory");
  DIR *dir = opendir(folder);
  int rc = dir ? list_open(dir, pattern, glob, out) : -errno;
  if (rc) segue__explain(err, rc, "list", folder);
  if (dir) closedir(dir);
  segue__free(folder);
  if (rc)
    segue__names_deinit(out);
  else if (out->count)
    qsort(out->items, out->count, sizeof *out->items, file_read_compare);
  return rc;
}

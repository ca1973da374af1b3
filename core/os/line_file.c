/* SPDX-License-Identifier: MIT
 *
 * The file under a log.
 */
#include "line_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "write.h"

void segue__line_file_close(segue__line_file *file) {
  if (file->fd >= 0) close(file->fd);
  file->fd = -1;
  file->is_regular = file->torn = false;
}

void segue__line_file_set(segue__line_file *file, int fd) {
  segue__line_file_close(file);
  file->fd = fd;
}

/* O_NONBLOCK, because the control thread opens the log of a new policy: opening a FIFO that has no
 * reader must fail and not block. */
int segue__line_file_open(segue__line_file *file, const char *path, unsigned mode) {
  struct stat st;
  int fd =
      open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, (mode_t)mode);
  if (fd < 0) return -errno;
  segue__line_file_set(file, fd);
  file->is_regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  return 0;
}

bool segue__line_file_is_deleted(const segue__line_file *file) {
  struct stat st;
  return file->is_regular && fstat(file->fd, &st) == 0 && st.st_nlink == 0;
}

/* *at: how much was written. */
static int write_until(segue__line_file *file, const char *text, size_t len, size_t *at) {
  for (;;) {
    size_t n;
    int rc = segue__write_all(file->fd, text + *at, len - *at, &n);
    *at += n;
    file->bytes += n;
    if (!rc || !file->again || !file->again(file->data, rc)) return rc;
  }
}

static size_t count_lines(const char *text, size_t len) {
  size_t lines = 0;
  for (const char *end = text + len; (text = memchr(text, '\n', (size_t)(end - text))); text++)
    lines++;
  return lines;
}

int segue__line_file_write(segue__line_file *file, const char *text, size_t len,
                           size_t *lines_lost) {
  size_t at = 0;
  int rc = file->torn ? write_until(file, "\n", 1, &(size_t){0}) : 0;
  if (!rc) {
    file->torn = false;
    rc = write_until(file, text, len, &at);
    if (rc && at) file->torn = text[at - 1] != '\n';
  }
  if (lines_lost) *lines_lost = rc ? count_lines(text + at, len - at) : 0;
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * Writing all of a buffer, and whole lines, to a descriptor.
 */
#include "write.h"

#include <errno.h>
#include <unistd.h>

int segue__write_all(int fd, const void *data, size_t len, size_t *written) {
  size_t at = 0;
  int rc = 0;
  while (at < len && !rc) {
    ssize_t n = write(fd, (const char *)data + at, len - at);
    if (n >= 0)
      at += (size_t)n;
    else if (errno != EINTR)
      rc = -errno;
  }
  if (written) *written = at;
  return rc;
}

int segue__write_lines(int fd, const char *text, size_t len, bool *torn, size_t *written) {
  size_t at = 0;
  int rc = *torn ? segue__write_all(fd, "\n", 1, NULL) : 0;
  if (!rc) {
    *torn = false;
    rc = segue__write_all(fd, text, len, &at);
    if (rc && at) *torn = text[at - 1] != '\n';
  }
  if (written) *written = at;
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * Writing all of a buffer to a descriptor.
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

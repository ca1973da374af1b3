/* SPDX-License-Identifier: MIT
 *
 * A clock that a spec sets: preloaded, it makes CLOCK_REALTIME the seconds since 1970 that stand in
 * the file $SPEC_CLOCK. So a spec can set the clock of a daemon back while it runs.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *out) {
  const char *path = id == CLOCK_REALTIME ? getenv("SPEC_CLOCK") : NULL;
  char text[32] = "";
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return (int)syscall(SYS_clock_gettime, id, out);
  ssize_t len = read(fd, text, sizeof text - 1);
  close(fd);
  if (len <= 0) return (int)syscall(SYS_clock_gettime, id, out);
  out->tv_sec = (time_t)strtoll(text, NULL, 10);
  out->tv_nsec = 0;
  return 0;
}

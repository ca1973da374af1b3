/* SPDX-License-Identifier: MIT
 *
 * wait_file.h: waits until another process has made a file.
 */
#ifndef SPEC_SUPPORT_WAIT_FILE_H
#define SPEC_SUPPORT_WAIT_FILE_H

#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Returns when the file exists, or when end_fd is readable (-1: there is none). The watch is set
 * before the look, so that a file that comes in between is seen by one of them. */
static void wait_file(const char *path, int end_fd) {
  char folder[PATH_MAX], events[4096];
  int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  snprintf(folder, sizeof folder, "%s", path);
  if (fd < 0 || inotify_add_watch(fd, dirname(folder), IN_CREATE | IN_MOVED_TO) < 0) abort();
  struct pollfd poll_fds[] = {{fd, POLLIN, 0}, {end_fd, POLLIN, 0}};
  while (access(path, F_OK) && !poll_fds[1].revents) {
    (void)poll(poll_fds, 2, -1);
    while (read(fd, events, sizeof events) > 0)
      ;
  }
  close(fd);
}

#endif

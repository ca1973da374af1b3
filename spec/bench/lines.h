/* SPDX-License-Identifier: MIT
 *
 * lines.h: waits until a file has as many lines as were logged into it, woken by whatever is
 * written there. Also for C++.
 */
#ifndef SEGUE_BENCH_LINES_H
#define SEGUE_BENCH_LINES_H

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

typedef struct lines {
  int fd, watch;
  size_t count; /* that are there */
} lines;

static inline void lines_open(lines *l, const char *path) {
  l->count = 0;
  l->fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
  l->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (l->fd < 0 || l->watch < 0 || inotify_add_watch(l->watch, path, IN_MODIFY) < 0) exit(1);
}

static inline void lines_read(lines *l) {
  static char data[1 << 16];
  for (ssize_t n; (n = read(l->fd, data, sizeof data)) > 0;)
    for (const char *at = data; (at = (const char *)memchr(at, '\n', (size_t)(data + n - at)));
         at++)
      l->count++;
}

/* Exits where they do not come within 10 s, or are too many. */
static inline void lines_wait(lines *l, size_t wanted) {
  char events[4096];
  struct pollfd fd = {l->watch, POLLIN, 0};
  for (lines_read(l); l->count < wanted; lines_read(l)) {
    if (poll(&fd, 1, 10000) == 1 && read(l->watch, events, sizeof events) > 0) continue;
    break;
  }
  if (l->count == wanted) return;
  fprintf(stderr, "%zu lines were logged, %zu are there\n", wanted, l->count);
  exit(1);
}

#endif

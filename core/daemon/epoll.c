/* SPDX-License-Identifier: MIT
 *
 * epoll_ctl for everything in this process, libuv above all. libuv calls abort() if the kernel has
 * no memory (ENOMEM) or no room among the user's watches (ENOSPC) for one more descriptor, at a
 * moment when no caller is left that could be given an error: the daemon would end, with all its
 * connections, for a shortage that is often over in milliseconds. So such a call is repeated for a
 * while. The dynamic linker prefers this definition in the program to that of the C library. A host
 * that embeds the library has libuv's behaviour; it can do the same.
 */
#include "../os/fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* Longer than any service manager waits with its watchdog: past that a restart is the better try.
 */
enum { PAUSE_MS = 5, PATIENCE_MS = 60000 };

typedef int (*epoll_ctl_fn)(int epoll, int op, int fd, struct epoll_event *event);

/* Writes a line to standard error. It does not use the log, whose writer needs memory, nor stdio,
 * which waits for the reader of standard error: the calling thread often runs a loop. A pipe that
 * polls as writable has room for PIPE_BUF bytes; if it has none the line is dropped. */
static void epoll_report(void) {
  static const char text[] = "segue: epoll_ctl: the kernel has no memory: trying again\n";
  struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return;
  ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
  (void)n;
}

__attribute__((visibility("default"))) int epoll_ctl(int epoll, int op, int fd,
                                                     struct epoll_event *event) {
  /* Not the system call itself: a sanitizer has its own definition behind this one. */
  static epoll_ctl_fn next;
  epoll_ctl_fn call = __atomic_load_n(&next, __ATOMIC_RELAXED);
  if (!call) {
    call = (epoll_ctl_fn)dlsym(RTLD_NEXT, "epoll_ctl");
    __atomic_store_n(&next, call, __ATOMIC_RELAXED);
  }
  for (int waited_ms = 0;; waited_ms += PAUSE_MS) {
    int code = SEGUE_FAULT("epoll_ctl");
    int rc = code ? -1 : call(epoll, op, fd, event);
    if (code) errno = -code;
    bool is_short = rc < 0 && (errno == ENOMEM || errno == ENOSPC);
    if (!is_short || waited_ms >= PATIENCE_MS) return rc;
    if (!waited_ms) epoll_report();
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
  }
}

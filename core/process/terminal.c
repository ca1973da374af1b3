/* SPDX-License-Identifier: MIT
 *
 * The controlling terminal. A process outside of the foreground group that changes the terminal
 * gets SIGTTOU, whose default action stops it. While a child has the terminal this process is
 * outside, so it blocks that signal on the calling thread for the call: then the kernel lets the
 * call through.
 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

#include "../os/mem.h"

struct segue__terminal {
  int fd;
  bool has_modes;
  struct termios modes; /* at the open: a program that is killed leaves others */
};

int segue__terminal_open(segue__terminal **out) {
  *out = NULL;
  int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return 0;
  segue__terminal *terminal = segue__calloc(1, sizeof *terminal);
  if (!terminal) {
    close(fd);
    return UV_ENOMEM;
  }
  terminal->fd = fd;
  terminal->has_modes = !tcgetattr(fd, &terminal->modes);
  *out = terminal;
  return 0;
}

void segue__terminal_close(segue__terminal *terminal) {
  if (!terminal) return;
  close(terminal->fd);
  segue__free(terminal);
}

int segue__terminal_fd(const segue__terminal *terminal) {
  return terminal ? terminal->fd : -1;
}

bool segue__terminal_is_ours(const segue__terminal *terminal) {
  return terminal && tcgetpgrp(terminal->fd) == getpgrp();
}

static void terminal_set(const segue__terminal *terminal, pid_t group, bool restore) {
  sigset_t stop, before;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &stop, &before);
  if (!tcsetpgrp(terminal->fd, group) && restore && terminal->has_modes)
    (void)tcsetattr(terminal->fd, TCSANOW, &terminal->modes);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void segue__terminal_give(const segue__terminal *terminal, int group) {
  if (segue__terminal_is_ours(terminal)) terminal_set(terminal, group, false);
}

/* A shell as the child puts its own jobs into the foreground: if it was killed, their group has the
 * terminal, and may be empty. */
void segue__terminal_take(const segue__terminal *terminal, int group) {
  if (!terminal) return;
  pid_t has = tcgetpgrp(terminal->fd);
  if (has < 0 || has == getpgrp()) return;
  if (has == group || (kill(-has, 0) && errno == ESRCH)) terminal_set(terminal, getpgrp(), true);
}

bool segue__terminal_can_suspend(const segue__terminal *terminal) {
  return terminal && getsid(0) != getpgrp();
}

/* SPDX-License-Identifier: MIT
 *
 * Descriptors that a forked child must not share with its host, see fork_fds.h. The marks are bits
 * by number, because a list of objects may be half changed by another thread at the fork.
 */
#include "fork_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* FDS_MAX: the kernel's default for fs.nr_open. Pages of the table that no mark needs stay unused.
 * GROUPS_MAX: listeners, of which each thread that serves has a copy. */
enum { FDS_MAX = 1 << 20, WORD_BITS = 64, GROUPS_MAX = 64 };

typedef struct group {
  dev_t dev;
  ino_t ino;
  int substitute;
} group;

static uint64_t marks[FDS_MAX / WORD_BITS];
static int words_used; /* no mark at or behind this word */
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* A fork must not wait for ever on a busy server, so a waiting writer goes first. */
#define LOCK_INIT PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
static pthread_rwlock_t lock = LOCK_INIT;

static void fork_fds_replace(int fd, int substitute) {
  if (substitute < 0 || dup3(substitute, fd, O_CLOEXEC) < 0) close(fd);
}

static int unconnected(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static bool is_listening(int fd) {
  int on = 0;
  socklen_t len = sizeof on;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

/* The copies of one listening socket get copies of one substitute, because segue_close in the child
 * finds the copies by the socket: a thread that was about to store the number of its copy exists
 * only in the parent. */
static void replace_listener(int fd, group *groups, int *count) {
  struct stat st;
  int i = 0;
  if (fstat(fd, &st) != 0) return;
  while (i < *count && (groups[i].dev != st.st_dev || groups[i].ino != st.st_ino))
    i++;
  if (i < *count) {
    fork_fds_replace(fd, groups[i].substitute);
    return;
  }
  int substitute = unconnected();
  fork_fds_replace(fd, substitute);
  if (*count < GROUPS_MAX)
    groups[(*count)++] = (group){st.st_dev, st.st_ino, substitute};
  else if (substitute >= 0)
    close(substitute);
}

/* Replaces every marked descriptor, and clears the marks: from here on the child may close a number
 * and open it again for itself. */
static void in_child(void) {
  static group groups[GROUPS_MAX];
  int count = 0, other = -1;
  static const pthread_rwlock_t unlocked = LOCK_INIT;
  memcpy(&lock, &unlocked, sizeof lock); /* its owner is a thread of the parent */
  for (int word = 0; word < words_used; word++) {
    for (uint64_t left = marks[word]; left; left &= left - 1) {
      int fd = word * WORD_BITS + __builtin_ctzll(left);
      if (is_listening(fd)) {
        replace_listener(fd, groups, &count);
      } else {
        if (other < 0) other = unconnected();
        fork_fds_replace(fd, other);
      }
    }
    marks[word] = 0;
  }
  words_used = 0;
  for (int i = 0; i < count; i++)
    if (groups[i].substitute >= 0) close(groups[i].substitute);
  if (other >= 0) close(other);
}

static void before_fork(void) {
  pthread_rwlock_wrlock(&lock);
}

static void in_parent(void) {
  pthread_rwlock_unlock(&lock);
}

/* If there is no memory for the handlers, a forked child is treated like one of clone(2):
 * segue_close closes its descriptors. */
static void set_handlers(void) {
  (void)pthread_atfork(before_fork, in_parent, in_child);
}

void segue__fork_hold(void) {
  pthread_once(&once, set_handlers);
  pthread_rwlock_rdlock(&lock);
}

void segue__fork_release(void) {
  int code = errno; /* of the call in between */
  pthread_rwlock_unlock(&lock);
  errno = code;
}

void segue__fork_mark(int fd) {
  if (fd < 0 || fd >= FDS_MAX) return;
  int used = fd / WORD_BITS + 1, before = __atomic_load_n(&words_used, __ATOMIC_RELAXED);
  __atomic_fetch_or(&marks[fd / WORD_BITS], UINT64_C(1) << fd % WORD_BITS, __ATOMIC_RELAXED);
  while (before < used && !__atomic_compare_exchange_n(&words_used, &before, used, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    continue;
}

void segue__fork_unmark(int fd) {
  if (fd < 0 || fd >= FDS_MAX) return;
  __atomic_fetch_and(&marks[fd / WORD_BITS], ~(UINT64_C(1) << fd % WORD_BITS), __ATOMIC_RELAXED);
}

int segue__fork_dup(int fd) {
  segue__fork_hold();
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  segue__fork_mark(copy);
  segue__fork_release();
  return copy;
}

void segue__fork_close(int fd) {
  segue__fork_hold();
  segue__fork_unmark(fd);
  close(fd);
  segue__fork_release();
}

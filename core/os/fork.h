/* SPDX-License-Identifier: MIT
 *
 * fork.h: detects that this process is a child that a host forked off. Such a child has copies of
 * the memory, but no threads, and it shares the descriptors: a write to an eventfd in the child
 * wakes the parent, and a lock that another thread held at the fork is never released. So every
 * public function checks the mark first. The mark is a page that the kernel clears in a child
 * (MADV_WIPEONFORK). The check is one load; getpid(2) is a system call, and pthread_atfork(3) needs
 * a global and misses children made by clone(2).
 */
#ifndef SEGUE_OS_FORK_H
#define SEGUE_OS_FORK_H

#include <stdbool.h>
#include <stdint.h>

int segue__fork_mark_new(const uint32_t **out);
void segue__fork_mark_free(const uint32_t *mark);

/* [any thread] NULL: no mark, returns false. */
static inline bool segue__in_child(const uint32_t *mark) {
  return mark && !__atomic_load_n(mark, __ATOMIC_RELAXED);
}

struct uv_loop_s;
/* In a child: closes the descriptors of a loop and of all its handles, by number. libuv's own calls
 * would remove the parent's descriptors from the epoll set, which both processes share. The loop
 * must not be used afterwards. */
void segue__uv_abandon(struct uv_loop_s *uv);
/* In a child: closes the descriptors of files in this folder. */
void segue__close_files_in(const char *folder);
/* In a child: closes every descriptor of the socket that fd stands for, fd included. */
void segue__close_socket_everywhere(int fd);

#endif

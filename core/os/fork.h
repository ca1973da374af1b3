/* SPDX-License-Identifier: MIT
 *
 * fork.h: whether this process is a child that a host forked off. Such a child has copies of the
 * memory, of none of the threads, and shares the descriptors: an eventfd that it writes to wakes
 * the parent, and a lock that another thread held at the fork is held for ever. So every public
 * function looks here first. The mark is a page that the kernel clears in a child
 * (MADV_WIPEONFORK): one load, where getpid(2) is a system call and pthread_atfork(3) wants a
 * global that a child made by clone(2) does not reach.
 */
#ifndef SEGUE_OS_FORK_H
#define SEGUE_OS_FORK_H

#include <stdbool.h>
#include <stdint.h>

int segue__fork_mark_new(const uint32_t **out);
void segue__fork_mark_free(const uint32_t *mark);

/* [any thread] NULL: nobody looks. */
static inline bool segue__in_child(const uint32_t *mark) {
  return mark && !__atomic_load_n(mark, __ATOMIC_RELAXED);
}

struct uv_loop_s;
/* In a child: closes the descriptors of a loop and of all its handles, by number. libuv's own calls
 * would take the parent's descriptors out of the epoll set, which both processes share. The loop
 * must not be used after that. */
void segue__uv_abandon(struct uv_loop_s *uv);
/* In a child: closes the descriptors whose file is in this folder. */
void segue__close_files_in(const char *folder);

#endif

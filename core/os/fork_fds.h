/* SPDX-License-Identifier: MIT
 *
 * fork_fds.h: descriptors that a forked child must not share with its host, even if the child
 * never calls segue_close: listening sockets, connections of clients, the lock of the state folder.
 * A child that kept them would hold the parent's port after the parent's end, its clients would
 * wait for ever, and no other process could lock the state folder. FD_CLOEXEC is no help to a child
 * that calls no exec.
 *
 * A handler of pthread_atfork(3) replaces them in the child. The numbers stay in use, by
 * unconnected sockets: segue_close in the child closes them, and must not meet a number that the
 * child has opened for itself since. Descriptors are opened and closed with their mark between
 * hold and release. fork waits for that, so no child gets a descriptor whose mark is not set, and
 * none whose mark is out of date. Children of a raw clone(2) run no handlers; there segue_close
 * does it.
 */
#ifndef SEGUE_OS_FORK_FDS_H
#define SEGUE_OS_FORK_FDS_H

/* [any thread] No fork of this process runs between the two. They must not be nested. */
void segue__fork_hold(void);
void segue__fork_release(void);
/* [any thread] Between hold and release. A negative fd is ignored. */
void segue__fork_mark(int fd);
void segue__fork_unmark(int fd);

/* [any thread] Duplicates a descriptor and marks the copy. Returns it or -1 with errno. */
int segue__fork_dup(int fd);
/* [any thread] Removes the mark and closes. */
void segue__fork_close(int fd);

#endif

/* SPDX-License-Identifier: MIT
 *
 * poller.h: an epoll set in front of a libuv loop, for threads that serve many short connections.
 * libuv needs two more system calls for each descriptor that it watches (ioctl to make it
 * non-blocking, epoll_ctl to remove it before close), and a handle that is closed later. With a
 * poller a connection costs one epoll_ctl. The loop is itself a member of the set: its handles work
 * as usual, one epoll_wait later.
 *
 * All functions are called on the thread that runs the poller; new and free on any.
 */
#ifndef SEGUE_OS_POLLER_H
#define SEGUE_OS_POLLER_H

#include <stdbool.h>

struct uv_loop_s;
typedef struct segue__poller segue__poller;

/* A watched descriptor, in the caller's memory. */
typedef struct segue__polled segue__polled;
struct segue__polled {
  /* There may be bytes to read. ended: the peer has shut its side, or the connection has failed; a
   * read shows which. */
  void (*on_ready)(segue__polled *polled, bool ended);
  void (*on_dropped)(segue__polled *polled);
  segue__polled *next; /* dropped, in this turn */
  int fd;
};

int segue__poller_new(segue__poller **out, struct uv_loop_s *uv);
void segue__poller_free(segue__poller *poller); /* NULL allowed */
/* Runs the loop and the set until the loop has nothing left to do; in place of uv_run. */
void segue__poller_run(segue__poller *poller);

/* Watches polled->fd, which must be non-blocking, for bytes to read. edge: on_ready is called once
 * for new bytes, so the caller reads until none are left, or calls segue__poller_again. Returns 0
 * or a negative code. */
int segue__poller_add(segue__poller *poller, segue__polled *polled, bool edge);
/* Calls on_ready again if there are bytes to read. Returns 0 or a negative code. */
int segue__poller_again(segue__poller *poller, segue__polled *polled);
/* Stops watching; the descriptor stays open. */
void segue__poller_remove(segue__poller *poller, segue__polled *polled);
/* Stops watching a descriptor that the caller closes next, with no other copy of it. on_dropped is
 * called at the end of this turn of the loop, when no function above uses the memory. */
void segue__poller_drop(segue__poller *poller, segue__polled *polled);

/* In a child after fork: closes the set's descriptor and nothing else. */
void segue__poller_abandon(segue__poller *poller);

#endif

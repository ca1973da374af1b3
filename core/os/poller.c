/* SPDX-License-Identifier: MIT
 *
 * An epoll set in front of a libuv loop, see poller.h.
 *
 * A descriptor leaves the set by itself when its last copy is closed, so a drop needs no system
 * call. But a child that is being started has a copy of each descriptor until it calls exec, and
 * for so long the kernel still reports events of a connection that was closed here, whose number
 * may be in use again. So an event carries the number and never a pointer: the present owner of the
 * number finds nothing to read. Connections are watched for edges, because a level would then be
 * reported in a busy loop until the child calls exec.
 */
#include "poller.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#include "mem.h"

enum {
  EVENTS_PER_TURN = 256,
  FIRST_OWNERS = 1024 /* with them a thread can watch its listeners also where no memory is left */
};

struct segue__poller {
  uv_loop_t *uv;
  int fd;
  segue__polled **owners; /* by descriptor */
  size_t owner_count;
  segue__polled *dropped;
  struct epoll_event events[EVENTS_PER_TURN];
};

static int poller_make_room(segue__poller *poller, size_t fd) {
  size_t count = poller->owner_count ? poller->owner_count : FIRST_OWNERS;
  if (fd < poller->owner_count) return 0;
  while (count <= fd)
    count *= 2;
  segue__polled **owners = segue__realloc(poller->owners, count * sizeof *owners);
  if (!owners) return UV_ENOMEM;
  for (size_t i = poller->owner_count; i < count; i++)
    owners[i] = NULL;
  poller->owners = owners;
  poller->owner_count = count;
  return 0;
}

int segue__poller_new(segue__poller **out, struct uv_loop_s *uv) {
  segue__poller *poller = segue__calloc(1, sizeof *poller);
  *out = NULL;
  if (!poller) return UV_ENOMEM;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = uv_backend_fd(uv)};
  poller->uv = uv;
  poller->fd = -1;
  if (poller_make_room(poller, 0) < 0) {
    segue__poller_free(poller);
    return UV_ENOMEM;
  }
  poller->fd = epoll_create1(EPOLL_CLOEXEC);
  if (poller->fd < 0 || epoll_ctl(poller->fd, EPOLL_CTL_ADD, uv_backend_fd(uv), &event) != 0) {
    int rc = -errno;
    segue__poller_free(poller);
    return rc;
  }
  *out = poller;
  return 0;
}

void segue__poller_free(segue__poller *poller) {
  if (!poller) return;
  if (poller->fd >= 0) close(poller->fd);
  segue__free(poller->owners);
  segue__free(poller);
}

void segue__poller_abandon(segue__poller *poller) {
  if (poller && poller->fd >= 0) close(poller->fd);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static void poller_dispatch(const segue__poller *poller, const struct epoll_event *event) {
  segue__polled *polled = poller->owners[event->data.fd];
  if (polled) polled->on_ready(polled, event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

/* Returns whether there was one. */
static bool poller_free_dropped(segue__poller *poller) {
  segue__polled *first = poller->dropped;
  poller->dropped = NULL;
  for (segue__polled *polled = first, *next; polled; polled = next) {
    next = polled->next;
    polled->on_dropped(polled);
  }
  return first != NULL;
}

static int poller_timeout(const segue__poller *poller) {
  return poller->dropped ? 0 : uv_backend_timeout(poller->uv);
}

/* One turn. The loop runs only if it has something to do: its set is readable, a timer is due, or a
 * handle was started or closed since (then its time limit is 0). Under load the set always reports
 * a connection, so the time limits would wait for a pause without the second test. Returns false if
 * the loop has nothing left to do. */
static bool poller_turn(segue__poller *poller) {
  int count = epoll_wait(poller->fd, poller->events, EVENTS_PER_TURN, poller_timeout(poller));
  bool loop_is_ready = count <= 0;
  uv_update_time(poller->uv);
  for (int i = 0; i < count; i++)
    if (poller->events[i].data.fd == uv_backend_fd(poller->uv))
      loop_is_ready = true;
    else
      poller_dispatch(poller, &poller->events[i]);
  bool is_alive = true;
  if (loop_is_ready || uv_backend_timeout(poller->uv) == 0)
    is_alive = uv_run(poller->uv, UV_RUN_NOWAIT) != 0;
  return poller_free_dropped(poller) || is_alive;
}

void segue__poller_run(segue__poller *poller) {
  while (poller_turn(poller))
    ;
}

/* ---- Members --------------------------------------------------------------------------------- */

static struct epoll_event poller_event(const segue__polled *polled, bool edge) {
  return (struct epoll_event){.events = EPOLLIN | (edge ? EPOLLRDHUP | EPOLLET : 0),
                              .data.fd = polled->fd};
}

int segue__poller_add(segue__poller *poller, segue__polled *polled, bool edge) {
  int rc = poller_make_room(poller, (size_t)polled->fd);
  if (rc < 0) return rc;
  struct epoll_event event = poller_event(polled, edge);
  if (epoll_ctl(poller->fd, EPOLL_CTL_ADD, polled->fd, &event) != 0) return -errno;
  poller->owners[polled->fd] = polled;
  return 0;
}

int segue__poller_again(segue__poller *poller, segue__polled *polled) {
  struct epoll_event event = poller_event(polled, true);
  return epoll_ctl(poller->fd, EPOLL_CTL_MOD, polled->fd, &event) == 0 ? 0 : -errno;
}

void segue__poller_remove(segue__poller *poller, segue__polled *polled) {
  struct epoll_event unused = {.events = 0};
  poller->owners[polled->fd] = NULL;
  (void)epoll_ctl(poller->fd, EPOLL_CTL_DEL, polled->fd, &unused);
}

void segue__poller_drop(segue__poller *poller, segue__polled *polled) {
  poller->owners[polled->fd] = NULL;
  polled->next = poller->dropped;
  poller->dropped = polled;
}

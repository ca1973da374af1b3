/* SPDX-License-Identifier: MIT
 *
 * The registry. A socket is counted twice. `leases` keeps the descriptor open. `accepting` is the
 * part of the leases that have not left: when it falls to 0 the socket stops to take connections,
 * and the last user empties its queue before it closes, because the kernel resets what is in the
 * queue when the last duplicate closes. Worker threads leave and release by themselves, so the
 * counts are under a lock; the list grows only on the control thread.
 */
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fault.h"
#include "../os/fork.h"
#include "../os/fork_fds.h"
#include "../os/mem.h"
#include "bind.h"
#include "handshakes.h"

enum { LINGER_MS = 250 }; /* longer than the way to most clients and back */

struct segue__socket {
  segue__sockets *registry; /* a reference */
  segue__socket *next;
  segue__address address;
  int fd;
  unsigned leases, accepting; /* under the lock */
  bool is_owned;              /* a user acquired it and has not released that lease */
  bool is_deaf;               /* the last user has left; another may come */
  bool is_disowned;
  bool is_passed;
  bool is_reported; /* as unused */
  dev_t file_device;
  ino_t file_inode;
  int number;     /* of a passed one: the descriptor */
  char name[64];  /* likewise: FileDescriptorName= */
  char label[80]; /* likewise: both, for messages */
  char user[64];  /* the last one */
};

struct segue__sockets {
  pthread_mutex_t lock;
  unsigned refs; /* the instance, and each socket: a worker thread may release later than the end */
  bool is_closed;
  segue__socket *first;
  const segue__logger *log; /* until it is closed */
};

int segue__sockets_new(segue__sockets **out, const segue__logger *log) {
  segue__sockets *sockets = segue__calloc(1, sizeof *sockets);
  *out = sockets;
  if (!sockets) return UV_ENOMEM;
  sockets->refs = 1;
  sockets->log = log;
  pthread_mutex_init(&sockets->lock, NULL);
  return 0;
}

/* ---- One socket ------------------------------------------------------------------------------ */

/* Called under the lock, which it releases. The registry is freed after the unlock, by the thread
 * that saw the count fall to 0: no other thread has a reference then, so none can wait for the
 * lock. */
static void sockets_unref_unlock(segue__sockets *sockets, unsigned count) {
  sockets->refs -= count;
  bool is_last = sockets->refs == 0;
  pthread_mutex_unlock(&sockets->lock);
  if (!is_last) return;
  pthread_mutex_destroy(&sockets->lock);
  segue__free(sockets);
}

/* Compares the inode, because another process may have put a socket of its own at the path since:
 * removing that one would cut its clients off. */
static bool socket_has_file(const segue__socket *socket) {
  struct stat st;
  return socket->address.type == SEGUE__SOCKET_UNIX && !socket->address.is_abstract &&
         !socket->is_disowned && lstat(socket->address.path, &st) == 0 && S_ISSOCK(st.st_mode) &&
         st.st_dev == socket->file_device && st.st_ino == socket->file_inode;
}

static bool socket_has_port(const segue__socket *socket) {
  return socket->address.type == SEGUE__SOCKET_TCP;
}

/* Called under the lock when no user accepts any more. A passed socket stays as it is, because the
 * process that passed it continues to use it. */
static void socket_stop(segue__socket *socket) {
  if (socket->is_passed) return;
  if (socket_has_file(socket)) unlink(socket->address.path);
  if (socket_has_port(socket)) segue__socket_set_deaf(socket->fd, true);
  socket->is_deaf = true;
}

/* Under the lock. */
static void socket_unlink(segue__sockets *sockets, const segue__socket *socket) {
  segue__socket **at = &sockets->first;
  while (*at && *at != socket)
    at = &(*at)->next;
  if (*at) *at = socket->next;
}

/* Called under the lock. Closes the registry's own descriptor in the same step that removes the
 * socket from the list: an address is either in the list or free for bind. */
static void socket_free(segue__sockets *sockets, segue__socket *socket) {
  socket_unlink(sockets, socket);
  segue__fork_close(socket->fd);
  segue__free(socket);
}

/* Owns fd, also when it fails. */
static segue__socket *socket_add(segue__sockets *sockets, int fd, const segue__address *address) {
  struct stat st;
  segue__socket *socket = segue__calloc(1, sizeof *socket);
  if (!socket) {
    segue__fork_close(fd);
    return NULL;
  }
  socket->registry = sockets;
  socket->address = *address;
  socket->fd = fd;
  if (address->type == SEGUE__SOCKET_UNIX && lstat(address->path, &st) == 0) {
    socket->file_device = st.st_dev;
    socket->file_inode = st.st_ino;
  }
  pthread_mutex_lock(&sockets->lock);
  segue__socket **at = &sockets->first; /* in the order in which they were passed */
  while (*at)
    at = &(*at)->next;
  *at = socket;
  sockets->refs++;
  pthread_mutex_unlock(&sockets->lock);
  return socket;
}

/* ---- Passed sockets -------------------------------------------------------------------------- */

static bool socket_is_same_file(const segue__socket *socket, int fd) {
  struct stat a, b;
  return fstat(socket->fd, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

/* A socket that is passed under two numbers must not be in the list twice: the second entry would
 * never get a user, and would be reported as unused for ever. */
static bool sockets_have(segue__sockets *sockets, int fd) {
  pthread_mutex_lock(&sockets->lock);
  const segue__socket *socket = sockets->first;
  while (socket && !socket_is_same_file(socket, fd))
    socket = socket->next;
  pthread_mutex_unlock(&sockets->lock);
  return socket != NULL;
}

int segue__sockets_adopt(segue__sockets *sockets, segue__passed *passed) {
  int rc = 0;
  for (size_t i = 0; i < passed->count && rc == 0; i++) {
    segue__passed_socket *item = &passed->items[i];
    if (sockets_have(sockets, item->fd)) continue;
    int number = item->fd;
    segue__fork_hold();
    segue__fork_mark(number);
    segue__fork_release();
    segue__socket *socket = socket_add(sockets, number, &item->address);
    item->fd = -1;
    if (!socket) {
      rc = UV_ENOMEM;
      continue;
    }
    socket->is_passed = true;
    socket->number = number;
    snprintf(socket->name, sizeof socket->name, "%.63s", item->name);
    snprintf(socket->label, sizeof socket->label, socket->name[0] ? "%d (%s)" : "%d", number,
             socket->name);
  }
  segue__passed_close(passed);
  return rc;
}

static void socket_log(const segue__sockets *sockets, const segue__socket *socket,
                       segue_level level, const char *message) {
  SEGUE__LOG(sockets->log, level, "socket", message, SEGUE__FIELD("address", socket->address.text),
             SEGUE__FIELD("descriptor", socket->number), SEGUE__FIELD("name", socket->name));
}

void segue__sockets_report_unused(segue__sockets *sockets) {
  pthread_mutex_lock(&sockets->lock);
  for (segue__socket *socket = sockets->first; socket; socket = socket->next) {
    if (!socket->is_passed || socket->is_owned || socket->is_reported) continue;
    socket->is_reported = true;
    socket_log(
        sockets, socket, SEGUE_WARN,
        "no listener of the policy uses this passed socket: its clients wait; it is kept for "
        "a later policy (add the address to the policy, or remove it from the socket unit)");
  }
  pthread_mutex_unlock(&sockets->lock);
}

/* The admin API on a unix socket trusts every user who can open the file. By default a socket unit
 * gives that right to all users. */
static int socket_check_mode(const segue__socket *socket, const segue__socket_wish *wish,
                             segue_error *err) {
  struct stat st;
  unsigned wanted = wish->mode ? wish->mode : 0600;
  if (socket->address.type != SEGUE__SOCKET_UNIX || socket->address.is_abstract ||
      lstat(socket->address.path, &st) != 0 || (st.st_mode & 0777 & ~wanted) == 0)
    return 0;
  return segue__errorf(err, SEGUE_EUSAGE,
                       "the passed descriptor %s: %s has mode %04o, and the policy allows "
                       "%04o: write SocketMode=%04o in the socket unit",
                       socket->label, socket->address.path, (unsigned)st.st_mode & 0777, wanted,
                       wanted);
}

/* The other process chose the flags of a passed socket. Accepting must not block the loop, and
 * answers must not wait for acknowledgements (TCP_NODELAY). O_NONBLOCK belongs to the socket, not
 * to the descriptor: the manager shares it, and does not read or accept there while this process
 * lives. */
static int socket_prepare_passed(const segue__socket *socket, const segue__socket_wish *wish,
                                 segue_error *err) {
  int on = 1, flags = fcntl(socket->fd, F_GETFL), rc = socket_check_mode(socket, wish, err);
  if (rc < 0) return rc;
  if (flags < 0 || fcntl(socket->fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return segue__errorf(err, -errno, "%s cannot be opened: %s", socket->address.text,
                         uv_strerror(uv_translate_sys_error(errno)));
  if (socket_has_port(socket))
    (void)setsockopt(socket->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return 0;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* Two paths of a unix socket are the same if they lead to the same file (/var/run is /run). */
static bool socket_is_at(const segue__socket *socket, const segue__address *address) {
  struct stat st;
  if (socket->is_disowned || socket->address.type != address->type) return false;
  if (address->type != SEGUE__SOCKET_UNIX)
    return address->port && strcmp(socket->address.text, address->text) == 0;
  if (socket->address.is_abstract || address->is_abstract)
    return strcmp(socket->address.text, address->text) == 0;
  return socket_has_file(socket) && lstat(address->path, &st) == 0 &&
         st.st_dev == socket->file_device && st.st_ino == socket->file_inode;
}

/* Called under the lock. Finds a socket of the address that is free; sets *owned to one that
 * another user has. */
static segue__socket *sockets_find(const segue__sockets *sockets, const segue__socket_wish *wish,
                                   const segue__socket **owned) {
  segue__socket *found = NULL;
  *owned = NULL;
  for (segue__socket *socket = sockets->first; socket; socket = socket->next) {
    if (!socket_is_at(socket, wish->address)) continue;
    if (socket->is_owned)
      *owned = socket;
    else if (!found || (wish->name && strcmp(socket->name, wish->name) == 0 &&
                        strcmp(found->name, wish->name) != 0))
      found = socket;
  }
  return found;
}

/* The manager holds the address of a passed socket, so another one beside it cannot be bound; only
 * the unit or the policy can change that. A UDP socket does not prevent the bind, but the unit
 * meant it for this listener. */
static bool socket_is_obstacle(const segue__socket *socket, const segue__address *address,
                               bool in_use) {
  const segue__address *passed = &socket->address;
  if (!socket->is_passed || socket->is_owned || !address->port || passed->port != address->port)
    return false;
  if (in_use) return passed->type == address->type;
  return passed->type == SEGUE__SOCKET_UDP && address->type == SEGUE__SOCKET_TCP &&
         strcmp(passed->text + strlen("udp://"), address->text) == 0;
}

static const segue__socket *sockets_find_obstacle(segue__sockets *sockets,
                                                  const segue__address *address, bool in_use) {
  pthread_mutex_lock(&sockets->lock);
  const segue__socket *socket = sockets->first;
  while (socket && !socket_is_obstacle(socket, address, in_use))
    socket = socket->next;
  pthread_mutex_unlock(&sockets->lock);
  return socket; /* passed sockets stay */
}

static int socket_refuse(const segue__socket *socket, const segue__address *address,
                         segue_error *err) {
  if (socket->address.type != address->type)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "%s: the passed descriptor %s is a UDP socket of this address, and "
                         "the policy listens by TCP: write ListenStream= instead of "
                         "ListenDatagram= in the socket unit",
                         address->text, socket->label);
  return segue__errorf(err, UV_EADDRINUSE,
                       "%s cannot be opened beside the passed descriptor %s, which listens "
                       "on %s: write the same address in the policy and in the socket unit",
                       address->text, socket->label, socket->address.text);
}

/* ---- Leases ---------------------------------------------------------------------------------- */

/* Called under the lock. A socket whose last user has just left hears again: its clients get a new
 * user in place of a new socket, so none of them is refused. */
static void socket_lease(segue__socket *socket, bool is_owner, segue__socket_lease *out) {
  *out = (segue__socket_lease){.socket = socket, .is_owner = is_owner};
  socket->leases++;
  socket->accepting++;
  if (!socket->is_deaf) return;
  socket->is_deaf = false;
  if (socket_has_port(socket)) segue__socket_set_deaf(socket->fd, false);
}

static void socket_acquired(segue__sockets *sockets, segue__socket *socket,
                            const segue__socket_wish *wish) {
  socket->is_owned = true;
  snprintf(socket->user, sizeof socket->user, "%s", wish->user);
  if (socket->is_passed) socket_log(sockets, socket, SEGUE_INFO, "a listener uses a passed socket");
  socket->is_reported = false;
}

static int sockets_bind(segue__sockets *sockets, const segue__socket_wish *wish,
                        segue__socket **out, segue_error *err) {
  segue__address address = *wish->address;
  const segue__socket *obstacle = sockets_find_obstacle(sockets, &address, false);
  if (obstacle) return socket_refuse(obstacle, &address, err);
  int fd = segue__socket_bind(&address, wish->mode, err);
  if (fd == UV_EADDRINUSE && (obstacle = sockets_find_obstacle(sockets, &address, true)))
    return socket_refuse(obstacle, &address, err);
  if (fd < 0) return fd;
  *out = socket_add(sockets, fd, &address);
  if (*out) return 0;
  return segue__errorf(err, UV_ENOMEM, "%s cannot be opened: out of memory", address.text);
}

/* Only the control thread adds sockets and owner's leases, so an address that it finds free stays
 * free without the lock. A socket that it finds may be released by a worker thread at any moment,
 * so the lease is taken under the same lock as the search. */
int segue__socket_acquire(segue__sockets *sockets, const segue__socket_wish *wish,
                          segue__socket_lease *out, segue_error *err) {
  const segue__socket *owned;
  *out = (segue__socket_lease){NULL, false, false};
  pthread_mutex_lock(&sockets->lock);
  segue__socket *socket = sockets_find(sockets, wish, &owned);
  if (socket) socket_lease(socket, true, out);
  pthread_mutex_unlock(&sockets->lock);
  if (!socket && owned)
    return segue__errorf(err, UV_EADDRINUSE,
                         "%s is in use by %s: choose another address (to move an address, remove "
                         "it in one reload and add it in the next)",
                         wish->address->text, owned->user);
  int rc = 0;
  if (!socket) {
    rc = sockets_bind(sockets, wish, &socket, err);
    if (rc < 0) return rc;
    pthread_mutex_lock(&sockets->lock);
    socket_lease(socket, true, out);
    pthread_mutex_unlock(&sockets->lock);
  }
  if (socket->is_passed) rc = socket_prepare_passed(socket, wish, err);
  if (rc < 0) {
    segue__socket_release(out);
    return rc;
  }
  socket_acquired(sockets, socket, wish);
  return 0;
}

void segue__socket_lend(const segue__socket_lease *lease, segue__socket_lease *out) {
  segue__sockets *sockets = lease->socket->registry;
  pthread_mutex_lock(&sockets->lock);
  socket_lease(lease->socket, false, out);
  pthread_mutex_unlock(&sockets->lock);
}

int segue__socket_share(const segue__socket_lease *lease) {
  int fd = segue__fork_dup(lease->socket->fd);
  return fd >= 0 ? fd : uv_translate_sys_error(errno);
}

/* Called under the lock. The second call of a lease does nothing, because release leaves too. */
static void socket_leave(segue__socket_lease *lease) {
  if (lease->has_left) return;
  lease->has_left = true;
  if (--lease->socket->accepting == 0) socket_stop(lease->socket);
}

void segue__socket_leave(segue__socket_lease *lease) {
  if (!lease->socket) return;
  segue__sockets *sockets = lease->socket->registry;
  pthread_mutex_lock(&sockets->lock);
  socket_leave(lease);
  pthread_mutex_unlock(&sockets->lock);
}

/* Leaving and releasing are one step under the lock: otherwise a lease that is acquired in between
 * would find a socket that is deaf but not closed. */
void segue__socket_release(segue__socket_lease *lease) {
  segue__socket *socket = lease->socket;
  if (!socket) return;
  segue__sockets *sockets = socket->registry;
  pthread_mutex_lock(&sockets->lock);
  socket_leave(lease);
  lease->socket = NULL;
  if (lease->is_owner) socket->is_owned = false;
  bool is_over = --socket->leases == 0 && (!socket->is_passed || sockets->is_closed);
  if (is_over) socket_free(sockets, socket);
  if (is_over)
    sockets_unref_unlock(sockets, 1);
  else
    pthread_mutex_unlock(&sockets->lock);
}

bool segue__socket_is_deaf(const segue__socket_lease *lease) {
  const segue__socket *socket = lease->socket;
  if (!socket) return false;
  pthread_mutex_lock(&socket->registry->lock);
  bool is_deaf = socket->is_deaf && socket_has_port(socket);
  pthread_mutex_unlock(&socket->registry->lock);
  return is_deaf;
}

/* Waits only for a handshake that exists. A deaf port drops the first packet of other clients,
 * which then try again after a second, so it must not stay deaf without need. Where no descriptor
 * is free the kernel cannot be asked, and the port does not wait: descriptors are what is missing.
 */
uint64_t segue__socket_linger_ms(const segue__socket_lease *lease) {
  if (!segue__socket_is_deaf(lease)) return 0;
  int rc = segue__socket_handshakes(lease->socket->fd);
  if (rc == 0 || rc == UV_EMFILE || rc == UV_ENFILE) return 0;
  return SEGUE_TEST_MS("LINGER_MS", LINGER_MS);
}

void segue__socket_keep(const segue__socket_lease *lease, segue__socket_lease *out) {
  *out = (segue__socket_lease){.socket = lease->socket, .has_left = true};
  pthread_mutex_lock(&lease->socket->registry->lock);
  lease->socket->leases++;
  pthread_mutex_unlock(&lease->socket->registry->lock);
}

const segue__address *segue__socket_address(const segue__socket_lease *lease) {
  return lease->socket ? &lease->socket->address : NULL;
}

bool segue__socket_has_file(const segue__socket_lease *lease) {
  return lease->socket && socket_has_file(lease->socket);
}

/* The file at the path is another process's, or gone. From now on this socket is not found by its
 * path, and its file is not removed: both would hit the other process. */
void segue__socket_disown(const segue__socket_lease *lease) {
  if (!lease->socket) return;
  pthread_mutex_lock(&lease->socket->registry->lock);
  lease->socket->is_disowned = true;
  pthread_mutex_unlock(&lease->socket->registry->lock);
}

void segue__socket_shut(const segue__socket_lease *lease) {
  if (lease->socket && !lease->socket->is_passed) (void)shutdown(lease->socket->fd, SHUT_RDWR);
}

/* ---- The end --------------------------------------------------------------------------------- */

void segue__sockets_free(segue__sockets *sockets) {
  if (!sockets) return;
  unsigned gone = 1;
  pthread_mutex_lock(&sockets->lock);
  sockets->is_closed = true;
  for (segue__socket *socket = sockets->first, *next; socket; socket = next) {
    next = socket->next;
    if (socket->leases) continue;
    socket_free(sockets, socket);
    gone++;
  }
  sockets_unref_unlock(sockets, gone);
}

/* Runs without the lock, because a thread of the parent may have held it at the fork, and that
 * thread does not exist in the child. */
void segue__sockets_abandon(segue__sockets *sockets) {
  if (!sockets) return;
  for (segue__socket *socket = sockets->first; socket; socket = socket->next)
    segue__close_socket_everywhere(socket->fd);
}

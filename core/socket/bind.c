/* SPDX-License-Identifier: MIT
 *
 * Listening sockets are made here and not by libuv: their descriptors can be duplicated for several
 * threads and processes, the file of a unix socket never exists with a wrong mode or before the
 * socket listens, and each error has a sentence that names the remedy.
 */
#include "bind.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "../os/fault.h"
#include "../os/fork_fds.h"
#include "port_owner.h"

enum { BACKLOG = 1024 };

/* ---- Errors ---------------------------------------------------------------------------------- */

static int bind_in_use(const segue__address *address, segue_error *err) {
  char owner[128];
  if (address->type == SEGUE__SOCKET_UNIX)
    return segue__errorf(err, UV_EADDRINUSE,
                         "another process answers on %s: stop it or choose another path",
                         address->is_abstract ? address->text : address->path);
  if (address->type == SEGUE__SOCKET_TCP &&
      segue__socket_port_owner(address->port, owner, sizeof owner))
    return segue__errorf(err, UV_EADDRINUSE, "%s is in use by %s: choose another port or stop it",
                         address->text, owner);
  return segue__errorf(err, UV_EADDRINUSE,
                       "%s is in use by another process: choose another port or stop it (ss "
                       "-l%cnp shows which)",
                       address->text, address->type == SEGUE__SOCKET_UDP ? 'u' : 't');
}

static int bind_denied(const segue__address *address, segue_error *err) {
  bool is_unix = address->type == SEGUE__SOCKET_UNIX;
  return segue__errorf(err, UV_EACCES,
                       is_unix ? "%s cannot be made: its folder is not writable for this user"
                               : "%s may not be opened by this user: choose a port above 1023 or "
                                 "grant CAP_NET_BIND_SERVICE",
                       is_unix ? address->path : address->text);
}

/* Returns a sentence that names the address, the problem and the remedy. */
static int bind_failed(const segue__address *address, int error, segue_error *err) {
  switch (error) {
  case EADDRINUSE:
    return bind_in_use(address, err);
  case EADDRNOTAVAIL:
    return segue__errorf(err, UV_EADDRNOTAVAIL,
                         "%s is not an address of this machine: choose one that is (ip addr "
                         "shows them)",
                         address->text);
  case EACCES:
  case EPERM:
    return bind_denied(address, err);
  case EEXIST:
    return segue__errorf(err, UV_EEXIST,
                         "%s exists and is not a socket: remove it or choose another path",
                         address->path);
  case ENOENT:
  case ENOTDIR:
    return segue__errorf(err, UV_ENOENT, "%s cannot be made: its folder does not exist",
                         address->path);
  case EBUSY:
    return segue__errorf(err, UV_EBUSY,
                         "%s cannot be made: the file %s.%d has the name that the socket needs "
                         "until it listens: move that file",
                         address->path, address->path, (int)getpid());
  case ENOSPC:
  case EDQUOT:
    return segue__errorf(err, -error,
                         "%s cannot be made: its folder has no room for one more file (%s)",
                         address->path, uv_strerror(-error));
  case EMFILE:
  case ENFILE:
    return segue__errorf(err, -error, "%s cannot be opened: too many open files (raise ulimit -n)",
                         address->text);
  default:
    return segue__errorf(err, -error, "%s cannot be opened: %s", address->text,
                         uv_strerror(-error));
  }
}

/* ---- Unix sockets ---------------------------------------------------------------------------- */

static const struct sockaddr *bind_sockaddr(const segue__address *address) {
  return (const struct sockaddr *)(const void *)address->sockaddr;
}

/* Finds out whether a process accepts on the socket file, by a connection. Returns 0 if the file
 * may be replaced, else an errno. EAGAIN means that the queue of the other process is full: it
 * lives. ECONNREFUSED means that the file is left over from a process that ended. */
static int socket_bind_probe(const segue__address *address) {
  struct stat st;
  if (lstat(address->path, &st) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(st.st_mode)) return EEXIST;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int rc = connect(fd, bind_sockaddr(address), address->sockaddr_size);
  int error = rc == 0 || errno == EAGAIN ? EADDRINUSE : errno;
  close(fd);
  return error == ECONNREFUSED || error == ENOENT ? 0 : error;
}

/* Makes the name that a socket has until it listens: in the same folder, so that it can be renamed.
 * If that path does not fit into an address, the folder is named by its descriptor. */
static int bind_first_name(const char *path, struct sockaddr_un *out, int *folder) {
  size_t size = sizeof out->sun_path;
  const char *slash = strrchr(path, '/');
  int pid = (int)getpid();
  *folder = -1;
  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  if ((size_t)snprintf(out->sun_path, size, "%s.%d", path, pid) < size) return 0;
  char parent[sizeof out->sun_path];
  snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
  *folder = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (*folder < 0) return errno;
  snprintf(out->sun_path, size, "/proc/self/fd/%d/.%d", *folder, pid);
  return 0;
}

static bool bind_is_full(int error) {
  return error == ENOSPC || error == EDQUOT;
}

/* A stale socket at path is going to be replaced: without it there may be room for one file. */
static int bind_first(int fd, const struct sockaddr_un *first, const char *path) {
  const struct sockaddr *sockaddr = (const struct sockaddr *)(const void *)first;
  int code = SEGUE_FAULT("socket.bind");
  int error = code ? -code : bind(fd, sockaddr, sizeof *first) ? errno : 0;
  if (bind_is_full(error) && unlink(path) == 0)
    error = bind(fd, sockaddr, sizeof *first) != 0 ? errno : 0;
  return error;
}

/* Renames the bound socket to its final name. On a full disk the stale socket at that name is
 * removed first, as in bind_first: the socket is bound by now and cannot be bound to another name
 * (EINVAL). */
static int bind_rename(const struct sockaddr_un *first, const char *path) {
  int code = SEGUE_FAULT("socket.rename");
  int error = code ? -code : rename(first->sun_path, path) ? errno : 0;
  if (bind_is_full(error) && unlink(path) == 0)
    error = rename(first->sun_path, path) != 0 ? errno : 0;
  return error;
}

/* On Linux the mode of the descriptor before bind, less the umask, is that of the file: so it never
 * exists with more rights than wanted. chmod adds what the umask removed. */
static int bind_and_rename(int fd, const struct sockaddr_un *first, const char *path,
                           unsigned mode) {
  struct stat st;
  if (lstat(first->sun_path, &st) == 0) {
    /* A process that had our pid and crashed here leaves a socket. Any other file is the user's. */
    if (!S_ISSOCK(st.st_mode)) return EBUSY;
    unlink(first->sun_path);
  }
  int error = fchmod(fd, mode) != 0 ? errno : bind_first(fd, first, path);
  if (error) return error;
  if (chmod(first->sun_path, mode) != 0 || listen(fd, BACKLOG) != 0) error = errno;
  if (!error) error = bind_rename(first, path);
  if (error) unlink(first->sun_path);
  return error;
}

/* A client that connects to a socket which is bound but does not listen yet gets ECONNREFUSED, as
 * if no process owned it: `segue reload` would report that no daemon runs. So the socket gets its
 * final name only when it listens, and the rename replaces a stale socket in the same step. (`ss
 * -xl` still shows the first name.) */
static int bind_file(int fd, const segue__address *address, unsigned mode) {
  struct sockaddr_un first;
  int folder, error = socket_bind_probe(address);
  if (!error) error = bind_first_name(address->path, &first, &folder);
  if (error) return error;
  error = bind_and_rename(fd, &first, address->path, mode);
  if (folder >= 0) close(folder);
  return error;
}

static int bind_unix(int fd, const segue__address *address, unsigned mode) {
  if (!address->is_abstract) return bind_file(fd, address, mode ? mode : 0600);
  bool good =
      bind(fd, bind_sockaddr(address), address->sockaddr_size) == 0 && listen(fd, BACKLOG) == 0;
  return good ? 0 : errno;
}

/* ---- Internet sockets ------------------------------------------------------------------------ */

/* An IPv6 socket is for IPv6 only, so that [::] and 0.0.0.0 are two addresses, whatever the default
 * of the machine is. Accepted connections inherit TCP_NODELAY. UDP sockets get no SO_REUSEADDR:
 * there it would let two processes share the port and lose each other's datagrams. */
static int bind_inet(int fd, segue__address *address) {
  int on = 1;
  bool tcp = address->type == SEGUE__SOCKET_TCP;
  socklen_t size = address->sockaddr_size;
  if (bind_sockaddr(address)->sa_family == AF_INET6 &&
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
    return errno;
  if (tcp && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0))
    return errno;
  if (bind(fd, bind_sockaddr(address), size) != 0 || (tcp && listen(fd, BACKLOG) != 0))
    return errno;
  if (address->port) return 0;
  struct sockaddr_in6 chosen = {0}; /* the port is in the same place for both families */
  size = sizeof chosen;
  if (getsockname(fd, (struct sockaddr *)(void *)&chosen, &size) != 0) return errno;
  segue__address_set_port(address, ntohs(chosen.sin6_port));
  return 0;
}

int segue__socket_bind(segue__address *address, unsigned mode, segue_error *err) {
  bool is_unix = address->type == SEGUE__SOCKET_UNIX;
  int type = address->type == SEGUE__SOCKET_UDP ? SOCK_DGRAM : SOCK_STREAM;
  segue__fork_hold();
  int fd = socket(bind_sockaddr(address)->sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int error = fd < 0 ? errno : 0;
  segue__fork_mark(fd);
  segue__fork_release();
  if (!error) error = is_unix ? bind_unix(fd, address, mode) : bind_inet(fd, address);
  if (!error) return fd;
  if (fd >= 0) segue__fork_close(fd);
  return bind_failed(address, error, err);
}

/* A classic BPF program that drops segments with SYN and without ACK. A socket filter sees the
 * packet from the TCP header on, so byte 13 holds the flags. Segments of connections that exist
 * have ACK and pass. */
void segue__socket_set_deaf(int fd, bool deaf) {
  struct sock_filter drop_syn[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), /* flags of the TCP header */
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
  };
  const struct sock_fprog program = {sizeof drop_syn / sizeof *drop_syn, drop_syn};
  int none = 0;
  if (deaf)
    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
  else
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none);
}

/* SPDX-License-Identifier: MIT
 *
 * Listening sockets. They are made and accepted from here and not by libuv: the descriptor can be
 * handed to another process, a socket file never exists with the wrong mode, and running out of
 * descriptors, or of room to refuse more clients, pauses accepting (clients wait in the kernel's
 * queue) instead of spinning or dropping.
 */
#include "../os/fault.h"
#include "../os/fork_fds.h"
#include "conn.h"
#include "port_owner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, ACCEPTS_PER_TURN = 64, QUEUED_MAX = 2 * BACKLOG };
enum { SPARE_OF = 16384 }; /* the share of free descriptors is computed from at most this many */

/* ---- Accepting ------------------------------------------------------------------------------- */

static char *put_number(char *at, unsigned n) {
  char digits[12], *end = digits + sizeof digits, *first = end;
  do
    *--first = (char)('0' + n % 10);
  while (n /= 10);
  memcpy(at, first, (size_t)(end - first));
  return at + (end - first);
}

/* Formats without printf and inet_ntop, which would be a measurable part of the cost of a
 * connection. */
static void name_ipv4(const struct sockaddr_in *in, char *out) {
  const unsigned char *byte = (const unsigned char *)&in->sin_addr;
  for (int i = 0; i < 4; i++) {
    out = put_number(out, byte[i]);
    *out++ = i < 3 ? '.' : ':';
  }
  *put_number(out, ntohs(in->sin_port)) = 0;
}

static void name_peer(int fd, const struct sockaddr_storage *from, char *out, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (from->ss_family == AF_INET) {
    name_ipv4((const struct sockaddr_in *)from, out);
  } else if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)from;
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
    snprintf(out, size, "[%s]:%u", host, ntohs(in->sin6_port));
  } else {
    struct ucred who = {.pid = 0, .uid = (uid_t)-1};
    socklen_t len = sizeof who;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    snprintf(out, size, "unix:pid=%d,uid=%u", (int)who.pid, (unsigned)who.uid);
  }
}

/* Errors of a single connection that is already gone (accept(2) passes its network errors on). */
static bool listener_passes(int error) {
  return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
         error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
         error == EOPNOTSUPP || error == ENETUNREACH || error == EPERM;
}

/* Reads the limit of descriptors. Clients of one listener must not take the last descriptors from
 * the rest of the process: clients of modules leave some to the admin API, clients of its ports
 * leave some to its unix sockets (the command line), and all leave some to the files of a reload.
 * The kernel gives out the lowest free number, so a highest number for connections keeps the
 * numbers above it free, without a counter that several threads would have to share. */
void segue__http_descriptors_look(segue__http_server *server) {
  struct rlimit limit;
  server->descriptors = INT_MAX;
  if (server->limits.spare_share == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < INT_MAX) server->descriptors = (int)limit.rlim_cur;
}

static int listener_ceiling(const segue__http_listener *http_listener) {
  const segue__http_server *server = http_listener->server;
  int share = (int)server->limits.spare_share;
  if (server->descriptors == INT_MAX) return INT_MAX;
  int of = server->descriptors < SPARE_OF ? server->descriptors : SPARE_OF;
  int spare = of / share;
  return server->descriptors - (http_listener->address.is_unix ? spare / 2 : spare);
}

static void pause_accepting(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  uv_poll_stop(&http_listener->poll);
  http_listener->paused = true;
  server->accept_due = uv_now(server->loop) + SEGUE__HTTP_ACCEPT_RETRY_MS;
  segue__http_timer_arm(server, server->accept_due);
}

static bool is_scarce(const segue__http_server *server) {
  const segue__http_listener *http_listener = server->listeners;
  while (http_listener && !http_listener->scarce)
    http_listener = http_listener->next;
  return http_listener != NULL;
}

/* A shortage is reported once. It ends for a listener when the listener has accepted all of its
 * clients: a place that becomes free and is taken again at once does not end it. Listeners have
 * limits of their own, so each has its mark: a unix socket that still accepts does not end the
 * shortage of a port. */
static void run_short(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  bool reported = is_scarce(server);
  http_listener->scarce = true;
  pause_accepting(http_listener);
  if (!reported && server->events.on_scarce) server->events.on_scarce(server->data);
}

/* The lowest free number is the number of the next descriptor, so it shows how many are free. */
static bool has_descriptors(segue__http_listener *http_listener) {
  segue__http_server *server = http_listener->server;
  segue__http_descriptors_look(server);
  int fd = fcntl(http_listener->fd, F_DUPFD_CLOEXEC, 0);
  if (fd >= 0) close(fd);
  return fd >= 0 && fd < listener_ceiling(http_listener);
}

static int accept_one(int listener, struct sockaddr_storage *from, socklen_t *len) {
  segue__fork_hold();
  int fd = accept4(listener, (struct sockaddr *)from, len, SOCK_CLOEXEC | SOCK_NONBLOCK);
  segue__fork_mark(fd);
  segue__fork_release();
  return fd;
}

static bool has_clients(const segue__http_listener *http_listener) {
  struct pollfd p = {.fd = http_listener->fd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}

static void accept_some(segue__http_listener *http_listener, int most, bool last) {
  if (http_listener->scarce && !last && !has_descriptors(http_listener)) {
    pause_accepting(http_listener);
    return;
  }
  for (int i = 0; i < most; i++) {
    if (!last && segue__http_conn_must_wait(http_listener)) {
      http_listener->server->crowded = true;
      pause_accepting(http_listener);
      return;
    }
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof from;
    char peer[64];
    int fd = accept_one(http_listener->fd, &from, &len);
    if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (fd < 0 && listener_passes(errno)) continue;
    if (fd < 0) {
      run_short(http_listener);
      return;
    }
    bool short_of = fd >= listener_ceiling(http_listener);
    name_peer(fd, &from, peer, sizeof peer);
    const segue__http_events *events = &http_listener->server->events;
    if (events->on_connection) events->on_connection(http_listener->server->data);
    segue__http_conn_open(http_listener, fd, peer, !last);
    if (uv_is_closing((uv_handle_t *)&http_listener->poll)) return; /* a handler closed it */
    if (short_of && !last) {
      run_short(http_listener);
      return;
    }
  }
  if (http_listener->scarce) http_listener->scarce = has_clients(http_listener);
}

static void listener_on_readable(uv_poll_t *poll, int status, int events) {
  (void)status; /* an error shows in accept4 */
  (void)events;
  segue__http_listener *http_listener = (segue__http_listener *)poll;
  accept_some(http_listener, http_listener->accepts, false);
}

void segue__http_listener_resume(segue__http_listener *http_listener) {
  http_listener->paused = false;
  if (uv_poll_start(&http_listener->poll, UV_READABLE, listener_on_readable) != 0)
    pause_accepting(http_listener);
}

/* ---- Binding --------------------------------------------------------------------------------- */

static socklen_t sockaddr_size(const segue__http_address *address) {
  sa_family_t family = ((const struct sockaddr *)(const void *)address->sockaddr)->sa_family;
  if (family == AF_UNIX) return sizeof(struct sockaddr_un);
  return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* Each sentence names the address, the problem and the remedy. */
static int listener_report(const segue__http_address *address, int error, segue_error *err) {
  char holder[128];
  switch (error) {
  case EADDRINUSE:
    if (address->is_unix)
      return segue__errorf(err, UV_EADDRINUSE,
                           "another process answers on %s: stop it or choose another path",
                           address->path);
    if (segue__http_port_owner(address->port, holder, sizeof holder))
      return segue__errorf(err, UV_EADDRINUSE, "%s is in use by %s: choose another port or stop it",
                           address->text, holder);
    return segue__errorf(err, UV_EADDRINUSE,
                         "%s is in use by another process: choose another port or stop it "
                         "(ss -ltnp shows which)",
                         address->text);
  case EADDRNOTAVAIL:
    return segue__errorf(err, UV_EADDRNOTAVAIL,
                         "%s is not an address of this machine: choose one that is (ip addr "
                         "shows them)",
                         address->text);
  case EACCES:
  case EPERM:
    return segue__errorf(err, UV_EACCES,
                         address->is_unix
                             ? "%s cannot be made: its folder is not writable for this user"
                             : "%s may not be opened by this user: choose a port above 1023 or "
                               "grant CAP_NET_BIND_SERVICE",
                         address->is_unix ? address->path : address->text);
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
                         address->is_unix ? address->path : address->text, uv_strerror(-error));
  case EMFILE:
  case ENFILE:
    return segue__errorf(err, -error, "%s cannot be opened: too many open files (raise ulimit -n)",
                         address->text);
  default:
    return segue__errorf(err, -error, "%s cannot be opened: %s", address->text,
                         uv_strerror(-error));
  }
}

/* Checks whether a process accepts on the socket file: 0 (free to replace) or an errno. */
static int listener_probe(const segue__http_address *address) {
  struct stat st;
  if (lstat(address->path, &st) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(st.st_mode)) return EEXIST;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int r =
      connect(fd, (const struct sockaddr *)(const void *)address->sockaddr, sockaddr_size(address));
  int error = r == 0 || errno == EAGAIN ? EADDRINUSE : errno;
  close(fd);
  return error == ECONNREFUSED || error == ENOENT ? 0 : error;
}

/* Makes the name that a socket has until it listens: in the same folder, so that it can be renamed.
 * If that path does not fit into an address, the folder is named by its descriptor. */
static int name_unborn(const char *path, struct sockaddr_un *out, int *folder) {
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

static bool is_full(int error) {
  return error == ENOSPC || error == EDQUOT;
}

/* A stale socket at path is going to be replaced: without it there may be room for one file. */
static int bind_file(int fd, const struct sockaddr_un *unborn, const char *path) {
  const struct sockaddr *sockaddr = (const struct sockaddr *)(const void *)unborn;
  int code = SEGUE_FAULT("socket.bind");
  int error = code ? -code : bind(fd, sockaddr, sizeof *unborn) ? errno : 0;
  if (is_full(error) && unlink(path) == 0)
    error = bind(fd, sockaddr, sizeof *unborn) != 0 ? errno : 0;
  return error;
}

/* Likewise. The socket is bound by now, and cannot be bound again (EINVAL). */
static int rename_file(const struct sockaddr_un *unborn, const char *path) {
  int code = SEGUE_FAULT("socket.rename");
  int error = code ? -code : rename(unborn->sun_path, path) ? errno : 0;
  if (is_full(error) && unlink(path) == 0) error = rename(unborn->sun_path, path) != 0 ? errno : 0;
  return error;
}

/* On Linux the mode of the descriptor before bind, less the umask, becomes the mode of the file: so
 * the file never exists with more rights than wanted. chmod adds the rights that the umask
 * removed. */
static int bind_unborn(int fd, const struct sockaddr_un *unborn, const char *path, unsigned mode) {
  struct stat st;
  if (lstat(unborn->sun_path, &st) == 0) {
    /* A process that had our pid and crashed here leaves a socket. Any other file is the user's. */
    if (!S_ISSOCK(st.st_mode)) return EBUSY;
    unlink(unborn->sun_path);
  }
  int error = fchmod(fd, mode) != 0 ? errno : bind_file(fd, unborn, path);
  if (error) return error;
  if (chmod(unborn->sun_path, mode) != 0 || listen(fd, BACKLOG) != 0) error = errno;
  if (!error) error = rename_file(unborn, path);
  if (error) unlink(unborn->sun_path);
  return error;
}

/* A client that connects to a socket which is bound but does not listen yet gets ECONNREFUSED, as
 * if no process owned it: `segue reload` would report that no daemon runs. So the socket gets its
 * final name only when it listens, and the rename replaces a stale socket in the same step. (`ss
 * -xl` still shows the first name.) */
static int bind_unix(int fd, const segue__http_address *address, unsigned mode) {
  struct sockaddr_un unborn;
  int folder, error = listener_probe(address);
  if (!error) error = name_unborn(address->path, &unborn, &folder);
  if (error) return error;
  error = bind_unborn(fd, &unborn, address->path, mode);
  if (folder >= 0) close(folder);
  return error;
}

/* Accepted connections inherit TCP_NODELAY. An IPv6 socket is for IPv6 only, so that [::] and
 * 0.0.0.0 are two addresses, whatever the machine's default is. */
static int bind_tcp(int fd, segue__http_address *address) {
  int on = 1;
  struct sockaddr *sockaddr = (struct sockaddr *)(void *)address->sockaddr;
  socklen_t len = sockaddr_size(address);
  if (sockaddr->sa_family == AF_INET6 &&
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
    return errno;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      bind(fd, sockaddr, len) != 0 || listen(fd, BACKLOG) != 0 ||
      getsockname(fd, sockaddr, &len) != 0)
    return errno;
  if (address->port == 0) {
    address->port = ntohs(((struct sockaddr_in *)(void *)sockaddr)->sin_port);
    char *colon = strrchr(address->text, ':');
    snprintf(colon, sizeof address->text - (size_t)(colon - address->text), ":%u", address->port);
  }
  return 0;
}

/* Returns the descriptor, or a negative code that err describes. */
static int listener_open_socket(segue__http_address *address, unsigned mode, segue_error *err) {
  const struct sockaddr *sockaddr = (const struct sockaddr *)(const void *)address->sockaddr;
  segue__fork_hold();
  int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int error = fd < 0 ? errno : 0;
  segue__fork_mark(fd);
  segue__fork_release();
  if (!error) error = address->is_unix ? bind_unix(fd, address, mode) : bind_tcp(fd, address);
  if (!error) return fd;
  if (fd >= 0) segue__fork_close(fd);
  if (error == EEXIST)
    return segue__errorf(err, UV_EEXIST,
                         "%s exists and is not a socket: remove it or choose another path",
                         address->path);
  return listener_report(address, error, err);
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* Another process may have put its own socket there since. */
bool segue__http_listener_has_file(const segue__http_listener *http_listener) {
  struct stat st;
  return http_listener->address.is_unix && lstat(http_listener->address.path, &st) == 0 &&
         S_ISSOCK(st.st_mode) && st.st_dev == http_listener->file_dev &&
         st.st_ino == http_listener->file_ino;
}

void segue__http_listener_disown(segue__http_listener *http_listener) {
  http_listener->file_ino = 0;
}

static void listener_remove_file(const segue__http_listener *http_listener) {
  if (segue__http_listener_has_file(http_listener)) unlink(http_listener->address.path);
}

static void remember_file(segue__http_listener *http_listener) {
  struct stat st;
  if (http_listener->address.is_unix && lstat(http_listener->address.path, &st) == 0) {
    http_listener->file_dev = st.st_dev;
    http_listener->file_ino = st.st_ino;
  }
}

int segue__http_bind(segue__http_address *address, unsigned mode, segue_error *err) {
  return listener_open_socket(address, mode ? mode : 0600, err);
}

int segue__http_adopt(segue__http_listener **out, int fd, const segue__http_address *address,
                      int accepts) {
  segue__http_listener *http_listener = segue__calloc(1, sizeof *http_listener);
  *out = http_listener;
  if (!http_listener) {
    segue__fork_close(fd);
    return UV_ENOMEM;
  }
  http_listener->address = *address;
  http_listener->fd = fd;
  http_listener->accepts = accepts ? accepts : ACCEPTS_PER_TURN;
  http_listener->shared = true;
  remember_file(http_listener);
  return 0;
}

void segue__http_listener_drop(segue__http_listener *http_listener) {
  if (!http_listener) return;
  segue__fork_close(http_listener->fd);
  listener_remove_file(http_listener);
  segue__free(http_listener);
}

int segue__http_listener_begin(segue__http_listener *http_listener, segue__http_server *server) {
  int r = uv_poll_init(server->loop, &http_listener->poll, http_listener->fd);
  if (r) {
    segue__http_listener_drop(http_listener);
    return r;
  }
  http_listener->server = server;
  http_listener->next = server->listeners;
  server->listeners = http_listener;
  server->handles++;
  r = uv_poll_start(&http_listener->poll, UV_READABLE, listener_on_readable);
  if (r) segue__http_listener_close(http_listener);
  return r;
}

int segue__http_listen(segue__http_server *server, const segue__http_address *address,
                       unsigned mode, segue__http_listener **out, segue_error *err) {
  segue__http_address bound = *address;
  *out = NULL;
  if (server->closing)
    return segue__errorf(err, SEGUE_ECLOSED, "%s cannot be opened: the server is closing",
                         address->text);
  int fd = segue__http_bind(&bound, mode, err);
  if (fd < 0) return fd;
  int r = segue__http_adopt(out, fd, &bound, 0);
  if (r) return segue__errorf(err, r, "%s cannot be opened: out of memory", address->text);
  (*out)->shared = false;
  r = segue__http_listener_begin(*out, server);
  if (r) {
    *out = NULL;
    return segue__errorf(err, r, "%s cannot be watched: %s", address->text, uv_strerror(r));
  }
  return 0;
}

static void free_unused(segue__http_listener *http_listener) {
  if (!http_listener->closed || http_listener->connections) return;
  segue__http_listener_set(http_listener, NULL, NULL, NULL);
  segue__free(http_listener);
}

void segue__http_listener_left(segue__http_listener *http_listener) {
  http_listener->connections--;
  free_unused(http_listener);
}

static void on_listener_closed(uv_handle_t *handle) {
  segue__http_listener *http_listener = (segue__http_listener *)handle;
  segue__http_server *server = http_listener->server;
  server->handles--;
  http_listener->closed = true;
  free_unused(http_listener);
  segue__http_server_check(server);
}

/* The kernel would reset a connection that is made between the last accept and close. So it first
 * drops new SYN packets by a filter: a client that connects then retries by itself a second later,
 * and reaches the next listener. */
void segue__http_deafen(int fd, bool deaf) {
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

/* Clients that have connected already are accepted first: the kernel would reset them. */
void segue__http_listener_close(segue__http_listener *http_listener) {
  if (!http_listener) return;
  segue__http_listener **at = &http_listener->server->listeners;
  while (*at && *at != http_listener)
    at = &(*at)->next;
  if (*at) *at = http_listener->next;
  listener_remove_file(http_listener);
  if (!http_listener->shared) segue__http_deafen(http_listener->fd, true);
  accept_some(http_listener, QUEUED_MAX, true);
  uv_close((uv_handle_t *)&http_listener->poll, on_listener_closed);
  segue__fork_close(http_listener->fd);
}

const segue__http_address *segue__http_listener_address(const segue__http_listener *http_listener) {
  return &http_listener->address;
}

void segue__http_listener_set(segue__http_listener *http_listener, segue__tls_context *tls,
                              void *auth, void (*free_auth)(void *auth)) {
  if (tls) segue__tls_context_ref(tls);
  segue__tls_context_unref(http_listener->tls);
  if (http_listener->free_auth) http_listener->free_auth(http_listener->auth);
  http_listener->tls = tls;
  http_listener->auth = auth;
  http_listener->free_auth = free_auth;
}

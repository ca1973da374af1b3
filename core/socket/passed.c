/* SPDX-License-Identifier: MIT
 *
 * Descriptors of a service manager (LISTEN_FDS). The environment gives only a count, so with a
 * wrong count a number belongs to a file of this process, or to nothing: a server that polls such a
 * number spins on EBADF or writes into its own database. So fstat and getsockopt check the type of
 * each descriptor, and the start fails with the number, the name in the unit, its type, and the
 * line of the unit to change.
 */
#include "passed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/mem.h"

enum { FIRST = 3 }; /* SD_LISTEN_FDS_START */

/* ---- Checks ---------------------------------------------------------------------------------- */

static int passed_refuse(const segue__passed_socket *item, const char *what, const char *remedy,
                         segue_error *err) {
  bool named = item->name[0] != 0;
  return segue__errorf(err, SEGUE_EUSAGE, "the passed descriptor %d%s%s%s is %s: %s", item->fd,
                       named ? " (" : "", item->name, named ? ")" : "", what, remedy);
}

static const char *passed_file_kind(mode_t mode) {
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISREG(mode)) return "a file";
  if (S_ISDIR(mode)) return "a folder";
  return S_ISCHR(mode) ? "a character device" : "no socket";
}

static int passed_option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

/* A stream that does not listen is either a connection (Accept=yes passes those) or a socket that
 * its owner never finished. */
static int passed_check_listens(const segue__passed_socket *item, segue_error *err) {
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  if (passed_option(item->fd, SO_ACCEPTCONN) == 1) return 0;
  if (getpeername(item->fd, (struct sockaddr *)(void *)&peer, &size) == 0)
    return passed_refuse(item, "a connection, and segue needs the socket that accepts them",
                         "remove Accept=yes from the socket unit", err);
  return passed_refuse(item, "a stream socket that does not listen",
                       "the process that passes it has to call listen(2)", err);
}

int segue__passed_check(segue__passed_socket *item, segue_error *err) {
  struct stat st;
  if (fstat(item->fd, &st) != 0)
    return passed_refuse(item, "not open",
                         "LISTEN_FDS is larger than the number of descriptors that were passed",
                         err);
  if (!S_ISSOCK(st.st_mode))
    return passed_refuse(item, passed_file_kind(st.st_mode),
                         "segue uses only ListenStream= and ListenDatagram= of a socket unit", err);
  if (passed_option(item->fd, SO_TYPE) == SOCK_STREAM) {
    int rc = passed_check_listens(item, err);
    if (rc < 0) return rc;
  }
  if (segue__address_of_fd(item->fd, &item->address) == 0) return 0;
  return passed_refuse(item, "a socket of another kind than TCP, UDP and unix stream",
                       "remove it from the socket unit", err);
}

/* ---- The environment ------------------------------------------------------------------------- */

/* Reads a number without sign or blanks. Returns false if text is anything else. */
static bool passed_number(const char *text, long *out) {
  char *end;
  if (!text || *text < '0' || *text > '9') return false;
  errno = 0;
  *out = strtol(text, &end, 10);
  return errno == 0 && *end == 0;
}

/* Copies the next of the names, which colons separate. Returns false if there is none. */
static bool passed_next_name(const char **names, char *out, size_t size) {
  if (!*names) return false;
  size_t len = strcspn(*names, ":");
  size_t copied = len < size ? len : size - 1;
  memcpy(out, *names, copied);
  out[copied] = 0;
  *names = (*names)[len] ? *names + len + 1 : NULL;
  return true;
}

static int passed_add(segue__passed *out, int fd, const char **names, segue_error *err) {
  bool named = *names != NULL;
  segue__passed_socket *items = segue__realloc(out->items, (out->count + 1) * sizeof *items);
  if (!items) return segue__errorf(err, UV_ENOMEM, "out of memory");
  out->items = items;
  segue__passed_socket *item = &items[out->count];
  *item = (segue__passed_socket){.fd = fd};
  if (named) (void)passed_next_name(names, item->name, sizeof item->name);
  int rc = segue__passed_check(item, err);
  out->count += rc == 0;
  return rc;
}

static int passed_take(segue__passed *out, const char *fds, const char *names, segue_error *err) {
  long count;
  if (!passed_number(fds, &count) || count > INT32_MAX - FIRST)
    return segue__errorf(err, SEGUE_EUSAGE, "LISTEN_FDS is \"%.40s\", which is no count", fds);
  bool named = names != NULL && count > 0;
  /* Before the checks: a child that is started meanwhile must not inherit any of them. */
  for (long i = 0; i < count && fcntl(FIRST + (int)i, F_SETFD, FD_CLOEXEC) == 0; i++)
    ;
  for (long i = 0; i < count; i++) {
    if (named && !names)
      return segue__errorf(err, SEGUE_EUSAGE,
                           "LISTEN_FDNAMES has %ld names and LISTEN_FDS is %ld: each descriptor "
                           "needs one",
                           i, count);
    int rc = passed_add(out, FIRST + (int)i, &names, err);
    if (rc < 0) return rc;
  }
  if (named && names)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "LISTEN_FDNAMES has more than %ld names, and LISTEN_FDS is %ld", count,
                         count);
  return 0;
}

/* LISTEN_PID names the process that the descriptors are for: a shell between the manager and this
 * program may hand the variables on. They are removed in any case, so that no child of this process
 * takes its own descriptors 3, 4 ... for passed ones. */
int segue__passed_read(segue__passed *out, segue_error *err) {
  const char *pid_text = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
  const char *names = getenv("LISTEN_FDNAMES");
  long pid;
  *out = (segue__passed){NULL, 0};
  bool ours = passed_number(pid_text, &pid) && pid == (long)getpid() && fds;
  int rc = ours ? passed_take(out, fds, names, err) : 0;
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  if (rc < 0) segue__passed_close(out);
  return rc;
}

void segue__passed_close(segue__passed *passed) {
  for (size_t i = 0; i < passed->count; i++)
    if (passed->items[i].fd >= 0) close(passed->items[i].fd);
  segue__free(passed->items);
  *passed = (segue__passed){NULL, 0};
}

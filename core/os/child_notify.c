/* SPDX-License-Identifier: MIT
 *
 * Messages of children. The kernel attaches the sender's process id to each datagram
 * (SCM_CREDENTIALS); the sender is believed if that process is the child itself or belongs to the
 * child's session or process group. The check is made while the message is read, so it can only be
 * made if the sender still exists: a helper such as systemd-notify(1) sends BARRIER=1 and waits for
 * the answer for this very reason. A sender that has ended is refused, because a forged message
 * would look the same. The number cannot be another process's: as long as one member of a session
 * or group exists the kernel does not use its number again.
 *
 * A message is refused as a whole if it requests something that is not done here (another main
 * process, stored descriptors). Otherwise a program that forks itself away would be believed to be
 * ready ("MAINPID=7\nREADY=1"), and its end a moment later would look like a crash.
 */
#include "child_notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

enum { FDS_MAX = 253 }; /* the most that one message can carry (SCM_MAX_FD) */

int segue__notice_open(char *address, size_t size) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t len = sizeof name;
  int on = 1, rc = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  /* An address of the family alone: the kernel chooses a free abstract name (unix(7), autobind). */
  if (bind(fd, (struct sockaddr *)&name, sizeof(sa_family_t)) ||
      getsockname(fd, (struct sockaddr *)&name, &len) ||
      setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on))
    rc = -errno;
  size_t used = len - offsetof(struct sockaddr_un, sun_path);
  if (!rc && used >= size) rc = UV_ENAMETOOLONG;
  if (rc) {
    close(fd);
    return rc;
  }
  memcpy(address, name.sun_path, used);
  address[0] = '@';
  address[used] = 0;
  return fd;
}

/* ---- The text ---- */

static bool notice_number(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  unsigned long long n = strtoull(text, &end, 10);
  if (errno || *end || text[0] < '0' || text[0] > '9') return false;
  *out = n;
  return true;
}

/* Reads assignments whose value is a number. A malformed value is ignored, as systemd does. Returns
 * false if the key is none of these. */
static bool notice_takes_number(const char *key, const char *value, segue__notice *out) {
  uint64_t error = 0;
  if (!strcmp(key, "MONOTONIC_USEC")) return notice_number(value, &out->monotonic_usec), true;
  if (!strcmp(key, "WATCHDOG_USEC")) return notice_number(value, &out->watchdog_usec), true;
  if (!strcmp(key, "EXTEND_TIMEOUT_USEC"))
    return notice_number(value, &out->extend_timeout_usec), true;
  if (strcmp(key, "ERRNO")) return false;
  if (notice_number(value, &error) && error < 4096) out->error = (int)error;
  return true;
}

static bool notice_is_one(const char *key, const char *name, const char *value) {
  return !strcmp(key, name) && !strcmp(value, "1");
}

/* Reads one assignment. Returns false if it requests something that is not supported. */
static bool notice_assign(const char *key, const char *value, int child, segue__notice *out,
                          char *why, size_t why_size) {
  uint64_t pid = 0;
  if (notice_takes_number(key, value, out)) return true;
  if (notice_is_one(key, "READY", value)) out->ready = true;
  if (notice_is_one(key, "RELOADING", value)) out->reloading = true;
  if (notice_is_one(key, "STOPPING", value)) out->stopping = true;
  if (notice_is_one(key, "WATCHDOG", value)) out->watchdog = true;
  if (!strcmp(key, "WATCHDOG") && !strcmp(value, "trigger")) out->watchdog_trigger = true;
  if (!strcmp(key, "STATUS")) out->status = value;
  if (!strcmp(key, "MAINPID") && (!notice_number(value, &pid) || pid != (uint64_t)child)) {
    snprintf(why, why_size,
             "MAINPID=%.20s is not the process that was started (%d): run the program in the "
             "foreground, it must not fork itself away",
             value, child);
    return false;
  }
  if (notice_is_one(key, "FDSTORE", value)) {
    snprintf(why, why_size, "FDSTORE=1: descriptors of children are not stored");
    return false;
  }
  return true;
}

bool segue__notice_parse(char *text, size_t len, int child, segue__notice *out, char *why,
                         size_t why_size) {
  int pid = out->pid;
  *out = (segue__notice){.pid = pid};
  if (memchr(text, 0, len)) {
    snprintf(why, why_size, "there is a zero byte in it");
    return false;
  }
  for (char *line = text, *next; line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = 0;
    char *value = strchr(line, '=');
    if (!value) continue;
    *value++ = 0;
    if (!notice_assign(line, value, child, out, why, why_size)) return false;
  }
  return true;
}

/* ---- The socket ---- */

typedef struct notice_envelope {
  size_t len;
  int flags;
  int sender; /* 0: unknown, or not visible in this process namespace */
  int fds[FDS_MAX];
  size_t fd_count;
} notice_envelope;

static void notice_open_envelope(struct msghdr *message, notice_envelope *out) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS) {
      struct ucred sender;
      memcpy(&sender, CMSG_DATA(c), sizeof sender);
      out->sender = sender.pid;
    } else if (c->cmsg_type == SCM_RIGHTS) {
      out->fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      memcpy(out->fds, CMSG_DATA(c), out->fd_count * sizeof(int));
    }
  }
}

/* Returns false if no message is there. */
static bool notice_receive(int fd, char *text, size_t size, notice_envelope *out) {
  union {
    struct cmsghdr aligned;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(FDS_MAX * sizeof(int))];
  } control;
  struct iovec part = {text, size};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  ssize_t n;
  do
    n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return false;
  out->len = (size_t)n;
  out->flags = message.msg_flags;
  notice_open_envelope(&message, out);
  return true;
}

static bool notice_is_believed(const segue__notice_reader *r, int sender) {
  if (sender <= 0) return false;
  if (sender == r->child) return true;
  return !r->main_only && (getsid(sender) == r->child || getpgid(sender) == r->child);
}

static segue__notice_result notice_validate(segue__notice_reader *r, const notice_envelope *e,
                                            segue__notice *out) {
  if (!notice_is_believed(r, e->sender)) {
    snprintf(r->why, sizeof r->why, "the sender (process %d) %s of the child (process %d)",
             e->sender, r->main_only ? "is not the main process" : "is not in the session",
             r->child);
    return SEGUE__NOTICE_REFUSED;
  }
  if (e->flags & (MSG_TRUNC | MSG_CTRUNC)) {
    snprintf(r->why, sizeof r->why,
             "it is longer than %d bytes, or has descriptors that do not fit", SEGUE__NOTICE_BYTES);
    return SEGUE__NOTICE_REFUSED;
  }
  r->text[e->len] = 0;
  bool barrier = !strcmp(r->text, "BARRIER=1") || !strcmp(r->text, "BARRIER=1\n");
  if (barrier && e->fd_count == 1) return SEGUE__NOTICE_EMPTY;
  if (!strncmp(r->text, "BARRIER=1", 9) || strstr(r->text, "\nBARRIER=1")) {
    snprintf(r->why, sizeof r->why,
             "BARRIER=1 must be a message of its own, with exactly one descriptor");
    return SEGUE__NOTICE_REFUSED;
  }
  out->pid = e->sender;
  return segue__notice_parse(r->text, e->len, r->child, out, r->why, sizeof r->why)
             ? SEGUE__NOTICE_TAKEN
             : SEGUE__NOTICE_REFUSED;
}

segue__notice_result segue__notice_read(segue__notice_reader *r, segue__notice *out) {
  notice_envelope envelope = {0};
  *out = (segue__notice){0};
  if (!notice_receive(r->fd, r->text, SEGUE__NOTICE_BYTES, &envelope)) return SEGUE__NOTICE_NONE;
  segue__notice_result result = notice_validate(r, &envelope, out);
  /* Also the descriptors that were sent without being expected: each one that stays open is a
   * leak. */
  for (size_t i = 0; i < envelope.fd_count; i++)
    close(envelope.fds[i]);
  return result;
}

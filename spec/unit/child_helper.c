/* SPDX-License-Identifier: MIT
 *
 * child_helper: a child process that does what its arguments say, in their order. One word each:
 *   fds        prints "fd N FILE" for each open descriptor
 *   identity   prints its user, groups, nice value, file mode mask, limits and session
 *   listen     prints "listen N NAMES", or "listen not mine" if LISTEN_PID is another process
 *   print:T    prints T as a line        error:T  the same on standard error
 *   send:T     sends T to $NOTIFY_SOCKET ("|" stands for a line end)
 *   stored:T   the same, with a descriptor
 *   barrier    sends BARRIER=1 and waits for the answer
 *   forged:P   sends READY=1 in the name of process P (needs root)
 *   fork       continues in a child of its own and exits with that child's code
 *   leave      continues in a child of its own and exits with 0 at once
 *   setsid, setpgid, ignore (SIGTERM), close:N, flood:BYTES (standard error)
 *   until:F    waits until the file F exists
 *   pause      waits for a signal        exit:N
 * It ends with its parent, except after "leave": a run of the specs that is killed leaves no
 * helper.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../support/wait_file.h"

static void check(int failed, const char *what) {
  if (!failed) return;
  perror(what);
  exit(90);
}

static void print_fds(void) {
  for (int fd = 0; fd < 1024; fd++) {
    char path[64], file[256] = "";
    struct stat st;
    if (fstat(fd, &st)) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, file, sizeof file - 1) < 0) continue;
    printf("fd %d %s\n", fd, file);
  }
}

static void print_identity(void) {
  gid_t groups[64];
  struct rlimit files, core;
  int count = getgroups(64, groups);
  mode_t mask = umask(0);
  umask(mask);
  getrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_CORE, &core);
  printf("uid %d gid %d groups", (int)getuid(), (int)getgid());
  for (int i = 0; i < count; i++)
    printf(" %d", (int)groups[i]);
  printf("\nnice %d umask %03o nofile %llu core %llu\n", getpriority(PRIO_PROCESS, 0),
         (unsigned)mask, (unsigned long long)files.rlim_cur, (unsigned long long)core.rlim_max);
  printf("leader %s %s\n", getsid(0) == getpid() ? "session" : "no",
         getpgid(0) == getpid() ? "group" : "no");
}

static void print_listen(void) {
  const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
  const char *names = getenv("LISTEN_FDNAMES");
  if (!pid || atoi(pid) != getpid())
    printf("listen not mine\n");
  else
    printf("listen %s %s\n", fds ? fds : "-", names ? names : "-");
}

static void send_text(const char *text, int fd, pid_t as) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  const char *address = getenv("NOTIFY_SOCKET");
  check(!address, "NOTIFY_SOCKET");
  memcpy(to.sun_path, address, strlen(address));
  if (to.sun_path[0] == '@') to.sun_path[0] = 0;
  char copy[8192];
  size_t len = strlen(text);
  for (size_t i = 0; i <= len; i++)
    copy[i] = text[i] == '|' ? '\n' : text[i];
  union {
    struct cmsghdr aligned;
    char bytes[CMSG_SPACE(sizeof(struct ucred))];
  } control = {.bytes = {0}};
  struct iovec part = {copy, len};
  struct msghdr m = {.msg_name = &to,
                     .msg_namelen =
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address)),
                     .msg_iov = &part,
                     .msg_iovlen = 1};
  if (fd >= 0 || as) {
    m.msg_control = control.bytes;
    m.msg_controllen = as ? CMSG_SPACE(sizeof(struct ucred)) : CMSG_SPACE(sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = as ? SCM_CREDENTIALS : SCM_RIGHTS;
    c->cmsg_len = as ? CMSG_LEN(sizeof(struct ucred)) : CMSG_LEN(sizeof(int));
    struct ucred sender = {as, getuid(), getgid()};
    if (as)
      memcpy(CMSG_DATA(c), &sender, sizeof sender);
    else
      memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  check(s < 0, "socket");
  check(sendmsg(s, &m, MSG_NOSIGNAL) < 0, "sendmsg");
  close(s);
}

static void barrier(void) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC), "pipe");
  send_text("BARRIER=1", ends[1], 0);
  close(ends[1]);
  struct pollfd wait = {ends[0], 0, 0};
  check(poll(&wait, 1, 60000) != 1, "barrier");
  close(ends[0]);
}

static void flood(size_t bytes) {
  char block[4096];
  memset(block, 'e', sizeof block);
  while (bytes) {
    ssize_t n = write(2, block, bytes < sizeof block ? bytes : sizeof block);
    check(n < 0, "write");
    bytes -= (size_t)n;
  }
}

/* Returns a descriptor that is readable when the specs' process has ended, so that a run of the
 * specs that is killed leaves no helper. It is not the parent: that may be a shell, or have left.
 */
static int end_of_specs(void) {
  const char *pid = getenv("SEGUE_SPEC_PID");
  return pid ? (int)syscall(SYS_pidfd_open, atoi(pid), 0) : -1;
}

static void pause_till_end(void) {
  struct pollfd end = {end_of_specs(), POLLIN, 0};
  while (poll(&end, 1, -1) < 0 && errno == EINTR)
    ;
}

static void go_on_in_child(int wait_for_it) {
  int status;
  pid_t pid = fork();
  check(pid < 0, "fork");
  if (!pid) return;
  if (!wait_for_it) _exit(0);
  waitpid(pid, &status, 0);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static int is(const char *word, const char *name, const char **value) {
  size_t len = strlen(name);
  *value = word + len;
  return !strncmp(word, name, len);
}

static void act(const char *word) {
  const char *value;
  if (!strcmp(word, "fds")) print_fds();
  if (!strcmp(word, "identity")) print_identity();
  if (!strcmp(word, "listen")) print_listen();
  if (is(word, "print:", &value)) printf("%s\n", value);
  if (is(word, "error:", &value)) fprintf(stderr, "%s\n", value);
  if (is(word, "send:", &value)) send_text(value, -1, 0);
  if (is(word, "stored:", &value)) send_text(value, 0, 0);
  if (is(word, "forged:", &value)) send_text("READY=1", -1, atoi(value));
  if (!strcmp(word, "barrier")) barrier();
  if (!strcmp(word, "fork")) go_on_in_child(1);
  if (!strcmp(word, "leave")) go_on_in_child(0);
  if (!strcmp(word, "setsid")) setsid();
  if (!strcmp(word, "setpgid")) setpgid(0, 0);
  if (!strcmp(word, "ignore")) signal(SIGTERM, SIG_IGN);
  if (is(word, "close:", &value)) close(atoi(value));
  if (is(word, "flood:", &value)) flood(strtoul(value, NULL, 10));
  if (is(word, "until:", &value)) wait_file(value, end_of_specs());
  if (!strcmp(word, "pause")) pause_till_end();
  if (is(word, "exit:", &value)) exit(atoi(value));
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 1; i < argc; i++)
    act(argv[i]);
  return 0;
}

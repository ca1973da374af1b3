/* SPDX-License-Identifier: MIT
 *
 * Finds the process that has a port, through /proc, as `ss -ltnp` does: first the inode of the
 * listening socket, then the process that has a descriptor of that inode. Descriptors of other
 * users are visible to root only, so the answer may be unknown.
 */
#include "port_owner.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns the inode of a socket that listens on the port, or 0. State 0A is LISTEN. */
static unsigned long owner_inode(const char *table, uint16_t port) {
  FILE *f = fopen(table, "re");
  char line[512];
  unsigned long found = 0;
  if (!f) return 0;
  while (!found && fgets(line, sizeof line, f)) {
    unsigned local = 0, state = 0;
    unsigned long inode = 0;
    if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", &local,
               &state, &inode) == 3 &&
        local == port && state == 0x0a)
      found = inode;
  }
  fclose(f);
  return found;
}

static bool owner_has_socket(const char *pid, const char *link) {
  char path[64], target[64];
  snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
  DIR *dir = opendir(path);
  bool found = false;
  if (!dir) return false;
  for (struct dirent *e; !found && (e = readdir(dir));) {
    ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
    if (n > 0) {
      target[n] = 0;
      found = strcmp(target, link) == 0;
    }
  }
  closedir(dir);
  return found;
}

static void owner_describe(const char *pid, char *out, size_t size) {
  char path[64], name[64] = "process";
  snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
  FILE *f = fopen(path, "re");
  if (f) {
    if (fgets(name, sizeof name, f)) name[strcspn(name, "\n")] = 0;
    fclose(f);
  }
  snprintf(out, size, "%s (pid %.20s)", name, pid);
}

bool segue__socket_port_owner(uint16_t port, char *out, size_t size) {
  char link[64];
  unsigned long inode = owner_inode("/proc/net/tcp", port);
  if (!inode) inode = owner_inode("/proc/net/tcp6", port);
  DIR *dir = inode ? opendir("/proc") : NULL;
  bool found = false;
  if (!dir) return false;
  snprintf(link, sizeof link, "socket:[%lu]", inode);
  for (struct dirent *e; !found && (e = readdir(dir));) {
    if (isdigit((unsigned char)e->d_name[0]) && owner_has_socket(e->d_name, link)) {
      owner_describe(e->d_name, out, size);
      found = true;
    }
  }
  closedir(dir);
  return found;
}

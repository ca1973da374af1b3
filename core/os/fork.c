/* SPDX-License-Identifier: MIT
 *
 * Detects and cleans up a child that a host forked off, see fork.h.
 */
#include "fork.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

static size_t page_size(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

int segue__fork_mark_new(const uint32_t **out) {
  uint32_t *page =
      mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *out = NULL;
  if (page == MAP_FAILED) return -errno;
  *page = 1;
  /* If a sandbox forbids it, the mark stays set in a child, and the child is not detected. */
  (void)madvise(page, page_size(), MADV_WIPEONFORK);
  *out = page;
  return 0;
}

void segue__fork_mark_free(const uint32_t *mark) {
  if (mark) munmap((void *)mark, page_size());
}

static void close_handle(uv_handle_t *handle, void *data) {
  uv_os_fd_t fd;
  (void)data;
  if (uv_fileno(handle, &fd) == 0) close(fd);
}

static void close_one(int fd) {
  if (fd >= 0) close(fd);
}

void segue__uv_abandon(struct uv_loop_s *uv) {
  uv_walk(uv, close_handle, NULL);
  close_one(uv->async_io_watcher.fd);
  close_one(uv->async_wfd);
  close_one(uv->signal_pipefd[0]);
  close_one(uv->signal_pipefd[1]);
  close_one(uv->backend_fd);
}

void segue__close_files_in(const char *folder) {
  DIR *all = opendir("/proc/self/fd");
  size_t len = strlen(folder);
  char file[PATH_MAX];
  if (!all) return;
  for (const struct dirent *entry; (entry = readdir(all));) {
    ssize_t n = readlinkat(dirfd(all), entry->d_name, file, sizeof file);
    int fd = (int)strtol(entry->d_name, NULL, 10);
    bool is_inside = n > (ssize_t)len && !memcmp(file, folder, len) && file[len] == '/';
    if (is_inside && fd != dirfd(all)) close(fd);
  }
  closedir(all);
}

void segue__close_socket_everywhere(int fd) {
  struct stat wanted, st;
  DIR *all = opendir("/proc/self/fd");
  if (all && fstat(fd, &wanted) == 0)
    for (const struct dirent *entry; (entry = readdir(all));) {
      int other = (int)strtol(entry->d_name, NULL, 10);
      bool is_copy = other != fd && other != dirfd(all) && entry->d_name[0] != '.' &&
                     fstat(other, &st) == 0 && st.st_dev == wanted.st_dev &&
                     st.st_ino == wanted.st_ino;
      if (is_copy) close(other);
    }
  if (all) closedir(all);
  close(fd);
}

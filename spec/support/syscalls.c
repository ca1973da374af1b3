/* SPDX-License-Identifier: MIT
 *
 * fsync, counted. See syscalls.h.
 */
#include "syscalls.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int files, folders;

int __wrap_fsync(int fd);

int __wrap_fsync(int fd) {
  struct stat st;
  if (fstat(fd, &st) == 0)
    __atomic_add_fetch(S_ISDIR(st.st_mode) ? &folders : &files, 1, __ATOMIC_RELAXED);
  return (int)syscall(SYS_fsync, fd);
}

int spec_fsyncs_of_files(void) {
  return __atomic_load_n(&files, __ATOMIC_RELAXED);
}

int spec_fsyncs_of_folders(void) {
  return __atomic_load_n(&folders, __ATOMIC_RELAXED);
}

static int data_count;

int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd) {
  __atomic_add_fetch(&data_count, 1, __ATOMIC_RELAXED);
  return (int)syscall(SYS_fdatasync, fd);
}

int spec_fdatasyncs(void) {
  return __atomic_load_n(&data_count, __ATOMIC_RELAXED);
}

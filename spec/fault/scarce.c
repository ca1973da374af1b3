/* SPDX-License-Identifier: MIT
 *
 * Preloaded into a daemon by fault/scarce_spec: makes calls of the C library fail at random, in
 * bursts, in every library that makes them (libuv, SQLite, libyaml, PCRE2, the C library itself).
 * SPEC_SCARCE names a file that the spec and this library map: the spec writes seed and chance into
 * it, and reads how many calls failed. Only failures that a kernel really gives: read and write
 * fail for regular files, not for the pipes and eventfds of a loop.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_BURST = 6 };

struct scarce {
  uint32_t seed, memory_one_in, calls_one_in; /* 0: none fails */
  uint32_t memory_failed, calls_failed;
};

static struct scarce *control;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("SPEC_SCARCE");
  int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at != MAP_FAILED) control = at;
}

static uint32_t hash(uint32_t seed, uint32_t call) {
  uint64_t z = (uint64_t)seed << 32 | call;
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return (uint32_t)(z ^ (z >> 31));
}

static int fails(uint32_t one_in, uint32_t *call_count, uint32_t *failed) {
  if (!one_in) return 0;
  uint32_t call = __atomic_add_fetch(call_count, 1, __ATOMIC_RELAXED);
  for (uint32_t back = 0; back < LONGEST_BURST; back++) {
    uint32_t number = hash(control->seed, call - back);
    if (number % one_in || number / one_in % LONGEST_BURST < back) continue;
    __atomic_add_fetch(failed, 1, __ATOMIC_RELAXED);
    return 1;
  }
  return 0;
}

static uint32_t other_calls;

static int call_fails(int code) {
  if (!control || !fails(control->calls_one_in, &other_calls, &control->calls_failed)) return 0;
  errno = code;
  return 1;
}

static int is_file(int fd) {
  int saved = errno;
  struct stat st;
  int yes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  errno = saved;
  return yes;
}

/* The next definition of a function behind this one. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A sanitizer has its own allocator; there the core's own (core/os/mem.c) is made to fail. */
#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static uint32_t memory_calls;
static int memory_fails(void) {
  if (!control || !fails(control->memory_one_in, &memory_calls, &control->memory_failed)) return 0;
  errno = ENOMEM;
  return 1;
}
void *malloc(size_t size) {
  return memory_fails() ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  return memory_fails() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *p, size_t size) {
  return size && memory_fails() ? NULL : __libc_realloc(p, size);
}
#endif

static mode_t mode_of(int flags, va_list args) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}
int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_of(flags, args);
  va_end(args);
  return call_fails(EMFILE) ? -1 : NEXT(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_of(flags, args);
  va_end(args);
  return call_fails(ENFILE) ? -1 : NEXT(open64)(path, flags, mode);
}
int openat(int dir, const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_of(flags, args);
  va_end(args);
  return call_fails(EMFILE) ? -1 : NEXT(openat)(dir, path, flags, mode);
}
ssize_t read(int fd, void *data, size_t len) {
  return is_file(fd) && call_fails(EIO) ? -1 : NEXT(read)(fd, data, len);
}
ssize_t pread(int fd, void *data, size_t len, off_t at) {
  return is_file(fd) && call_fails(EIO) ? -1 : NEXT(pread)(fd, data, len, at);
}
ssize_t pread64(int fd, void *data, size_t len, off64_t at) {
  return is_file(fd) && call_fails(EIO) ? -1 : NEXT(pread64)(fd, data, len, at);
}
ssize_t write(int fd, const void *data, size_t len) {
  return is_file(fd) && call_fails(ENOSPC) ? -1 : NEXT(write)(fd, data, len);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
  return is_file(fd) && call_fails(ENOSPC) ? -1 : NEXT(pwrite64)(fd, data, len, at);
}
int fsync(int fd) {
  return call_fails(EIO) ? -1 : NEXT(fsync)(fd);
}
int fdatasync(int fd) {
  return call_fails(EIO) ? -1 : NEXT(fdatasync)(fd);
}
int socket(int domain, int type, int protocol) {
  return call_fails(ENOBUFS) ? -1 : NEXT(socket)(domain, type, protocol);
}
int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags) {
  return call_fails(ENFILE) ? -1 : NEXT(accept4)(fd, address, len, flags);
}
int pipe2(int fds[2], int flags) {
  return call_fails(EMFILE) ? -1 : NEXT(pipe2)(fds, flags);
}
int inotify_add_watch(int fd, const char *path, uint32_t mask) {
  return call_fails(ENOSPC) ? -1 : NEXT(inotify_add_watch)(fd, path, mask);
}
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *data) {
  return call_fails(EAGAIN) ? EAGAIN : NEXT(pthread_create)(thread, attr, fn, data);
}

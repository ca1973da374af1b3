/* SPDX-License-Identifier: MIT
 *
 * For the declarations of the specs: structs that hold a mutex keep their size.
 */
#ifndef SPEC_CDEF_PTHREAD_H
#define SPEC_CDEF_PTHREAD_H

typedef unsigned long pthread_t;
#if defined(__aarch64__)
typedef struct pthread_mutex {
  long opaque[6];
} pthread_mutex_t;
#else
typedef struct pthread_mutex {
  long opaque[5];
} pthread_mutex_t;
#endif
typedef struct pthread_cond {
  long opaque[6];
} pthread_cond_t;

#endif

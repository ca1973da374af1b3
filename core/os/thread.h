/* SPDX-License-Identifier: MIT
 *
 * thread.h: starts threads.
 */
#ifndef SEGUE_OS_THREAD_H
#define SEGUE_OS_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Starts a thread in which every signal is blocked: signals are for the threads of the host, or for
 * the daemon's control thread. name: at most 15 bytes, for ps(1) and core dumps. stack_bytes: 0
 * means the default of the system. The caller joins or detaches it. Returns 0 or a negative code.
 * [any thread] */
int segue__thread_start(pthread_t *out, const char *name, size_t stack_bytes,
                        void *(*run)(void *data), void *data);

#endif

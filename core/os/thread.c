/* SPDX-License-Identifier: MIT
 *
 * Threads. A new thread inherits the signal mask of its creator: the mask is changed around the
 * start and not in the thread, because a signal could arrive in between.
 */
#include "thread.h"

#include <signal.h>

int segue__thread_start(pthread_t *out, const char *name, size_t stack_bytes,
                        void *(*run)(void *data), void *data) {
  sigset_t all, old;
  pthread_attr_t attr;
  sigfillset(&all);
  int rc = pthread_attr_init(&attr);
  if (rc) return -rc;
  if (stack_bytes) pthread_attr_setstacksize(&attr, stack_bytes);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  rc = pthread_create(out, &attr, run, data);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (!rc) pthread_setname_np(*out, name);
  return -rc;
}

/* SPDX-License-Identifier: MIT
 *
 * Signals: names and numbers, and libuv's signal handles, which turn an asynchronous signal into a
 * callback at a safe place.
 */
#include "signal.h"

#include <signal.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "../os/mem.h"

/* All signals except the ones that cannot be caught and the ones that a fault raises. */
#define SIGNALS(X)                                                                                 \
  X(HUP)                                                                                           \
  X(INT)                                                                                           \
  X(QUIT)                                                                                          \
  X(USR1)                                                                                          \
  X(USR2)                                                                                          \
  X(TERM)                                                                                          \
  X(ALRM)                                                                                          \
  X(PIPE)                                                                                          \
  X(CHLD)                                                                                          \
  X(CONT)                                                                                          \
  X(TSTP)                                                                                          \
  X(TTIN)                                                                                          \
  X(TTOU)                                                                                          \
  X(URG)                                                                                           \
  X(VTALRM)                                                                                        \
  X(PROF)                                                                                          \
  X(WINCH)                                                                                         \
  X(IO)                                                                                            \
  X(PWR)

static const struct {
  int number;
  const char *name;
} known[] = {
#define X(name) {SIG##name, "SIG" #name},
    SIGNALS(X)
#undef X
};

struct segue__signal {
  uv_signal_t handle;
  void (*cb)(void *data, int signum);
  void (*closed_cb)(void *data);
  void *data, *closed_data;
};

int segue__signal_parse(const char *name, int *out) {
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strcasecmp(name, known[i].name) && strcasecmp(name, known[i].name + 3)) continue;
    *out = known[i].number;
    return 0;
  }
  return UV_EINVAL;
}

const char *segue__signal_name(int signum) {
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (known[i].number == signum) return known[i].name;
  return "a signal without a name";
}

static void on_signal(uv_signal_t *handle, int signum) {
  segue__signal *signal = handle->data;
  signal->cb(signal->data, signum);
}

int segue__signal_new(segue__signal **out, segue__loop *loop, int signum,
                      void (*cb)(void *data, int signum), void *data) {
  *out = NULL;
  if (!segue__loop_uv(loop)) return UV_ENOTSUP;
  segue__signal *signal = segue__calloc(1, sizeof *signal);
  if (!signal) return UV_ENOMEM;
  signal->cb = cb;
  signal->data = data;
  signal->handle.data = signal;
  int rc = uv_signal_init(segue__loop_uv(loop), &signal->handle);
  if (rc) {
    segue__free(signal);
    return rc;
  }
  rc = uv_signal_start(&signal->handle, on_signal, signum);
  if (rc) {
    segue__signal_close(signal, NULL, NULL);
    return rc;
  }
  *out = signal;
  return 0;
}

static void signal_on_closed(uv_handle_t *handle) {
  segue__signal *signal = handle->data;
  void (*cb)(void *) = signal->closed_cb;
  void *data = signal->closed_data;
  segue__free(signal);
  if (cb) cb(data);
}

/* libuv calls no callback of a handle after uv_close, also not for a signal that is already in its
 * pipe. So the caller can free `data` when this function returns, before closed_cb runs. */
void segue__signal_close(segue__signal *signal, void (*closed_cb)(void *data), void *data) {
  if (!signal) {
    if (closed_cb) closed_cb(data);
    return;
  }
  signal->closed_cb = closed_cb;
  signal->closed_data = data;
  uv_close((uv_handle_t *)&signal->handle, signal_on_closed);
}

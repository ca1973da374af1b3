/* SPDX-License-Identifier: MIT
 *
 * Signals of the process. Until the first load is over the daemon does not know which signals the
 * policy names: logrotate's USR1 may arrive a moment after the start. So early signals are stored,
 * and delivered or reported after the first load. SIGQUIT is not caught: operators use its core
 * dump.
 */
#include "signals.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../instance/instance.h"
#include "../trigger/signal.h"

static const int caught[SEGUE__DAEMON_SIGNALS] = {SIGHUP,    SIGUSR1, SIGUSR2, SIGALRM,
                                                  SIGVTALRM, SIGPROF, SIGIO,   SIGPWR};

static void change_mask(int how) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < SEGUE__DAEMON_SIGNALS; i++)
    sigaddset(&set, caught[i]);
  pthread_sigmask(how, &set, NULL);
}

/* Blocked before the first thread starts, so that every thread inherits the mask and the signals
 * wait until the loop can receive them: their default action would end the process. */
void segue__signals_hold(void) {
  change_mask(SIG_BLOCK);
}

static void signals_report(const segue__signals *s, int signum) {
  char text[128];
  const char *name = segue__signal_name(signum);
  snprintf(text, sizeof text,
           "%s came, but the policy has no trigger segue.signal \"%s\": nothing is done", name,
           name + 3);
  s->on_unwanted(s->data, text);
}

static void signals_on_signal(uv_signal_t *handle, int signum) {
  segue__signals *s = handle->data;
  if (!s->instance || segue__handles_signal(s->instance, signum)) return;
  if (s->pass && s->pass(s->data, signum)) return;
  if (s->started)
    signals_report(s, signum);
  else
    s->early[handle - s->handles] = true;
}

int segue__signals_open(segue__signals *s, uv_loop_t *loop,
                        void (*on_unwanted)(void *data, const char *message), void *data) {
  int rc = 0;
  memset(s, 0, sizeof *s);
  s->on_unwanted = on_unwanted;
  s->data = data;
  for (int i = 0; i < SEGUE__DAEMON_SIGNALS && rc == 0; i++) {
    rc = uv_signal_init(loop, &s->handles[i]);
    s->handles[i].data = s;
    if (rc == 0) rc = uv_signal_start(&s->handles[i], signals_on_signal, caught[i]);
  }
  if (rc == 0) change_mask(SIG_UNBLOCK);
  return rc;
}

void segue__signals_watch(segue__signals *s, segue *instance) {
  s->instance = instance;
}

void segue__signals_started(segue__signals *s) {
  s->started = true;
  for (int i = 0; i < SEGUE__DAEMON_SIGNALS; i++) {
    if (!s->early[i]) continue;
    s->early[i] = false;
    if (!s->instance || segue__deliver_signal(s->instance, caught[i])) continue;
    if (!s->pass || !s->pass(s->data, caught[i])) signals_report(s, caught[i]);
  }
}

/* Closing a handle restores the default action, which ends the process, while the log may still be
 * written for a second. So the signals are blocked first. */
void segue__signals_close(segue__signals *s) {
  segue__signals_hold();
  for (int i = 0; i < SEGUE__DAEMON_SIGNALS; i++)
    uv_close((uv_handle_t *)&s->handles[i], NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * systemd.h: reports to the service manager that started the daemon: ready, reloading, status in
 * words, stopping, and that the loop still runs. Works with Type=notify and Type=notify-reload;
 * without $NOTIFY_SOCKET all of it does nothing.
 */
#ifndef SEGUE_DAEMON_SYSTEMD_H
#define SEGUE_DAEMON_SYSTEMD_H

#include <uv.h>

#include "../instance/instance.h"
#include "../os/notify.h"
#include "sink.h"

typedef struct segue__systemd {
  segue__notify *socket; /* NULL: no service manager waits for reports */
  const segue__sink *sink;
  segue *instance;
  segue__observer observer;
  uv_timer_t watchdog, patience, again;
  bool ready;       /* READY=1 was sent once */
  bool reloading;   /* RELOADING=1 was sent, READY=1 is due */
  bool stopping;    /* STOPPING=1 was sent */
  bool complained;  /* the warning that no process listens was logged */
  char status[512]; /* STATUS= about the last run */
} segue__systemd;

/* Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID and takes them out of the environment, so
 * that no child reports for the daemon. Call it before threads start. */
void segue__systemd_open(segue__systemd *systemd, uv_loop_t *loop, const segue__sink *sink);
/* Follows the runs of an instance that was started on the same loop. */
void segue__systemd_watch(segue__systemd *systemd, segue *instance);
/* The first load has ended, and there is something to run. status: as in segue_report_cb. */
void segue__systemd_started(segue__systemd *systemd, int status);
void segue__systemd_stopping(segue__systemd *systemd);
/* The loop must run once more after this call. */
void segue__systemd_close(segue__systemd *systemd);

#endif

/* SPDX-License-Identifier: MIT
 *
 * service.h: what a module offers to everybody while it is live: a log, or figures. Callers load a
 * pointer inside of a read section; the engine exchanges it with the flip of a transaction, and
 * what it pointed to is drained after a grace period.
 */
#ifndef SEGUE_MODULE_SERVICE_H
#define SEGUE_MODULE_SERVICE_H

#include "../segue.h"

typedef struct segue__service {
  segue_log_ops log; /* write NULL: it is no log */
  segue_stats_ops stats;
  void *object;
} segue__service;

typedef struct segue__services {
  const segue__service *log, *stats; /* atomic; NULL: there is none */
} segue__services;

#endif

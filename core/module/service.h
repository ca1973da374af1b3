/* SPDX-License-Identifier: MIT
 *
 * service.h: the service of a live module for all threads: a log, or metrics. Callers load a
 * pointer inside a read section; the engine replaces it when a transaction flips, and drains the
 * previous instance after a grace period.
 */
#ifndef SEGUE_MODULE_SERVICE_H
#define SEGUE_MODULE_SERVICE_H

#include "../segue.h"

typedef struct segue__service {
  segue_log_ops log; /* write NULL: it is not a log */
  segue_stats_ops stats;
  void *object;
} segue__service;

typedef struct segue__services {
  const segue__service *log, *stats; /* atomic; NULL: none */
} segue__services;

#endif

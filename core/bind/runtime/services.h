/* SPDX-License-Identifier: MIT
 *
 * services.h: the log and metrics services of swap modules, for Lua code.
 */
#ifndef SEGUE_BIND_SERVICES_H
#define SEGUE_BIND_SERVICES_H

#include "../../segue.h"

/* See segue_log and segue_count; NULL: no such service. [any thread] */
typedef struct segue__lua_services {
  int (*write_log)(void *data, const segue_log_entry *entry);
  int (*record)(void *data, segue_metric metric, const char *series, double value);
  void *data;
} segue__lua_services;

#endif

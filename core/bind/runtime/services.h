/* SPDX-License-Identifier: MIT
 *
 * services.h: what Lua code reaches of the modules that everybody calls: their log and figures.
 */
#ifndef SEGUE_BIND_SERVICES_H
#define SEGUE_BIND_SERVICES_H

#include "../../segue.h"

/* See segue_log and segue_count; NULL: there is none. [any thread] */
typedef struct segue__lua_services {
  int (*write_log)(void *data, const segue_log_entry *entry);
  int (*record)(void *data, segue_metric metric, const char *series, double value);
  void *data;
} segue__lua_services;

#endif

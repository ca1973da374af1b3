/* SPDX-License-Identifier: MIT
 *
 * gate.h: the entrance to a module. Open, it lets callers in to the current instance; shut, they
 * wait. Segue opens every gate at the end of a transaction, whatever happened.
 */
#ifndef SEGUE_MODULE_GATE_H
#define SEGUE_MODULE_GATE_H

#include <stdbool.h>

struct segue__instance;

typedef enum segue__gate_state {
  SEGUE__GATE_SHUT,
  SEGUE__GATE_OPEN,
  SEGUE__GATE_REFUSING
} segue__gate_state;

typedef struct segue__gate {
  segue__gate_state state;
  struct segue__instance *instance; /* where arrivals go when it is open */
} segue__gate;

void segue__gate_init(segue__gate *gate); /* refusing, until the first generation is live */
void segue__gate_shut(segue__gate *gate);
void segue__gate_open(segue__gate *gate, struct segue__instance *instance);
void segue__gate_refuse(segue__gate *gate);

#endif

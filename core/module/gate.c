/* SPDX-License-Identifier: MIT
 *
 * Gates: three states and where arrivals go.
 */
#include "gate.h"

#include <stddef.h>

void segue__gate_init(segue__gate *gate) {
  segue__gate_refuse(gate);
}

void segue__gate_shut(segue__gate *gate) {
  gate->state = SEGUE__GATE_SHUT;
}

void segue__gate_open(segue__gate *gate, struct segue__instance *instance) {
  gate->instance = instance;
  gate->state = SEGUE__GATE_OPEN;
}

void segue__gate_refuse(segue__gate *gate) {
  gate->instance = NULL;
  gate->state = SEGUE__GATE_REFUSING;
}

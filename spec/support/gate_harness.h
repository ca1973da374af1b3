/* SPDX-License-Identifier: MIT
 *
 * gate_harness.h: a gate with instances behind it that know whether they are still there, and
 * threads that pass it while it is shut, opened, flipped and drained.
 */
#ifndef SEGUE_SPEC_GATE_HARNESS_H
#define SEGUE_SPEC_GATE_HARNESS_H

#include "core/config/config.h"
#include "core/module/module.h"

segue__instance *gate_leads_to(const segue_gate *gate); /* NULL: it is not open */
bool gate_is_flipping(const segue_gate *gate);          /* reserved, or not settled */

typedef struct gate_house {
  segue__loop *loop; /* borrowed */
  segue__gates *gates;
  segue_gate *gate;
  segue__detached limbo;
  segue__logger log;
  size_t alive; /* atomic: instances that were not destroyed */
} gate_house;

int gate_house_new(gate_house **out, segue__loop *loop);
void gate_house_free(gate_house *house);
/* An instance of this generation, ready, with a snapshot of its own; NULL: out of memory. */
segue__instance *gate_house_instance(gate_house *house, uint64_t generation);
segue_snapshot *gate_house_snapshot(uint64_t generation); /* NULL: out of memory */
int gate_house_reserve(gate_house *house, segue__instance *instance);
int gate_house_open(gate_house *house, segue__instance *instance);
/* Begins to drain it; *status becomes the outcome, 1 until then. */
void gate_house_drain(segue__instance *instance, uint64_t deadline_ms, int *status);
/* Goes in while the gate flips to what was reserved, between counting and looking again. */
int gate_house_enter_in_a_flip(gate_house *house, segue_pass *pass);
uint64_t gate_house_generation(const segue_pass *pass); /* 0: outside */
/* Enters and leaves on threads that exit afterwards. */
int gate_house_enter_elsewhere(gate_house *house, segue_pass *pass);
void gate_house_leave_elsewhere(segue_pass *pass);

typedef struct gate_storm {
  unsigned threads, rounds;
  uint64_t passed, waited, cancelled, refused; /* requests, by what became of them */
  uint64_t lost, doubled;                      /* not answered, answered more than once */
  uint64_t disordered;                         /* answered before an earlier one of its key */
  uint64_t wrong;                              /* an instance that was gone, or not its snapshot */
  uint64_t older;                              /* than what was live when it came */
  uint64_t crowded;                            /* drained, but a pass is still inside */
} gate_storm;

/* The caller's thread is the control thread; under a manual loop. */
int gate_storm_run(gate_house *house, gate_storm *storm);

/* The same with two modules, of which one is called from inside of the other (call_storm.c). */
typedef struct call_storm {
  unsigned rounds;
  uint64_t calls, mixed, gone, refused; /* mixed: another snapshot than the caller's */
} call_storm;
int call_storm_run(gate_house *house, call_storm *storm);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The budget of restarts. Only time forgets a restart: a child that becomes ready and dies again a
 * moment later, for ever, would keep the budget of a rule that forgives at readiness full.
 */
#include "restart_budget.h"

#include "../os/mem.h"

enum { DOUBLINGS_MAX = 30 };

static uint64_t budget_pause(const segue__restart_budget *budget,
                             const segue__restart_limits *limits, uint64_t random) {
  if (budget->in_a_row <= 1) return 0;
  unsigned doublings = budget->in_a_row - 2 < DOUBLINGS_MAX ? budget->in_a_row - 2 : DOUBLINGS_MAX;
  uint64_t pause = limits->backoff_min_ms << doublings;
  if (pause > limits->backoff_max_ms) pause = limits->backoff_max_ms;
  return pause - random % (pause / 4 + 1);
}

int64_t segue__restart_budget_take(segue__restart_budget *budget,
                                   const segue__restart_limits *limits, uint64_t now_ms,
                                   uint64_t ran_ms, uint64_t random) {
  if (!limits->restarts) return -1;
  if (!budget->at) {
    budget->at = segue__calloc(limits->restarts, sizeof *budget->at);
    if (!budget->at) return -1;
    budget->size = limits->restarts;
  }
  if (ran_ms >= limits->stable_ms) budget->in_a_row = 0;
  /* The oldest of a full ring is the one that is overwritten next. */
  if (budget->count == budget->size && now_ms - budget->at[budget->next] < limits->within_ms)
    return -1;
  budget->at[budget->next] = now_ms;
  budget->next = (budget->next + 1) % budget->size;
  if (budget->count < budget->size) budget->count++;
  budget->in_a_row++;
  return (int64_t)budget_pause(budget, limits, random);
}

void segue__restart_budget_deinit(segue__restart_budget *budget) {
  segue__free(budget->at);
  *budget = (segue__restart_budget){0};
}

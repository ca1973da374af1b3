/* SPDX-License-Identifier: MIT
 *
 * restart_budget.h: how often and when a child that ends by itself is started again. Plain data,
 * without a clock of its own.
 */
#ifndef SEGUE_PROCESS_RESTART_BUDGET_H
#define SEGUE_PROCESS_RESTART_BUDGET_H

#include <stddef.h>
#include <stdint.h>

typedef struct segue__restart_limits {
  uint64_t restarts, within_ms; /* at most so many in this time */
  uint64_t backoff_min_ms, backoff_max_ms;
  uint64_t stable_ms; /* a child that ran that long loses its back-off */
} segue__restart_limits;

/* Zeroed: nothing was restarted. */
typedef struct segue__restart_budget {
  uint64_t *at; /* when the last restarts were, a ring of `restarts` */
  size_t size, count, next;
  unsigned in_a_row; /* without a stable child between them */
} segue__restart_budget;

/* A child has ended at now_ms after ran_ms. Returns the pause before its restart, or -1: the budget
 * is spent, or memory is out. The first restart in a row has no pause; later ones double it. random
 * takes up to a quarter off, so that children that ended together do not start together. */
int64_t segue__restart_budget_take(segue__restart_budget *budget,
                                   const segue__restart_limits *limits, uint64_t now_ms,
                                   uint64_t ran_ms, uint64_t random);
void segue__restart_budget_deinit(segue__restart_budget *budget);

#endif

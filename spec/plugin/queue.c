/* SPDX-License-Identifier: MIT
 *
 * The log's queue, whose producer is held up where it hurts most: it has seen where the end is, and
 * before it sees where the beginning is, others put more than the queue holds and all of that is
 * taken. Prints what its put answers then.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void between(void);
#undef atomic_load_explicit
#define atomic_load_explicit(object, order)                                                        \
  ((order) == memory_order_acquire ? between() : (void)0, *(object))
#include "../../plugins/log/queue.c"

enum { SIZE = 1 << 16, LINES = 3000 };
static log_queue queue;
static bool done;

static void between(void) {
  static const char line[100];
  if (done) return;
  done = true;
  for (int i = 0; i < LINES; i++) {
    if (log_queue_put(&queue, line, sizeof line, false) || !log_queue_get(&queue)) abort();
    log_queue_next(&queue);
  }
}

int main(void) {
  if (log_queue_init(&queue, SIZE)) return 1;
  int rc = log_queue_put(&queue, "late", 4, false);
  const log_record *record = log_queue_get(&queue);
  printf("put=%d text=%.4s\n", rc, record ? record->text : "none");
  log_queue_deinit(&queue);
  return 0;
}

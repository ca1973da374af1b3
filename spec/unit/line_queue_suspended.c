/* SPDX-License-Identifier: MIT
 *
 * A queue of lines, and a thread that is suspended where it hurts most: it has seen where the end
 * is, and before it sees where the beginning is, others put more than the queue holds and all of
 * that is taken. Prints what its put returns then.
 */
#include <stdio.h>
#include <stdlib.h>

static void between(void);
#define __atomic_load_n(object, order)                                                             \
  ((order) == __ATOMIC_ACQUIRE ? between() : (void)0, *(object))
#include "../../core/os/line_queue.c"

enum { SIZE = 1 << 16, LINES = 3000 };
static char memory[SIZE] __attribute__((aligned(16)));
static segue__line_writer writer;
static segue__line_queue queue;
static bool done;

static void between(void) {
  static const segue__line_put put = {.text = "a line", .len = 6};
  if (done) return;
  done = true;
  for (int i = 0; i < LINES; i++) {
    if (segue__line_queue_put(&queue, &put) || !segue__line_queue_get(&queue)) abort();
    segue__line_queue_next(&queue);
  }
}

int main(void) {
  segue__line_queue_init(&queue, memory, SIZE, &writer);
  int rc = segue__line_queue_put(&queue, &(segue__line_put){.text = "late", .len = 4});
  const segue__line_record *record = segue__line_queue_get(&queue);
  printf("put=%d text=%.4s\n", rc, record ? record->text : "none");
  return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * The log's queue and a writer that waits: which lines wake it. Prints how the writer reacts to
 * each line; the waits are so long that only a wake ends them before the spec's deadline.
 */
#include "../../plugins/log/queue.c"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

enum { SIZE = 1 << 16, LONG_MS = 3600000 };
static log_queue queue;
static log_wait how;

static void *wait_long(void *data) {
  log_queue_wait(&queue, LONG_MS, how);
  return data;
}

static void take_all(void) {
  while (log_queue_get(&queue))
    log_queue_next(&queue);
}

static pthread_t begin(log_wait wait) {
  pthread_t writer;
  how = wait;
  take_all();
  if (pthread_create(&writer, NULL, wait_long, NULL)) abort();
  while (atomic_load(&queue.sleep) == AWAKE)
    sched_yield();
  return writer;
}

static void put(const char *text, bool is_urgent) {
  if (log_queue_put(&queue, text, strlen(text), is_urgent)) abort();
}

int main(void) {
  static char long_line[SIZE / 8];
  if (log_queue_init(&queue, SIZE)) return 1;
  memset(long_line, 'x', sizeof long_line - 1);

  pthread_t writer = begin(LOG_NAP);
  put("a line", false);
  printf("a line: %s\n", atomic_load(&queue.sleep) == NAPPING ? "naps on" : "woken");
  put("a warning", true);
  pthread_join(writer, NULL);
  printf("a warning: woken\n");

  writer = begin(LOG_NAP);
  put(long_line, false);
  printf("an eighth of the queue: %s\n",
         atomic_load(&queue.sleep) == NAPPING ? "naps on" : "woken");
  put(long_line, false);
  put(long_line, false);
  pthread_join(writer, NULL);
  printf("more than a quarter: woken\n");

  writer = begin(LOG_SLEEP);
  put("a line", false);
  pthread_join(writer, NULL);
  printf("a line, when it sleeps: woken\n");

  writer = begin(LOG_NAP);
  log_queue_poke(&queue);
  pthread_join(writer, NULL);
  printf("a poke: woken\n");
  log_queue_deinit(&queue);
  return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * A queue of lines and a writer that waits: which lines wake it. Prints how the writer reacts to
 * each line; the waits are so long that only a wake-up ends them before the spec's deadline.
 */
#include "../../core/os/line_queue.c"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 1 << 16, LONG_MS = 3600000 };
static char memory[SIZE] __attribute__((aligned(16)));
static segue__line_queue queue;
static segue__line_writer writer = {.options = {.queues = &queue, .queue_count = 1}};
static unsigned how;
static int waiting; /* the number of the thread that waits; 0: it has not begun */

static void *wait_long(void *data) {
  __atomic_store_n(&waiting, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
  writer_wait(&writer, how, how == ASLEEP ? 0 : LONG_MS, true);
  return data;
}

static void take_all(void) {
  while (segue__line_queue_get(&queue))
    segue__line_queue_next(&queue);
}

/* Whether the kernel has the thread asleep. Between its mark and its sleep it looks at the queue
 * once more, and a line that comes then ends the wait. */
static bool sleeps(void) {
  char path[64], state = 0;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat",
           __atomic_load_n(&waiting, __ATOMIC_SEQ_CST));
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%*d %*s %c", &state) != 1) abort();
  fclose(file);
  return state == 'S';
}

static pthread_t begin(unsigned sleep) {
  pthread_t thread;
  how = sleep;
  take_all();
  if (pthread_create(&thread, NULL, wait_long, NULL)) abort();
  while (__atomic_load_n(&writer.sleep, __ATOMIC_SEQ_CST) == AWAKE || !sleeps())
    sched_yield();
  return thread;
}

static void put(const char *text, bool is_urgent) {
  segue__line_put line = {.text = text, .len = strlen(text), .is_urgent = is_urgent};
  if (segue__line_queue_put(&queue, &line)) abort();
}

static const char *is_napping(void) {
  return __atomic_load_n(&writer.sleep, __ATOMIC_SEQ_CST) == NAPPING ? "naps on" : "woken";
}

static void end(pthread_t thread, const char *of) {
  pthread_join(thread, NULL);
  printf("%s: woken\n", of);
}

int main(void) {
  static char long_line[SIZE / 8];
  memset(long_line, 'x', sizeof long_line - 1);
  segue__line_queue_init(&queue, memory, SIZE, &writer);

  pthread_t thread = begin(NAPPING);
  put("a line", false);
  printf("a line: %s\n", is_napping());
  segue__line_queue_lost(&queue);
  printf("a loss: %s\n", is_napping());
  put("a warning", true);
  end(thread, "a warning");

  thread = begin(NAPPING);
  put(long_line, false);
  printf("an eighth of the queue: %s\n", is_napping());
  put(long_line, false);
  put(long_line, false);
  end(thread, "more than a quarter");

  thread = begin(ASLEEP);
  put("a line", false);
  end(thread, "a line, when it sleeps");
  thread = begin(ASLEEP);
  segue__line_queue_lost(&queue);
  end(thread, "a loss, when it sleeps");
  thread = begin(NAPPING);
  segue__line_writer_poke(&writer);
  end(thread, "a poke");
  return 0;
}

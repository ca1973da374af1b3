/* SPDX-License-Identifier: MIT
 *
 * A host all of whose threads log and count as fast as they can while the log's level, format and
 * file, and the configuration of the metrics, are changed again and again. Arguments: policy, state
 * folder, configuration, folder for the logs, number of reloads, and a file. Every accepted line is
 * looked for afterwards: it must be there once, whole, and in a file that was the log's while it
 * was logged. Prints "ready" when all are logged, continues until the file is there, and prints the
 * result.
 */
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <segue.h>

#include "../support/wait_file.h"

enum { THREADS = 3, RELOADS_MAX = 1000, LINES_MAX = 4000000 };

/* Numbers of reloads: answered before the line was logged, requested after it was. */
typedef struct line {
  uint16_t answered, asked;
  uint8_t seen;
} line;

typedef struct worker {
  pthread_t thread;
  int number;
  line *lines;
  size_t count;
  uint64_t off, refused;
} worker;

static segue *instance;
static worker workers[THREADS];
static const char *log_folder, *config_path;
static int reloads, file_of[RELOADS_MAX + 1]; /* by how many reloads were answered */
static int asked, answered, stopping;         /* atomic */
static int applied;
static sem_t ended; /* posted by each thread */

/* ---- The configuration ---- */

static void write_config(int number) {
  static const char *const levels[] = {"info", "debug", "warn"}, *const formats[] = {"text",
                                                                                     "json"};
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.new", config_path);
  FILE *file = fopen(temporary, "w");
  if (!file) exit(3);
  file_of[number] = number / 2;
  fprintf(file,
          "log: {file: \"%s/%d\", level: %s, format: %s, queue: 64KiB}\n"
          "stats: {max_series: %d}\n",
          log_folder, file_of[number], levels[number / 4 % 3], formats[number % 2], 100 + number);
  if (fclose(file) || rename(temporary, config_path)) exit(3);
}

static void ask(void);

static void on_report(void *data, int status, const segue_report *report) {
  (void)data;
  applied += status == 0 && !strcmp(report->outcome, "applied");
  __atomic_store_n(&answered, __atomic_load_n(&asked, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&asked, __ATOMIC_SEQ_CST) < reloads)
    ask();
  else
    __atomic_store_n(&stopping, 1, __ATOMIC_SEQ_CST);
}

static void ask(void) {
  int next = __atomic_load_n(&asked, __ATOMIC_SEQ_CST) + 1;
  write_config(next);
  __atomic_store_n(&asked, next, __ATOMIC_SEQ_CST);
  if (segue_reload(instance, false, on_report, NULL)) exit(4);
}

/* ---- Threads ---- */

static void log_one(worker *w, unsigned turn) {
  segue_level level = turn % 4 ? SEGUE_WARN : SEGUE_INFO;
  segue_log_field fields[] = {{"thread", NULL, w->number}, {"n", NULL, (int64_t)w->count}};
  line *l = &w->lines[w->count];
  l->answered = (uint16_t)__atomic_load_n(&answered, __ATOMIC_SEQ_CST);
  int rc = segue_log(instance, level, "host", "a line with \"quotes\"", fields, 2);
  l->asked = (uint16_t)__atomic_load_n(&asked, __ATOMIC_SEQ_CST);
  if (rc == 0) w->off++;
  if (rc < 0) w->refused++;
  if (rc <= 0) return;
  w->count++;
  char series[64];
  snprintf(series, sizeof series, "lines_total{thread=\"%d\"}", w->number);
  if (segue_count(instance, series, 1) || segue_observe(instance, "turn", turn % 16) ||
      segue_gauge(instance, "last", (double)w->count))
    w->refused++;
}

static void *work(void *data) {
  worker *w = data;
  for (unsigned turn = 0; !__atomic_load_n(&stopping, __ATOMIC_SEQ_CST); turn++)
    if (w->count < LINES_MAX) log_one(w, turn);
  sem_post(&ended);
  return NULL;
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data, (void)report;
  if (status) exit(5);
  for (int i = 0; i < THREADS; i++) {
    workers[i].number = i;
    workers[i].lines = calloc(LINES_MAX, sizeof(line));
    if (!workers[i].lines || pthread_create(&workers[i].thread, NULL, work, &workers[i])) exit(6);
  }
  ask();
}

/* ---- Validating ---- */

static uint64_t torn, unknown, doubled, elsewhere;

static bool was_there(const line *l, int file) {
  for (int k = l->answered; k <= l->asked; k++)
    if (file_of[k] == file) return true;
  return false;
}

/* Nothing but what the two formats make of the entry. */
static bool read_line(const char *text, int *thread, size_t *n) {
  char level[8], rest;
  static const char day[] = "20";
  if (strncmp(text, "{\"time\":\"", 9) != 0)
    return !strncmp(text, day, 2) && text[23] == 'Z' &&
           sscanf(text + 24, " %7s host: a line with \"quotes\" thread=%d n=%zu%c", level, thread,
                  n, &rest) == 4 &&
           rest == '\n';
  return text[32] == 'Z' &&
         sscanf(text + 33,
                "\",\"level\":\"%7[a-z]\",\"group\":\"host\",\"message\":\"a line with "
                "\\\"quotes\\\"\",\"thread\":%d,\"n\":%zu}%c",
                level, thread, n, &rest) == 4 &&
         rest == '\n';
}

static void check_file(int number) {
  char path[4096], text[512];
  snprintf(path, sizeof path, "%s/%d", log_folder, number);
  FILE *file = fopen(path, "r");
  while (file && fgets(text, sizeof text, file)) {
    int thread;
    size_t n;
    if (!read_line(text, &thread, &n) || thread < 0 || thread >= THREADS) {
      torn++;
    } else if (n >= workers[thread].count) {
      unknown++;
    } else {
      line *l = &workers[thread].lines[n];
      doubled += l->seen++ != 0;
      elsewhere += !was_there(l, number);
    }
  }
  if (file) fclose(file);
}

static void check(void) {
  uint64_t lost = 0, accepted = 0, off = 0, refused = 0;
  for (int i = 0; i <= file_of[reloads]; i++)
    check_file(i);
  for (int i = 0; i < THREADS; i++) {
    accepted += workers[i].count;
    off += workers[i].off;
    refused += workers[i].refused;
    for (size_t n = 0; n < workers[i].count; n++)
      lost += !workers[i].lines[n].seen;
  }
  printf("applied=%d accepted=%" PRIu64 " off=%" PRIu64 " refused=%" PRIu64 " lost=%" PRIu64
         " doubled=%" PRIu64 " torn=%" PRIu64 " unknown=%" PRIu64 " elsewhere=%" PRIu64
         " thread0=%zu\n",
         applied, accepted, off, refused, lost, doubled, torn, unknown, elsewhere,
         workers[0].count);
  fflush(stdout);
}

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  if (entry->level == SEGUE_ERROR) fprintf(stderr, "%s: %s\n", entry->group, entry->message);
}

/* Joins the threads first: no line is logged any more when the metrics are read. */
static void *finish(void *data) {
  const char *go = data;
  for (int i = 0; i < THREADS; i++)
    while (sem_wait(&ended))
      ;
  printf("ready\n");
  fflush(stdout);
  wait_file(go, -1);
  segue_stop(instance);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t finisher;
  segue_error error;
  segue_options options;
  if (argc != 7) return 2;
  config_path = argv[3];
  log_folder = argv[4];
  reloads = atoi(argv[5]);
  if (reloads > RELOADS_MAX || sem_init(&ended, 0, 0)) return 2;
  write_config(0);
  segue_options_init(&options);
  options.policy = argv[1];
  options.state = argv[2];
  options.on_start = on_start;
  options.on_log = on_log;
  if (segue_new(&instance, &options, &error) || segue_start(instance, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (pthread_create(&finisher, NULL, finish, argv[6])) return 1;
  segue_run(instance);
  pthread_join(finisher, NULL);
  for (int i = 0; i < THREADS; i++)
    pthread_join(workers[i].thread, NULL);
  segue_close(instance);
  check();
  for (int i = 0; i < THREADS; i++)
    free(workers[i].lines);
  return 0;
}

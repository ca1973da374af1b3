/* SPDX-License-Identifier: MIT
 *
 * A host that executes the lines of its standard input: count, gauge or observe SERIES VALUE, or
 * log LEVEL MESSAGE. Prints the result of each; then prints "ready" and continues until the file
 * exists. Arguments: policy, state folder, file.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <segue.h>

#include "../support/wait_file.h"

static segue *instance;
static sem_t reported;
static char outcome[32];

static void on_report(void *data, int status, const segue_report *report) {
  (void)data;
  snprintf(outcome, sizeof outcome, "%s", report ? report->outcome : segue_error_name(status));
  sem_post(&reported);
}

static const char *name_of(int rc) {
  return rc < 0 ? segue_error_name(rc) : rc ? "written" : "ok";
}

static void obey(char *line) {
  char *save, *verb = strtok_r(line, " \n", &save), *what = strtok_r(NULL, " \n", &save);
  char *rest = strtok_r(NULL, "\n", &save);
  double value = rest ? strtod(rest, NULL) : 0;
  if (!verb || !what) return;
  if (!strcmp(verb, "count"))
    puts(name_of(segue_count(instance, what, (uint64_t)value)));
  else if (!strcmp(verb, "gauge"))
    puts(name_of(segue_gauge(instance, what, value)));
  else if (!strcmp(verb, "observe"))
    puts(name_of(segue_observe(instance, what, value)));
  else if (!strcmp(verb, "log"))
    puts(name_of(segue_log_enabled(instance, (segue_level)atoi(what))
                     ? segue_log(instance, (segue_level)atoi(what), "host", rest, NULL, 0)
                     : 0));
}

static void *work(void *data) {
  char line[4096];
  while (sem_wait(&reported))
    ;
  puts(outcome);
  while (fgets(line, sizeof line, stdin))
    obey(line);
  puts("ready");
  fflush(stdout);
  wait_file(data, -1);
  segue_stop(instance);
  return NULL;
}

int main(int argc, char **argv) {
  segue_options options;
  segue_error error;
  pthread_t thread;
  if (argc != 4 || sem_init(&reported, 0, 0)) return 2;
  segue_options_init(&options);
  options.policy = argv[1];
  options.state = argv[2];
  options.on_start = on_report;
  if (segue_new(&instance, &options, &error)) return 1;
  if (segue_log(instance, SEGUE_INFO, "host", "too early", NULL, 0) != SEGUE_EMODULE) return 3;
  if (segue_start(instance, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (pthread_create(&thread, NULL, work, argv[3])) return 1;
  segue_run(instance);
  pthread_join(thread, NULL);
  segue_close(instance);
  return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * listen_fds POLICY [take]: a host under a service manager that passes sockets. It starts an
 * instance, with `take` one that uses the sockets, prints what comes of it, and stops.
 */
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static segue *instance;

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  if (strcmp(entry->group, "socket") == 0) printf("log: %s\n", entry->message);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  printf("start: %s %s\n", status ? segue_error_name(status) : "ok",
         report ? report->outcome : "none");
  for (size_t i = 0; report && i < report->error_count; i++)
    printf("error: %s\n", report->errors[i].message);
  segue_stop(instance);
}

int main(int argc, char **argv) {
  segue_options options;
  segue_error error;
  if (argc < 2) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  segue_options_init(&options);
  options.policy = argv[1];
  options.on_log = on_log;
  options.on_start = on_start;
  options.listen_fds = argc > 2;
  int rc = segue_new(&instance, &options, &error);
  printf("variable: %s\n", getenv("LISTEN_FDS") ? "is there" : "is gone");
  if (rc == 0) rc = segue_start(instance, &error);
  if (rc < 0) printf("refused: %s: %s\n", segue_error_name(rc), error.message);
  if (rc == 0) rc = segue_run(instance);
  segue_close(instance);
  return rc < 0;
}

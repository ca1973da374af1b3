/* SPDX-License-Identifier: MIT
 *
 * host CONFIG: a program with libsegue in it, written as an embedder would: the public header and
 * nothing else. It loads a configuration, serves it to a module and a reading thread, changes it
 * for the better and for the worse, and stops. It prints each event on a line; the spec checks
 * them.
 */
#include <pthread.h>
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>

static segue *instance;
static const char *path;
static int step;

static void *read_port(void *out) {
  const segue_snapshot *snapshot = segue_read_begin(instance);
  int rc = segue_node_int(segue_node_get(segue_snapshot_root(snapshot), "port"), out);
  segue_read_end(instance);
  return rc ? instance : NULL;
}

static void tell(const char *what, int status, const segue_report *report) {
  int64_t port = 0;
  void *failed = instance;
  pthread_t thread;
  if (!pthread_create(&thread, NULL, read_port, &port)) pthread_join(thread, &failed);
  printf("%s: %s %s generation=%u port=%d\n", what, status ? segue_error_name(status) : "ok",
         report->outcome, (unsigned)report->generation, failed ? -1 : (int)port);
  for (size_t i = 0; i < report->error_count; i++) {
    char text[1024];
    segue_error_format(&report->errors[i], text, sizeof text);
    printf("  %s\n", text);
  }
}

static void save(const char *text) {
  FILE *file = fopen(path, "w");
  if (!file || fputs(text, file) < 0 || fclose(file)) exit(1);
}

static void on_report(void *data, int status, const segue_report *report) {
  (void)data;
  if (!report) exit(1);
  switch (step++) {
  case 0:
    tell("start", status, report);
    save("port: 9090\n");
    break;
  case 1:
    tell("change", status, report);
    save("port: [9090\n");
    break;
  case 2:
    tell("damage", status, report);
    segue_stop(instance);
    return;
  default:
    exit(1);
  }
  if (segue_reload(instance, false, on_report, NULL)) exit(1);
}

static void on_stopped(void *data) {
  (void)data;
  printf("stopped\n");
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  int64_t *port = malloc(sizeof *port);
  (void)userdata;
  *out = port;
  if (!port || segue_node_int(segue_node_member(next->config, "port"), port)) exit(1);
  printf("module: prepare port=%d%s\n", (int)*port, prev ? " after another" : "");
  segue_op_done(op, 0, NULL);
}

static void start(void *port, segue_op *op) {
  printf("module: start port=%d\n", (int)*(int64_t *)port);
  segue_op_done(op, 0, NULL);
}

static void stop(void *port, segue_op *op) {
  printf("module: stop port=%d\n", (int)*(int64_t *)port);
  segue_op_done(op, 0, NULL);
}

int main(int argc, char **argv) {
  static const segue_module_ops ops = {
      .size = sizeof ops, .prepare = prepare, .start = start, .stop = stop, .destroy = free};
  segue_options options;
  segue_error error;
  if (argc != 2) return 2;
  path = argv[1];
  segue_options_init(&options);
  options.config = path;
  options.on_start = on_report;
  options.on_stopped = on_stopped;
  int rc = segue_new(&instance, &options, &error);
  if (!rc) rc = segue_module_register(instance, "probe", &ops, NULL);
  if (!rc) rc = segue_start(instance, &error);
  if (!rc) rc = segue_run(instance);
  if (rc) fprintf(stderr, "%s\n", error.message);
  segue_close(instance);
  return rc ? 1 : 0;
}

/* SPDX-License-Identifier: MIT
 *
 * sizes CONFIG: a host that the spec compiles with a segue.h of another version, whose structs are
 * shorter or longer than those of the library. Bytes behind each struct show whether the library
 * writes there, or uses them: as pointers they would crash. Prints each step; the spec checks the
 * output.
 */
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 512, FILL = 0xa5 };

typedef struct guarded_options {
  segue_options options;
  unsigned char after[GUARD];
} guarded_options;

typedef struct guarded_ops {
  segue_module_ops ops;
  unsigned char after[GUARD];
} guarded_ops;

static segue *instance;

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  (void)userdata, (void)prev;
  *out = malloc(1);
  printf("prepare generation=%d\n", (int)segue_snapshot_generation(next->snapshot));
  segue_op_done(op, *out ? 0 : SEGUE_EMODULE, NULL);
}

static void stop(void *module, segue_op *op) {
  (void)module;
  printf("stop\n");
  segue_op_done(op, 0, NULL);
}

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  if (entry->level <= SEGUE_WARN) printf("%s\n", entry->message);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  printf("start: %s %s\n", status ? segue_error_name(status) : "ok",
         report ? report->outcome : "-");
  segue_stop(instance);
}

static bool is_untouched(const unsigned char *after) {
  for (size_t i = 0; i < GUARD; i++)
    if (after[i] != FILL) return false;
  return true;
}

int main(int argc, char **argv) {
  guarded_options *host = malloc(sizeof *host);
  guarded_ops *module = malloc(sizeof *module);
  segue_error error;
  if (argc != 2 || !host || !module) return 2;
  memset(host, FILL, sizeof *host);
  memset(module, FILL, sizeof *module);
  segue_options_init(&host->options);
  printf("init: %s\n", is_untouched(host->after) ? "nothing written behind it" : "overrun");
  if (host->options.size != sizeof(segue_options) || host->options.log_level != SEGUE_INFO)
    return 3;
  host->options.config = argv[1];
  host->options.on_log = on_log;
  host->options.on_start = on_start;
  module->ops = (segue_module_ops){
      .size = sizeof(segue_module_ops), .prepare = prepare, .stop = stop, .destroy = free};
#ifdef LATER
  host->options.later[3] = "an option of a later version";
  module->ops.later[0] = "an operation of a later version";
#endif
  int rc = segue_new(&instance, &host->options, &error);
  if (!rc) rc = segue_module_register(instance, "module", &module->ops, NULL);
  if (!rc) rc = segue_start(instance, &error);
  if (!rc) rc = segue_run(instance);
  if (rc) printf("%s\n", error.message);
  segue_close(instance);
  free(host);
  free(module);
  return rc ? 1 : 0;
}

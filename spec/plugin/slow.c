/* SPDX-License-Identifier: MIT
 *
 * A module whose operations last as long as a spec wants: if its folder has a pipe by the name of
 * the operation, the operation ends when the pipe is opened for writing. It appends each finished
 * operation to the file `reported`.
 */
#include <fcntl.h>
#include <pthread.h>
#include <segue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct errand {
  segue_op *op;
  char path[512];
} errand;

static void say(const char *folder, const char *what, unsigned long long generation) {
  char path[512];
  snprintf(path, sizeof path, "%s/reported", folder);
  FILE *file = fopen(path, "a");
  if (!file) return;
  fprintf(file, "%s %llu\n", what, generation);
  fclose(file);
}

static void *wait_for_writer(void *data) {
  errand *e = data;
  int fd = open(e->path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  segue_op_done(e->op, 0, NULL);
  free(e);
  return NULL;
}

typedef struct slow {
  char folder[400];
  unsigned long long generation;
} slow;

static void perform(const slow *s, segue_op *op, const char *verb) {
  struct stat st;
  pthread_t thread;
  errand *e = calloc(1, sizeof *e);
  say(s->folder, verb, s->generation);
  if (!e) abort();
  e->op = op;
  snprintf(e->path, sizeof e->path, "%s/%s", s->folder, verb);
  if (stat(e->path, &st) == 0 && S_ISFIFO(st.st_mode) &&
      pthread_create(&thread, NULL, wait_for_writer, e) == 0) {
    pthread_detach(thread);
    return;
  }
  free(e);
  segue_op_done(op, 0, NULL);
}

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata;
  (void)prev;
  slow *s = calloc(1, sizeof *s);
  const char *folder = NULL;
  size_t len = 0;
  const segue_node *node = next->config ? segue_node_get(next->config, "folder") : NULL;
  if (!s || !node || segue_node_string(node, &folder, &len) < 0 || len >= sizeof s->folder) {
    free(s);
    segue_op_done(op, SEGUE_ETYPE, NULL);
    return;
  }
  memcpy(s->folder, folder, len);
  s->generation = segue_snapshot_generation(next->snapshot);
  *instance = s;
  perform(s, op, "prepare");
}

static void start(void *instance, segue_op *op) {
  perform(instance, op, "start");
}

static void drain(void *instance, segue_op *op) {
  perform(instance, op, "drain");
}

static void stop(void *instance, segue_op *op) {
  perform(instance, op, "stop");
}

static void destroy(void *instance) {
  slow *s = instance;
  say(s->folder, "destroy", s->generation);
  free(s);
}

static const segue_module_ops ops = {.size = sizeof ops,
                                     .prepare = prepare,
                                     .start = start,
                                     .drain = drain,
                                     .stop = stop,
                                     .destroy = destroy};
SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "slow",
                                                        .version = "1",
                                                        .ops = &ops};

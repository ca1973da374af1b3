/* SPDX-License-Identifier: MIT
 *
 * A source for specs: the lines of a file, "NAME VALUE" each, as one document. It reads the file on
 * a thread of its own, as a source that waits for a network does, and appends the outcomes of
 * reloads to another file.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segue.h"

/* The struct of the table of options; the instance points to it. */
typedef struct kv {
  char *path, *outcomes;
  bool hang;
  const segue_node *extra;
  segue_op *fetching; /* while hang: ended by cancel */
} kv;

#define AT(field) .offset = offsetof(kv, field)
static const segue_option rows[] = {
    {.name = "path",
     .type = SEGUE_OPTION_PATH,
     AT(path),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "path = \"data\"",
     .doc = "the file of the lines"},
    {.name = "outcomes",
     .type = SEGUE_OPTION_PATH,
     AT(outcomes),
     .absent = "outcomes are not written",
     .doc = "the file to which the outcomes of reloads are appended"},
    {.name = "hang",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(hang),
     .fallback = "false",
     .doc = "a fetch ends only when it is cancelled"},
    {.name = "extra", .type = SEGUE_OPTION_ANY, AT(extra), .doc = "a map with the line `extra`"},
};
static const segue_option_table table = {SEGUE_OPTION_ROWS(kv, rows), .name = "kv",
                                         .doc = "Lines of a file."};

typedef struct kv_fetch {
  kv *source;
  segue_delivery *out;
  segue_op *op;
} kv_fetch;

static int kv_open(void *userdata, const char *name, const segue_node *options, void *filled,
                   void **instance, segue_error *error) {
  const kv *source = filled;
  (void)userdata, (void)options;
  *instance = filled;
  if (!strcmp(source->path, "/dev/null"))
    return segue_error_set(error, SEGUE_EPOLICY, "%s reads no devices", name);
  return 0;
}

/* A value of any form stays valid as long as the source. */
static size_t add_extra(const kv *source, char *text, size_t size) {
  int64_t value = 0;
  if (segue_node_int(segue_node_member(source->extra, "extra"), &value) < 0) return 0;
  return (size_t)snprintf(text, size, "extra: %d\n", (int)value);
}

static void *fetch_main(void *data) {
  kv_fetch fetch = *(kv_fetch *)data;
  char name[64], value[64], text[4096], revision[32];
  size_t used = add_extra(fetch.source, text, sizeof text);
  int rc = 0, lines = 0;
  free(data);
  FILE *file = fopen(fetch.source->path, "r");
  if (!file) rc = errno == EACCES ? SEGUE_EDENIED : -errno;
  while (file && used < sizeof text - 200 && fscanf(file, "%63s %63s", name, value) == 2) {
    used += (size_t)snprintf(text + used, sizeof text - used, "%s: %s\n", name, value);
    lines++;
  }
  if (file) fclose(file);
  snprintf(revision, sizeof revision, "%d lines", lines);
  if (!rc) rc = segue_delivery_add(fetch.out, "kv", "yaml", text, used);
  if (!rc) rc = segue_delivery_revision(fetch.out, revision);
  segue_op_done(fetch.op, rc, NULL);
  return NULL;
}

static void kv_fetch_begin(void *instance, const char *revision, segue_delivery *out,
                           segue_op *op) {
  (void)revision;
  pthread_t thread;
  kv *source = instance;
  if (source->hang) {
    source->fetching = op;
    return;
  }
  kv_fetch *fetch = malloc(sizeof *fetch);
  if (fetch) *fetch = (kv_fetch){instance, out, op};
  if (!fetch || pthread_create(&thread, NULL, fetch_main, fetch)) {
    free(fetch);
    segue_op_done(op, -ENOMEM, NULL);
    return;
  }
  pthread_detach(thread);
}

static void kv_cancel(void *instance, segue_op *op) {
  kv *source = instance;
  if (source->fetching == op) segue_op_done(op, SEGUE_ECANCELLED, NULL);
}

static void kv_outcome(void *instance, const segue_source_outcome *outcome) {
  const kv *source = instance;
  FILE *file = source->outcomes ? fopen(source->outcomes, "a") : NULL;
  if (!file) return;
  fprintf(file, "%s: %s\n", outcome->revision, outcome->outcome);
  fclose(file);
}

static const segue_source_ops ops = {.size = sizeof(segue_source_ops),
                                     .open = kv_open,
                                     .fetch = kv_fetch_begin,
                                     .cancel = kv_cancel,
                                     .outcome = kv_outcome};

SEGUE_API extern const segue_source_descriptor segue_source;
const segue_source_descriptor segue_source = {.magic = SEGUE_SOURCE_MAGIC,
                                              .abi = SEGUE_SOURCE_ABI,
                                              .size = sizeof(segue_source_descriptor),
                                              .name = "kv",
                                              .version = "1",
                                              .options = &table,
                                              .ops = &ops};

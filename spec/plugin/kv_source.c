/* SPDX-License-Identifier: MIT
 *
 * A source for specs: the lines of a file, "NAME VALUE" each, as one document. It reads the file on
 * a thread of its own, as a source that waits for a network does, and appends the outcomes of
 * reloads to another file.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segue.h"

typedef struct kv {
  char path[256], outcomes[256];
} kv;

typedef struct kv_fetch {
  kv *source;
  segue_delivery *out;
  segue_op *op;
} kv_fetch;

static int text_of(const segue_node *options, const char *key, char *out, size_t size) {
  const char *text;
  size_t len;
  if (segue_node_string(segue_node_member(options, key), &text, &len) < 0 || len >= size) return -1;
  memcpy(out, text, len + 1);
  return 0;
}

static int kv_open(void *userdata, const char *name, const segue_node *options, void *filled,
                   void **instance, segue_error *error) {
  (void)userdata, (void)filled;
  kv *source = calloc(1, sizeof *source);
  if (!source) return -ENOMEM;
  if (text_of(options, "path", source->path, sizeof source->path) < 0 ||
      text_of(options, "outcomes", source->outcomes, sizeof source->outcomes) < 0) {
    free(source);
    return segue_error_set(error, SEGUE_EPOLICY, "%s needs the options path and outcomes", name);
  }
  *instance = source;
  return 0;
}

static void *fetch_main(void *data) {
  kv_fetch fetch = *(kv_fetch *)data;
  char name[64], value[64], text[4096], revision[32];
  size_t used = 0;
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
  kv_fetch *fetch = malloc(sizeof *fetch);
  if (fetch) *fetch = (kv_fetch){instance, out, op};
  if (!fetch || pthread_create(&thread, NULL, fetch_main, fetch)) {
    free(fetch);
    segue_op_done(op, -ENOMEM, NULL);
    return;
  }
  pthread_detach(thread);
}

static void kv_outcome(void *instance, const segue_source_outcome *outcome) {
  const kv *source = instance;
  FILE *file = fopen(source->outcomes, "a");
  if (!file) return;
  fprintf(file, "%s: %s\n", outcome->revision, outcome->outcome);
  fclose(file);
}

static const segue_source_ops ops = {.size = sizeof(segue_source_ops),
                                     .open = kv_open,
                                     .fetch = kv_fetch_begin,
                                     .outcome = kv_outcome,
                                     .close = free};

SEGUE_API extern const segue_source_descriptor segue_source;
const segue_source_descriptor segue_source = {.magic = SEGUE_SOURCE_MAGIC,
                                              .abi = SEGUE_SOURCE_ABI,
                                              .size = sizeof(segue_source_descriptor),
                                              .name = "kv",
                                              .version = "1",
                                              .ops = &ops};

/* SPDX-License-Identifier: MIT
 *
 * The dispatcher's part of the configuration: how much at once, what to do about failures, and who
 * the targets are.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "dispatcher.h"

static int read_target(target *t, const segue_slice *slice, const char *name,
                       const segue_node *node, uint64_t concurrency, segue_error *error) {
  const segue_slice own = {.snapshot = slice->snapshot, .config = node};
  size_t len = strlen(name);
  if (!len || len > PIPE_TARGET_MAX || name[strcspn(name, "\"\\\n")])
    return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node,
                          "%s is no name of a target: at most 63 plain characters", name);
  memcpy(t->name, name, len + 1);
  snprintf(t->delivered, sizeof t->delivered, "delivered_total{target=\"%s\"}", name);
  snprintf(t->retried, sizeof t->retried, "failed_total{target=\"%s\"}", name);
  snprintf(t->dead, sizeof t->dead, "dead_total{target=\"%s\"}", name);
  int rc = pipe_text(&own, "url", NULL, &t->url, error);
  if (!rc && (!t->url || (strncmp(t->url, "http://", 7) && strncmp(t->url, "https://", 8))))
    rc = segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node,
                        "%s must have an url that begins with http:// or https://", name);
  return rc ? rc : pipe_uint(&own, "concurrency", 1, 10000, concurrency, &t->concurrency, error);
}

static int read_targets(dispatcher *d, const segue_slice *slice, segue_error *error) {
  const segue_node *node = segue_node_get(slice->config, "targets");
  size_t count = segue_node_type(node) == SEGUE_MAP ? segue_node_count(node) : 0;
  d->targets = calloc(count + 1, sizeof *d->targets);
  if (!d->targets) return segue_error_set(error, UV_ENOMEM, "out of memory");
  int rc = 0;
  for (size_t i = 0; i < count && !rc; i++) {
    const char *name;
    const segue_node *item = segue_node_at(node, i, &name);
    rc = read_target(&d->targets[i], slice, name, item, d->concurrency, error);
    d->target_count = i + 1;
  }
  return rc;
}

int dispatcher_read(dispatcher *d, const segue_slice *slice, segue_error *error) {
  retry_rules *r = &d->retry;
  int rc = pipe_uint(slice, "concurrency", 1, 10000, 64, &d->concurrency, error);
  if (!rc) rc = pipe_uint(slice, "timeout_ms", 10, 600000, 5000, &d->timeout_ms, error);
  if (!rc) rc = pipe_uint(slice, "retry.attempts", 1, 1000, 8, &r->attempts, error);
  if (!rc) rc = pipe_uint(slice, "retry.first_ms", 1, 3600000, 100, &r->first_ms, error);
  if (!rc) rc = pipe_uint(slice, "retry.max_ms", 1, 86400000, 60000, &r->max_ms, error);
  if (!rc) rc = pipe_double(slice, "retry.factor", 1, 100, 2, &r->factor, error);
  return rc ? rc : read_targets(d, slice, error);
}

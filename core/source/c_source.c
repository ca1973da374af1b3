/* SPDX-License-Identifier: MIT
 *
 * Sources in C. The engine calls operations of a kind; this kind passes each call on to the
 * operations of a descriptor. A descriptor of an older segue.h has fewer operations: the missing
 * ones are NULL here.
 */
#include "c_source.h"

#include <string.h>
#include <uv.h>

#include "../os/op.h"

typedef struct c_source {
  segue_source_ops ops; /* the part that this version knows */
  segue__option_values *values;
  void *instance;
} c_source;

static void c_source_cancel_fetch(void *data) {
  const segue__emission *out = data;
  const c_source *c = out->instance;
  c->ops.cancel(c->instance, out->op);
}

static void c_source_cancel_watch(void *data) {
  const segue__emitter *emitter = data;
  const c_source *c = emitter->instance;
  c->ops.cancel(c->instance, emitter->op);
}

static void c_source_fetch(const segue__source *source, const char *revision, segue__emission *out,
                           segue_op *op) {
  c_source *c = source->impl;
  out->instance = c;
  out->op = op;
  if (c->ops.cancel) segue__op_on_cancel(op, c_source_cancel_fetch, out);
  c->ops.fetch(c->instance, revision, out, op);
}

static void c_source_watch(const segue__source *source, const char *revision,
                           segue__emitter *emitter, segue_op *op) {
  c_source *c = source->impl;
  emitter->instance = c;
  emitter->op = op;
  if (c->ops.cancel) segue__op_on_cancel(op, c_source_cancel_watch, emitter);
  c->ops.watch(c->instance, revision, emitter, op);
}

static bool c_source_want(const segue__source *source, const char *const *names, size_t count) {
  const c_source *c = source->impl;
  if (c->ops.want) c->ops.want(c->instance, names, count);
  return c->ops.want != NULL;
}

static void c_source_outcome(const segue__source *source, const segue_source_outcome *outcome) {
  const c_source *c = source->impl;
  if (c->ops.outcome) c->ops.outcome(c->instance, outcome);
}

static void c_source_free(c_source *c) {
  segue__option_values_unref(c->values);
  segue__free(c);
}

static void c_source_close(segue__source *source) {
  c_source *c = source->impl;
  if (c->ops.close) c->ops.close(c->instance);
  c_source_free(c);
}

static const segue__remote_ops c_ops = {.timed = true,
                                        .fetch = c_source_fetch,
                                        .watch = c_source_watch,
                                        .want = c_source_want,
                                        .outcome = c_source_outcome,
                                        .close = c_source_close};
static const segue__source_kind c_kind = {.name = "plugin", .remote = &c_ops};

static int c_source_instance(c_source *c, const char *name, const segue_source_descriptor *d,
                             segue_error *err) {
  void *userdata = d->size > offsetof(segue_source_descriptor, userdata) ? d->userdata : NULL;
  segue_error own = {0};
  c->instance = userdata;
  if (!c->ops.open) return 0;
  int rc = c->ops.open(userdata, name, segue__option_values_tree(c->values),
                       segue__option_values_get(c->values), &c->instance, &own);
  if (rc >= 0) return 0;
  if (own.message[0])
    *err = own;
  else
    segue__errorf(err, rc, "the source %s refuses its options: %s", d->name, segue_strerror(rc));
  return err->code = rc == UV_ENOMEM ? rc : SEGUE_EPOLICY;
}

int segue__c_source_open(segue__source *source, const segue_source_descriptor *d,
                         segue__option_values *values, segue_error *err) {
  c_source *c = segue__calloc(1, sizeof *c);
  if (!c) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", source->name);
  memcpy(&c->ops, d->ops, d->ops->size < sizeof c->ops ? d->ops->size : sizeof c->ops);
  c->values = segue__option_values_ref(values);
  int rc = c_source_instance(c, source->name, d, err);
  if (rc) {
    c_source_free(c);
    return rc;
  }
  source->kind = &c_kind;
  source->impl = c;
  source->pushes = c->ops.watch != NULL;
  return 0;
}

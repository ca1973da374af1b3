/* SPDX-License-Identifier: MIT
 *
 * An asynchronous source for specs. See scripted_source.h.
 */
#include "scripted_source.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

scripted_source *scripted_source_new(scripted_world *world, const char *name) {
  scripted_source *source = segue__calloc(1, sizeof *source);
  source->world = world;
  source->watch = SCRIPTED_LATER;
  snprintf(source->name, sizeof source->name, "%s", name);
  return source;
}

/* The engine never frees an operation that it has abandoned, because its source may still end it.
 * The pointer to it keeps LeakSanitizer from reporting that memory. */
static segue_op *volatile abandoned;

void scripted_source_free(scripted_source *source) {
  if (source && source->watch_op) abandoned = source->watch_op;
  segue__free(source);
}

static int deliver(scripted_source *source, segue__emission *out) {
  segue__document *doc = NULL;
  memset(out, 0, sizeof *out);
  if (source->revision[0]) out->revision = segue__strdup(source->revision);
  if (source->base[0]) out->base = segue__strdup(source->base);
  out->unchanged = source->unchanged;
  if (source->unchanged || !source->text[0]) return 0;
  char *text = segue__strdup(source->text);
  int rc = !text ? UV_ENOMEM
                 : segue__document_new(&doc, 7, source->name, source->name, SEGUE__YAML, text,
                                       strlen(text));
  return rc ? rc : segue__documents_add(&out->documents, doc);
}

static void fail(segue_op *op, const scripted_source *source, int code) {
  segue_error error;
  segue__errorf(&error, code, "%s is not to be reached", source->name);
  segue_op_retry_after(op, source->retry_ms);
  segue_op_done(op, code, &error);
}

static void note(scripted_source *source, const char *verb, const char *more) {
  segue__buf_addf(&source->world->journal, "%s.%s%s%s\n", source->name, verb, more ? " " : "",
                  more ? more : "");
}

static void fetch_cancelled(void *data) {
  scripted_source *source = data;
  note(source, "fetch_cancel", NULL);
  if (!source->deaf) scripted_source_finish(source, SEGUE_ECANCELLED);
}

static void fetch(const segue__source *spec, const char *revision, segue__emission *out,
                  segue_op *op) {
  scripted_source *source = spec->impl;
  note(source, "fetch", revision ? revision : "-");
  int behaviour = source->fetch;
  if (behaviour == SCRIPTED_FAIL_ONCE) source->fetch = SCRIPTED_OK;
  if (behaviour == SCRIPTED_LATER) {
    source->outs[source->fetch_count] = out;
    source->fetches[source->fetch_count++] = op;
    segue__op_on_cancel(op, fetch_cancelled, source);
  } else if (behaviour == SCRIPTED_FAIL || behaviour == SCRIPTED_FAIL_ONCE) {
    fail(op, source, UV_ECONNREFUSED);
  } else {
    int rc = deliver(source, out);
    segue_op_done(op, rc, NULL);
    if (behaviour == SCRIPTED_TWICE) fail(op, source, UV_ECONNREFUSED);
  }
}

int scripted_source_finish(scripted_source *source, int status) {
  int count = source->fetch_count;
  source->fetch_count = 0;
  for (int i = 0; i < count; i++) {
    if (status < 0) {
      fail(source->fetches[i], source, status);
    } else {
      int rc = deliver(source, source->outs[i]);
      segue_op_done(source->fetches[i], rc, NULL);
    }
  }
  return count;
}

static void watch_cancelled(void *data) {
  scripted_source *source = data;
  note(source, "cancel", NULL);
  if (!source->deaf) scripted_source_end_watch(source, SEGUE_ECANCELLED);
}

static void watch(const segue__source *spec, const char *revision, segue__emitter *emitter,
                  segue_op *op) {
  scripted_source *source = spec->impl;
  note(source, "watch", revision ? revision : "-");
  if (++source->watching > source->watching_most) source->watching_most = source->watching;
  source->watch_op = op;
  source->emitter = emitter;
  segue__op_on_cancel(op, watch_cancelled, source);
  if (source->watch == SCRIPTED_FAIL) scripted_source_end_watch(source, UV_ECONNRESET);
}

void scripted_source_emit(scripted_source *source, bool ask) {
  segue__emission delivery = {.ask = ask};
  if (!source->watch_op) return;
  if (!ask && deliver(source, &delivery)) delivery.ask = true;
  source->emitter->emit(source->emitter->data, &delivery);
}

void scripted_source_emit_delta(scripted_source *source, const char *base, const char *revision,
                                const char *name, const char *text) {
  segue_delivery *delivery = segue_delivery_new();
  if (text)
    segue_delivery_add(delivery, name, "yaml", text, strlen(text));
  else
    segue_delivery_remove(delivery, name);
  segue_delivery_base(delivery, base);
  segue_delivery_revision(delivery, revision);
  segue_watch_emit(source->emitter, delivery);
}

void scripted_source_end_watch(scripted_source *source, int status) {
  segue_op *op = source->watch_op;
  if (!op) return;
  source->watch_op = NULL;
  source->watching--;
  if (status < 0)
    fail(op, source, status);
  else
    segue_op_done(op, 0, NULL);
}

static bool want(const segue__source *spec, const char *const *names, size_t count) {
  scripted_source *source = spec->impl;
  segue__buf text;
  segue__buf_init(&text);
  for (size_t i = 0; i < count; i++)
    segue__buf_addf(&text, "%s%s", i ? "," : "", names[i]);
  note(source, "want", text.len ? text.data : "-");
  segue__buf_deinit(&text);
  return true;
}

static void outcome(const segue__source *spec, const segue_source_outcome *outcome) {
  scripted_source *source = spec->impl;
  char text[700];
  snprintf(text, sizeof text, "%s %s %llu%s%s", outcome->revision ? outcome->revision : "-",
           outcome->outcome, (unsigned long long)outcome->generation,
           outcome->error_count ? ": " : "", outcome->error_count ? outcome->errors->message : "");
  note(source, "outcome", text);
}

static const segue__remote_ops feed_ops = {
    .fetch = fetch, .watch = watch, .want = want, .outcome = outcome};

const segue__source_kind *scripted_source_kind(void) {
  static const segue__source_kind kind = {.name = "scripted", .remote = &feed_ops};
  return &kind;
}

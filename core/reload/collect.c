/* SPDX-License-Identifier: MIT
 *
 * Collect: from sources to one merged, hashed and compared config. Sources on a network are fetched
 * first, all at the same time; the other sources, and all parsing, are one job on the worker. The
 * job owns copies or references of everything that it uses, so a job that hangs (a dead NFS mount)
 * can be abandoned.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "collect.h"
#include "run.h"

enum { INPUT_BYTES = 16 << 20, LARGE_BYTES = 1 << 18, LOOKS = 10 };
enum {
  WRITER_MS = 5000,
  LOOK_AGAIN_MS = 100
}; /* of waiting for a writer; at most half of collect */

static void collect_run(segue__job *job);
static void collect_done(segue__job *job);
static void collect_abandoned(segue__job *job);

static bool collect_is_remote(const segue__collect *collect, size_t i) {
  return collect->policy->sources[i].kind->remote != NULL;
}

/* Returns whether the source was never fetched, or a new fetch may deliver something else. */
static bool needs_pull(const segue__txn *txn, const segue__source *source) {
  if (!source->kind->remote || txn->run->files || txn->looked) return false;
  segue__source_set set = segue__policy_sources(txn->policy);
  if (segue__sources_must_fetch(txn->engine->sources, &set, source)) return true;
  /* A pause that the server has requested is kept, except for a request of a client. */
  bool busy = segue__sources_is_busy(txn->engine->sources, &set, source);
  return txn->run->pull && (txn->run->explicit_ || !busy);
}

static bool pulls_any(const segue__txn *txn) {
  for (size_t i = 0; i < txn->policy->source_count; i++)
    if (needs_pull(txn, &txn->policy->sources[i])) return true;
  return false;
}

/* In a replay a source delivers its cached delivery, which also becomes the held one if the source
 * holds no newer one. */
static int take_cached(segue__collect *collect, size_t i) {
  const segue__source *source = &collect->set.items[i];
  segue__documents documents = {0};
  segue__cached_delivery head;
  int rc =
      collect->inputs ? segue__cached_read(collect->inputs, source, &head, &documents) : UV_ENOENT;
  if (rc == UV_ENOENT && source->optional) return 0;
  if (rc) {
    segue__errorf(&collect->away[i], rc == UV_ENOMEM ? rc : SEGUE_ESOURCE,
                  "what %s delivered is not part of that generation", source->name);
    return 0;
  }
  rc = segue__documents_copy(&collect->previous[i], &documents);
  if (!rc)
    segue__sources_adopt(collect->txn->engine->sources, &collect->set, source, &documents, &head);
  segue__documents_deinit(&documents);
  segue__cached_delivery_deinit(&head);
  return rc;
}

/* Prepares the data that the job needs of one source. An explicit request must not get a success
 * with an older delivery while the content is invalid; an automatic run uses the last delivery. */
static int collect_prepare(segue__collect *collect, size_t i) {
  const segue__txn *txn = collect->txn;
  segue__sources *sources = txn->engine->sources;
  const segue__source *source = &collect->set.items[i];
  if (!collect_is_remote(collect, i))
    return segue__sources_copy_last(sources, &collect->set, source, &collect->previous[i],
                                    &collect->had[i]);
  if (txn->run->files && !txn->looked) return take_cached(collect, i);
  return segue__sources_use(sources, &collect->set, source, txn->run->explicit_,
                            &collect->previous[i], &collect->cached[i], &collect->away[i]);
}

static int collect_submit(segue__collect *collect) {
  segue__engine *engine = collect->txn->engine;
  int rc = 0;
  for (size_t i = 0; i < collect->source_count && !rc; i++)
    rc = collect_prepare(collect, i);
  collect->stage = SEGUE__COLLECT_READ;
  collect->next_document = engine->next_document;
  return rc ? rc : segue__job_submit(engine->loop, SEGUE__QUEUE_COLLECT, &collect->job);
}

/* A fetch that cannot even begin is a failure of its source like any other. */
static int collect_pull(segue__collect *collect) {
  segue__sources *sources = collect->txn->engine->sources;
  collect->stage = SEGUE__COLLECT_PULL;
  for (size_t i = 0; i < collect->source_count; i++) {
    const segue__source *source = &collect->set.items[i];
    if (!needs_pull(collect->txn, source)) continue;
    int rc = segue__sources_fetch(sources, &collect->set, source, &collect->waiter);
    if (!rc)
      collect->pulls++;
    else if (rc == UV_ENOMEM)
      return rc;
    else
      segue__sources_refused(sources, &collect->set, source, rc);
  }
  return collect->pulls ? 0 : collect_submit(collect);
}

static void collect_abandon(segue__collect *collect, int rc) {
  segue__txn *txn = collect->txn;
  segue__collect_cb *cb = collect->cb;
  segue__sources_release(txn->engine->sources, &collect->waiter);
  segue__collect_free(collect);
  cb(txn, rc);
}

static void collect_fetched(void *data) {
  segue__collect *collect = data;
  if (--collect->pulls) return;
  int rc = collect_submit(collect);
  if (rc < 0) collect_abandon(collect, rc);
}

void segue__collect_abandon(segue__collect *collect) {
  segue__engine *engine = collect->txn->engine;
  if (collect->stage == SEGUE__COLLECT_PULL || collect->stage == SEGUE__COLLECT_WAIT) {
    segue__timer_stop(engine->loop, &collect->timer);
    segue__sources_release(engine->sources, &collect->waiter);
    segue__collect_free(collect);
    return;
  }
  collect->txn = NULL;
  segue__job_abandon(engine->loop, &collect->job);
}

static int collect_make_room(segue__collect *collect) {
  size_t n = collect->source_count;
  collect->previous = segue__calloc(n, sizeof *collect->previous);
  collect->away = segue__calloc(n, sizeof *collect->away);
  collect->cached = segue__calloc(n, sizeof *collect->cached);
  collect->documents = segue__calloc(n, sizeof *collect->documents);
  collect->fetched = segue__calloc(n, sizeof *collect->fetched);
  collect->had = segue__calloc(n, sizeof *collect->had);
  collect->postponed = segue__calloc(n, sizeof *collect->postponed);
  return collect->previous && collect->away && collect->cached && collect->documents &&
                 collect->fetched && collect->had && collect->postponed
             ? 0
             : UV_ENOMEM;
}

int segue__collect_start(segue__txn *txn, bool look_at_inputs, segue__collect_cb *cb) {
  segue__engine *engine = txn->engine;
  segue__collect *collect = segue__calloc(1, sizeof *collect);
  if (!collect) return UV_ENOMEM;
  collect->job.run = collect_run;
  collect->job.done = collect_done;
  collect->job.abandoned = collect_abandoned;
  collect->txn = txn;
  collect->cb = cb;
  collect->os = *engine->os;
  if (collect->os.hold) collect->os.hold(collect->os.data);
  if (engine->record && !txn->looked) collect->inputs = segue__record_inputs(engine->record);
  collect->publication = engine->options.publication;
  collect->limits = engine->options.limits;
  collect->policy = segue__policy_ref(txn->policy);
  collect->set = segue__policy_sources(txn->policy);
  collect->waiter = (segue__fetch_waiter){collect_fetched, collect};
  segue__secrecy_init(collect, engine);
  collect->source_count = txn->policy->source_count;
  collect->look_at_inputs = look_at_inputs;
  collect->postpones = !txn->run->explicit_ || txn->looked;
  uint64_t wait = txn->policy->collect_ms / 2;
  collect->wait_until_ms =
      segue__loop_now_ms(engine->loop) + (wait < WRITER_MS ? wait : (uint64_t)WRITER_MS);
  segue__errors_init(&collect->errors);
  segue__errors_init(&collect->warnings);
  if (engine->live) collect->live = (segue_snapshot *)segue_snapshot_ref(engine->live);
  bool pulls = pulls_any(txn);
  int rc = collect_make_room(collect);
  if (!rc && pulls && look_at_inputs) /* the policy decides which sources are fetched */
    rc = segue__job_submit(engine->loop, SEGUE__QUEUE_COLLECT, &collect->job);
  else if (!rc)
    rc = pulls ? collect_pull(collect) : collect_submit(collect);
  if (rc < 0) {
    segue__sources_release(engine->sources, &collect->waiter);
    segue__collect_free(collect);
    return rc;
  }
  txn->collect = collect;
  return 0;
}

static size_t collect_bytes_of(const segue__documents *documents, size_t count) {
  size_t bytes = 0;
  for (size_t i = 0; documents && i < count; i++)
    for (size_t j = 0; j < documents[i].count; j++)
      bytes += documents[i].items[j]->len;
  return bytes;
}

/* Takes the result of one look; another look may follow. */
static void clear_found(segue__collect *collect) {
  for (size_t i = 0; i < collect->source_count; i++) {
    if (collect->documents) segue__documents_deinit(&collect->documents[i]);
    if (collect->fetched) collect->fetched[i] = false;
    if (collect->postponed) collect->postponed[i] = false;
  }
  segue__changes_deinit(&collect->changes);
  segue__errors_deinit(&collect->errors);
  segue__errors_deinit(&collect->warnings);
  segue__config_unref(collect->config);
  collect->config = NULL;
  segue__document_unref(collect->schema_doc);
  collect->schema_doc = NULL;
  segue__documents_deinit(&collect->schema_with);
  collect->input = collect->raw = collect->schema_hash = (segue__hash){0, 0};
  collect->inputs_changed = collect->credentials_changed = false;
  collect->unreadable = collect->writing = collect->input_writing = false;
}

static void free_data(void *data) {
  segue__collect *collect = data;
  clear_found(collect);
  for (size_t i = 0; i < collect->source_count; i++) {
    if (collect->previous) segue__documents_deinit(&collect->previous[i]);
    if (collect->cached) segue__cached_delivery_deinit(&collect->cached[i]);
  }
  segue__free(collect->previous);
  segue__free(collect->away);
  segue__free(collect->cached);
  segue__free(collect->documents);
  segue__free(collect->fetched);
  segue__free(collect->had);
  segue__free(collect->postponed);
  segue__secrecy_deinit(collect);
  segue_snapshot_unref(collect->live);
  if (collect->os.release) collect->os.release(collect->os.data);
  segue__free(collect);
}

static void free_here(segue__collect *collect) {
  segue__policy_unref(collect->policy);
  free_data(collect);
}

/* The last references to large trees may be here: they are freed on the worker. The policy is
 * released on the control thread. */
void segue__collect_free(segue__collect *collect) {
  if (!collect) return;
  size_t bytes = collect_bytes_of(collect->previous, collect->source_count) +
                 collect_bytes_of(collect->documents, collect->source_count);
  segue__policy_unref(collect->policy);
  if (!collect->publication || bytes < LARGE_BYTES ||
      segue__publication_defer(collect->publication, free_data, collect) < 0)
    free_data(collect);
}

static void add_error(segue__collect *collect, const segue_error *error) {
  segue__errors_add(&collect->errors, error);
  if (error->code > -5000 || error->code == SEGUE_ESOURCE || error->code == SEGUE_ETIMEOUT)
    collect->unreadable = true;
}

static void note_writer(segue__collect *collect, const segue_error *error) {
  if (error->code != UV_ETXTBSY || collect->writing) return;
  collect->writing = true;
  collect->writer = *error;
}

/* Other users can read the file of a secret now: the loader reports the error. */
static bool is_open(const segue__os *os, const segue__input *input) {
  unsigned mode;
  return input->secret && os->file_mode && os->file_mode(os->data, input->path, &mode) == 0 &&
         (mode & 07);
}

/* The bytes of the policy count as input: a changed policy has to be loaded again. */
static bool has_changed(segue__collect *collect, const segue__input *input) {
  const segue__os *os = &collect->os;
  if (is_open(os, input)) return true;
  segue__bytes bytes = {0};
  segue_error error = {0}; /* the loader's own message is clearer */
  int rc = input->credential ? segue__read_credential(os, input->path, INPUT_BYTES, &bytes, &error)
                             : segue__read_whole(os, input->path, INPUT_BYTES, &bytes, &error);
  if (rc == UV_ETXTBSY) { /* not before its writer has closed it */
    note_writer(collect, &error);
    collect->input_writing = true;
    return false;
  }
  bool same =
      !rc &&
      segue__hash_equal(segue__hash_bytes(bytes.data, bytes.len, (segue__hash){0, 0}), input->hash);
  if (bytes.data && input->credential) explicit_bzero(bytes.data, bytes.len);
  segue__free(bytes.data);
  return !same;
}

static void look_at_inputs(segue__collect *collect) {
  for (size_t i = 0; i < collect->policy->input_count; i++) {
    const segue__input *input = &collect->policy->inputs[i];
    if (!has_changed(collect, input)) continue;
    collect->inputs_changed = true;
    if (input->credential) collect->credentials_changed = true;
  }
  if (collect->input_writing) /* the files of a policy belong together */
    collect->inputs_changed = collect->credentials_changed = false;
}

static void collect_mix(segue__hash *into, const void *data, size_t len) {
  *into = segue__hash_bytes(data, len, *into);
}

/* ---- Reading all sources as of one instant ---- */

/* The result of one look at all sources: per source its documents, or an error. */
typedef struct look {
  segue__documents *documents;
  segue_error *errors; /* code 0: none */
} look;

static int look_init(look *l, size_t n) {
  l->documents = segue__calloc(n, sizeof *l->documents);
  l->errors = segue__calloc(n, sizeof *l->errors);
  return l->documents && l->errors ? 0 : UV_ENOMEM;
}

static void look_clear(look *l, size_t n) {
  for (size_t i = 0; l->documents && i < n; i++)
    segue__documents_deinit(&l->documents[i]);
  if (l->errors && n) memset(l->errors, 0, n * sizeof *l->errors);
}

static void look_deinit(look *l, size_t n) {
  look_clear(l, n);
  segue__free(l->documents);
  segue__free(l->errors);
}

/* Deliveries are shared with the control thread and with jobs that hang. Parsing writes into a
 * document, so only a parsed document is shared; the others are copied. */
static int own_document(segue__collect *collect, const segue__source *source,
                        const segue__document *came, segue__documents *out) {
  segue__document *doc = NULL;
  char *bytes = segue__strndup(came->data, came->len);
  if (!bytes) return UV_ENOMEM;
  int rc = segue__document_new(&doc, collect->next_document++, source->name, came->name,
                               came->format, bytes, came->len);
  if (rc) return rc;
  doc->expand = source->expand;
  doc->allow_empty = source->allow_empty;
  return segue__documents_add(out, doc);
}

/* before: the documents of the last look, which are reused; empty if that look failed. */
static int look_at_remote(segue__collect *collect, size_t i, const segue__documents *before,
                          segue__documents *out, segue_error *error) {
  const segue__source *source = &collect->policy->sources[i];
  const segue__documents *delivered = &collect->previous[i];
  if (before->count == delivered->count) delivered = before;
  int rc = collect->away[i].code;
  if (rc) *error = collect->away[i];
  for (size_t j = 0; j < delivered->count && !rc; j++) {
    segue__document *doc = delivered->items[j];
    bool ready = doc->parsed || doc->id;
    rc = ready ? segue__documents_add(out, segue__document_ref(doc))
               : own_document(collect, source, doc, out);
    if (rc < 0) segue__errorf(error, rc, "out of memory for what %s delivered", source->name);
  }
  return rc;
}

static void look_at_all(segue__collect *collect, const segue__documents *previous, look *out) {
  for (size_t i = 0; i < collect->source_count; i++) {
    const segue__source *source = &collect->policy->sources[i];
    segue_error *error = &out->errors[i];
    int rc = collect_is_remote(collect, i)
                 ? look_at_remote(collect, i, &previous[i], &out->documents[i], error)
                 : source->kind->fetch(source, &collect->os, &collect->limits, &previous[i],
                                       &collect->next_document, &out->documents[i], error);
    error->code = rc < 0 ? rc : 0;
    if (rc < 0) segue__documents_deinit(&out->documents[i]);
  }
}

static bool same_documents(const segue__documents *a, const segue__documents *b) {
  if (a->count != b->count) return false;
  for (size_t i = 0; i < a->count; i++)
    if (a->items[i] != b->items[i]) return false;
  return true;
}

/* One look is enough for one file, which is read as of one instant, and if nothing has changed. */
static bool one_look_will_do(const segue__collect *collect, const look *l) {
  size_t count = 0;
  bool changed = false;
  for (size_t i = 0; i < collect->source_count; i++) {
    if (l->errors[i].code) return false;
    count += l->documents[i].count;
    changed = changed || !same_documents(&collect->previous[i], &l->documents[i]);
  }
  return count < 2 || !changed;
}

static bool same_look(const look *a, const look *b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (a->errors[i].code != b->errors[i].code ||
        !same_documents(&a->documents[i], &b->documents[i]))
      return false;
  return true;
}

/* Files that belong together change together (a swap of a ConfigMap) while they are read one after
 * the other, and a file that is being replaced does not exist for a moment. So all files are read
 * again until two looks in a row find the same. */
static int look_until_steady(segue__collect *collect, look *now, look *before) {
  size_t n = collect->source_count;
  look_at_all(collect, collect->previous, now);
  if (one_look_will_do(collect, now)) return 0;
  for (int i = 0; i < LOOKS; i++) {
    look swapped = *before;
    *before = *now;
    *now = swapped;
    look_clear(now, n);
    look_at_all(collect, before->documents, now);
    if (same_look(now, before, n)) return 0;
  }
  return UV_EAGAIN;
}

/* An automatic run uses the last complete version of a file that is being written: the other files
 * may have changed, and a writer that hangs must not delay them. The whole source stays as it was,
 * because the files of one folder belong together. */
static bool collect_postpone(segue__collect *collect, size_t i, const segue_error *error) {
  if (error->code != UV_ETXTBSY || !collect->postpones || !collect->had[i] ||
      segue__documents_copy(&collect->documents[i], &collect->previous[i]) < 0)
    return false;
  collect->fetched[i] = collect->postponed[i] = true;
  return true;
}

static void take_look(segue__collect *collect, look *l) {
  assert(l->errors);
  for (size_t i = 0; i < collect->source_count; i++) {
    note_writer(collect, &l->errors[i]);
    if (collect_postpone(collect, i, &l->errors[i])) continue;
    if (l->errors[i].code) {
      segue__error_source(&l->errors[i], collect->policy->sources[i].name);
      add_error(collect, &l->errors[i]);
      if (collect_is_remote(collect, i)) collect->unreadable = true;
      collect_mix(&collect->raw, &l->errors[i].code, sizeof l->errors[i].code);
      continue;
    }
    collect->documents[i] = l->documents[i];
    l->documents[i] = (segue__documents){0};
    collect->fetched[i] = true;
  }
}

static void collect_fetch(segue__collect *collect) {
  size_t n = collect->source_count;
  look now = {0}, before = {0};
  segue_error error = {0};
  int rc = SEGUE_FAULT("collect.fetch");
  if (!rc) rc = look_init(&now, n);
  if (!rc) rc = look_init(&before, n);
  if (!rc) rc = look_until_steady(collect, &now, &before);
  if (rc == UV_EAGAIN) {
    segue__errorf(&error, rc,
                  "the sources changed each of %d times while they were read: replace files that "
                  "belong together in one step, and not all the time",
                  LOOKS);
    add_error(collect, &error);
  } else if (rc < 0) {
    segue__errorf(&error, rc, "the sources cannot be read: %s", segue_strerror(rc));
    add_error(collect, &error);
  } else {
    take_look(collect, &now);
  }
  if (rc < 0) collect_mix(&collect->raw, &rc, sizeof rc);
  look_deinit(&now, n);
  look_deinit(&before, n);
}

static void collect_warn(segue__collect *collect, const segue__document *doc) {
  segue_error error;
  if (!doc->old_yaml_line) return;
  segue__document_warn_old_yaml(doc, &error);
  segue__error_source(&error, doc->source);
  segue__errors_add(&collect->warnings, &error);
}

static void collect_parse(segue__collect *collect, segue__document *doc) {
  collect_mix(&collect->raw, doc->name, strlen(doc->name));
  segue__hash tree = segue__node_hash(&doc->root);
  if (doc->data)
    collect_mix(&collect->raw, doc->data, doc->len);
  else
    collect_mix(&collect->raw, &tree, sizeof tree);
  segue_error error = {0};
  if (doc->parsed) { /* handed on from the last fetch */
    collect_warn(collect, doc);
    return;
  }
  if (segue__document_parse(doc, &collect->limits, collect->os.getenv, collect->os.data, &error) <
      0) {
    segue__error_source(&error, doc->source);
    add_error(collect, &error);
  }
  collect_warn(collect, doc);
}

/* Returns NULL, after the error was added, if the file cannot be read. */
static segue__document *read_schema_file(segue__collect *collect, const char *path) {
  segue__bytes bytes = {0};
  segue_error error = {0};
  segue__document *doc = NULL;
  bool guessed;
  segue__format format = segue__format_of(path, &guessed);
  int rc = segue__read_whole(&collect->os, path, INPUT_BYTES, &bytes, &error);
  if (rc == 0) {
    rc = segue__document_new(&doc, collect->next_document++, "schema", path, format, bytes.data,
                             bytes.len);
    if (rc < 0) segue__errorf(&error, rc, "schema %s: out of memory", path);
  }
  if (rc < 0 || !doc) {
    note_writer(collect, &error);
    add_error(collect, &error);
    collect_mix(&collect->raw, &rc, sizeof rc);
    return NULL;
  }
  doc->foreign = true;
  doc->guessed = guessed;
  collect_mix(&collect->schema_hash, path, strlen(path) + 1);
  collect_mix(&collect->schema_hash, &doc->hash, sizeof doc->hash);
  return doc;
}

/* The bytes of the schema and of the documents beside it count as input; the check phase parses
 * them. */
static void collect_read_schema(segue__collect *collect) {
  const segue__policy *policy = collect->policy;
  if (!policy->schema) return;
  collect->schema_doc = read_schema_file(collect, policy->schema);
  for (size_t i = 0; i < policy->schema_with_count; i++) {
    const segue__schema_part *part = &policy->schema_with[i];
    segue__document *doc = read_schema_file(collect, part->path);
    if (!doc) continue;
    if (part->uri) collect_mix(&collect->schema_hash, part->uri, strlen(part->uri) + 1);
    if (segue__documents_add(&collect->schema_with, doc) < 0) {
      segue_error error;
      segue__errorf(&error, UV_ENOMEM, "schema %s: out of memory", part->path);
      add_error(collect, &error);
    }
  }
  collect_mix(&collect->raw, &collect->schema_hash, sizeof collect->schema_hash);
}

/* Deliveries over a network become part of the generation, as files do when they are read. Nothing
 * is written here: their text is made on the record thread, after the generation is live. */
static void collect_keep(segue__collect *collect) {
  for (size_t i = 0; collect->inputs && i < collect->source_count; i++) {
    segue_error error;
    const segue__source *source = &collect->policy->sources[i];
    if (!collect_is_remote(collect, i) || !collect->fetched[i] || !collect->cached[i].wall_ms)
      continue;
    int rc =
        segue__cached_keep(collect->inputs, source, &collect->cached[i], &collect->documents[i]);
    if (rc) {
      segue__errorf(&error, rc, "what %s delivered cannot be kept: %s", source->name,
                    segue_strerror(rc));
      add_error(collect, &error);
    }
  }
}

static int collect_merge(segue__collect *collect, segue_error *error) {
  segue__documents all = {0};
  int rc = 0;
  for (size_t i = 0; i < collect->policy->source_count && !rc; i++)
    rc = segue__documents_copy(&all, &collect->documents[i]);
  if (rc < 0)
    segue__errorf(error, rc, "%s", segue_strerror(rc));
  else
    rc = segue__config_merge_warned(&collect->config, all.items, all.count, &collect->warnings,
                                    error);
  segue__secrecy_clean(collect, &collect->warnings);
  segue__documents_deinit(&all);
  return rc;
}

/* Credentials count for the hash of the input, not for that of the sources: a new token must not
 * end a rollback. */
static void mix_inputs(const segue__collect *collect, bool credentials, segue__hash *into) {
  const segue__policy *policy = collect->policy;
  for (size_t i = 0; i < policy->input_count; i++)
    if (policy->inputs[i].credential == credentials)
      collect_mix(into, &policy->inputs[i].hash, sizeof policy->inputs[i].hash);
}

/* Every document counts, not only its part in the merge: a list that a later file hides reaches the
 * server nevertheless, if a hook passes the files on. The hash is that of the tree, so that a
 * comment is no change. */
static void mix_documents(segue__collect *collect) {
  for (size_t i = 0; i < collect->policy->source_count; i++)
    for (size_t j = 0; j < collect->documents[i].count; j++) {
      segue__hash hash = segue__node_hash(&collect->documents[i].items[j]->root);
      collect_mix(&collect->input, &hash, sizeof hash);
    }
}

/* [any thread] while the job is not submitted again */
static bool waits_for_writer(const segue__collect *collect) {
  return collect->writing && !collect->postpones && !collect->last_look;
}

static void collect_run(segue__job *job) {
  segue__collect *collect = (segue__collect *)job;
  const segue__policy *policy = collect->policy;
  if (collect->look_at_inputs) look_at_inputs(collect);
  if (collect->inputs_changed || collect->stage == SEGUE__COLLECT_LOOK || waits_for_writer(collect))
    return;
  mix_inputs(collect, false, &collect->raw);
  for (size_t i = 0; i < policy->module_count; i++)
    collect_mix(&collect->raw, &policy->modules[i].inputs, sizeof policy->modules[i].inputs);
  collect_read_schema(collect);
  collect->input = collect->raw;
  mix_inputs(collect, true, &collect->input);
  collect_fetch(collect);
  if (waits_for_writer(collect)) return;
  for (size_t i = 0; i < policy->source_count; i++)
    for (size_t j = 0; j < collect->documents[i].count; j++)
      collect_parse(collect, collect->documents[i].items[j]);
  collect_keep(collect);
  if (collect->errors.total) return;
  segue_error error = {0};
  static const segue_node nothing = {.type = SEGUE_MAP};
  int rc = collect_merge(collect, &error);
  if (!rc && (rc = segue__diff(collect->live ? segue_snapshot_root(collect->live) : &nothing,
                               &collect->config->root, &collect->changes)) < 0)
    segue__errorf(&error, rc, "%s", segue_strerror(rc));
  if (rc < 0)
    add_error(collect, &error);
  else
    mix_documents(collect);
}

/* Finds the last error of a source for the status. It may quote secrets of the live generation: a
 * file in Lua has the same constants as before. Returns false if there is none. */
static bool find_error(const segue__collect *collect, const char *source, segue_error *out) {
  bool found = false;
  for (size_t i = 0; i < collect->errors.count; i++) {
    if (strcmp(collect->errors.items[i].source, source) != 0) continue;
    *out = collect->errors.items[i];
    found = true;
  }
  if (found) segue__engine_scrub(collect->txn->engine, out);
  return found;
}

static void collect_remember(const segue__collect *collect, size_t i) {
  segue__sources *sources = collect->txn->engine->sources;
  const segue__source *source = &collect->set.items[i];
  const segue__documents *documents = &collect->documents[i];
  segue_error error;
  bool good = collect->fetched[i];
  for (size_t j = 0; j < documents->count; j++)
    good = good && documents->items[j]->parsed;
  const segue_error *why = !good && find_error(collect, source->name, &error) ? &error : NULL;
  if (collect_is_remote(collect, i)) {
    if (collect->fetched[i])
      segue__sources_note_parsed(sources, &collect->set, source, &collect->previous[i], documents,
                                 why);
    return;
  }
  if (collect->txn->run->files || collect->postponed[i]) return; /* nothing was read */
  segue__sources_note_read(sources, &collect->set, source, good ? documents : NULL, why);
}

static void collect_look_again(segue__timer *timer) {
  segue__collect *collect = timer->data;
  segue__loop *loop = collect->txn->engine->loop;
  collect->last_look = segue__loop_now_ms(loop) >= collect->wait_until_ms;
  collect->stage = collect->to;
  int rc = segue__job_submit(loop, SEGUE__QUEUE_COLLECT, &collect->job);
  if (rc < 0) collect_abandon(collect, rc);
}

/* An explicit run waits for the writer, and checks from time to time whether the file is closed. */
static bool wait_for_writer(segue__collect *collect) {
  const segue__txn *txn = collect->txn;
  uint64_t now = segue__loop_now_ms(txn->engine->loop), until = collect->wait_until_ms;
  uint64_t ms = until > now ? until - now : 0;
  collect->waited_for.code = 0;
  if (!waits_for_writer(collect) || segue__txn_failed(txn)) return false;
  collect->waited_for = collect->writer;
  clear_found(collect);
  collect->to = collect->stage;
  collect->stage = SEGUE__COLLECT_WAIT;
  collect->timer.data = collect;
  int rc = segue__timer_start(txn->engine->loop, &collect->timer,
                              ms < LOOK_AGAIN_MS ? ms : LOOK_AGAIN_MS, collect_look_again);
  if (rc < 0) collect_abandon(collect, rc);
  return true;
}

/* A file of the policy: an automatic run continues with the policy as it is; an explicit one fails,
 * because the request may be about this very file. */
static void report_writer(segue__collect *collect) {
  segue_error error = collect->writer;
  bool postponed = collect->postpones && collect->input_writing;
  for (size_t i = 0; i < collect->source_count; i++)
    postponed = postponed || collect->postponed[i];
  if (collect->input_writing && !collect->postpones) add_error(collect, &error);
  if (!postponed) return;
  segue__errorf(&error, UV_ETXTBSY, "%.400s; its last complete version stays until it is closed",
                collect->writer.message);
  segue__errors_add(&collect->warnings, &error);
}

static void collect_done(segue__job *job) {
  segue__collect *collect = (segue__collect *)job;
  segue__txn *txn = collect->txn;
  if (wait_for_writer(collect)) return;
  if (collect->stage == SEGUE__COLLECT_LOOK && !collect->inputs_changed &&
      !segue__txn_failed(txn)) {
    collect->look_at_inputs = false;
    int rc = collect_pull(collect);
    if (rc < 0) collect_abandon(collect, rc);
    return;
  }
  if (collect->stage == SEGUE__COLLECT_READ) {
    txn->engine->next_document = collect->next_document;
    for (size_t i = 0; i < collect->source_count && !collect->inputs_changed && !txn->looked; i++)
      collect_remember(collect, i);
    report_writer(collect);
  }
  collect->cb(txn, 0);
}

static void collect_abandoned(segue__job *job) {
  free_here((segue__collect *)job);
}

void segue__collect_take(segue__collect *collect, segue__content *content) {
  content->schema_doc = collect->schema_doc;
  collect->schema_doc = NULL;
  content->schema_with = collect->schema_with;
  collect->schema_with = (segue__documents){0};
  content->schema_hash = collect->schema_hash;
  segue__errors_deinit(&content->warnings);
  content->warnings = collect->warnings;
  segue__errors_init(&collect->warnings);
  content->raw = collect->raw;
  content->input = collect->input;
}

void segue__collect_take_changes(segue__collect *collect, segue__content *content) {
  content->changes = collect->changes;
  collect->changes = (segue__changes){0};
}

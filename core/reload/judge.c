/* SPDX-License-Identifier: MIT
 *
 * Judging by schema, and finding the secrets: the first thing that the check phase does, in a job
 * on the worker. The job owns references of all it touches. The engine keeps the compiled schema
 * while its bytes stay the same.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "txn.h"

static void run(segue__job *job);
static void done(segue__job *job);
static void abandoned(segue__job *job);

static int take_with(segue__judge *judge, const segue__txn *txn) {
  size_t count = txn->schema_with.count;
  judge->uris = segue__calloc(count + 1, sizeof(char *));
  for (size_t i = 0; i < count; i++) {
    const char *uri = txn->policy->schema_with[i].uri;
    if (!judge->uris ||
        segue__documents_add(&judge->with, segue__document_ref(txn->schema_with.items[i])) < 0 ||
        (uri && !(judge->uris[i] = segue__strdup(uri))))
      return UV_ENOMEM;
  }
  return judge->uris ? 0 : UV_ENOMEM;
}

int segue__judge_start(segue__txn *txn) {
  segue__engine *engine = txn->engine;
  segue__judge *judge = segue__calloc(1, sizeof *judge);
  if (!judge) return UV_ENOMEM;
  judge->job.run = run;
  judge->job.done = done;
  judge->job.abandoned = abandoned;
  judge->txn = txn;
  judge->limits = engine->options.limits;
  judge->formats = !txn->policy->formats_ignored;
  judge->defaults = txn->policy->schema_defaults;
  if (engine->live) judge->live = (segue_snapshot *)segue_snapshot_ref(engine->live);
  judge->time_ms = txn->policy->check_ms;
  judge->secrets = segue__mask_ref(txn->policy->mask);
  judge->doc = txn->schema_doc ? segue__document_ref(txn->schema_doc) : NULL;
  judge->config = segue__config_ref(txn->next->config);
  judge->schema_hash = txn->schema_hash;
  if (take_with(judge, txn) < 0) {
    segue__judge_free(judge);
    return UV_ENOMEM;
  }
  if (judge->doc && engine->schema && engine->schema_formats == judge->formats &&
      segue__hash_equal(engine->schema_hash, judge->schema_hash))
    judge->schema = segue__schema_ref(engine->schema);
  segue__errors_init(&judge->errors);
  segue__errors_init(&judge->warnings);
  int rc = segue__job_submit(engine->loop, &judge->job);
  if (rc < 0) {
    segue__judge_free(judge);
    return rc;
  }
  txn->judge = judge;
  return 0;
}

void segue__judge_free(segue__judge *judge) {
  if (!judge) return;
  segue__mask_unref(judge->secrets);
  segue__mask_unref(judge->mask);
  segue__schema_unref(judge->schema);
  segue__document_unref(judge->doc);
  for (size_t i = 0; judge->uris && i < judge->with.count; i++)
    segue__free(judge->uris[i]);
  segue__free((void *)judge->uris);
  segue__documents_deinit(&judge->with);
  segue__config_unref(judge->config);
  segue_snapshot_unref(judge->live);
  segue__changes_deinit(&judge->changes);
  segue__errors_deinit(&judge->errors);
  segue__errors_deinit(&judge->warnings);
  segue__free(judge);
}

static int compile(segue__judge *judge) {
  segue_error error;
  int rc = SEGUE_FAULT("check.schema");
  segue__schema_text text = {.doc = judge->doc,
                             .with = judge->with.items,
                             .with_count = judge->with.count,
                             .uris = (const char *const *)judge->uris,
                             .formats = judge->formats,
                             .limits = judge->limits};
  if (rc == 0)
    return segue__schema_text_compile(&text, &judge->schema, &judge->errors, &judge->warnings);
  segue__error_set(&error, rc, "the schema cannot be compiled: %s", segue_strerror(rc));
  segue__errors_add(&judge->errors, &error);
  return rc;
}

/* If the schema cannot be read, it is not known which values are secret: then all of them are. */
static int find_secrets(segue__judge *judge, bool schema_known) {
  int rc = schema_known ? segue__mask_join(&judge->mask, judge->secrets, NULL, judge->schema)
                        : segue__mask_all(&judge->mask);
  if (!rc && judge->mask) rc = segue__mask_learn(judge->mask, &judge->config->root);
  if (rc) judge->lost = rc;
  return rc;
}

/* Defaults are filled in first, so that they are validated too and satisfy `required`. The changes
 * are computed again, because the live generation has its defaults. */
static int fill(segue__judge *judge) {
  static const segue_node nothing = {.type = SEGUE_MAP};
  segue_error error = {0};
  segue__document *filled = NULL;
  segue__config *config = NULL;
  int rc = segue__schema_defaults(judge->schema, &judge->config->root, &filled, &error);
  if (rc) {
    segue__errors_add(&judge->errors, &error);
    return rc;
  }
  /* The schema that is kept may have been compiled from an older document of the same bytes. */
  size_t count;
  segue__document *const *documents = segue__schema_documents(judge->schema, &count);
  rc = segue__config_fill(&config, judge->config, filled, documents, count);
  segue__document_unref(filled);
  if (!rc)
    rc = segue__diff(judge->live ? segue_snapshot_root(judge->live) : &nothing, &config->root,
                     &judge->changes);
  if (rc) {
    segue__config_unref(config);
    judge->lost = rc;
    return rc;
  }
  segue__config_unref(judge->config);
  judge->config = config;
  judge->filled = true;
  return 0;
}

static void run(segue__job *job) {
  segue__judge *judge = (segue__judge *)job;
  int compiled = !judge->doc || judge->schema ? 0 : compile(judge);
  if (compiled < 0 && !judge->errors.total) judge->lost = compiled;
  bool known = compiled == 0;
  if (known && judge->doc && judge->defaults && fill(judge) < 0) return;
  if (find_secrets(judge, known) < 0 || !known || !judge->doc) return;
  segue__findings findings = {0};
  segue__mask *shown = NULL; /* also hides the secrets of the live generation */
  judge->lost = segue__mask_join(&shown, judge->mask, judge->live ? judge->live->mask : NULL, NULL);
  if (judge->lost) return;
  segue__validate_options options = {
      .size = sizeof options, .config = judge->config, .mask = shown, .time_ms = judge->time_ms};
  int rc = segue__schema_validate(judge->schema, &judge->config->root, &findings, &options);
  for (size_t i = 0; i < findings.count; i++)
    segue__errors_add(&judge->errors, &findings.items[i].error);
  judge->errors.total += findings.total - findings.count;
  if (rc < 0 && !judge->errors.total) judge->lost = rc;
  segue__findings_deinit(&findings);
  segue__mask_unref(shown);
}

static void keep(segue__engine *engine, segue__judge *judge) {
  for (size_t i = 0; i < judge->warnings.count; i++) {
    const segue_error *w = &judge->warnings.items[i];
    segue__log(engine->log, SEGUE__WARN, "schema", w->message, "file", 's', w->file, "line", 'd',
               (int64_t)w->line, "path", 's', w->path, NULL);
  }
  if (!judge->doc || !judge->schema || judge->schema == engine->schema) return;
  segue__schema_unref(engine->schema);
  engine->schema = segue__schema_ref(judge->schema);
  engine->schema_hash = judge->schema_hash;
  engine->schema_formats = judge->formats;
}

static void done(segue__job *job) {
  segue__judge *judge = (segue__judge *)job;
  keep(judge->txn->engine, judge);
  segue__txn_judged(judge->txn);
}

static void abandoned(segue__job *job) {
  segue__judge_free((segue__judge *)job);
}

/* SPDX-License-Identifier: MIT
 *
 * Validates the configuration by the schema, and finds the secrets: the first part of the check
 * phase, in a job on the worker. The job owns references of everything that it uses. The engine
 * keeps the compiled schema while its bytes stay the same.
 */
#include <string.h>
#include <uv.h>

#include "../os/fault.h"
#include "validate.h"

static void validate_run(segue__job *job);
static void validate_done(segue__job *job);
static void validate_abandoned(segue__job *job);

static int take_with(segue__validate_job *validation, const segue__txn *txn) {
  size_t count = txn->content.schema_with.count;
  validation->uris = segue__calloc(count + 1, sizeof(char *));
  for (size_t i = 0; i < count; i++) {
    const char *uri = txn->policy->schema_with[i].uri;
    if (!validation->uris ||
        segue__documents_add(&validation->with,
                             segue__document_ref(txn->content.schema_with.items[i])) < 0 ||
        (uri && !(validation->uris[i] = segue__strdup(uri))))
      return UV_ENOMEM;
  }
  return validation->uris ? 0 : UV_ENOMEM;
}

int segue__validate_job_start(segue__txn *txn, void (*cb)(segue__txn *txn)) {
  segue__engine *engine = txn->engine;
  segue__validate_job *validation = segue__calloc(1, sizeof *validation);
  if (!validation) return UV_ENOMEM;
  validation->job.run = validate_run;
  validation->job.done = validate_done;
  validation->job.abandoned = validate_abandoned;
  validation->txn = txn;
  validation->cb = cb;
  validation->limits = engine->options.limits;
  validation->formats = !txn->policy->formats_ignored;
  validation->defaults = txn->policy->schema_defaults;
  if (engine->live) validation->live = (segue_snapshot *)segue_snapshot_ref(engine->live);
  validation->time_ms = txn->policy->check_ms;
  validation->secrets = segue__mask_ref(txn->policy->mask);
  validation->doc = txn->content.schema_doc ? segue__document_ref(txn->content.schema_doc) : NULL;
  validation->config = segue__config_ref(txn->next->config);
  validation->schema_hash = txn->content.schema_hash;
  if (take_with(validation, txn) < 0) {
    segue__validate_job_free(validation);
    return UV_ENOMEM;
  }
  if (validation->doc && engine->schema && engine->schema_formats == validation->formats &&
      segue__hash_equal(engine->schema_hash, validation->schema_hash))
    validation->schema = segue__schema_ref(engine->schema);
  segue__errors_init(&validation->errors);
  segue__errors_init(&validation->warnings);
  int rc = segue__job_submit(engine->loop, SEGUE__QUEUE_SCHEMA, &validation->job);
  if (rc < 0) {
    segue__validate_job_free(validation);
    return rc;
  }
  txn->validation = validation;
  return 0;
}

void segue__validate_job_free(segue__validate_job *validation) {
  if (!validation) return;
  segue__mask_unref(validation->secrets);
  segue__mask_unref(validation->mask);
  segue__schema_unref(validation->schema);
  segue__document_unref(validation->doc);
  for (size_t i = 0; validation->uris && i < validation->with.count; i++)
    segue__free(validation->uris[i]);
  segue__free((void *)validation->uris);
  segue__documents_deinit(&validation->with);
  segue__config_unref(validation->config);
  segue_snapshot_unref(validation->live);
  segue__changes_deinit(&validation->changes);
  segue__errors_deinit(&validation->errors);
  segue__errors_deinit(&validation->warnings);
  segue__free(validation);
}

static int validate_compile(segue__validate_job *validation) {
  segue_error error;
  int rc = SEGUE_FAULT("check.schema");
  segue__schema_text text = {.doc = validation->doc,
                             .with = validation->with.items,
                             .with_count = validation->with.count,
                             .uris = (const char *const *)validation->uris,
                             .formats = validation->formats,
                             .limits = validation->limits};
  if (rc == 0)
    return segue__schema_text_compile(&text, &validation->schema, &validation->errors,
                                      &validation->warnings);
  segue__errorf(&error, rc, "the schema cannot be compiled: %s", segue_strerror(rc));
  segue__errors_add(&validation->errors, &error);
  return rc;
}

/* If the schema cannot be read, the secrets are unknown: then all values count as secret. */
static int find_secrets(segue__validate_job *validation, bool schema_known) {
  int rc = schema_known
               ? segue__mask_join(&validation->mask, validation->secrets, NULL, validation->schema)
               : segue__mask_all(&validation->mask);
  if (!rc && validation->mask) rc = segue__mask_learn_config(validation->mask, validation->config);
  if (rc) validation->lost = rc;
  return rc;
}

/* Defaults are filled in first, so that they are validated too and satisfy `required`. The changes
 * are computed again, because the live generation has its defaults. */
static int validate_fill(segue__validate_job *validation) {
  static const segue_node nothing = {.type = SEGUE_MAP};
  segue_error error = {0};
  segue__document *filled = NULL;
  segue__config *config = NULL;
  int rc = segue__schema_defaults(validation->schema, &validation->config->root, &filled, &error);
  if (rc) {
    segue__errors_add(&validation->errors, &error);
    return rc;
  }
  /* The schema that is kept may have been compiled from an older document of the same bytes. */
  size_t count;
  segue__document *const *documents = segue__schema_documents(validation->schema, &count);
  rc = segue__config_fill(&config, validation->config, filled, documents, count);
  segue__document_unref(filled);
  if (!rc)
    rc = segue__diff(validation->live ? segue_snapshot_root(validation->live) : &nothing,
                     &config->root, &validation->changes);
  if (rc) {
    segue__config_unref(config);
    validation->lost = rc;
    return rc;
  }
  segue__config_unref(validation->config);
  validation->config = config;
  validation->filled = true;
  return 0;
}

static void validate_run(segue__job *job) {
  segue__validate_job *validation = (segue__validate_job *)job;
  int compiled = !validation->doc || validation->schema ? 0 : validate_compile(validation);
  if (compiled < 0 && !validation->errors.total) validation->lost = compiled;
  bool known = compiled == 0;
  if (known && validation->doc && validation->defaults && validate_fill(validation) < 0) return;
  if (find_secrets(validation, known) < 0 || !known || !validation->doc) return;
  segue__findings findings = {0};
  segue__mask *shown = NULL; /* also hides the secrets of the live generation */
  validation->lost = segue__mask_join(&shown, validation->mask,
                                      validation->live ? validation->live->mask : NULL, NULL);
  if (validation->lost) return;
  segue__validate_options options = {.size = sizeof options,
                                     .config = validation->config,
                                     .mask = shown,
                                     .time_ms = validation->time_ms};
  int rc =
      segue__schema_validate(validation->schema, &validation->config->root, &findings, &options);
  for (size_t i = 0; i < findings.count; i++)
    segue__errors_add(&validation->errors, &findings.items[i].error);
  validation->errors.total += findings.total - findings.count;
  if (rc < 0 && !validation->errors.total) validation->lost = rc;
  segue__findings_deinit(&findings);
  segue__mask_unref(shown);
}

static void validate_keep(segue__engine *engine, segue__validate_job *validation) {
  for (size_t i = 0; i < validation->warnings.count; i++) {
    const segue_error *w = &validation->warnings.items[i];
    SEGUE__LOG(engine->log, SEGUE_WARN, "schema", w->message, SEGUE__FIELD("file", w->file),
               SEGUE__FIELD("line", w->line), SEGUE__FIELD("path", w->path));
  }
  if (!validation->doc || !validation->schema || validation->schema == engine->schema) return;
  segue__schema_unref(engine->schema);
  engine->schema = segue__schema_ref(validation->schema);
  engine->schema_hash = validation->schema_hash;
  engine->schema_formats = validation->formats;
}

static void validate_done(segue__job *job) {
  segue__validate_job *validation = (segue__validate_job *)job;
  validate_keep(validation->txn->engine, validation);
  validation->cb(validation->txn);
}

static void validate_abandoned(segue__job *job) {
  segue__validate_job_free((segue__validate_job *)job);
}

/* SPDX-License-Identifier: MIT
 *
 * The mask for errors of reading. A document that cannot be read has no config yet, so no value of
 * it was masked; but its error has a path, and the policy, the schema and the live generation are
 * known. The mask is built when the first error needs it: only then is a changed schema compiled
 * for it, on the worker, so that a run without errors costs nothing. If the mask cannot be built (a
 * schema that is missing or broken, no memory), no value is shown.
 */
#include <uv.h>

#include "../config/quote.h"
#include "collect.h"
#include "validate.h"

int segue__schema_text_compile(const segue__schema_text *text, segue__schema **out,
                               segue__errors *errors, segue__errors *warnings) {
  segue_error error = {0};
  int rc =
      text->doc->parsed ? 0 : segue__document_parse(text->doc, &text->limits, NULL, NULL, &error);
  for (size_t i = 0; i < text->with_count && !rc; i++)
    if (!text->with[i]->parsed)
      rc = segue__document_parse(text->with[i], &text->limits, NULL, NULL, &error);
  if (rc < 0) {
    segue__errors_add(errors, &error);
    return rc;
  }
  segue__schema_options options = {.size = sizeof options,
                                   .formats = text->formats,
                                   .warnings = warnings,
                                   .bundle = text->with,
                                   .bundle_uris = text->uris,
                                   .bundle_count = text->with_count};
  return segue__schema_new(out, text->doc, &options, errors);
}

/* The next schema, or NULL: it cannot be used. */
static segue__schema *error_mask_compile(segue__collect *collect) {
  const segue__policy *policy = collect->policy;
  size_t count = policy->schema_with_count;
  if (!collect->schema_doc || collect->schema_with.count != count) return NULL;
  if (collect->secrecy.schema &&
      segue__hash_equal(collect->secrecy.compiled_hash, collect->schema_hash))
    return segue__schema_ref(collect->secrecy.schema);
  const char **uris = (const char **)segue__calloc(count + 1, sizeof(char *));
  if (!uris) return NULL;
  for (size_t i = 0; i < count; i++)
    uris[i] = policy->schema_with[i].uri;
  segue__schema_text text = {.doc = collect->schema_doc,
                             .with = collect->schema_with.items,
                             .with_count = count,
                             .uris = uris,
                             .formats = !policy->formats_ignored};
  segue__schema *schema = NULL;
  segue__errors ignored; /* the check phase reports them */
  segue__errors_init(&ignored);
  segue__schema_text_compile(&text, &schema, &ignored, NULL);
  segue__errors_deinit(&ignored);
  segue__free((void *)uris);
  return schema;
}

static int make_mask(segue__collect *collect) {
  const segue__policy *policy = collect->policy;
  const segue__mask *live = collect->live ? collect->live->mask : NULL;
  segue__schema *schema = NULL;
  if (policy->schema && !(schema = error_mask_compile(collect))) return UV_ENOENT;
  int rc = segue__mask_join(&collect->secrecy.mask, policy->mask, live, schema);
  if (!rc && !collect->secrecy.mask) rc = segue__mask_none(&collect->secrecy.mask);
  segue__schema_unref(schema);
  return rc;
}

static const segue__mask *error_mask_mask_of(void *data) {
  segue__collect *collect = data;
  if (!collect->secrecy.tried) make_mask(collect);
  collect->secrecy.tried = true;
  return collect->secrecy.mask;
}

void segue__secrecy_clean(segue__collect *collect, segue__errors *errors) {
  const segue__mask *mask = errors->count ? error_mask_mask_of(collect) : NULL;
  for (size_t i = 0; i < errors->count; i++)
    if (mask)
      segue__mask_error(mask, &errors->items[i]);
    else
      errors->items[i].path[0] = 0; /* its keys may be those below a secret */
}

/* The schema of a policy that is not live has not been compiled yet, so that it may name secrets.
 */
bool segue__secrecy_is_none(const segue__engine *engine, const segue__policy *policy) {
  const segue__mask *live = engine->live ? engine->live->mask : NULL;
  segue__schema *schema = policy == engine->policy ? engine->schema : NULL;
  segue__mask *mask = NULL;
  segue__path root = {0};
  if (policy->schema && !schema) return false;
  if (segue__mask_join(&mask, policy->mask, live, policy->schema ? schema : NULL)) return false;
  bool none = !mask || segue__quote_allows(mask, &root, SEGUE__QUOTE_STRAY);
  segue__mask_unref(mask);
  return none;
}

void segue__secrecy_init(segue__collect *collect, const segue__engine *engine) {
  collect->limits.mask = error_mask_mask_of;
  collect->limits.mask_data = collect;
  if (!engine->schema || engine->schema_formats == collect->policy->formats_ignored) return;
  collect->secrecy.schema = segue__schema_ref(engine->schema);
  collect->secrecy.compiled_hash = engine->schema_hash;
}

void segue__secrecy_deinit(segue__collect *collect) {
  segue__mask_unref(collect->secrecy.mask);
  segue__schema_unref(collect->secrecy.schema);
}

/* SPDX-License-Identifier: MIT
 *
 * A schema and a value, a NUL between them: compiling and validating end within their limits, give
 * the same verdict with and without error messages, and a rejection always has a message.
 */
#include <assert.h>
#include <string.h>

#include "core/schema/schema.h"

static segue__document *parse(uint32_t id, const char *text, size_t len) {
  segue__limits limits = {.nodes = 3000, .depth = 60};
  segue__document *doc;
  assert(!segue__document_new(&doc, id, "", id == 1 ? "schema" : "file",
                              len && *text == '{' ? SEGUE__JSON : SEGUE__YAML,
                              segue__strndup(text, len), len));
  doc->foreign = true;
  if (!segue__document_parse(doc, &limits, NULL, NULL, NULL)) return doc;
  segue__document_unref(doc);
  return NULL;
}

static void validate(const segue__schema *schema, const segue__document *doc) {
  segue__findings findings = {0};
  segue__validate_options options = {
      .size = sizeof options, .document = doc, .steps = 20000, .time_ms = 60000};
  int rc = segue__schema_validate(schema, &doc->root, &findings, &options);
  assert((rc == 0) == (findings.total == 0));
  int quiet = segue__schema_validate(schema, &doc->root, NULL, &options);
  /* Writing messages takes more steps. */
  assert(rc == quiet || rc == SEGUE_ELIMIT);
  for (size_t i = 0; i < findings.count; i++) {
    char text[1024];
    segue_error_format(&findings.items[i].error, text, sizeof text);
    assert(findings.items[i].pointer && text[0]);
  }
  segue__findings_deinit(&findings);
  segue__document *filled = NULL;
  if (!segue__schema_defaults(schema, &doc->root, &filled, NULL)) segue__document_unref(filled);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
  if (!nul) return 0;
  segue__document *schema_doc = parse(1, (const char *)data, (size_t)(nul - data));
  if (!schema_doc) return 0;
  segue__errors errors, warnings;
  segue__errors_init(&errors);
  segue__errors_init(&warnings);
  segue__schema_options options = {
      .size = sizeof options, .formats = size & 1, .warnings = &warnings};
  segue__schema *schema = NULL;
  int rc = segue__schema_new(&schema, schema_doc, &options, &errors);
  assert((rc == 0) == (errors.total == 0) && (rc == 0) == (schema != NULL));
  segue__document *doc =
      rc ? NULL : parse(2, (const char *)nul + 1, size - (size_t)(nul + 1 - data));
  if (doc) validate(schema, doc);
  segue__document_unref(doc);
  segue__schema_unref(schema);
  segue__document_unref(schema_doc);
  segue__errors_deinit(&errors);
  segue__errors_deinit(&warnings);
  return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * schema SCHEMA FILE: how long it takes to validate a parsed JSON file by a compiled schema. Prints
 * "name value" lines: milliseconds, the best of several rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "os/os.h"
#include "schema/schema.h"

enum { ROUNDS = 15 };

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void fail(const segue_error *err) {
  fprintf(stderr, "%s:%u:%u: %s\n", err->file, err->line, err->column, err->message);
  exit(1);
}

static segue__document *load(const char *path, uint32_t id) {
  const segue__os *os = segue__os_default();
  segue__bytes bytes = {0};
  segue__document *doc;
  segue_error err;
  if (os->read_file(os->data, path, 64 << 20, &bytes, &err)) fail(&err);
  if (segue__document_new(&doc, id, "", path, SEGUE__JSON, bytes.data, bytes.len)) exit(1);
  doc->foreign = true;
  if (segue__document_parse(doc, NULL, NULL, NULL, &err)) fail(&err);
  return doc;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: schema SCHEMA FILE\n");
    return 2;
  }
  segue__document *schema_doc = load(argv[1], 1), *doc = load(argv[2], 2);
  segue__schema *schema;
  segue__errors errors;
  segue__errors_init(&errors);
  segue__schema_options options = {.size = sizeof options, .formats = true};
  if (segue__schema_new(&schema, schema_doc, &options, &errors)) fail(&errors.items[0]);
  double best = 1e9;
  for (int i = 0; i < ROUNDS; i++) {
    segue__findings findings = {0};
    double began = now_ms();
    int rc = segue__schema_validate(schema, &doc->root, &findings, NULL);
    double took = now_ms() - began;
    if (rc) fail(&findings.items[0].error);
    if (took < best) best = took;
  }
  printf("segue %.4f\n", best);
  segue__schema_unref(schema);
  segue__document_unref(schema_doc);
  segue__document_unref(doc);
  return 0;
}

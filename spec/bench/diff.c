/* SPDX-License-Identifier: MIT
 *
 * diff FILE FILE2: two JSON documents of which one key differs. How long it takes to merge the
 * second one and to find what changed, and to parse it, for comparison. Prints "name value" lines,
 * milliseconds, the best of several rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "config/config.h"

enum { ROUNDS = 9 };

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static char *read_all(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) exit(2);
  long size = ftell(file);
  rewind(file);
  char *data = segue__malloc((size_t)size + 1);
  if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) exit(2);
  fclose(file);
  data[size] = 0;
  *len = (size_t)size;
  return data;
}

static segue__document *parse(const char *path, uint32_t id, double *took) {
  size_t len;
  char *data = read_all(path, &len);
  segue__document *doc;
  segue_error err;
  if (segue__document_new(&doc, id, "bench", path, SEGUE__JSON, data, len)) exit(1);
  double began = now_ms();
  if (segue__document_parse(doc, NULL, NULL, NULL, &err)) {
    fprintf(stderr, "%s\n", err.message);
    exit(1);
  }
  *took = now_ms() - began;
  return doc;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: diff FILE FILE2\n");
    return 2;
  }
  double parsed, ignored, best = 1e9;
  segue__document *old_doc = parse(argv[1], 1, &ignored);
  segue__document *new_doc = parse(argv[2], 2, &parsed);
  segue__config *old_config;
  if (segue__config_merge(&old_config, &old_doc, 1, NULL)) return 1;
  for (int i = 0; i < ROUNDS; i++) {
    segue__config *new_config;
    segue__changes changes = {0};
    double began = now_ms();
    if (segue__config_merge(&new_config, &new_doc, 1, NULL)) return 1;
    if (segue__diff(&old_config->root, &new_config->root, &changes)) return 1;
    double took = now_ms() - began;
    if (changes.total != 1) {
      fprintf(stderr, "expected 1 change, found %zu\n", changes.total);
      return 1;
    }
    if (took < best) best = took;
    segue__changes_deinit(&changes);
    segue__config_unref(new_config);
  }
  printf("diff %.4f\nparse %.4f\n", best, parsed);
  segue__config_unref(old_config);
  segue__document_unref(old_doc);
  segue__document_unref(new_doc);
  return 0;
}

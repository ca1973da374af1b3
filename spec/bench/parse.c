/* SPDX-License-Identifier: MIT
 *
 * parse FILE yaml|json: how fast a document becomes a tree with positions and hashes, beside
 * libyaml's bare events for YAML. Prints "name value" lines, MB/s, the best of several rounds:
 * neighbours on the machine can only make a round slower.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <yaml.h>

#include "config/tree.h"

enum { ROUNDS = 7 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static char *read_all(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) return NULL;
  long size = ftell(file);
  rewind(file);
  char *data = segue__malloc((size_t)size + 1);
  if (data && fread(data, 1, (size_t)size, file) != (size_t)size) {
    segue__free(data);
    data = NULL;
  }
  fclose(file);
  if (data) data[size] = 0;
  *len = (size_t)size;
  return data;
}

static double parse_once(const char *data, size_t len, segue__format format) {
  char *copy = segue__malloc(len + 1);
  segue__document *doc = NULL;
  segue_error err;
  if (!copy) exit(1);
  memcpy(copy, data, len + 1);
  if (segue__document_new(&doc, 1, "bench", "bench", format, copy, len)) exit(1);
  double began = now();
  int rc = segue__document_parse(doc, NULL, NULL, NULL, &err);
  double took = now() - began;
  if (rc) {
    fprintf(stderr, "%s:%u:%u: %s\n", err.file, err.line, err.column, err.message);
    exit(1);
  }
  segue__document_unref(doc);
  return took;
}

static double events_once(const char *data, size_t len) {
  yaml_parser_t parser;
  yaml_event_t event;
  bool done = false;
  if (!yaml_parser_initialize(&parser)) exit(1);
  yaml_parser_set_input_string(&parser, (const unsigned char *)data, len);
  double began = now();
  while (!done) {
    if (!yaml_parser_parse(&parser, &event)) exit(1);
    done = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
  }
  double took = now() - began;
  yaml_parser_delete(&parser);
  return took;
}

int main(int argc, char **argv) {
  size_t len = 0;
  char *data = argc == 3 ? read_all(argv[1], &len) : NULL;
  if (!data) {
    fprintf(stderr, "usage: parse FILE yaml|json\n");
    return 2;
  }
  bool yaml = !strcmp(argv[2], "yaml");
  double ours = 1e9, events = 1e9;
  for (int i = 0; i < ROUNDS; i++) {
    double took = parse_once(data, len, yaml ? SEGUE__YAML : SEGUE__JSON);
    if (took < ours) ours = took;
    took = yaml ? events_once(data, len) : 1;
    if (took < events) events = took;
  }
  double mb = (double)len / 1e6;
  printf("segue %.2f\n", mb / ours);
  if (yaml) printf("events %.2f\n", mb / events);
  segue__free(data);
  return 0;
}

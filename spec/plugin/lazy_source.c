/* SPDX-License-Identifier: MIT
 *
 * A source for specs that delivers on demand: for each name that it gets, such as "services/api",
 * the file services.api of its folder, if it is there. It appends the lists of names to the file
 * `names` of the folder.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segue.h"

typedef struct lazy {
  char *folder;
  char names[16][128];
  size_t count;
} lazy;

static const segue_option rows[] = {{.name = "folder",
                                     .type = SEGUE_OPTION_PATH,
                                     .offset = offsetof(lazy, folder),
                                     .flags = SEGUE_OPTION_REQUIRED,
                                     .example = "folder = \"store\"",
                                     .doc = "the folder of the files"}};
static const segue_option_table table = {SEGUE_OPTION_ROWS(lazy, rows), .name = "lazy",
                                         .doc = "Files on demand."};

static int lazy_open(void *userdata, const char *name, const segue_node *options, void *filled,
                     void **instance, segue_error *error) {
  (void)userdata, (void)name, (void)options, (void)error;
  *instance = filled;
  return 0;
}

/* "{services: {api: CONTENT}}" */
static int add_name(const lazy *source, const char *name, segue_delivery *out) {
  char path[512], content[1024] = "", text[2048] = "";
  size_t used = 0, depth = 1;
  snprintf(path, sizeof path, "%s/%s", source->folder, name);
  for (char *at = path + strlen(source->folder) + 1; *at; at++)
    if (*at == '/') *at = '.';
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  content[fread(content, 1, sizeof content - 1, file)] = 0;
  fclose(file);
  used += (size_t)snprintf(text, sizeof text, "{");
  for (const char *at = name; *at; at++) {
    used += (size_t)snprintf(text + used, sizeof text - used, *at == '/' ? ": {" : "%c", *at);
    depth += *at == '/';
  }
  used += (size_t)snprintf(text + used, sizeof text - used, ": %s", content);
  while (depth--)
    used += (size_t)snprintf(text + used, sizeof text - used, "}");
  return segue_delivery_add(out, name, "yaml", text, used);
}

static void lazy_fetch(void *instance, const char *revision, segue_delivery *out, segue_op *op) {
  const lazy *source = instance;
  int rc = segue_delivery_add(out, "always", "yaml", "always: 1\n", 10);
  (void)revision;
  for (size_t i = 0; i < source->count && !rc; i++)
    rc = add_name(source, source->names[i], out);
  segue_op_done(op, rc, NULL);
}

static void lazy_want(void *instance, const char *const *names, size_t count) {
  lazy *source = instance;
  char path[512];
  snprintf(path, sizeof path, "%s/names", source->folder);
  FILE *file = fopen(path, "a");
  source->count = count < 16 ? count : 16;
  for (size_t i = 0; i < source->count; i++) {
    snprintf(source->names[i], sizeof source->names[i], "%s", names[i]);
    if (file) fprintf(file, "%s%s", i ? " " : "", names[i]);
  }
  if (file) fprintf(file, "\n");
  if (file) fclose(file);
}

static const segue_source_ops ops = {
    .size = sizeof(segue_source_ops), .open = lazy_open, .fetch = lazy_fetch, .want = lazy_want};

SEGUE_API extern const segue_source_descriptor segue_source;
const segue_source_descriptor segue_source = {.magic = SEGUE_SOURCE_MAGIC,
                                              .abi = SEGUE_SOURCE_ABI,
                                              .size = sizeof(segue_source_descriptor),
                                              .name = "lazy",
                                              .version = "1",
                                              .options = &table,
                                              .ops = &ops};

/* SPDX-License-Identifier: MIT
 *
 * path.h: paths into a tree: listen[0].port, a."odd key".b ("\"" and "\\" are escaped inside the
 * quotes). Keys need quotes unless they are made of letters, digits, "_", "-", "/", ":" and bytes
 * above 127. The empty path is the root. [any thread]
 */
#ifndef SEGUE_CONFIG_PATH_H
#define SEGUE_CONFIG_PATH_H

#include "../os/error.h"
#include "../os/mem.h"

typedef struct segue__path_step {
  const char *key; /* unescaped, in the path's own memory; NULL: index */
  size_t key_len, index;
} segue__path_step;

typedef struct segue__path {
  segue__path_step *steps;
  size_t count;
  char *text; /* backing of the keys */
} segue__path;

int segue__path_parse(segue__path *out, const char *text, segue_error *err);
void segue__path_deinit(segue__path *path);
const segue_node *segue__path_find(const segue__path *path, const segue_node *root);
/* Appends ".key" (quoted where needed, no dot at the start) or "[index]". */
void segue__path_add_key(segue__buf *b, const char *key, size_t len);
void segue__path_add_index(segue__buf *b, size_t index);

#endif

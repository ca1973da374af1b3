/* SPDX-License-Identifier: MIT
 *
 * The files of the Lua half, read once into an immutable list of paths and texts.
 */
#include "library.h"

#include <glob.h>
#include <string.h>
#include <uv.h>

#include "../../os/mem.h"

enum { FILE_MAX = 4 * 1024 * 1024 };

typedef struct entry {
  char *path;
  segue__bytes bytes;
} entry;

struct segue__library {
  entry *entries;
  size_t count, capacity;
};

static int library_add(segue__library *library, const segue__os *os, const char *path) {
  segue_error ignored;
  if (library->count == library->capacity) {
    size_t capacity = library->capacity + 64;
    entry *entries = segue__realloc(library->entries, capacity * sizeof *entries);
    if (!entries) return UV_ENOMEM;
    library->entries = entries;
    library->capacity = capacity;
  }
  entry e = {.path = segue__strdup(path)};
  if (!e.path) return UV_ENOMEM;
  if (os->read_file(os->data, path, FILE_MAX, &e.bytes, &ignored)) {
    segue__free(e.path);
    return 0;
  }
  library->entries[library->count++] = e;
  return 0;
}

/* By glob(3), because os->list_files takes a pattern for the last part of a path only. */
static int add_all(segue__library *library, const segue__os *os, const char *lua_dir,
                   const char *below) {
  segue__buf pattern;
  glob_t found = {0};
  segue__buf_init(&pattern);
  segue__buf_addf(&pattern, "%s/%s", lua_dir, below);
  int rc = pattern.failed ? UV_ENOMEM : 0;
  if (!rc && glob(pattern.data, 0, NULL, &found) == GLOB_NOSPACE) rc = UV_ENOMEM;
  for (size_t i = 0; i < found.gl_pathc && !rc; i++)
    rc = library_add(library, os, found.gl_pathv[i]);
  globfree(&found);
  segue__buf_deinit(&pattern);
  return rc;
}

int segue__library_new(segue__library **out, const segue__os *os, const char *lua_dir) {
  static const char *const below[] = {"segue/*.lua", "segue/*/*.lua", "../plugins/*/*.lua"};
  segue__library *library = segue__calloc(1, sizeof *library);
  int rc = library ? 0 : UV_ENOMEM;
  for (size_t i = 0; i < sizeof below / sizeof *below && !rc; i++)
    rc = add_all(library, os, lua_dir, below[i]);
  if (rc) {
    segue__library_free(library);
    library = NULL;
  }
  *out = library;
  return rc;
}

void segue__library_free(segue__library *library) {
  for (size_t i = 0; library && i < library->count; i++) {
    segue__free(library->entries[i].path);
    segue__free(library->entries[i].bytes.data);
  }
  if (library) segue__free(library->entries);
  segue__free(library);
}

const char *segue__library_find(const segue__library *library, const char *path, size_t *len) {
  for (size_t i = 0; library && i < library->count; i++) {
    if (strcmp(library->entries[i].path, path)) continue;
    *len = library->entries[i].bytes.len;
    return library->entries[i].bytes.data;
  }
  return NULL;
}

const char *segue__library_plugin(const segue__library *library, size_t i, size_t *len) {
  for (size_t k = 0; library && k < library->count; k++) {
    const entry *e = &library->entries[k];
    if (!strstr(e->path, "/../plugins/") || i--) continue;
    *len = e->bytes.len;
    return e->bytes.data;
  }
  return NULL;
}

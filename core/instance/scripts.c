/* SPDX-License-Identifier: MIT
 *
 * Where the Lua half is: in the tree that the program was built in (build/segue, build/asan/segue:
 * some folders above it), or where `make install` put it, beside the program or at the prefix.
 */
#include "scripts.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../segue.h"

#ifndef SEGUE_PREFIX
#define SEGUE_PREFIX "/usr/local"
#endif

static bool is_lua_half(const char *folder) {
  char probe[PATH_MAX * 2];
  snprintf(probe, sizeof probe, "%s/segue/init.lua", folder);
  return access(probe, R_OK) == 0;
}

/* Looks around a program or library at path. */
static bool beside(const char *path, char *out) {
  static const char *const places[] = {"../lua", "../../lua", "../../../lua", "../share/segue/lua"};
  char folder[PATH_MAX], probe[PATH_MAX + 32];
  if (!realpath(path, folder)) return false;
  *strrchr(folder, '/') = 0;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    snprintf(probe, sizeof probe, "%s/%s", folder, places[i]);
    if (is_lua_half(probe) && realpath(probe, out)) return true;
  }
  return false;
}

int segue__scripts_find(const char *given, char **out, segue_error *err) {
  char found[PATH_MAX];
  Dl_info library;
  const char *env = getenv("SEGUE_LUA_DIR");
  *out = NULL;
  if (!given && env && *env) given = env;
  if (given && !is_lua_half(given))
    return segue__error_set(err, UV_ENOENT,
                            "there is no Lua half of segue in %s: no segue/init.lua", given);
  if (given)
    snprintf(found, sizeof found, "%s", given);
  else if (!beside("/proc/self/exe", found) &&
           !(dladdr((void *)(size_t)segue_version, &library) && beside(library.dli_fname, found))) {
    snprintf(found, sizeof found, "%s", SEGUE_PREFIX "/share/segue/lua");
    if (!is_lua_half(found))
      return segue__error_set(err, UV_ENOENT,
                              "the Lua half of segue is neither near the program nor in %s: say "
                              "where it is with --lua-dir or $SEGUE_LUA_DIR",
                              found);
  }
  *out = segue__strdup(found);
  return *out ? 0 : segue__error_set(err, UV_ENOMEM, "out of memory");
}

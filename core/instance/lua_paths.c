/* SPDX-License-Identifier: MIT
 *
 * Where the Lua half and the plugins are: in the tree that the program was built in (build/segue,
 * build/asan/segue: the Lua half some folders above it), or where `make install` put them, beside
 * the program or at the prefix.
 */
#include "lua_paths.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

static bool lua_paths_is_folder(const char *folder) {
  struct stat st;
  return stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Looks around a program or library at path, in places that end with NULL. */
static bool lua_paths_beside(const char *path, const char *const *places,
                             bool (*is_it)(const char *), char *out) {
  char folder[PATH_MAX], probe[PATH_MAX + 32];
  if (!realpath(path, folder)) return false;
  *strrchr(folder, '/') = 0;
  for (; *places; places++) {
    snprintf(probe, sizeof probe, "%s/%s", folder, *places);
    if (is_it(probe) && realpath(probe, out)) return true;
  }
  return false;
}

static bool lua_paths_around(const char *const *places, bool (*is_it)(const char *), char *out) {
  Dl_info library;
  return lua_paths_beside("/proc/self/exe", places, is_it, out) ||
         (dladdr((void *)(size_t)segue_version, &library) &&
          lua_paths_beside(library.dli_fname, places, is_it, out));
}

int segue__lua_paths_find(const char *given, char **out, segue_error *err) {
  static const char *const places[] = {"../lua", "../../lua", "../../../lua", "../share/segue/lua",
                                       NULL};
  char found[PATH_MAX];
  const char *env = getenv("SEGUE_LUA_DIR");
  *out = NULL;
  if (!given && env && *env) given = env;
  if (given && !is_lua_half(given))
    return segue__errorf(err, UV_ENOENT,
                         "%s does not contain the Lua files of segue (segue/init.lua)", given);
  if (given)
    snprintf(found, sizeof found, "%s", given);
  else if (!lua_paths_around(places, is_lua_half, found)) {
    snprintf(found, sizeof found, "%s", SEGUE_PREFIX "/share/segue/lua");
    if (!is_lua_half(found))
      return segue__errorf(err, UV_ENOENT,
                           "the Lua half of segue is neither near the program nor in %s: set "
                           "its folder (option lua_dir, or $SEGUE_LUA_DIR)",
                           found);
  }
  *out = segue__strdup(found);
  return *out ? 0 : segue__errorf(err, UV_ENOMEM, "out of memory");
}

int segue__plugin_dir_find(char **out, segue_error *err) {
  static const char *const places[] = {"plugins", "../plugins", "../lib/segue/plugins",
                                       "segue/plugins", NULL};
  char found[PATH_MAX];
  const char *env = getenv("SEGUE_PLUGIN_DIR");
  *out = NULL;
  if (env && *env)
    snprintf(found, sizeof found, "%s", env);
  else if (!lua_paths_around(places, lua_paths_is_folder, found))
    snprintf(found, sizeof found, "%s", SEGUE_PREFIX "/lib/segue/plugins");
  if (!lua_paths_is_folder(found)) return 0;
  *out = segue__strdup(found);
  return *out ? 0 : segue__errorf(err, UV_ENOMEM, "out of memory");
}

/* SPDX-License-Identifier: MIT
 *
 * Finding libcurl and its functions, once for the process.
 */
#include "libcurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <uv.h>

static segue__curl curl;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool loaded;

static bool libcurl_find(void *library, const char *name, void *out) {
  char plain[64];
  size_t n = 0;
  for (; *name && n + 1 < sizeof plain; name++) {
    if (*name != '(' && *name != ')') plain[n++] = *name;
  }
  plain[n] = 0;
  void *symbol = dlsym(library, plain);
  memcpy(out, &symbol, sizeof symbol);
  return symbol != NULL;
}

static void libcurl_load(void) {
  void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  loaded = lib != NULL;
#define X(name, function) loaded = loaded && libcurl_find(lib, #function, &curl.name);
  SEGUE__CURL_FUNCTIONS(X)
#undef X
  loaded = loaded && curl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

const segue__curl *segue__curl_load(segue_error *err) {
  pthread_once(&once, libcurl_load);
  if (loaded) return &curl;
  segue__errorf(err, UV_ENOSYS, "libcurl.so.4 cannot be loaded: install the package libcurl4");
  return NULL;
}

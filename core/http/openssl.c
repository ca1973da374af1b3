/* SPDX-License-Identifier: MIT
 *
 * Loads OpenSSL and finds its functions, once for the process. libssl depends on libcrypto, so a
 * search in the handle of libssl finds the functions of both.
 */
#include "openssl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <uv.h>

static segue__openssl openssl;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool loaded;

static bool openssl_find(void *library, const char *name, void *out) {
  void *symbol = dlsym(library, name);
  memcpy(out, &symbol, sizeof symbol);
  return symbol != NULL;
}

static void openssl_load(void) {
  void *lib = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
  loaded = lib != NULL;
#define X(name) loaded = loaded && openssl_find(lib, #name, &openssl.name);
  SEGUE__OPENSSL_FUNCTIONS(X)
#undef X
}

const segue__openssl *segue__openssl_load(segue_error *err) {
  pthread_once(&once, openssl_load);
  if (loaded) return &openssl;
  segue__errorf(err, UV_ENOSYS, "libssl.so.3 cannot be loaded: install the package libssl3");
  return NULL;
}

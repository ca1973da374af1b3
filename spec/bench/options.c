/* SPDX-License-Identifier: MIT
 *
 * options LUA_DIR POLICY SMALL: the time to load two policies with the loader of the daemon. Both
 * build the same tables; the second returns one module of them. So the difference is the time for
 * making a tree of the tables, finding their lines in the text, validating them by the tables of
 * options and filling the structs. Prints "name value" lines: milliseconds, the best of several
 * rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "bind/policy/loader.h"

enum { ROUNDS = 25, MODULES = 200 };

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double load_ms(segue__lua_loader *lua, const char *path) {
  segue__policy_loader loader = segue__lua_loader_get(lua);
  double best = 1e9;
  for (int i = 0; i < ROUNDS; i++) {
    segue__policy *policy;
    segue__errors errors;
    segue__errors_init(&errors);
    double began = now_ms();
    int rc = loader.load(loader.data, path, &policy, &errors);
    double took = now_ms() - began;
    if (rc) {
      fprintf(stderr, "%s: %s\n", path, errors.count ? errors.items[0].message : "out of memory");
      exit(1);
    }
    if (took < best) best = took;
    segue__policy_unref(policy);
    segue__errors_deinit(&errors);
  }
  return best;
}

int main(int argc, char **argv) {
  static const segue_module_ops ops = {.size = sizeof ops};
  static segue__host_module modules[MODULES];
  static char names[MODULES][16];
  uv_loop_t uv;
  segue__loop *loop;
  segue__lua_loader *lua;
  if (argc != 4) {
    fprintf(stderr, "usage: options LUA_DIR POLICY SMALL\n");
    return 2;
  }
  for (int i = 0; i < MODULES; i++) {
    snprintf(names[i], sizeof names[i], "m%d", i + 1);
    modules[i] = (segue__host_module){.name = names[i], .ops = &ops};
  }
  const segue__c_modules registered = {.host = {modules, MODULES}};
  const segue__module_kind kind = segue__module_kind_c(&registered);
  segue__lua_options options = {
      .size = sizeof options, .lua_dir = argv[1], .kinds = &kind, .kind_count = 1};
  if (uv_loop_init(&uv) || segue__loop_open_uv(&loop, &uv) ||
      segue__lua_loader_new(&lua, loop, NULL, NULL, &options))
    return 1;
  double all = load_ms(lua, argv[2]), one = load_ms(lua, argv[3]);
  printf("all %.4f\nvalidated %.4f\n", all, all - one);
  segue__lua_loader_free(lua);
  segue__loop_close(loop, NULL, NULL);
  uv_run(&uv, UV_RUN_DEFAULT);
  return uv_loop_close(&uv) ? 1 : 0;
}

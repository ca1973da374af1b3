/* SPDX-License-Identifier: MIT
 *
 * testing.h: runs specs of policies (`segue test`): busted in a Lua state of its own, with
 * segue.testing, which gives rehearsals (rehearsal.h) to it.
 */
#ifndef SEGUE_BIND_TESTING_H
#define SEGUE_BIND_TESTING_H

#include "../../reload/policy.h"

typedef struct segue__testing_options {
  size_t size;
  const char *lua_dir;
  const char *policy;      /* default policy of segue.testing.policy() */
  const char *replay;      /* recorded incident to replay instead of running specs; NULL: none */
  const char *const *args; /* files and folders; NULL-terminated */
  bool json;
  int signal; /* as in segue__lua_options */
  /* Further validation of a loaded policy; may be NULL. */
  int (*validate)(segue__policy *policy, const segue__os *os, segue__errors *errors);
} segue__testing_options;

/* Sets *verdict to 0 if all specs passed, else to 1. Returns a negative code, and sets err, if they
 * cannot be run. Specs are trusted: they run with all of Lua's libraries, without limits, and print
 * to standard output. */
int segue__testing_run(const segue__testing_options *options, int *verdict, segue_error *err);

#endif

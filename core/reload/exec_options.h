/* SPDX-License-Identifier: MIT
 *
 * exec_options.h: the option `exec` of a policy: how the child of `segue exec` follows the
 * configuration.
 */
#ifndef SEGUE_RELOAD_EXEC_OPTIONS_H
#define SEGUE_RELOAD_EXEC_OPTIONS_H

#include "../options/options.h"

typedef struct segue__exec_pairs {
  segue_option_pair *items;
  size_t count;
} segue__exec_pairs;

/* Zeroed: every default. */
typedef struct segue__exec_options {
  bool reload_given; /* false: a change restarts the child */
  int reload_signal; /* index of a choice: 0 is "none", then those of os/signal_names.h */
  bool at_once;      /* no wait for the handler of reload_signal */
  bool kill_given;   /* false: TERM */
  int kill_signal;   /* index of a choice of os/signal_names.h */
  bool kill_time_given;
  uint64_t kill_ms, splay_ms;
  bool group;
  char *config; /* NULL: see the manual */
  segue__exec_pairs env, env_from;
} segue__exec_options;

#define SEGUE__EXEC_KILL_MS 10000

extern const segue_option_table segue__exec_table;

#endif

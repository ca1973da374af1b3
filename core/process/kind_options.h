/* SPDX-License-Identifier: MIT
 *
 * kind_options.h: the options of a module of the kind "process".
 */
#ifndef SEGUE_PROCESS_KIND_OPTIONS_H
#define SEGUE_PROCESS_KIND_OPTIONS_H

#include "../files/effect.h"
#include "../options/options.h"

typedef enum segue__slice_way {
  SEGUE__SLICE_NONE,
  SEGUE__SLICE_FILE,
  SEGUE__SLICE_STDIN,
  SEGUE__SLICE_ENV
} segue__slice_way;

typedef enum segue__restart_rule {
  SEGUE__RESTART_ALWAYS,
  SEGUE__RESTART_ON_FAILURE,
  SEGUE__RESTART_NEVER
} segue__restart_rule;

typedef struct segue__ready_options {
  int by; /* index: exec, notify, fd */
  char *line, *port, *http;
  segue__effect command;
  uint64_t within_ms;
  bool from_all; /* messages of the child's own children count too */
} segue__ready_options;

/* A reload of the child where only its part of the configuration has changed. */
typedef struct segue__child_reload_options {
  int signal; /* index: restart, none, then the signals of kind_action.c */
  bool notify;
  char *http;
  segue__effect command;
  uint64_t within_ms;
} segue__child_reload_options;
enum { SEGUE__RELOAD_RESTART, SEGUE__RELOAD_NONE, SEGUE__RELOAD_SIGNALS };

typedef struct segue__process_kind_options {
  segue__effect_texts argv;
  segue__effect_pairs env, limits, sockets;
  char *cwd, *user, *group_name;
  unsigned umask;
  int64_t nice, oom;
  bool has_umask, has_nice, has_oom;
  int slice; /* segue__slice_way */
  bool out_dropped, err_dropped;
  double lines_per_s;
  uint64_t line_bytes;
  int kill_signal; /* index of a choice */
  uint64_t kill_ms;
  bool group;
  segue__ready_options ready;
  segue__child_reload_options reload;
  int restart; /* segue__restart_rule */
  struct {
    int64_t *items;
    size_t count;
  } success; /* exit codes */
  uint64_t budget_count, budget_ms, backoff_min_ms, backoff_max_ms, stable_ms;
  uint64_t watchdog_ms; /* 0: none */
} segue__process_kind_options;

enum { SEGUE__CHILD_SOCKETS = 64 };
extern const segue_option_table segue__process_kind_table;

#endif

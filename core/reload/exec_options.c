/* SPDX-License-Identifier: MIT
 *
 * The option `exec` of a policy. It is validated with the policy also where no child runs, so that
 * `segue check` reports its mistakes.
 */
#include "exec_options.h"

#include <stddef.h>
#include <string.h>

#include "../options/command_rows.h"
#include "../os/signal_names.h"

#define AT(field) .offset = offsetof(segue__exec_options, field)
#define GIVEN(field) .given = 1 + offsetof(segue__exec_options, field)
static const segue_option exec_rows[] = {
    {.name = "reload_signal",
     .type = SEGUE_OPTION_CHOICE,
     AT(reload_signal),
     GIVEN(reload_given),
     .choices = "none|" SEGUE__SIGNAL_CHOICES,
     .absent = "the child is restarted",
     .doc = "the signal for the child after a change; none: a change does not touch the child"},
    {.name = "reload_at_once",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(at_once),
     .fallback = "false",
     .doc = "send reload_signal without a wait for its handler, for a program that reads signals "
            "with sigwait(3), which cannot be seen from outside; one that is not ready yet is "
            "ended by the signal"},
    {.name = "kill_signal",
     .type = SEGUE_OPTION_CHOICE,
     AT(kill_signal),
     GIVEN(kill_given),
     .choices = SEGUE__SIGNAL_CHOICES,
     .absent = "TERM",
     .doc = "the signal that stops the child"},
    {.name = "kill_timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(kill_ms),
     GIVEN(kill_time_given),
     .min = 1,
     .absent = "10s",
     .doc = "how long the child may take to stop, before its process group gets KILL"},
    {.name = "splay",
     .type = SEGUE_OPTION_DURATION,
     AT(splay_ms),
     .fallback = "0s",
     .doc = "the longest random delay before a reload or restart of the child, so that many hosts "
            "do not act at once"},
    {.name = "group",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(group),
     .fallback = "false",
     .doc = "send signals to the whole process group, for a shell that does not pass them on"},
    {.name = "config",
     .type = SEGUE_OPTION_TEXT,
     AT(config),
     .absent = "all of it, or nothing where modules render files without apply",
     .doc = "the part of the configuration whose changes reload the child, besides rendered files"},
    {.name = "env",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_FALSE | SEGUE_OPTION_NUMBERS,
     AT(env),
     .doc = "variables of the child's environment; false removes one"},
    {.name = "env_from",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     AT(env_from),
     .doc = "variables by the path of their value in the configuration; a change restarts the "
            "child"},
};
#undef GIVEN
#undef AT

static void exec_check(void *options, segue_option_report *report) {
  const segue__exec_options *exec = options;
  segue__options_check_variables(exec->env.items, exec->env.count, "env", report);
  segue__options_check_variables(exec->env_from.items, exec->env_from.count, "env_from", report);
}

const segue_option_table segue__exec_table = {
    SEGUE_OPTION_ROWS(segue__exec_options, exec_rows), .name = "exec", .check = exec_check,
    .doc = "The child of segue exec. Other commands ignore it."};

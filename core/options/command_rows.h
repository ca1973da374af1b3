/* SPDX-License-Identifier: MIT
 *
 * command_rows.h: rows and checks that all options of commands share: of segue.run, of the commands
 * that check and apply files, and of the child of segue exec.
 */
#ifndef SEGUE_OPTIONS_COMMAND_ROWS_H
#define SEGUE_OPTIONS_COMMAND_ROWS_H

#include "options.h"

/* at_: a macro for the place of a field. */
#define SEGUE__COMMAND_ROWS(at_)                                                                   \
  {.name = "shell",                                                                                \
   .type = SEGUE_OPTION_TEXT,                                                                      \
   at_(shell),                                                                                     \
   .doc = "a line for /bin/sh -c, instead of argv"},                                               \
      {.name = "env",                                                                              \
       .type = SEGUE_OPTION_MAP,                                                                   \
       .of = SEGUE_OPTION_STRING,                                                                  \
       .flags = SEGUE_OPTION_FALSE | SEGUE_OPTION_NUMBERS,                                         \
       at_(env),                                                                                   \
       .doc = "added to the daemon's environment; false removes a variable"},                      \
  {                                                                                                \
    .name = "user", .type = SEGUE_OPTION_TEXT, at_(user), .absent = "the daemon's",                \
    .doc = "the user that it runs as, a name or number; needs a daemon that runs as root"          \
  }

/* The keys of env and of similar options are names of variables. option: its name. */
void segue__options_check_variables(const segue_option_pair *variables, size_t count,
                                    const char *option, segue_option_report *report);

#endif

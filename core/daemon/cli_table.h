/* SPDX-License-Identifier: MIT
 *
 * cli_table.h: the command line as tables (cli.c), which the parser, the help and the completions
 * of the shells read.
 */
#ifndef SEGUE_DAEMON_CLI_TABLE_H
#define SEGUE_DAEMON_CLI_TABLE_H

#include "cli.h"

typedef struct segue__command {
  const char *name, *arguments, *summary, *detail;
  int (*run)(const segue__cli *cli);
  unsigned options;
  int max_args;
} segue__command;

typedef struct segue__cli_option_spec {
  const char *name;  /* without the dashes */
  char letter;       /* 0: none */
  const char *value; /* what it takes; NULL: it is a flag */
  const char *summary;
  unsigned mask; /* 0: every command */
  size_t offset; /* of its field in segue__cli */
} segue__cli_option_spec;

/* NULL past the end. */
const segue__command *segue__cli_command(size_t index);
const segue__cli_option_spec *segue__cli_option(size_t index);
bool segue__cli_accepts(const segue__command *command, const segue__cli_option_spec *option);

#endif

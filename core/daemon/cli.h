/* SPDX-License-Identifier: MIT
 *
 * cli.h: what the files of the command line share: the options after parsing, exit codes, and one
 * function for each command.
 */
#ifndef SEGUE_DAEMON_CLI_H
#define SEGUE_DAEMON_CLI_H

#include <stdbool.h>

#include "../os/mem.h"
#include "../segue.h"

/* What a script and systemd see. */
enum {
  SEGUE__EXIT_OK = 0, /* applied or unchanged */
  SEGUE__EXIT_UNEXPECTED = 1,
  SEGUE__EXIT_USAGE = 2,
  SEGUE__EXIT_REJECTED = 3,
  SEGUE__EXIT_FAILED = 4, /* failed or reverted; a start that could not get what it needs */
  SEGUE__EXIT_UNREACHABLE = 5,
  SEGUE__EXIT_REFUSED = 6 /* held, conflict, put off, not kept */
};

typedef struct segue__cli {
  const char *policy, *state, *socket, *lua_dir, *log_format, *log_level, *wait, *if_match, *schema,
      *replay, *limit, *duration, *url, *token_file, *cacert, *cert, *key;
  bool json, force, accept_shrink, help, formats, audit;
  const char *with[32];
  int with_count;
  const char *args[4];
  int arg_count;
} segue__cli;

/* Each returns an exit code. */
int segue__cli_run(const segue__cli *cli);
int segue__cli_check(const segue__cli *cli);
int segue__cli_judge(const segue__cli *cli); /* check --schema */
int segue__cli_plan(const segue__cli *cli);
int segue__cli_reload(const segue__cli *cli);
int segue__cli_status(const segue__cli *cli);
int segue__cli_diff(const segue__cli *cli);
int segue__cli_history(const segue__cli *cli);
int segue__cli_why(const segue__cli *cli);
int segue__cli_rollback(const segue__cli *cli);
int segue__cli_confirm(const segue__cli *cli);
int segue__cli_freeze(const segue__cli *cli);
int segue__cli_unfreeze(const segue__cli *cli);
int segue__cli_init(const segue__cli *cli);
int segue__cli_completion(const segue__cli *cli);
int segue__cli_test(const segue__cli *cli);
int segue__cli_record(const segue__cli *cli);

/* The plan of a first load, where no daemon runs. */
int segue__cli_plan_offline(const segue__cli *cli);

/* Parses a command line and runs its command. */
int segue__cli_main(int argc, char **argv);

/* "segue: ..." on standard error; returns code. */
int segue__cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The buffer on standard output; frees it. Returns code, or UNEXPECTED where it cannot be told. */
int segue__cli_print(int code, segue__buf *text);
/* Is standard output (1) or error (2) a terminal that wants colour? */
bool segue__cli_colour(int fd);

/* status as human table; body is the answer of /api/v1/status. 0 or a negative code. */
int segue__table_status(segue__buf *out, const char *body, size_t len, bool colour);
/* The sentence in an answer that is an error, as JSON or as text. */
void segue__table_error(const char *body, size_t len, char *out, size_t size);
int segue__table_diff(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_history(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_audit(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_reload(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_why(segue__buf *out, const char *body, size_t len, bool colour);

#endif

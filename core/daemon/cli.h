/* SPDX-License-Identifier: MIT
 *
 * cli.h: shared by the files of the command line: parsed options, exit codes, and one function for
 * each command.
 */
#ifndef SEGUE_DAEMON_CLI_H
#define SEGUE_DAEMON_CLI_H

#include <stdbool.h>

#include "../os/mem.h"
#include "../os/os.h"
#include "../segue.h"

/* Exit codes, for scripts and systemd. */
enum {
  SEGUE__EXIT_OK = 0, /* applied or unchanged */
  SEGUE__EXIT_UNEXPECTED = 1,
  SEGUE__EXIT_USAGE = 2,
  SEGUE__EXIT_REJECTED = 3,
  SEGUE__EXIT_FAILED = 4, /* failed or reverted; a start that could not get what it needs */
  SEGUE__EXIT_UNREACHABLE = 5,
  SEGUE__EXIT_REFUSED = 6 /* held, conflict, postponed, not kept */
};

typedef struct segue__cli {
  const char *policy, *state, *socket, *lua_dir, *log_format, *log_level, *wait, *if_match, *schema,
      *replay, *limit, *duration, *url, *token_file, *cacert, *cert, *key, *template, *data,
      *functions, *missingkey, *left, *right, *out, *language, *helpers;
  bool json, force, accept_shrink, help, formats, audit, batch, dry_run, once;
  const char *reload_signal, *kill_signal, *kill_timeout, *splay; /* of exec */
  const char *const *command; /* what follows "--"; NULL: none */
  const char *with[32];
  int with_count;
  const char *args[4];
  int arg_count;
  bool policy_given;     /* -c */
  char policy_path[512]; /* of -c FOLDER */
} segue__cli;

/* Each returns an exit code. */
int segue__cli_run(const segue__cli *cli);
int segue__cli_exec(const segue__cli *cli);
int segue__cli_check(const segue__cli *cli);
int segue__cli_help_options(const segue__cli *cli);
/* Adds the folders in which the policy searches plugins first; evaluates it. */
int segue__cli_plugin_folders(const segue__cli *cli, segue__names *out, segue_error *err);
int segue__cli_check_file(const segue__cli *cli); /* check --schema */
int segue__cli_plan(const segue__cli *cli);
int segue__cli_reload(const segue__cli *cli);
int segue__cli_status(const segue__cli *cli);
int segue__cli_files(const segue__cli *cli);
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
int segue__cli_render(const segue__cli *cli);
int segue__cli_import(const segue__cli *cli);

/* render_policy.c: `segue render` of a policy, and the files of --out: data is the segue__cli. */
int segue__cli_render_policy(const segue__cli *cli);
int segue__cli_write_below(void *data, const char *path, unsigned mode, const void *bytes,
                           size_t len, segue_error *err);
int segue__cli_render_offline(const segue__cli *cli); /* offline.c */

/* The plan of a first load, where no daemon runs. */
int segue__cli_plan_offline(const segue__cli *cli);

/* check_file.c: reads a file or pipe; "-" is standard input. The caller frees out->data. */
int segue__cli_read_file(const char *path, segue__bytes *out, segue_error *err);

/* arguments.c: each returns 0, or prints the valid values and returns the exit code. */
int segue__cli_check_options(const segue__cli *cli);
int segue__cli_check_reload_id(const char *text);
int segue__cli_check_generation(const char *text);
int segue__cli_check_side(const char *name, const char *text, bool next); /* FROM, TO of diff */

/* Parses a command line and runs its command. */
int segue__cli_main(int argc, char **argv);

/* Messages of the library name an option as a host does, "(option lua_dir)": replaces that, in
 * place, by what an operator types, "(--lua-dir)". */
void segue__cli_words(char *sentence);
/* Prints "segue: ..." on standard error, or under --json {"error":"...","exit_code":N} on standard
 * output; returns code. */
int segue__cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints the buffer on standard output and frees it. Returns code, or UNEXPECTED if that fails. */
int segue__cli_print(int code, segue__buf *text);
/* Is standard output (1) or error (2) a terminal that shows colour? */
bool segue__cli_colour(int fd);

/* Append a JSON answer as a table for people. 0 or a negative code; 1: the status is "ready". */
int segue__table_status(segue__buf *out, const char *body, size_t len, bool colour);
/* Copies the sentence out of an answer that is an error, in JSON or in text. */
void segue__table_error(const char *body, size_t len, char *out, size_t size);
int segue__table_diff(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_history(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_audit(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_reload(segue__buf *out, const char *body, size_t len, bool colour);
/* 1: every file is in place, and the last apply of each module was good. */
int segue__table_file_list(segue__buf *out, const char *body, size_t len, bool colour);
int segue__table_why(segue__buf *out, const char *body, size_t len, bool colour);

#endif

/* SPDX-License-Identifier: MIT
 *
 * `segue import`: a policy from the configuration of confd or consul-template.
 */
#include <string.h>

#include "../bind/import/import.h"
#include "../config/printable.h"
#include "../instance/lua_paths.h"
#include "../os/suggest.h"
#include "cli.h"

/* Returns 0, or prints the programs that are known and returns the exit code. */
static int import_check_program(const char *name) {
  size_t count = 0;
  for (; segue__import_programs[count]; count++)
    if (strcmp(segue__import_programs[count], name) == 0) return SEGUE__EXIT_OK;
  const char *near = segue__suggest(name, segue__import_programs, count);
  return segue__cli_fail(SEGUE__EXIT_USAGE,
                         "segue import cannot read the configuration of '%s': it reads confd and "
                         "consul-template%s%s%s",
                         name, near ? ". Did you mean " : "", near ? near : "", near ? "?" : "");
}

int segue__cli_import(const segue__cli *cli) {
  segue_error err = {0};
  segue__buf out;
  segue__import_verdict verdict;
  char *lua_dir;
  if (cli->arg_count < 2)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue import needs a program and a path: segue import confd "
                           "/etc/confd");
  int code = import_check_program(cli->args[0]);
  if (code) return code;
  int rc = segue__lua_paths_find(cli->lua_dir, &lua_dir, &err);
  if (rc) return segue__cli_fail(SEGUE__EXIT_FAILED, "%s", err.message);
  segue__import_job job = {.lua_dir = lua_dir,
                           .program = cli->args[0],
                           .from = cli->args[1],
                           .folder = cli->arg_count > 2 ? cli->args[2] : ".",
                           .json = cli->json};
  segue__buf_init(&out);
  rc = segue__import(&job, &verdict, &out, &err);
  segue__free(lua_dir);
  if (!rc && verdict == SEGUE__IMPORT_DONE) return segue__cli_print(SEGUE__EXIT_OK, &out);
  code =
      segue__cli_fail(verdict == SEGUE__IMPORT_REJECTED ? SEGUE__EXIT_REJECTED : SEGUE__EXIT_FAILED,
                      "%s", rc ? err.message : out.data);
  segue__buf_deinit(&out);
  return code;
}

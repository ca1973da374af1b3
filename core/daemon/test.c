/* SPDX-License-Identifier: MIT
 *
 * `segue test`: specs of a policy, run in this process by busted.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../bind/testing/testing.h"
#include "../instance/instance.h"
#include "../instance/lua_paths.h"
#include "budget.h"
#include "cli.h"

int segue__cli_test(const segue__cli *cli) {
  segue_error err;
  char *lua_dir;
  int verdict = 1;
  const char *args[] = {cli->arg_count ? cli->args[0] : ".", NULL};
  if (access(args[0], R_OK) != 0)
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot read %s: %s", args[0], strerror(errno));
  int rc = segue__lua_paths_find(cli->lua_dir, &lua_dir, &err);
  if (rc == 0) {
    segue__testing_options options = {.size = sizeof options,
                                      .lua_dir = lua_dir,
                                      .policy = cli->policy,
                                      .replay = cli->replay,
                                      .args = args,
                                      .json = cli->json,
                                      .signal = segue__budget_signal(),
                                      .validate = segue__validate_policy};
    rc = segue__testing_run(&options, &verdict, &err);
  }
  segue__free(lua_dir);
  if (rc < 0) return segue__cli_fail(SEGUE__EXIT_FAILED, "%s", err.message);
  return verdict ? SEGUE__EXIT_REJECTED : SEGUE__EXIT_OK;
}

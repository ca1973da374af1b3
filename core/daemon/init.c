/* SPDX-License-Identifier: MIT
 *
 * `segue init`: writes a commented policy and configuration that run as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../os/write.h"
#include "cli.h"

static const char policy_text[] =
    "-- The policy: where configuration comes from, what requests a reload, what may go live.\n"
    "-- segue check checks it, segue run serves it, segue plan shows what a reload would do.\n"
    "local segue = require \"segue\"\n"
    "\n"
    "return {\n"
    "  name = \"starter\",\n"
    "\n"
    "  -- Merged in this order: maps merge; anything else is replaced by the later source.\n"
    "  sources = {\n"
    "    segue.file \"config.yaml\",\n"
    "  },\n"
    "\n"
    "  triggers = {\n"
    "    segue.signal \"HUP\",           -- kill -HUP\n"
    "    segue.watch(),                -- a file named above, or this one, was saved\n"
    "    segue.http \"127.0.0.1:7377\",  -- curl -X POST 127.0.0.1:7377/-/reload, /metrics and "
    "more\n"
    "  },\n"
    "\n"
    "  -- The last check of a configuration: return nil and a reason to reject it. The live\n"
    "  -- configuration stays, and the answer contains the reason. prev is nil at the first "
    "start.\n"
    "  check = function(next, prev)\n"
    "    if not next.greeting then\n"
    "      return nil, \"greeting is missing: give one, such as greeting: hello\"\n"
    "    end\n"
    "    return true\n"
    "  end,\n"
    "}\n";

static const char config_text[] =
    "# The configuration that reload.lua reads. Change it while segue runs and look at\n"
    "#   curl 127.0.0.1:7377/api/v1/config\n"
    "greeting: hello\n";

static int write_new(const char *folder, const char *name, const char *text) {
  char path[PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
    return segue__cli_fail(SEGUE__EXIT_FAILED, "the path %s/%s is too long", folder, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST)
    return segue__cli_fail(SEGUE__EXIT_FAILED,
                           "%s exists already: segue init never overwrites a file", path);
  if (fd < 0)
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
  int rc = segue__write_all(fd, text, strlen(text), NULL);
  if (close(fd) < 0 && rc == 0) rc = -errno;
  if (rc) {
    unlink(path); /* a second `segue init` must not find a part of the file */
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot write %s: %s", path, strerror(-rc));
  }
  printf("wrote %s\n", path);
  return SEGUE__EXIT_OK;
}

static bool init_is_there(const char *folder, const char *name) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return access(path, F_OK) == 0;
}

int segue__cli_init(const segue__cli *cli) {
  const char *folder = cli->arg_count ? cli->args[0] : ".";
  if (mkdir(folder, 0755) < 0 && errno != EEXIST)
    return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot create the folder %s: %s", folder,
                           strerror(errno));
  const char *taken = init_is_there(folder, "reload.lua")    ? "reload.lua"
                      : init_is_there(folder, "config.yaml") ? "config.yaml"
                                                             : NULL;
  if (taken)
    return segue__cli_fail(SEGUE__EXIT_FAILED,
                           "%s/%s exists already: segue init never overwrites a file", folder,
                           taken);
  int rc = write_new(folder, "reload.lua", policy_text);
  if (rc == SEGUE__EXIT_OK) rc = write_new(folder, "config.yaml", config_text);
  if (rc == SEGUE__EXIT_OK && strcmp(folder, ".") == 0)
    puts("next: segue run");
  else if (rc == SEGUE__EXIT_OK)
    printf("next: segue run -c %s/reload.lua\n", folder);
  return rc;
}

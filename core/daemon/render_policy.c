/* SPDX-License-Identifier: MIT
 *
 * `segue render -c`: the files of a policy, without a daemon. --dry-run shows the differences from
 * the files in place, --out writes the files below another folder, and --once is a run of the
 * daemon that ends with its first generation: so it has the locks, the journal and the undo of one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/explain.h"
#include "../os/write.h"
#include "cli.h"

/* Makes the folders above a path below `from`. */
static int make_folders(char *path, size_t from) {
  for (char *slash = strchr(path + from, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    int rc = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    *slash = '/';
    if (rc) return rc;
  }
  return 0;
}

/* A path with ".." would leave the folder. */
static bool leaves_folder(const char *path) {
  for (const char *at = strstr(path, "/.."); at; at = strstr(at + 1, "/.."))
    if (at[3] == '/' || !at[3]) return true;
  return false;
}

/* O_NOFOLLOW: a link in the folder must not lead to a file outside of it. */
static int write_file(const char *path, unsigned mode, const void *bytes, size_t len) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return -errno;
  int rc = segue__write_all(fd, bytes, len, NULL);
  if (!rc && fchmod(fd, mode) < 0) rc = -errno;
  if (close(fd) < 0 && !rc) rc = -errno;
  return rc;
}

int segue__cli_write_below(void *data, const char *path, unsigned mode, const void *bytes,
                           size_t len, segue_error *err) {
  const segue__cli *cli = data;
  segue__buf to;
  if (leaves_folder(path))
    return segue__errorf(err, SEGUE_ECONFIG,
                         "cannot write %.200s below %.200s: it has \"..\" in it", path, cli->out);
  segue__buf_init(&to);
  segue__buf_addf(&to, "%s%s", cli->out, path);
  int rc = to.failed ? UV_ENOMEM : make_folders(to.data, 1);
  if (!rc) rc = write_file(to.data, mode, bytes, len);
  if (rc) segue__explain(err, rc, "write", to.failed ? path : to.data);
  segue__buf_deinit(&to);
  return rc;
}

int segue__cli_render_policy(const segue__cli *cli) {
  int ways = (cli->out != NULL) + cli->dry_run + cli->once;
  if (cli->template || cli->batch)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--out, --dry-run and --once render a policy: leave out %s",
                           cli->template ? "--template" : "--batch");
  if (ways != 1)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue render -c needs one of --dry-run, --out DIR and --once");
  if (cli->once && cli->json)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--once is a run, which prints its log: leave out --json, or use "
                           "--dry-run");
  return cli->once ? segue__cli_run(cli) : segue__cli_render_offline(cli);
}

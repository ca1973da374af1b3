/* SPDX-License-Identifier: MIT
 *
 * The program. cli.c has the commands.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "cli.h"

/* Opens /dev/null for standard files that are closed: otherwise the first socket would get number
 * 2, and the log would be written to it. */
static void hold_standard_files(void) {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
    if (fd > 2) {
      close(fd);
      return;
    }
}

/* A parent that ignores SIGCHLD passes that on through exec. Then the kernel reaps the children
 * itself: no command of a policy would have an exit status (waitid: ECHILD), and the keeper of
 * process 1 would wait for the end of the daemon for ever. */
static void keep_child_status(void) {
  signal(SIGCHLD, SIG_DFL);
}

int main(int argc, char **argv) {
  hold_standard_files();
  keep_child_status();
  return segue__cli_main(argc, argv);
}

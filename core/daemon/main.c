/* SPDX-License-Identifier: MIT
 *
 * The program. cli.c has the commands.
 */
#include <fcntl.h>
#include <unistd.h>

#include "cli.h"

/* Without a standard error the first socket would get number 2, and the log would go there. */
static void hold_standard_files(void) {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
    if (fd > 2) {
      close(fd);
      return;
    }
}

int main(int argc, char **argv) {
  hold_standard_files();
  return segue__cli_main(argc, argv);
}

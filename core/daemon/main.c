/* SPDX-License-Identifier: MIT
 *
 * The program. Everything is in cli.c and behind its table.
 */
#include <fcntl.h>
#include <unistd.h>

#include "cli.h"

/* Started without a standard error, the first socket would get its number, and the log with it. */
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

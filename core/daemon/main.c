/* SPDX-License-Identifier: MIT
 *
 * The program. Everything is in cli.c and behind its table.
 */
#include "cli.h"

int main(int argc, char **argv) {
  return segue__cli_main(argc, argv);
}

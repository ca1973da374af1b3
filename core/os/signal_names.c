/* SPDX-License-Identifier: MIT
 *
 * The names and numbers of the signals that an option may name.
 */
#include "signal_names.h"

#include <signal.h>
#include <string.h>

const int segue__signal_numbers[SEGUE__SIGNAL_COUNT] = {
    SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
static const char *const signal_words[SEGUE__SIGNAL_COUNT] = {
    "HUP", "INT", "QUIT", "ALRM", "TERM", "USR1", "USR2", "WINCH", "CONT"};

int segue__signal_choice(const char *name) {
  if (!strncmp(name, "SIG", 3)) name += 3;
  for (int i = 0; i < SEGUE__SIGNAL_COUNT; i++)
    if (!strcmp(name, signal_words[i])) return i;
  return -1;
}

const char *segue__signal_choice_name(int signum) {
  for (int i = 0; i < SEGUE__SIGNAL_COUNT; i++)
    if (segue__signal_numbers[i] == signum) return signal_words[i];
  return "signal";
}

/* SPDX-License-Identifier: MIT
 *
 * The signal that limits the CPU time of scripts. A program owns its signals, so it may use a
 * real-time one; the library never does.
 */
#include "budget.h"

#include <signal.h>

#include "../segue.h"

static void budget_on_signal(int signum, siginfo_t *info, void *context) {
  (void)signum, (void)context;
  if (info->si_code == SI_TIMER) /* not one sent by kill(2) */
    segue_on_budget_signal(info->si_value.sival_ptr);
}

/* ThreadSanitizer delays a signal until the thread calls the C library, which a loop in Lua never
 * does: under it, as without a signal, instructions are counted. */
int segue__budget_signal(void) {
#ifdef __SANITIZE_THREAD__
  (void)budget_on_signal;
  return 0;
#endif
  int signum = SIGRTMIN + 5;
  struct sigaction action = {.sa_sigaction = budget_on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigemptyset(&action.sa_mask);
  return sigaction(signum, &action, NULL) == 0 ? signum : 0;
}

/* SPDX-License-Identifier: MIT
 *
 * signal_names.h: the signals that an option may name, as a choice of options.h and as numbers. The
 * signals that stop a process are left out: a stopped process handles no signal.
 */
#ifndef SEGUE_OS_SIGNAL_NAMES_H
#define SEGUE_OS_SIGNAL_NAMES_H

#define SEGUE__SIGNAL_CHOICES "HUP|INT|QUIT|ALRM|TERM|USR1|USR2|WINCH|CONT"
enum { SEGUE__SIGNAL_COUNT = 9 };
extern const int segue__signal_numbers[SEGUE__SIGNAL_COUNT]; /* by the index of the choice */

/* "HUP", or "SIGHUP", in capital letters. Returns the index of the choice; -1: there is none. */
int segue__signal_choice(const char *name);
/* The name of one of these numbers, without SIG; "signal" for any other. */
const char *segue__signal_choice_name(int signum);

#endif

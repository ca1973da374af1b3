/* SPDX-License-Identifier: MIT
 *
 * terminal.h: the controlling terminal of this process, which a child has while it runs. The
 * terminal belongs to one process group of the session, the foreground group: only its members read
 * from it, and ^C, ^Z and ^\\ send their signals to it.
 */
#ifndef SEGUE_PROCESS_TERMINAL_H
#define SEGUE_PROCESS_TERMINAL_H

#include <stdbool.h>

typedef struct segue__terminal segue__terminal;

/* *out is NULL if this process has no controlling terminal. Returns 0 or UV_ENOMEM. The functions
 * below do nothing, or return false, for NULL. */
int segue__terminal_open(segue__terminal **out);
void segue__terminal_close(segue__terminal *terminal);
int segue__terminal_fd(const segue__terminal *terminal); /* -1: NULL */
/* Returns whether the group of this process has the terminal. A process that a shell has started in
 * the background has it not, and must not take it from the shell. */
bool segue__terminal_is_ours(const segue__terminal *terminal);
/* Gives the terminal to a process group of this session, if this process has it. */
void segue__terminal_give(const segue__terminal *terminal, int group);
/* Takes the terminal from `group`, or from a group that has no member any more, and restores the
 * modes. Does nothing if any other group has it. */
void segue__terminal_take(const segue__terminal *terminal, int group);
/* Returns whether a shell of this session can continue this process after it has stopped itself:
 * the kernel knows no such shell above the leader of a session. */
bool segue__terminal_can_suspend(const segue__terminal *terminal);

#endif

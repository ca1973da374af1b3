/* SPDX-License-Identifier: MIT
 *
 * state.h: the state folder of an instance: where it is, that only one uses it, and where in it the
 * control socket is. The daemon and the command line find it by the same rule.
 */
#ifndef SEGUE_STATE_H
#define SEGUE_STATE_H

#include <stdbool.h>

#include "../os/error.h"
#include "../os/mem.h"

/* Longest path a unix socket can have. */
#define SEGUE__SOCKET_MAX 107

/* The rule: state if it is given, else $STATE_DIRECTORY (its first entry), else .segue beside the
 * policy. *out is the caller's; absolute if the folder exists. */
int segue__state_find(const char *state, const char *policy_path, char **out, segue_error *err);

typedef struct segue__state {
  char *folder; /* absolute */
  char socket[SEGUE__SOCKET_MAX + 1];
  int lock_fd;
} segue__state;

/* Makes the folder (mode 0700) and takes its lock; a folder that another process has is UV_EBUSY,
 * and err names the process. */
int segue__state_open(segue__state *out, const char *folder, segue_error *err);
/* Is its lock still the one in the folder? No: the folder was deleted, and may be another's. */
bool segue__state_is_ours(const segue__state *state);
/* Makes a folder that was deleted anew and takes its lock, under the same conditions as open. */
int segue__state_retake(segue__state *state, segue_error *err);
void segue__state_close(segue__state *state); /* zeroed or open */

/* Path of the control socket of an existing folder: control.sock in it, or where that would be too
 * long a file in a run-time folder of this user, named after the folder. make: create that. */
int segue__state_socket(const char *folder, bool make, char out[SEGUE__SOCKET_MAX + 1],
                        segue_error *err);

#endif

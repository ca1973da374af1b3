/* SPDX-License-Identifier: MIT
 *
 * state_folder.h: the state folder of an instance: its path, the lock that makes sure that only one
 * instance uses it, and the path of the control socket. The daemon and the command line find it by
 * the same rule.
 */
#ifndef SEGUE_STATE_H
#define SEGUE_STATE_H

#include <stdbool.h>

#include "../os/error.h"
#include "../os/mem.h"

/* Longest path a unix socket can have. */
#define SEGUE__SOCKET_MAX 107

/* Returns state if it is given, else the first entry of $STATE_DIRECTORY, else .segue beside the
 * policy. The caller frees *out; it is absolute if the folder exists. */
int segue__state_find(const char *state, const char *policy_path, char **out, segue_error *err);

typedef struct segue__state {
  char *folder; /* absolute */
  char socket[SEGUE__SOCKET_MAX + 1];
  int lock_fd;
} segue__state;

/* Creates the folder (mode 0700) and takes its lock. UV_EBUSY: another process has locked it; err
 * names the process. */
int segue__state_open(segue__state *out, const char *folder, segue_error *err);
/* Returns whether its lock is still the one in the folder. If not, the folder was deleted, and
 * another process may own the new one. */
bool segue__state_is_ours(const segue__state *state);
/* Creates a deleted folder again and takes its lock, under the same conditions as open. */
int segue__state_retake(segue__state *state, segue_error *err);
void segue__state_close(segue__state *state); /* zeroed or open */

/* Returns the path of the control socket of an existing folder: control.sock in it; if that is too
 * long, a file named after the folder in the run-time folder of this user. make: creates that
 * run-time folder. */
int segue__state_socket(const char *folder, bool make, char out[SEGUE__SOCKET_MAX + 1],
                        segue_error *err);

#endif

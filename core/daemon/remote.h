/* SPDX-License-Identifier: MIT
 *
 * remote.h: requests to the daemon, for commands that send more than one.
 */
#ifndef SEGUE_DAEMON_REMOTE_H
#define SEGUE_DAEMON_REMOTE_H

#include "../http/client.h"
#include "cli.h"

/* One call to the daemon that the options name (connect.h). timeout_ms 0: none. */
int segue__cli_call(const segue__cli *cli, const char *method, const char *path,
                    uint64_t timeout_ms, segue__http_answer *out, segue_error *err);
/* Prints an unexpected answer as an error; returns the exit code of its status. */
int segue__cli_refused(const segue__http_answer *answer);

#endif

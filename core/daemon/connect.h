/* SPDX-License-Identifier: MIT
 *
 * connect.h: finds the daemon that a command asks and the credentials it shows: the control socket
 * of a policy, or a listener by its URL, with a token and certificates.
 */
#ifndef SEGUE_DAEMON_CONNECT_H
#define SEGUE_DAEMON_CONNECT_H

#include "../http/client.h"
#include "../instance/state_folder.h"
#include "cli.h"

typedef struct segue__reach {
  char socket[SEGUE__SOCKET_MAX + 1];       /* empty: by URL */
  char state_socket[SEGUE__SOCKET_MAX + 1]; /* the one in the state folder of the policy */
  const char *named; /* the option or variable that names the socket; NULL: found by default */
  segue__buf url;
  char authorization[320]; /* a header; empty: no token */
} segue__reach;

/* Prepares a request for one path ("/api/v1/status"). 0, or a negative code with err if the options
 * or their files are wrong. Call deinit in either case. */
int segue__reach_init(segue__reach *reach, const segue__cli *cli, const char *path,
                      segue_error *err);
/* Writes into err why no daemon answered on the socket: all places that were looked at, and what is
 * there. Returns err->code. */
int segue__reach_explain(const segue__reach *reach, const segue__cli *cli, segue_error *err);
/* The state folder of the daemon that runs this policy, which may not exist; owned. */
int segue__cli_state_folder(const segue__cli *cli, char **out, segue_error *err);
/* Does the command name the daemon, by --url, --socket, --state or SEGUE_SOCKET? */
bool segue__reach_is_named(const segue__cli *cli);
void segue__reach_deinit(segue__reach *reach);
/* Fills in url, socket and certificates. */
void segue__reach_set(const segue__reach *reach, const segue__cli *cli,
                      segue__http_call_options *options);

#endif

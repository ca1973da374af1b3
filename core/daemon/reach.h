/* SPDX-License-Identifier: MIT
 *
 * reach.h: which daemon a command asks, and how it shows who asks: the control socket of a policy,
 * or a listener by its URL, with a token and certificates.
 */
#ifndef SEGUE_DAEMON_REACH_H
#define SEGUE_DAEMON_REACH_H

#include "../http/client.h"
#include "../instance/state_folder.h"
#include "cli.h"

typedef struct segue__reach {
  char socket[SEGUE__SOCKET_MAX + 1]; /* empty: by URL */
  segue__buf url;
  char authorization[320]; /* a header; empty: no token */
} segue__reach;

/* For one path ("/api/v1/status"). 0, or a negative code and err says what is wrong with the
 * options or their files. To be ended by deinit in either case. */
int segue__reach_init(segue__reach *reach, const segue__cli *cli, const char *path,
                      segue_error *err);
void segue__reach_deinit(segue__reach *reach);
/* Fills in url, socket and certificates. */
void segue__reach_set(const segue__reach *reach, const segue__cli *cli,
                      segue__http_call_options *options);

#endif

/* SPDX-License-Identifier: MIT
 *
 * keeper.h: `segue run` as process 1 of a container. Orphans of the whole container become children
 * of process 1, which has to reap them.
 */
#ifndef SEGUE_DAEMON_KEEPER_H
#define SEGUE_DAEMON_KEEPER_H

#include "../socket/passed.h"

/* In process 1: forks, returns in the child, and never returns in the parent, which stays as the
 * keeper and closes the passed sockets. In any other process it does nothing. 0, or a negative
 * code. Before any thread starts. */
int segue__keeper_start(segue__passed *passed);

#endif

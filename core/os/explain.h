/* SPDX-License-Identifier: MIT
 *
 * explain.h: why a path cannot be used, in one sentence that an operator can act on. [any thread]
 */
#ifndef SEGUE_OS_EXPLAIN_H
#define SEGUE_OS_EXPLAIN_H

#include "../segue.h"

/* Sets err for the system error `code` (negative) that `verb` ("read", "list", "write", "run") met
 * at path: which part of it is missing, its owner and the user of this process, and so on. Returns
 * code. */
int segue__explain(segue_error *err, int code, const char *verb, const char *path);

/* path, or its end behind "..." where it is too long for a message. */
#define SEGUE__SHOWN_MAX 200
const char *segue__shown(const char *path, char buf[SEGUE__SHOWN_MAX]);

#endif

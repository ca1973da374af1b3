/* SPDX-License-Identifier: MIT
 *
 * environment.h: the environment of a command: this process's, with changes, and with the identity
 * of the user that it runs as. [any thread]
 */
#ifndef SEGUE_OS_ENVIRONMENT_H
#define SEGUE_OS_ENVIRONMENT_H

#include "user.h"

typedef struct segue__environment {
  const char **entries; /* NULL-terminated "NAME=value"; they point to base, changes and identity */
  char *identity[3];    /* HOME, USER, LOGNAME */
} segue__environment;

/* base: NULL-terminated, without what a child must not inherit (segue__child_withholds). changes:
 * NULL-terminated, "NAME=value" sets and "NAME" removes; NULL: none. user: its HOME, USER and
 * LOGNAME are set unless changes name them; NULL: nothing is. base and changes are borrowed until
 * free. Returns 0 or UV_ENOMEM; *out needs no free then. */
int segue__environment_make(segue__environment *out, char *const *base, char *const *changes,
                            const segue__user_entry *user);
void segue__environment_free(segue__environment *environment); /* zeroed or made */

#endif

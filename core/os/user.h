/* SPDX-License-Identifier: MIT
 *
 * user.h: looks up the user and the groups that a child runs as.
 */
#ifndef SEGUE_OS_USER_H
#define SEGUE_OS_USER_H

#include "../segue.h"

#define SEGUE__USER_GROUPS_MAX 256

/* The identity of a child. Plain data that the caller owns. */
typedef struct segue__user {
  const char *name; /* for messages; NULL: the message shows the uid */
  unsigned uid, gid;
  const unsigned *groups; /* supplementary groups; the child has no others */
  size_t group_count;
} segue__user;

/* The result of a look-up. `user` points into the rest of the struct, so the struct must not be
 * copied. */
typedef struct segue__user_entry {
  segue__user user;
  unsigned groups[SEGUE__USER_GROUPS_MAX]; /* of more groups the first ones count */
  char *login, *home;                      /* owned */
} segue__user_entry;

/* Looks up `name` (a login name, or a uid in decimal), and `group` (a group's name, or a gid in
 * decimal) as its main group; a NULL group means the user's own. Blocks as long as the name service
 * of the system does (it may ask the network): for a worker. [any thread] Returns 0, or UV_ENOENT
 * if there is no such user or group, UV_ENOMEM, or the error of the name service; err names the
 * user or the group, and *out needs no deinit then. */
int segue__user_find(const char *name, const char *group, segue__user_entry *out, segue_error *err);
/* Whether this process may run a child as another user: as root, or with CAP_SETUID and
 * CAP_SETGID. [any thread] */
bool segue__user_may_change(void);
/* Moves a result; `from` needs no deinit then. */
void segue__user_entry_move(segue__user_entry *to, segue__user_entry *from);
void segue__user_entry_deinit(segue__user_entry *entry);

#endif

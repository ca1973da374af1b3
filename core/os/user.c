/* SPDX-License-Identifier: MIT
 *
 * Users and groups by the system's name service. The reentrant calls need a buffer of unknown size:
 * it is large enough for every entry of a file, and a directory service whose entry does not fit
 * gets an error rather than a second try.
 */
#include "user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include "error.h"
#include "mem.h"

enum { NAMES_BYTES = 65536 };

_Static_assert(sizeof(uid_t) == sizeof(unsigned) && sizeof(gid_t) == sizeof(unsigned),
               "segue__user holds ids as unsigned");

/* Returns whether all of name is one decimal number that fits an id. */
static bool user_number(const char *name, unsigned *out) {
  char *end;
  errno = 0;
  unsigned long number = strtoul(name, &end, 10);
  *out = (unsigned)number;
  return name[0] >= '0' && name[0] <= '9' && !*end && !errno && number < UINT32_MAX;
}

/* The name service reports "not found" as success without an entry, or as one of these errors
 * (getpwnam(3), "ERRORS"). */
static bool user_is_absent(int error) {
  return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

static int user_error(segue_error *err, const char *what, const char *name, int error) {
  if (user_is_absent(error))
    return segue__errorf(err, UV_ENOENT, "there is no such %s: %.100s", what, name);
  return segue__errorf(err, -error, "cannot look up the %s %.100s: %s", what, name,
                       segue_strerror(-error));
}

static int user_find_group(const char *name, char *names, unsigned *gid, segue_error *err) {
  struct group entry, *found = NULL;
  int rc = getgrnam_r(name, &entry, names, NAMES_BYTES, &found);
  if (found) {
    *gid = found->gr_gid;
    return 0;
  }
  if (user_is_absent(rc) && user_number(name, gid)) return 0; /* a gid without a name is usable */
  return user_error(err, "group", name, rc);
}

/* Copies the strings before the look-up of the group overwrites them: both use the buffer
 * `names`. */
static int user_take(segue__user_entry *out, const struct passwd *found, segue_error *err) {
  out->login = segue__strdup(found->pw_name);
  out->home = segue__strdup(found->pw_dir);
  if (!out->login || !out->home) return segue__errorf(err, UV_ENOMEM, "out of memory");
  out->user = (segue__user){out->login, found->pw_uid, found->pw_gid, out->groups, 0};
  return 0;
}

static void user_list_groups(segue__user_entry *out) {
  int count = SEGUE__USER_GROUPS_MAX;
  if (getgrouplist(out->login, out->user.gid, out->groups, &count) < 0)
    count = SEGUE__USER_GROUPS_MAX; /* there are more */
  out->user.group_count = (size_t)count;
}

int segue__user_find(const char *name, const char *group, segue__user_entry *out,
                     segue_error *err) {
  struct passwd entry, *found = NULL;
  unsigned number;
  memset(out, 0, sizeof *out);
  char *names = segue__malloc(NAMES_BYTES);
  if (!names) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = getpwnam_r(name, &entry, names, NAMES_BYTES, &found);
  if (!found && user_is_absent(rc) && user_number(name, &number))
    rc = getpwuid_r(number, &entry, names, NAMES_BYTES, &found);
  rc = found ? user_take(out, found, err) : user_error(err, "user", name, rc);
  if (!rc && group) rc = user_find_group(group, names, &out->user.gid, err);
  if (!rc)
    user_list_groups(out);
  else
    segue__user_entry_deinit(out);
  segue__free(names);
  return rc;
}

bool segue__user_may_change(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};
  const unsigned needed = 1U << CAP_SETUID | 1U << CAP_SETGID;
  return !syscall(SYS_capget, &header, sets) && (sets[0].effective & needed) == needed;
}

void segue__user_entry_move(segue__user_entry *to, segue__user_entry *from) {
  *to = *from;
  if (to->user.groups) to->user.groups = to->groups;
  memset(from, 0, sizeof *from);
}

void segue__user_entry_deinit(segue__user_entry *entry) {
  segue__free(entry->login);
  segue__free(entry->home);
  memset(entry, 0, sizeof *entry);
}

/* SPDX-License-Identifier: MIT
 *
 * The environment of a command.
 */
#include "environment.h"

#include <string.h>
#include <uv.h>

#include "child.h"
#include "mem.h"

static size_t environment_count(char *const *entries) {
  size_t n = 0;
  while (entries && entries[n])
    n++;
  return n;
}

static bool environment_same_name(const char *a, const char *b) {
  size_t n = strcspn(a, "=");
  return n == strcspn(b, "=") && !strncmp(a, b, n);
}

static bool environment_listed(char *const *entries, const char *entry) {
  for (; entries && *entries; entries++)
    if (environment_same_name(*entries, entry)) return true;
  return false;
}

static char *environment_assign(const char *name, const char *value) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s=%s", name, value);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

static int environment_identify(segue__environment *out, const segue__user_entry *user) {
  out->identity[0] = environment_assign("HOME", user->home);
  out->identity[1] = environment_assign("USER", user->login);
  out->identity[2] = environment_assign("LOGNAME", user->login);
  return out->identity[0] && out->identity[1] && out->identity[2] ? 0 : UV_ENOMEM;
}

/* The entries have three free places for these. */
static void environment_add_identity(segue__environment *out, char *const *changes) {
  for (size_t i = 0; i < sizeof out->identity / sizeof *out->identity; i++) {
    if (environment_listed(changes, out->identity[i])) continue;
    const char **entry = out->entries;
    while (*entry && !environment_same_name(*entry, out->identity[i]))
      entry++;
    *entry = out->identity[i];
  }
}

int segue__environment_make(segue__environment *out, char *const *base, char *const *changes,
                            const segue__user_entry *user) {
  size_t room = environment_count(base) + environment_count(changes) + 4, n = 0;
  *out = (segue__environment){.entries = segue__calloc(room, sizeof *out->entries)};
  int rc = out->entries ? 0 : UV_ENOMEM;
  if (!rc && user) rc = environment_identify(out, user);
  if (rc) {
    segue__environment_free(out);
    return rc;
  }
  for (; base && *base; base++)
    if (!segue__child_withholds(*base) && !environment_listed(changes, *base))
      out->entries[n++] = *base;
  for (char *const *entry = changes; entry && *entry; entry++)
    if (strchr(*entry, '=')) out->entries[n++] = *entry;
  if (user) environment_add_identity(out, changes);
  return 0;
}

void segue__environment_free(segue__environment *environment) {
  for (size_t i = 0; i < sizeof environment->identity / sizeof *environment->identity; i++)
    segue__free(environment->identity[i]);
  segue__free(environment->entries);
  *environment = (segue__environment){0};
}

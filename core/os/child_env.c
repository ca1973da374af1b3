/* SPDX-License-Identifier: MIT
 *
 * The environment of a child. LISTEN_PID and WATCHDOG_PID hold the process id of the child itself,
 * which is known only after it was made: there is room for the digits, and the child writes them.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "child_exec.h"
#include "error.h"
#include "mem.h"

enum { NAME_MAX_BYTES = 255 };
#define ROOM_FOR_PID "          " /* 10 digits: more than a pid_t can have */

static const char *const about_this_process[] = {"LISTEN_PID",    "LISTEN_FDS",   "LISTEN_FDNAMES",
                                                 "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"};

static bool env_is_named(const char *variable, const char *name) {
  size_t len = strlen(name);
  return !strncmp(variable, name, len) && variable[len] == '=';
}

bool segue__child_withholds(const char *variable) {
  for (size_t i = 0; i < sizeof about_this_process / sizeof *about_this_process; i++)
    if (env_is_named(variable, about_this_process[i])) return true;
  return false;
}

/* ---- The variables that are made for it ---- */

static size_t env_count_announced(const segue__child_options *o) {
  size_t n = 0;
  while (n < o->file_count && o->files[n].name)
    n++;
  return n;
}

static bool env_name_is_good(const char *name) {
  size_t len = strlen(name);
  for (const char *c = name; *c; c++)
    if (*c <= ' ' || *c > '~' || *c == ':') return false;
  return len > 0 && len <= NAME_MAX_BYTES;
}

static int env_check_names(const segue__child_options *o, segue_error *err) {
  size_t announced = env_count_announced(o);
  for (size_t i = 0; i < o->file_count; i++) {
    const char *name = o->files[i].name;
    if (name && i >= announced)
      return segue__errorf(err, UV_EINVAL,
                           "cannot run %.100s: descriptor %.100s has to come before those without "
                           "a name",
                           o->argv[0], name);
    if (name && !env_name_is_good(name))
      return segue__errorf(err, UV_EINVAL,
                           "cannot run %.100s: \"%.100s\" cannot be the name of a descriptor: use "
                           "1 to 255 printable characters without a colon or a space",
                           o->argv[0], name);
  }
  return 0;
}

static void env_own(segue__child_env *env, size_t *n, segue__buf *text, bool *failed) {
  *failed = *failed || text->failed;
  env->owned[(*n)++] = text->data;
  segue__buf_init(text);
}

static char *env_own_pid(segue__child_env *env, size_t *n, const char *name, bool *failed) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s=" ROOM_FOR_PID, name);
  env_own(env, n, &text, failed);
  return *failed ? NULL : env->owned[*n - 1] + strlen(name) + 1;
}

static bool env_make_own(const segue__child_options *o, const char *notify, segue__child_env *env) {
  size_t n = 0, announced = env_count_announced(o);
  bool failed = false;
  segue__buf text;
  segue__buf_init(&text);
  if (announced) {
    segue__buf_addf(&text, "LISTEN_FDS=%zu", announced);
    env_own(env, &n, &text, &failed);
    for (size_t i = 0; i < announced; i++)
      segue__buf_addf(&text, "%s%s", i ? ":" : "LISTEN_FDNAMES=", o->files[i].name);
    env_own(env, &n, &text, &failed);
    env->pid_digits[0] = env_own_pid(env, &n, "LISTEN_PID", &failed);
  }
  if (notify) {
    segue__buf_addf(&text, "NOTIFY_SOCKET=%s", notify);
    env_own(env, &n, &text, &failed);
  }
  if (o->watchdog_ms) {
    segue__buf_addf(&text, "WATCHDOG_USEC=%llu", (unsigned long long)o->watchdog_ms * 1000);
    env_own(env, &n, &text, &failed);
    env->pid_digits[1] = env_own_pid(env, &n, "WATCHDOG_PID", &failed);
  }
  return !failed;
}

/* ---- All of it ---- */

static bool env_is_replaced(const segue__child_env *env, const char *variable) {
  size_t len = strcspn(variable, "=");
  for (size_t i = 0; i < sizeof env->owned / sizeof *env->owned && env->owned[i]; i++)
    if (!strncmp(env->owned[i], variable, len) && env->owned[i][len] == '=') return true;
  return false;
}

int segue__child_env_make(const segue__child_options *o, const char *notify, segue__child_env *out,
                          segue_error *err) {
  const char *const *given = o->env ? o->env : (const char *const *)environ;
  size_t count = 0, n = 0;
  *out = (segue__child_env){0};
  int rc = env_check_names(o, err);
  if (rc) return rc;
  while (given && given[count])
    count++;
  out->entries = segue__calloc(count + 7, sizeof *out->entries);
  if (!out->entries || !env_make_own(o, notify, out)) {
    segue__child_env_free(out);
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  }
  for (size_t i = 0; i < count; i++)
    if ((o->env || !segue__child_withholds(given[i])) && !env_is_replaced(out, given[i]))
      out->entries[n++] = given[i];
  for (size_t i = 0; i < sizeof out->owned / sizeof *out->owned && out->owned[i]; i++)
    out->entries[n++] = out->owned[i];
  return 0;
}

void segue__child_env_free(segue__child_env *env) {
  for (size_t i = 0; i < sizeof env->owned / sizeof *env->owned; i++)
    segue__free(env->owned[i]);
  segue__free(env->entries);
  *env = (segue__child_env){0};
}

/* SPDX-License-Identifier: MIT
 *
 * Fault points: the armed ones, and the ones that were reached. Test builds only; the tables are
 * the one piece of global state in the core, because a fault point has no pointer to an instance,
 * only its name.
 */
#include "fault.h"

#ifdef SEGUE_TEST

#include "mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { POINTS_MAX = 64, REACHED_MAX = 256, NAME_BYTES = 64, KILL = 1, HANG = 2, STOP = 3 };

typedef struct armed_point {
  char name[NAME_BYTES];
  int code;   /* negative, or KILL, HANG, STOP */
  int strike; /* n-th time only; 0 = always */
  int seen;   /* since it was armed */
} armed_point;

typedef struct reached_point {
  char name[NAME_BYTES];
  int count;
} reached_point;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static armed_point armed[POINTS_MAX];
static int armed_count;
static reached_point reached[REACHED_MAX];
static int reached_count;
static bool environment_read;

/* Parses "name[#n]=fail[:code]", "name[#n]=kill", "=hang" or "=stop" of len bytes. */
static int parse_one(const char *text, size_t len, armed_point *out) {
  char copy[160], action[64];
  if (len >= sizeof copy) return UV_EINVAL;
  memcpy(copy, text, len);
  copy[len] = 0;
  memset(out, 0, sizeof *out);
  int end = -1;
  if (sscanf(copy, "%63[^#=]#%d=%63s", out->name, &out->strike, action) != 3) {
    out->strike = 0;
    if (sscanf(copy, "%63[^#=]=%63s", out->name, action) != 2) return UV_EINVAL;
  } else if (out->strike < 1) {
    return UV_EINVAL;
  }
  if (!strcmp(action, "kill"))
    out->code = KILL;
  else if (!strcmp(action, "hang"))
    out->code = HANG;
  else if (!strcmp(action, "stop"))
    out->code = STOP;
  else if (!strcmp(action, "fail"))
    out->code = UV_EIO;
  else if (sscanf(action, "fail:%d%n", &out->code, &end) != 1 || action[end] || out->code >= 0)
    return UV_EINVAL;
  return 0;
}

static int arm_locked(const char *spec) {
  int before = armed_count;
  while (*spec) {
    size_t len = strcspn(spec, ",");
    int rc = armed_count == POINTS_MAX ? UV_ENOSPC : parse_one(spec, len, &armed[armed_count]);
    if (rc) {
      armed_count = before;
      return rc;
    }
    armed_count++;
    spec += len + (spec[len] == ',');
  }
  return 0;
}

static void read_environment_locked(void) {
  if (environment_read) return;
  environment_read = true;
  const char *spec = getenv("SEGUE_FAULTS");
  if (spec && arm_locked(spec)) {
    fprintf(stderr, "SEGUE_FAULTS is not understood: %s\n", spec);
    abort();
  }
}

int segue__fault_arm(const char *spec) {
  int rc = 0;
  pthread_mutex_lock(&mutex);
  read_environment_locked();
  if (spec)
    rc = arm_locked(spec);
  else
    armed_count = reached_count = 0;
  pthread_mutex_unlock(&mutex);
  return rc;
}

static reached_point *find_reached(const char *name) {
  for (int i = 0; i < reached_count; i++)
    if (!strcmp(reached[i].name, name)) return &reached[i];
  return NULL;
}

static void count_reached(const char *name) {
  reached_point *point = find_reached(name);
  if (!point && reached_count < REACHED_MAX) {
    point = &reached[reached_count++];
    point->count = 0;
    snprintf(point->name, sizeof point->name, "%s", name);
  }
  if (point) point->count++;
}

static int strike_locked(const char *name) {
  int code = 0;
  for (int i = 0; i < armed_count; i++) {
    armed_point *point = &armed[i];
    if (strcmp(point->name, name)) continue;
    point->seen++;
    if (!code && (!point->strike || point->strike == point->seen)) code = point->code;
  }
  return code;
}

static bool fault_hangs(const char *name) {
  bool found = false;
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < armed_count; i++)
    found = found || (armed[i].code == HANG && !strcmp(armed[i].name, name));
  pthread_mutex_unlock(&mutex);
  return found;
}

/* A hang waits in a loop until the point is disarmed, without the lock, so that other points can be
 * reached meanwhile. For a kill, pause() waits for the signal: kill(2) may return before it is
 * delivered. */
int segue__fault(const char *name) {
  pthread_mutex_lock(&mutex);
  read_environment_locked();
  count_reached(name);
  int code = strike_locked(name);
  pthread_mutex_unlock(&mutex);
  if (code == HANG) {
    const char *end = getenv("SEGUE_FAULTS_END");
    while (fault_hangs(name) && !(end && access(end, F_OK) == 0))
      usleep(2000);
    return 0;
  }
  if (code == STOP) return raise(SIGSTOP) ? -errno : 0;
  if (code != KILL) return code;
  kill(getpid(), SIGKILL);
  for (;;)
    pause();
}

int segue__fault_reached(const char *name) {
  pthread_mutex_lock(&mutex);
  reached_point *point = find_reached(name);
  int count = point ? point->count : 0;
  pthread_mutex_unlock(&mutex);
  return count;
}

uint64_t segue__test_ms(const char *name, uint64_t usual) {
  char variable[80];
  snprintf(variable, sizeof variable, "SEGUE_TEST_%s", name);
  const char *text = getenv(variable);
  return text ? strtoull(text, NULL, 10) : usual;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static bool memory_chosen;

static void choose_memory(int value) {
  uint32_t bits = (uint32_t)(value < 0 ? -value : value);
  if (value < 0)
    segue__mem_fail_random(bits >> 12, bits & 0xFFF);
  else
    segue__mem_fail_burst(bits & 0xFFFFF, 1 + (bits >> 20));
}

static void on_memory_signal(int signum, siginfo_t *info, void *context) {
  (void)signum;
  (void)context;
  choose_memory(info->si_value.sival_int);
}

__attribute__((constructor)) static void read_memory(void) {
  const char *n = getenv("SEGUE_MEM_FAIL_AT");
  struct sigaction action = {.sa_sigaction = on_memory_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  if (!n) return;
  memory_chosen = true;
  sigemptyset(&action.sa_mask);
  sigaction(SIGRTMAX, &action, NULL);
  choose_memory((int)strtol(n, NULL, 10));
}

void segue__fault_memory(void) {
  static const char text[] = "an allocation was made to fail\n";
  if (memory_chosen && write(STDERR_FILENO, text, sizeof text - 1) < 0) memory_chosen = false;
}

#else
typedef int segue__fault_is_for_tests; /* an empty translation unit is not ISO C */
#endif

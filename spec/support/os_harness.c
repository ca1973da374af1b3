/* SPDX-License-Identifier: MIT
 *
 * The other threads of the loop's specs.
 */
#include "os_harness.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/os/mem.h"

struct os_harness_job {
  segue__job job;
  int number;
  bool hang;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static char journal[65536];
static int hanging, round_number;
static bool signals_blocked;

static void record_locked(const char *what, int number) {
  size_t len = strlen(journal);
  snprintf(journal + len, sizeof journal - len, "%s%s %d", len ? "; " : "", what, number);
}

static void record(const char *what, int number) {
  pthread_mutex_lock(&mutex);
  record_locked(what, number);
  pthread_mutex_unlock(&mutex);
}

static void look_at_signals(void) {
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  signals_blocked = sigismember(&set, SIGHUP) && sigismember(&set, SIGTERM) &&
                    sigismember(&set, SIGCHLD) && sigismember(&set, SIGPIPE);
}

static void run(segue__job *base) {
  os_harness_job *job = (os_harness_job *)base;
  pthread_mutex_lock(&mutex);
  record_locked("run", job->number);
  look_at_signals();
  if (job->hang) {
    int mine = round_number;
    hanging++;
    while (mine == round_number)
      pthread_cond_wait(&released, &mutex);
    hanging--;
  }
  pthread_mutex_unlock(&mutex);
}

static void done(segue__job *job) {
  record("done", ((os_harness_job *)job)->number);
  segue__free(job);
}

static void abandoned(segue__job *job) {
  record("abandoned", ((os_harness_job *)job)->number);
  segue__free(job);
}

os_harness_job *os_harness_job_new(int number, bool hang) {
  os_harness_job *job = segue__calloc(1, sizeof *job);
  if (!job) return NULL;
  job->number = number;
  job->hang = hang;
  job->job.run = run;
  job->job.done = done;
  job->job.abandoned = abandoned;
  return job;
}

int os_harness_job_submit(segue__loop *loop, os_harness_job *job) {
  return os_harness_job_submit_to(loop, SEGUE__QUEUE_COLLECT, job);
}

int os_harness_job_submit_to(segue__loop *loop, segue__queue queue, os_harness_job *job) {
  int rc = segue__job_submit(loop, queue, &job->job);
  if (rc) segue__free(job);
  return rc;
}

void os_harness_job_abandon(segue__loop *loop, os_harness_job *job) {
  segue__job_abandon(loop, &job->job);
}

os_harness_job *os_harness_lost[8]; /* not static, or the compiler would do without it */

void os_harness_job_lose(os_harness_job *job) {
  static size_t count;
  os_harness_lost[count++ % 8] = job;
}

void os_harness_release(void) {
  pthread_mutex_lock(&mutex);
  round_number++;
  pthread_cond_broadcast(&released);
  pthread_mutex_unlock(&mutex);
}

int os_harness_hanging(void) {
  pthread_mutex_lock(&mutex);
  int count = hanging;
  pthread_mutex_unlock(&mutex);
  return count;
}

const char *os_harness_journal(char *buf, size_t size) {
  pthread_mutex_lock(&mutex);
  snprintf(buf, size, "%s", journal);
  journal[0] = 0;
  pthread_mutex_unlock(&mutex);
  return buf;
}

bool os_harness_signals_blocked(void) {
  pthread_mutex_lock(&mutex);
  bool blocked = signals_blocked;
  pthread_mutex_unlock(&mutex);
  return blocked;
}

/* Counts the entries of a folder of /proc for which a file in them holds what is looked for. */
static bool line_is(const char *path, const char *wanted) {
  char line[256] = "";
  FILE *file = fopen(path, "re");
  if (!file) return false;
  if (!fgets(line, sizeof line, file)) line[0] = 0;
  fclose(file);
  line[strcspn(line, "\n")] = 0;
  return !strcmp(line, wanted);
}

int os_harness_threads(const char *name) {
  char path[300];
  int count = 0;
  DIR *dir = opendir("/proc/self/task");
  for (const struct dirent *entry; dir && (entry = readdir(dir));) {
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
    count += line_is(path, name);
  }
  if (dir) closedir(dir);
  return count;
}

int os_harness_open_fds(void) {
  int count = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (dir && readdir(dir))
    count++;
  if (dir) closedir(dir);
  return count - 3; /* ".", ".." and the listing's own */
}

int os_harness_zombies(void) {
  char path[300], line[512];
  int count = 0;
  DIR *dir = opendir("/proc");
  for (const struct dirent *entry; dir && (entry = readdir(dir));) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
    FILE *file = fopen(path, "re");
    char state = 0;
    int parent = 0;
    if (file && fgets(line, sizeof line, file)) {
      const char *after_name = strrchr(line, ')');
      if (after_name) sscanf(after_name + 1, " %c %d", &state, &parent);
    }
    if (file) fclose(file);
    count += state == 'Z' && parent == getpid();
  }
  if (dir) closedir(dir);
  return count;
}

/* ---- Messages ---- */

enum { STORM_THREADS_MAX = 16 };

typedef struct storm_message {
  segue__message message;
  segue__loop *loop;
  int thread, number, again;
} storm_message;

static struct storm {
  pthread_t threads[STORM_THREADS_MAX];
  storm_message *messages[STORM_THREADS_MAX];
  int last[STORM_THREADS_MAX]; /* number of the last first delivery */
  int thread_count, message_count, delivered, disorder;
} storm;

static void on_storm(segue__message *base) {
  storm_message *m = (storm_message *)base;
  storm.delivered++;
  if (m->number >= 0) {
    storm.disorder += m->number != storm.last[m->thread] + 1;
    storm.last[m->thread] = m->number;
    m->number = -1;
  }
  if (m->again-- > 0) segue__post(m->loop, base);
}

static void *storm_main(void *arg) {
  storm_message *messages = arg;
  for (int i = 0; i < storm.message_count; i++)
    segue__post(messages[i].loop, &messages[i].message);
  return NULL;
}

int os_harness_storm_start(segue__loop *loop, int threads, int messages, int again) {
  memset(&storm, 0, sizeof storm);
  storm.thread_count = threads;
  storm.message_count = messages;
  for (int t = 0; t < threads; t++) {
    storm.last[t] = -1;
    storm.messages[t] = segue__calloc((size_t)messages, sizeof(storm_message));
    if (!storm.messages[t]) return -1;
    for (int i = 0; i < messages; i++)
      storm.messages[t][i] = (storm_message){{NULL, on_storm}, loop, t, i, again};
  }
  for (int t = 0; t < threads; t++)
    if (pthread_create(&storm.threads[t], NULL, storm_main, storm.messages[t])) return -1;
  return 0;
}

int os_harness_storm_delivered(void) {
  return storm.delivered;
}

int os_harness_storm_disorder(void) {
  return storm.disorder;
}

void os_harness_storm_end(void) {
  for (int t = 0; t < storm.thread_count; t++) {
    pthread_join(storm.threads[t], NULL);
    segue__free(storm.messages[t]);
  }
}

/* ---- A log from any thread ------------------------------------------------------------------- */

static char logged[65536];

static void keep_entry(void *data, const segue_log_entry *entry) {
  (void)data;
  pthread_mutex_lock(&mutex);
  size_t len = strlen(logged);
  len += (size_t)snprintf(logged + len, sizeof logged - len, "%s %s: %s",
                          segue__level_name(entry->level), entry->group, entry->message);
  for (size_t i = 0; i < entry->field_count && len < sizeof logged; i++) {
    const segue_log_field *field = &entry->fields[i];
    if (field->text)
      len += (size_t)snprintf(logged + len, sizeof logged - len, " %s=%s", field->key, field->text);
    else
      len += (size_t)snprintf(logged + len, sizeof logged - len, " %s=%lld", field->key,
                              (long long)field->number);
  }
  if (len + 1 < sizeof logged) memcpy(logged + len, "\n", 2);
  pthread_mutex_unlock(&mutex);
}

const segue__logger *os_harness_log(void) {
  static const segue__logger log = {.level = SEGUE_DEBUG, .sink = keep_entry};
  return &log;
}

const char *os_harness_log_take(char *buf, size_t size) {
  pthread_mutex_lock(&mutex);
  snprintf(buf, size, "%s", logged);
  logged[0] = 0;
  pthread_mutex_unlock(&mutex);
  return buf;
}

static int evaluated;

static const char *evaluate(const char *text) {
  evaluated++;
  return text;
}

int os_harness_log_types(const segue__logger *log, segue_level level) {
  char writable[] = "w";
  const char *absent = NULL;
  evaluated = 0;
  SEGUE__LOG(log, level, "spec", evaluate("types"), SEGUE__FIELD("literal", "l"),
             SEGUE__FIELD("writable", writable), SEGUE__FIELD("absent", absent),
             SEGUE__FIELD("int", -3), SEGUE__FIELD("int64", INT64_MIN), SEGUE__FIELD("bool", true),
             SEGUE__FIELD("unsigned", 3u), SEGUE__FIELD("uint64", UINT64_MAX),
             SEGUE__FIELD("size", sizeof(int64_t)), SEGUE__FIELD("call", evaluate("c")));
  return evaluated;
}

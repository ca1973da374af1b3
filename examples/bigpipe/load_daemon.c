/* SPDX-License-Identifier: MIT
 *
 * The daemon under load: started in a folder of its own, killed, changed step by step through its
 * files, as an operator would do it, and asked over its control socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

enum { ANSWER_MAX = 1 << 20, DIRS = 3 };

/* The present contents of config.yaml. */
static struct {
  unsigned concurrency, per_target, attempts, first_ms, ports, dir, level, max_payload, retry_after;
  uint64_t max_calls;
  bool memory;
  const char *fsync;
} now = {.concurrency = 64,
         .per_target = 48,
         .attempts = 8,
         .first_ms = 20,
         .max_payload = 65536,
         .retry_after = 1};
static uint16_t ports[PORTS], front_port;
static pid_t pid;
static char answer_text[ANSWER_MAX];

/* ---- Files ---- */

static const char *in_work(const char *name) {
  static char path[4][1024];
  static unsigned turn;
  char *to = path[turn++ % 4];
  snprintf(to, sizeof *path, "%s/%s", given.work, name);
  return to;
}

static char *read_file(const char *path, size_t *len) {
  FILE *file = fopen(path, "re");
  struct stat s;
  if (!file || fstat(fileno(file), &s)) die("%s: %s", path, strerror(errno));
  char *text = malloc((size_t)s.st_size + 1);
  if (!text) die("out of memory");
  *len = fread(text, 1, (size_t)s.st_size, file);
  text[*len] = 0;
  fclose(file);
  return text;
}

/* Whole, as a careful editor does it. */
static void write_file(const char *name, const char *text, size_t len) {
  const char *path = in_work(name), *next = in_work("next.tmp");
  FILE *file = fopen(next, "we");
  if (!file || fwrite(text, 1, len, file) != len || fclose(file) || rename(next, path))
    die("%s: %s", path, strerror(errno));
}

static void write_config(unsigned concurrency) {
  static const char *const levels[] = {"info", "debug", "warn"};
  char text[4096];
  int len = snprintf(text, sizeof text,
                     "front: {max_payload: %u, retry_after: %u}\n"
                     "queue: {folder: queue, store: %s, fsync: %s, max_calls: %" PRIu64 "}\n"
                     "log: {file: logs-%u/bigpipe.log, level: %s}\n"
                     "stats: {prefix: bigpipe_}\n"
                     "dispatcher:\n"
                     "  concurrency: %u\n"
                     "  timeout_ms: %u\n"
                     "  retry: {attempts: %u, first_ms: %u, factor: 1.5, max_ms: 300}\n"
                     "  targets:\n",
                     now.max_payload, now.retry_after, now.memory ? "memory" : "disk", now.fsync,
                     now.max_calls, now.dir, levels[now.level], concurrency, given.timeout_ms,
                     now.attempts, now.first_ms);
  for (unsigned i = 0; i < TARGETS; i++)
    len += snprintf(text + len, sizeof text - (size_t)len,
                    "    %s: {url: \"http://127.0.0.1:%u/\", concurrency: %u}\n", target_names[i],
                    ports[i + TARGETS * now.ports], now.per_target);
  write_file("config.yaml", text, (size_t)len);
}

static void copy_in(const char *from, const char *name) {
  size_t len;
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", from, strrchr(name, '/') ? strrchr(name, '/') + 1 : name);
  char *text = read_file(path, &len);
  write_file(name, text, len);
  free(text);
}

/* The address of the policy becomes a free one; nothing else of it is changed but the triggers:
 * each change here is one that is requested. */
static void copy_policy(void) {
  static const char address[] = "127.0.0.1:8080", begin[] = "triggers = {", end[] = "},\n  schema";
  size_t len;
  char path[1024], text[16384];
  snprintf(path, sizeof path, "%s/reload.lua", given.from);
  char *policy = read_file(path, &len);
  char *at = strstr(policy, address), *from = strstr(policy, begin), *to = strstr(policy, end);
  if (!at || !from || !to) die("%s is not the policy of this example", path);
  int n = snprintf(text, sizeof text, "%.*striggers = { segue.signal \"HUP\" %.*s127.0.0.1:%u%s",
                   (int)(from - policy), policy, (int)(at - to), to, front_port,
                   at + sizeof address - 1);
  write_file("reload.lua", text, (size_t)n);
  free(policy);
}

void daemon_prepare(uint16_t front, const uint16_t all[PORTS]) {
  static const char *const folders[] = {"", "plugins", "logs-0", "logs-1", "logs-2"};
  static const char *const modules[] = {"plugins/front.so", "plugins/queue.so",
                                        "plugins/dispatcher.so"};
  memcpy(ports, all, sizeof ports);
  front_port = front;
  now.fsync = given.fsync;
  now.max_calls = given.max_calls;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    if (mkdir(in_work(folders[i]), 0755) && errno != EEXIST)
      die("%s: %s", in_work(folders[i]), strerror(errno));
  for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
    copy_in(given.plugins, modules[i]);
  copy_in(given.from, "config.schema.json");
  copy_policy();
  write_config(now.concurrency);
}

/* ---- Asking ---- */

static bool connected(int fd) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  snprintf(at.sun_path, sizeof at.sun_path, "%s", in_work(".segue/control.sock"));
  return !connect(fd, (struct sockaddr *)&at, sizeof at);
}

/* Returns the status and stores the body in answer_text. 0: no server listens. */
static int ask(const char *method, const char *path) {
  char text[256];
  size_t len = 0;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int size = snprintf(text, sizeof text,
                      "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                      "Connection: close\r\n\r\n",
                      method, path);
  answer_text[0] = 0;
  if (fd >= 0 && connected(fd) && send(fd, text, (size_t)size, MSG_NOSIGNAL) == size)
    for (ssize_t n; (n = read(fd, answer_text + len, ANSWER_MAX - 1 - len)) > 0;)
      len += (size_t)n;
  if (fd >= 0) close(fd);
  answer_text[len] = 0;
  return len > 12 ? atoi(answer_text + 9) : 0;
}

double daemon_figure(const char *prefix) {
  double sum = 0;
  size_t len = strlen(prefix);
  if (ask("GET", "/metrics") != 200) die("no metrics");
  for (const char *at = answer_text; (at = strchr(at, '\n'));) {
    at++;
    if (strncmp(at, prefix, len) != 0 || (at[len] != ' ' && at[len] != '{')) continue;
    const char *end = strchr(at, '\n'), *value = at + len;
    for (const char *k = at; k < end; k++)
      if (*k == ' ') value = k;
    sum += strtod(value, NULL);
  }
  return sum;
}

/* ---- The process ---- */

static void run_daemon(void) {
  int log = open(in_work("daemon.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || chdir(given.work)) _exit(126);
  execl(given.segue, given.segue, "run", "-c", "reload.lua", (char *)NULL);
  _exit(127);
}

void daemon_start(void) {
  uint64_t until = now_us() + (uint64_t)given.wait_s * 1000000;
  pid = fork();
  if (pid < 0) die("fork: %s", strerror(errno));
  if (pid == 0) run_daemon();
  while (ask("GET", "/-/ready") != 200) {
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid || now_us() > until)
      die("the daemon is not ready: see %s", in_work("daemon.log"));
    usleep(5000);
  }
}

void daemon_kill(void) {
  int status;
  if (given.gently) {
    if (daemon_stop()) die("the daemon did not end well: see %s", in_work("daemon.log"));
    return;
  }
  if (kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid) die("kill: %s", strerror(errno));
}

void daemon_signal(int number) {
  if (kill(pid, number)) die("kill: %s", strerror(errno));
}

int daemon_stop(void) {
  int status = 0;
  uint64_t until = now_us() + (uint64_t)given.wait_s * 1000000;
  kill(pid, SIGTERM);
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (now_us() > until) {
      kill(pid, SIGKILL);
      die("the daemon does not end: see %s", in_work("daemon.log"));
    }
    usleep(5000);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- Changes ---- */

/* Changes the bytes of the code, so that it counts as another build. */
static void change_code(unsigned step) {
  static const char *const modules[] = {"plugins/dispatcher.so", "plugins/front.so",
                                        "plugins/queue.so"};
  const char *name = modules[step % 3];
  size_t len;
  char *code = read_file(in_work(name), &len);
  code[len] = (char)step;
  write_file(name, code, len + 1);
  free(code);
}

/* Each module is replaced in turn, and works as before: what is measured then is the reload. */
static void change_little(unsigned step) {
  unsigned odd = step / 6 % 2 == 0;
  switch (step % 6) {
  case 0:
    now.concurrency = 64 + odd;
    break;
  case 1:
    now.dir = (now.dir + 1) % DIRS;
    break;
  case 2:
    now.max_calls = given.max_calls + odd;
    break;
  case 3:
    now.max_payload = 65536 - odd;
    break;
  case 4:
    now.ports = !now.ports;
    break;
  default:
    change_code(step / 6);
  }
}

static void change(unsigned step) {
  static const char *const syncs[] = {"never", "50", "always"};
  unsigned round = step / 8;
  switch (step % 8) {
  case 0:
    now.concurrency = 32 + 16 * (round % 4 + 1) % 96;
    break;
  case 1:
    now.attempts = 7 + (now.attempts + 1) % 3;
    now.first_ms = 10 + round % 5 * 10;
    break;
  case 2:
    now.ports = !now.ports;
    now.per_target = 16 + round % 3 * 16;
    break;
  case 3:
    now.dir = (now.dir + 1) % DIRS;
    break;
  case 4:
    now.level = (now.level + 1) % 3;
    break;
  case 5:
    now.max_calls = given.max_calls + round % 2 + 1;
    now.fsync = syncs[round % 3];
    now.memory = !given.kills && round % 3 == 1; /* which does not outlive a kill */
    break;
  case 6:
    now.max_payload = 60000 + step;
    now.retry_after = 1 + round % 2;
    break;
  default:
    change_code(round);
  }
}

bool daemon_change(unsigned step) {
  if (given.little)
    change_little(step);
  else
    change(step);
  write_config(now.concurrency);
  if (ask("POST", "/-/reload") == 200 && strstr(answer_text, "applied: ")) return true;
  fprintf(stderr, "step %u: %s\n", step, answer_text);
  return false;
}

bool daemon_refuses(unsigned step) {
  bool reported;
  write_config(step % 2 ? 0 : 100000); /* out of range, in line 6 */
  reported = ask("POST", "/-/reload") == 422 && strstr(answer_text, "config.yaml:6:");
  if (!reported) fprintf(stderr, "a mistake, step %u: %s\n", step, answer_text);
  write_config(now.concurrency);
  return reported;
}

unsigned daemon_dead_letters(void) {
  size_t len;
  unsigned count = 0;
  char *text = read_file(in_work("queue/dead.jsonl"), &len);
  for (size_t i = 0; i < len; i++)
    count += text[i] == '\n';
  free(text);
  return count;
}

/* SPDX-License-Identifier: MIT
 *
 * two_modules run -c POLICY: a host with two modules whose life leaves traces outside: each writes
 * what it was built from into a file of its own when it starts (folder of the policy, NAME.out), so
 * that a spec that kills it sees which of them had got how far. TERM stops it.
 */
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <segue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct part {
  const char *name;
  int64_t n;
} part;

static char folder[PATH_MAX];

static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **out) {
  part *p = calloc(1, sizeof *p);
  (void)prev;
  if (!p) abort();
  p->name = userdata;
  int rc = segue_node_int(segue_node_member(next->config, "n"), &p->n);
  *out = p;
  segue_op_done(op, rc, NULL);
}

static void start(void *instance, segue_op *op) {
  const part *p = instance;
  char temp[PATH_MAX + 64], path[PATH_MAX + 64];
  snprintf(temp, sizeof temp, "%s/%s.tmp", folder, p->name);
  snprintf(path, sizeof path, "%s/%s.out", folder, p->name);
  FILE *file = fopen(temp, "w");
  if (!file || fprintf(file, "%d\n", (int)p->n) < 0 || fclose(file) || rename(temp, path)) abort();
  segue_op_done(op, 0, NULL);
}

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  fprintf(stderr, "%s: %s", entry->group, entry->message);
  for (size_t i = 0; i < entry->field_count; i++)
    if (entry->fields[i].text)
      fprintf(stderr, " %s=%s", entry->fields[i].key, entry->fields[i].text);
    else
      fprintf(stderr, " %s=%lld", entry->fields[i].key, (long long)entry->fields[i].number);
  fputc('\n', stderr);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data, (void)report;
  if (status) kill(getpid(), SIGTERM);
}

static void *wait_for_term(void *instance) {
  sigset_t term;
  int signum;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigwait(&term, &signum);
  segue_stop(instance);
  return NULL;
}

int main(int argc, char **argv) {
  static const segue_module_ops ops = {
      .size = sizeof ops, .prepare = prepare, .start = start, .destroy = free};
  segue *instance;
  segue_options options;
  segue_error error = {0};
  pthread_t thread;
  sigset_t term;
  if (argc < 4 || strlen(argv[3]) >= sizeof folder) return 2;
  char *copy = strdup(argv[3]);
  if (!copy) return 2;
  snprintf(folder, sizeof folder, "%s", dirname(copy));
  free(copy);
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  segue_options_init(&options);
  options.policy = argv[3];
  options.lua_dir = getenv("TWO_MODULES_LUA");
  options.log_level = SEGUE_INFO;
  options.on_log = on_log;
  options.on_start = on_start;
  int rc = segue_new(&instance, &options, &error);
  if (!rc) rc = segue_module_register(instance, "ledger", &ops, "ledger");
  if (!rc) rc = segue_module_register(instance, "port", &ops, "port");
  if (!rc) rc = segue_start(instance, &error);
  if (!rc) rc = pthread_create(&thread, NULL, wait_for_term, instance);
  if (!rc) {
    rc = segue_run(instance);
    pthread_join(thread, NULL);
  }
  if (rc) fprintf(stderr, "%s\n", error.message);
  segue_close(instance);
  return rc ? 1 : 0;
}

/* SPDX-License-Identifier: MIT
 *
 * source CASE POLICY [NEXT]: a host that registers a source. The source is a store of eight numbers
 * in memory; a thread answers its fetches, and other threads change numbers and push each change.
 * Prints what the library returned and what it called; the spec validates.
 */
#include <pthread.h>
#include <sched.h>
#include <segue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 8, CHANGERS = 4, CHANGES = 50 };

static segue *instance;
static const char *what, *policy, *next_policy;

/* The store. The lock is held while a change is pushed, so that pushes are in the order of the
 * revisions. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int values[NAMES];
  long revision;
  segue_watch *watch; /* NULL: none */
  segue_op *watch_op, *fetch_op;
  segue_delivery *fetch_out;
  bool ends;
  int fetches, answered, refused;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static pthread_t answerer, changers[CHANGERS];
static bool has_changers;

static bool is(const char *name) {
  return !strcmp(what, name);
}

static void print(const char *name, const char *text) {
  flockfile(stdout);
  printf("%s: %s\n", name, text);
  fflush(stdout);
  funlockfile(stdout);
}

static void text_of(int i, int value, char *name, char *text) {
  snprintf(name, 16, "n%d", i);
  snprintf(text, 32, "n%d: %d\n", i, value);
}

/* ---- The source ---- */

static int add_all(segue_delivery *out) {
  char name[16], text[32], revision[32];
  int rc = 0;
  for (int i = 0; i < NAMES && !rc; i++) {
    text_of(i, store.values[i], name, text);
    rc = segue_delivery_add(out, name, "yaml", text, strlen(text));
  }
  snprintf(revision, sizeof revision, "r%ld", store.revision);
  return rc ? rc : segue_delivery_revision(out, revision);
}

static void *answer_fetches(void *data) {
  pthread_mutex_lock(&store.lock);
  while (!store.ends) {
    if (store.fetch_op) {
      segue_op *op = store.fetch_op;
      store.fetch_op = NULL;
      segue_op_done(op, add_all(store.fetch_out), NULL);
      store.answered++;
      pthread_cond_broadcast(&store.changed);
    } else {
      pthread_cond_wait(&store.changed, &store.lock);
    }
  }
  pthread_mutex_unlock(&store.lock);
  return data;
}

static void store_fetch(void *source, const char *revision, segue_delivery *out, segue_op *op) {
  (void)source;
  pthread_mutex_lock(&store.lock);
  if (is("gone")) print("fetch", revision ? "a revision" : "everything");
  store.fetch_op = op;
  store.fetch_out = out;
  store.fetches++;
  pthread_cond_broadcast(&store.changed);
  pthread_mutex_unlock(&store.lock);
}

/* Under the lock. */
static void push(int i) {
  char name[16], text[32], base[32], revision[32];
  snprintf(base, sizeof base, "r%ld", store.revision);
  store.values[i]++;
  snprintf(revision, sizeof revision, "r%ld", ++store.revision);
  text_of(i, store.values[i], name, text);
  if (!store.watch) return;
  segue_delivery *delivery = segue_delivery_new();
  if (!delivery || segue_delivery_base(delivery, base) ||
      segue_delivery_revision(delivery, revision) ||
      segue_delivery_add(delivery, name, "yaml", text, strlen(text)))
    exit(3);
  if (segue_watch_emit(store.watch, delivery) == SEGUE_ECANCELLED) store.refused++;
}

static void end_watch(int status) {
  segue_op *op = store.watch_op;
  store.watch = NULL;
  store.watch_op = NULL;
  if (op) segue_op_done(op, status, NULL);
}

static void start_changers(void *(*fn)(void *)) {
  for (size_t i = 0; !has_changers && i < CHANGERS; i++)
    if (pthread_create(&changers[i], NULL, fn, NULL)) exit(3);
  has_changers = true;
}

static void *change(void *data) {
  for (int n = 0; n < CHANGES; n++) {
    pthread_mutex_lock(&store.lock);
    push(n % NAMES);
    pthread_mutex_unlock(&store.lock);
  }
  return data;
}

/* Continues after the cancel, and ends the watch once enough pushes were refused. */
static void *change_for_long(void *data) {
  bool ends = false;
  while (!ends) {
    pthread_mutex_lock(&store.lock);
    push(0);
    ends = store.refused >= 100;
    if (ends && store.watch_op) print("late", "100 pushes were refused");
    if (ends) end_watch(SEGUE_ECANCELLED);
    pthread_mutex_unlock(&store.lock);
    sched_yield(); /* the lock is not fair */
  }
  return data;
}

static void *compact(void *data) {
  pthread_mutex_lock(&store.lock);
  while (store.answered < 2) /* the second fetch begins beside the watch */
    pthread_cond_wait(&store.changed, &store.lock);
  print("gone", "the history was compacted");
  end_watch(SEGUE_EGONE);
  push(0);
  pthread_mutex_unlock(&store.lock);
  return data;
}

static void store_watch(void *source, const char *revision, segue_watch *watch, segue_op *op) {
  (void)source;
  pthread_mutex_lock(&store.lock);
  if (is("gone")) print("watch", revision ? "a revision" : "everything");
  store.watch = watch;
  store.watch_op = op;
  pthread_mutex_unlock(&store.lock);
  if (is("push")) start_changers(change);
  if (is("late")) start_changers(change_for_long);
  if (is("gone") && !has_changers) {
    if (pthread_create(&changers[0], NULL, compact, NULL)) exit(3);
    has_changers = true;
  }
  if (is("deaf")) segue_stop(instance);
}

static void store_cancel(void *source, segue_op *op) {
  (void)source;
  pthread_mutex_lock(&store.lock);
  if (op == store.watch_op && !is("late") && !is("deaf")) end_watch(SEGUE_ECANCELLED);
  pthread_mutex_unlock(&store.lock);
}

static void check_values(void) {
  const segue_snapshot *snapshot = segue_snapshot_acquire(instance);
  char name[16], text[32];
  int64_t value;
  bool same = snapshot != NULL;
  for (int i = 0; same && i < NAMES; i++) {
    text_of(i, 0, name, text);
    same = !segue_node_int(segue_node_member(segue_snapshot_root(snapshot), name), &value) &&
           value == store.values[i];
  }
  segue_snapshot_unref(snapshot);
  print("values", same ? "those of the store" : "others");
}

static void store_outcome(void *source, const segue_source_outcome *outcome) {
  char last[32];
  (void)source;
  pthread_mutex_lock(&store.lock);
  long revision = strtol(outcome->revision + 1, NULL, 10);
  snprintf(last, sizeof last, "r%ld", is("push") ? (long)CHANGERS * CHANGES : 1L);
  bool is_last = !strcmp(outcome->revision, last);
  if (is_last && !is("late")) {
    print("outcome", outcome->outcome);
    check_values();
    print("fetches", store.fetches < 10 ? "few" : "many");
    segue_stop(instance);
  }
  pthread_mutex_unlock(&store.lock);
  if (!is("late") || !revision || !next_policy) return;
  if (rename(next_policy, policy)) exit(3);
  next_policy = NULL;
  segue_reload(instance, true, NULL, NULL);
}

static void store_close(void *source) {
  (void)source;
  pthread_mutex_lock(&store.lock);
  print("close", store.watch_op || store.fetch_op ? "an operation is under way" : "OK");
  pthread_mutex_unlock(&store.lock);
  if (is("late")) segue_stop(instance);
}

static const segue_source_ops ops = {.size = sizeof ops,
                                     .fetch = store_fetch,
                                     .close = store_close,
                                     .watch = store_watch,
                                     .cancel = store_cancel,
                                     .outcome = store_outcome};
static const segue_source_descriptor descriptor = {.magic = SEGUE_SOURCE_MAGIC,
                                                   .abi = SEGUE_SOURCE_ABI,
                                                   .size = sizeof descriptor,
                                                   .name = "store",
                                                   .ops = &ops};

/* ---- The host ---- */

static void on_log(void *data, const segue_log_entry *entry) {
  (void)data;
  if (strcmp(entry->message, "the host cannot register it")) return;
  for (size_t i = 0; i < entry->field_count; i++)
    print(entry->fields[i].key, entry->fields[i].text);
}

static void on_start(void *data, int status, const segue_report *report) {
  (void)data;
  print("start", status || !report ? segue_error_name(status) : report->outcome);
}

static void on_stopped(void *data) {
  (void)data;
  print("stopped", "OK");
}

static void open_instance(void) {
  segue_options options;
  segue_error error;
  segue_options_init(&options);
  options.policy = policy;
  options.lua_dir = "lua";
  options.on_log = on_log;
  options.on_start = on_start;
  options.on_stopped = on_stopped;
  if (segue_new(&instance, &options, &error)) exit(3);
}

static void start_instance(void) {
  segue_error error;
  if (!segue_start(instance, &error)) return;
  print("error", error.message);
  exit(3);
}

static void try_one(const char *name, const segue_source_descriptor *d) {
  print(name, segue_error_name(segue_source_register(instance, d)));
}

/* Registers descriptors that are wrong in one way each, then a good one. */
static void register_all(void) {
  segue_source_ops other = ops;
  segue_source_descriptor d = descriptor;
#define TRY(title, field, value)                                                                   \
  d = descriptor;                                                                                  \
  d.field = (value);                                                                               \
  try_one(title, &d);
  try_one("no descriptor", NULL);
  TRY("magic", magic, SEGUE_MODULE_MAGIC)
  TRY("abi", abi, SEGUE_SOURCE_ABI + 1)
  TRY("small", size, 8)
  TRY("large", size, (size_t)1 << 40)
  TRY("no name", name, NULL)
  TRY("slash", name, "a/b")
  TRY("empty name", name, "")
  TRY("no ops", ops, NULL)
  d = descriptor;
  d.ops = &other;
  other.size = 8;
  try_one("small ops", &d);
  other = ops;
  other.fetch = NULL;
  try_one("no fetch", &d);
  try_one("good", &descriptor);
  try_one("taken", &descriptor);
  start_instance();
  try_one("late", &descriptor);
}

/* The instance is closed, and a thread of the host still reports. */
static void report_late(void) {
  print("emit", segue_error_name(segue_watch_emit(store.watch, NULL)));
  segue_op_done(store.watch_op, 0, NULL);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  signal(SIGPIPE, SIG_IGN);
  what = argv[1];
  policy = argv[2];
  next_policy = argv[3];
  open_instance();
  if (is("register")) {
    register_all();
    segue_stop(instance);
  } else {
    try_one("good", &descriptor);
    start_instance();
  }
  if (pthread_create(&answerer, NULL, answer_fetches, NULL)) return 3;
  print("run", segue_error_name(segue_run(instance)));
  segue_close(instance);
  if (is("deaf")) report_late();
  for (int i = 0; has_changers && i < (is("gone") ? 1 : CHANGERS); i++)
    pthread_join(changers[i], NULL);
  pthread_mutex_lock(&store.lock);
  store.ends = true;
  pthread_cond_broadcast(&store.changed);
  pthread_mutex_unlock(&store.lock);
  return pthread_join(answerer, NULL) ? 3 : 0;
}

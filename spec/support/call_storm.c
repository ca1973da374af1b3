/* SPDX-License-Identifier: MIT
 *
 * Threads that pass one gate and call another module from inside, while the control thread
 * replaces both, one, or takes it back: each call has to meet the generation of its caller.
 */
#include <pthread.h>
#include <sched.h>
#include <uv.h>

#include "gate_harness.h"

enum { THREADS = 4 };

typedef struct storm {
  gate_house *house;
  segue_gate *front, *store;
  int stop, running;                    /* atomic */
  uint64_t calls, mixed, gone, refused; /* atomic */
} storm;

typedef struct side {
  segue_gate *gate;
  segue__module_spec spec;
  segue__instance *live, *next;
} side;

static void built(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                  void **instance) {
  (void)userdata;
  (void)next;
  (void)prev;
  *instance = segue__calloc(1, sizeof(int));
  segue_op_done(op, *instance ? 0 : UV_ENOMEM, NULL);
}

/* Written where another thread may still look would be a report of the sanitizers. */
static void destroyed(void *instance) {
  __atomic_store_n((int *)instance, 1, __ATOMIC_SEQ_CST);
  segue__free(instance);
}

static const segue_module_ops ops = {.size = sizeof ops, .prepare = built, .destroy = destroyed};

/* ---- Those who call ---- */

static void note(uint64_t *counter) {
  __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
}

static void call_once(storm *all, bool leaves_first) {
  segue_pass front, store;
  if (segue_gate_enter(all->front, &front)) {
    note(&all->refused);
    return;
  }
  const segue_snapshot *mine = front.snapshot;
  if (leaves_first) sched_yield();
  if (segue_gate_enter_from(all->store, &front, &store)) {
    note(&all->refused);
  } else {
    if (leaves_first) segue_gate_leave(&front);
    if (store.snapshot != mine) note(&all->mixed);
    if (__atomic_load_n((int *)store.instance, __ATOMIC_SEQ_CST)) note(&all->gone);
    segue_gate_leave(&store);
  }
  segue_gate_leave(&front);
  note(&all->calls);
}

static void *call_all(void *data) {
  storm *all = data;
  for (unsigned i = 0; !__atomic_load_n(&all->stop, __ATOMIC_SEQ_CST); i++)
    call_once(all, i & 1);
  __atomic_sub_fetch(&all->running, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* ---- Reloads ---- */

static void ended(segue__instance *instance, segue__verb verb, int status, const segue_error *error,
                  void *data) {
  (void)instance;
  (void)verb;
  (void)error;
  *(int *)data = status;
}

static int run(storm *all, segue__instance *instance, segue__verb verb) {
  int status = 1;
  segue__instance_call(instance, verb, 1000, ended, &status);
  while (status == 1)
    if (!segue__loop_step(all->house->loop)) sched_yield();
  return status;
}

static int build(storm *all, side *side, const segue_snapshot *snapshot) {
  int rc = segue__instance_new(&side->next, all->house->loop, &all->house->log, &side->spec,
                               snapshot, NULL, &all->house->limbo);
  return rc < 0 ? rc : run(all, side->next, SEGUE__PREPARE);
}

static void retire(storm *all, segue__instance *instance) {
  if (!instance) return;
  (void)run(all, instance, SEGUE__DRAIN);
  (void)run(all, instance, SEGUE__STOP);
  segue__instance_release(instance);
}

static void flip(side *sides, bool first, bool back) {
  for (int i = 0; i < 2; i++) {
    segue_gate *gate = sides[first ? i : 1 - i].gate;
    if (back)
      segue__gate_unflip(gate);
    else
      segue__gate_flip(gate);
  }
}

/* The called module is drained first: that is the harder case. */
static void exchange(storm *all, side *sides, bool undone) {
  for (int i = 0; i < 2; i++) {
    segue__gate_settle(sides[i].gate);
    segue__instance *old = undone ? sides[i].next : sides[i].live;
    if (!sides[i].next) continue;
    if (!undone) sides[i].live = sides[i].next;
    sides[i].next = old;
  }
  int status[2] = {0, 0};
  for (int i = 0; i < 2; i++) {
    if (!sides[i].next) continue;
    status[i] = 1;
    segue__instance_call(sides[i].next, SEGUE__DRAIN, 1000, ended, &status[i]);
  }
  while (status[0] == 1 || status[1] == 1)
    if (!segue__loop_step(all->house->loop)) sched_yield();
  for (int i = 0; i < 2; i++) {
    if (sides[i].next) (void)run(all, sides[i].next, SEGUE__STOP);
    segue__instance_release(sides[i].next);
    sides[i].next = NULL;
  }
}

static void wait_for_calls(storm *all) {
  uint64_t until = __atomic_load_n(&all->calls, __ATOMIC_SEQ_CST) + 20;
  while (__atomic_load_n(&all->calls, __ATOMIC_SEQ_CST) < until)
    if (!segue__loop_step(all->house->loop)) sched_yield();
}

static int reload(storm *all, side *sides, unsigned round) {
  segue_snapshot *snapshot = gate_house_snapshot(round + 2);
  int rc = snapshot ? 0 : UV_ENOMEM;
  for (int i = 0; i < 2 && !rc; i++) {
    bool keep = sides[i].live && round % 4 == (unsigned)i + 1;
    if (!keep) rc = build(all, &sides[i], snapshot);
    if (!rc)
      rc = segue__gate_reserve(sides[i].gate, keep ? sides[i].live : sides[i].next, snapshot);
  }
  segue_snapshot_unref(snapshot);
  if (rc) return rc;
  flip(sides, round & 8, false);
  bool undone = sides[0].live && round % 5 == 4;
  if (round) wait_for_calls(all);
  if (undone) flip(sides, round & 16, true);
  exchange(all, sides, undone);
  return 0;
}

int call_storm_run(gate_house *house, call_storm *out) {
  static char *needs[] = {(char *)"m"};
  storm all = {.house = house, .store = house->gate};
  all.front = segue__gates_get(house->gates, "front");
  if (!all.front) return UV_ENOMEM;
  side sides[2] = {
      {.gate = all.store, .spec = {.name = (char *)"m", .ops = &ops, .replace = SEGUE__HANDOVER}},
      {.gate = all.front,
       .spec = {.name = (char *)"front",
                .ops = &ops,
                .replace = SEGUE__HANDOVER,
                .needs = needs,
                .needs_count = 1}}};
  pthread_t threads[THREADS] = {0};
  int rc = reload(&all, sides, 0);
  for (; !rc && all.running < THREADS; all.running++)
    rc = -pthread_create(&threads[all.running], NULL, call_all, &all);
  int started = all.running;
  for (unsigned round = 1; !rc && round < out->rounds; round++)
    rc = reload(&all, sides, round);
  __atomic_store_n(&all.stop, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++)
    segue__gate_refuse(sides[i].gate, SEGUE_EMODULE);
  retire(&all, sides[1].live);
  retire(&all, sides[0].live);
  out->calls = all.calls;
  out->mixed = all.mixed;
  out->gone = all.gone;
  out->refused = all.refused;
  return rc;
}

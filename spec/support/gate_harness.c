/* SPDX-License-Identifier: MIT
 *
 * Threads at a gate. Each has a key of its own and sends a few requests at once, so that their
 * order can be checked; what it has passed is left by whichever thread comes next, or by the
 * control thread.
 */
#include "gate_harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "core/module/gate_internal.h"

enum { THREADS = 8, BURST = 4 };

/* An instance: it knows its generation, and whether it was destroyed. Kept until the end. */
typedef struct object object;
struct object {
  uint64_t generation;
  int gone; /* atomic */
  gate_house *house;
  object *next;
};

static object *objects; /* of the house that is open; control thread */

static void object_prepare(void *userdata, segue_op *op, const segue_slice *next,
                           const segue_slice *prev, void **instance) {
  (void)prev;
  object *o = segue__calloc(1, sizeof *o);
  if (o) {
    o->generation = segue_snapshot_generation(next->snapshot);
    o->house = userdata;
    o->next = objects;
    objects = o;
    __atomic_add_fetch(&o->house->alive, 1, __ATOMIC_SEQ_CST);
  }
  *instance = o;
  segue_op_done(op, o ? 0 : UV_ENOMEM, NULL);
}

static void object_destroy(void *instance) {
  object *o = instance;
  __atomic_store_n(&o->gone, 1, __ATOMIC_SEQ_CST);
  __atomic_sub_fetch(&o->house->alive, 1, __ATOMIC_SEQ_CST);
}

static const segue_module_ops ops = {
    .size = sizeof ops, .prepare = object_prepare, .destroy = object_destroy};

segue__instance *gate_leads_to(const segue_gate *gate) {
  return gate->open ? gate->open->instance : NULL;
}

bool gate_is_flipping(const segue_gate *gate) {
  return gate->next || gate->kept || gate->reserved;
}

int gate_house_new(gate_house **out, segue__loop *loop) {
  gate_house *house = segue__calloc(1, sizeof *house);
  *out = house;
  if (!house) return UV_ENOMEM;
  house->loop = loop;
  int rc = segue__gates_new(&house->gates);
  if (rc == 0) segue__gates_begin(house->gates, loop);
  if (rc == 0 && !(house->gate = segue__gates_get(house->gates, "m"))) rc = UV_ENOMEM;
  if (rc == 0) return 0;
  segue__gates_unref(house->gates);
  segue__free(house);
  *out = NULL;
  return rc;
}

void gate_house_free(gate_house *house) {
  segue__gates_end(house->gates);
  segue__loop_step(house->loop);
  segue__gates_unref(house->gates);
  while (objects) {
    object *next = objects->next;
    segue__free(objects);
    objects = next;
  }
  segue__free(house);
}

segue_snapshot *gate_house_snapshot(uint64_t generation) {
  char text[64];
  int len = snprintf(text, sizeof text, "{\"n\":%u}", (unsigned)generation);
  segue__document *doc = NULL;
  segue__config *config = NULL;
  segue_snapshot *snapshot = NULL;
  int rc = segue__document_new(&doc, (uint32_t)generation, "spec", "spec", SEGUE__JSON,
                               segue__strndup(text, (size_t)len), (size_t)len);
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (!rc) rc = segue__config_merge(&config, &doc, 1, NULL);
  if (!rc) (void)segue__snapshot_new(&snapshot, generation, config);
  segue__config_unref(config);
  segue__document_unref(doc);
  return snapshot;
}

static void noted(segue__instance *instance, segue__verb verb, int status, const segue_error *error,
                  void *data) {
  (void)instance;
  (void)verb;
  (void)error;
  *(int *)data = status;
}

segue__instance *gate_house_instance(gate_house *house, uint64_t generation) {
  segue_snapshot *snapshot = gate_house_snapshot(generation);
  segue__module_spec spec = {.name = (char *)"m", .ops = &ops, .userdata = house};
  segue__instance *instance = NULL;
  if (!snapshot) return NULL;
  int status = 1;
  if (!segue__instance_new(&instance, house->loop, &house->log, &spec, snapshot, NULL,
                           &house->limbo)) {
    segue__instance_call(instance, SEGUE__PREPARE, 1000, noted, &status);
    while (status == 1)
      segue__loop_step(house->loop);
  }
  segue_snapshot_unref(snapshot);
  return instance;
}

int gate_house_reserve(gate_house *house, segue__instance *instance) {
  segue_snapshot *snapshot = gate_house_snapshot(segue__instance_generation(instance));
  if (!snapshot) return UV_ENOMEM;
  int rc = segue__gate_reserve(house->gate, instance, snapshot);
  segue_snapshot_unref(snapshot);
  return rc;
}

int gate_house_open(gate_house *house, segue__instance *instance) {
  int rc = gate_house_reserve(house, instance);
  if (rc < 0) return rc;
  segue__gate_flip(house->gate);
  segue__gate_settle(house->gate);
  return 0;
}

int gate_house_enter_in_a_flip(gate_house *house, segue_pass *pass) {
  segue__gate_call_between(segue__gate_flip);
  return segue_gate_enter(house->gate, pass);
}

void gate_house_drain(segue__instance *instance, uint64_t deadline_ms, int *status) {
  *status = 1;
  segue__instance_call(instance, SEGUE__DRAIN, deadline_ms, noted, status);
}

uint64_t gate_house_generation(const segue_pass *pass) {
  return pass->place ? segue_snapshot_generation(pass->snapshot) : 0;
}

/* ---- On a thread of its own ---- */

typedef struct errand {
  segue_gate *gate; /* NULL: leave */
  segue_pass *pass;
  int rc;
} errand;

static void *run_errand(void *data) {
  errand *e = data;
  if (e->gate)
    e->rc = segue_gate_enter(e->gate, e->pass);
  else
    segue_gate_leave(e->pass);
  return NULL;
}

static int elsewhere(errand *e) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_errand, e)) return UV_EAGAIN;
  pthread_join(thread, NULL);
  return e->rc;
}

int gate_house_enter_elsewhere(gate_house *house, segue_pass *pass) {
  return elsewhere(&(errand){.gate = house->gate, .pass = pass});
}

void gate_house_leave_elsewhere(segue_pass *pass) {
  elsewhere(&(errand){.pass = pass});
}

/* ---- The storm ---- */

typedef struct storm storm;
typedef struct sender sender;

typedef struct letter {
  segue_arrival request; /* first */
  sender *from;
  uint64_t number, live; /* live: the generation when it was sent */
  int answers, status;   /* atomic */
} letter;

struct sender {
  storm *all;
  uint64_t key, sent, last; /* last: number that was answered last; atomic */
  letter letters[BURST];
  gate_storm seen;
  pthread_t thread;
};

struct storm {
  gate_house *house;
  segue_pass mailbox; /* a pass that is inside, for the next thread */
  pthread_mutex_t lock;
  uint64_t live, passed; /* atomic */
  int stop, running;     /* atomic */
  segue__instance *instance;
  uint64_t generation;
  gate_storm *out;
  sender senders[THREADS];
};

static void exchange(storm *all, segue_pass *pass) {
  pthread_mutex_lock(&all->lock);
  segue_pass other = all->mailbox;
  all->mailbox = *pass;
  *pass = other;
  pthread_mutex_unlock(&all->lock);
}

static void check_pass(sender *s, const segue_pass *pass) {
  const object *o = pass->instance;
  if (__atomic_load_n(&o->gone, __ATOMIC_SEQ_CST) ||
      o->generation != segue_snapshot_generation(pass->snapshot))
    s->seen.wrong++;
}

static void note_answer(letter *l, int status) {
  l->status = status;
  if (status == 0 && __atomic_exchange_n(&l->from->last, l->number, __ATOMIC_SEQ_CST) > l->number)
    __atomic_add_fetch(&l->from->seen.disordered, 1, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&l->answers, 1, __ATOMIC_SEQ_CST);
}

static void on_answer(segue_arrival *request, int status) {
  note_answer((letter *)request, status);
}

static void send_one(sender *s, letter *l) {
  memset(l, 0, sizeof *l);
  l->from = s;
  l->number = ++s->sent;
  l->live = __atomic_load_n(&s->all->live, __ATOMIC_SEQ_CST);
  l->request.cb = on_answer;
  l->request.key = s->key;
  l->request.bytes = 1;
  int rc = segue_gate_submit(s->all->house->gate, &l->request);
  if (rc == SEGUE_QUEUED) {
    s->seen.waited++;
    if (l->number % 7 || !segue_gate_cancel(s->all->house->gate, &l->request)) return;
    s->seen.cancelled++;
    rc = UV_ECANCELED;
  }
  note_answer(l, rc);
}

static void finish(sender *s, letter *l) {
  while (!__atomic_load_n(&l->answers, __ATOMIC_SEQ_CST))
    sched_yield();
  if (l->status < 0) {
    s->seen.refused += l->status != UV_ECANCELED;
    return;
  }
  check_pass(s, &l->request.pass);
  if (segue_snapshot_generation(l->request.pass.snapshot) < l->live) s->seen.older++;
  s->seen.passed++;
  __atomic_add_fetch(&s->all->passed, 1, __ATOMIC_SEQ_CST);
  segue_pass pass = l->request.pass;
  if (l->number % 2) exchange(s->all, &pass);
  if (pass.place) check_pass(s, &pass);
  segue_gate_leave(&pass);
}

static void *send_all(void *data) {
  sender *s = data;
  while (!__atomic_load_n(&s->all->stop, __ATOMIC_SEQ_CST)) {
    for (int i = 0; i < BURST; i++)
      send_one(s, &s->letters[i]);
    for (int i = 0; i < BURST; i++)
      finish(s, &s->letters[i]);
    for (int i = 0; i < BURST; i++)
      if (__atomic_load_n(&s->letters[i].answers, __ATOMIC_SEQ_CST) != 1) s->seen.doubled++;
  }
  __atomic_sub_fetch(&s->all->running, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* One turn of the control thread. */
static void turn(storm *all) {
  segue_pass nobody = {0};
  exchange(all, &nobody);
  segue_gate_leave(&nobody);
  if (!segue__loop_step(all->house->loop)) sched_yield();
}

static void drain_and_release(storm *all, segue__instance *instance) {
  const object *o = segue__instance_object(instance);
  int status;
  gate_house_drain(instance, 1000, &status);
  while (status == 1)
    turn(all);
  size_t before = __atomic_load_n(&all->house->alive, __ATOMIC_SEQ_CST);
  segue__instance_release(instance);
  if (status || !__atomic_load_n(&o->gone, __ATOMIC_SEQ_CST) ||
      before != 1 + __atomic_load_n(&all->house->alive, __ATOMIC_SEQ_CST))
    all->out->crowded++;
}

static void answer_reload(storm *all, segue__instance *instance) {
  all->instance = instance;
  __atomic_store_n(&all->live, all->generation, __ATOMIC_SEQ_CST);
}

static int storm_round(storm *all, unsigned round) {
  gate_house *house = all->house;
  segue__instance *old = all->instance, *next = gate_house_instance(house, ++all->generation);
  if (!next) return UV_ENOMEM;
  int rc = 0;
  if (round % 4 == 0) { /* handover */
    rc = gate_house_open(house, next);
    answer_reload(all, next);
    drain_and_release(all, old);
  } else if (round % 4 == 1) { /* restart */
    segue__gate_shut(house->gate);
    drain_and_release(all, old);
    rc = gate_house_open(house, next);
    answer_reload(all, next);
  } else if (round % 4 == 2) { /* undone */
    rc = gate_house_reserve(house, next);
    segue__gate_flip(house->gate);
    turn(all);
    segue__gate_unflip(house->gate);
    drain_and_release(all, next);
  } else { /* failed, and came back */
    segue__gate_shut(house->gate);
    drain_and_release(all, old);
    segue__gate_refuse(house->gate, SEGUE_EMODULE);
    turn(all);
    rc = gate_house_open(house, next);
    answer_reload(all, next);
  }
  uint64_t until = __atomic_load_n(&all->passed, __ATOMIC_SEQ_CST) + all->out->threads * 10;
  while (__atomic_load_n(&all->passed, __ATOMIC_SEQ_CST) < until)
    turn(all);
  return rc;
}

static void add_up(gate_storm *out, const gate_storm *seen) {
  out->passed += seen->passed;
  out->waited += seen->waited;
  out->cancelled += seen->cancelled;
  out->refused += seen->refused;
  out->doubled += seen->doubled;
  out->disordered += seen->disordered;
  out->wrong += seen->wrong;
  out->older += seen->older;
}

int gate_storm_run(gate_house *house, gate_storm *out) {
  storm *all = segue__calloc(1, sizeof *all);
  if (!all) return UV_ENOMEM;
  all->house = house;
  all->out = out;
  all->generation = all->live = 1;
  all->instance = gate_house_instance(house, 1);
  pthread_mutex_init(&all->lock, NULL);
  int rc = all->instance ? gate_house_open(house, all->instance) : UV_ENOMEM;
  for (unsigned i = 0; !rc && i < out->threads && i < THREADS; i++) {
    sender *s = &all->senders[i];
    s->all = all;
    s->key = i + 1;
    __atomic_add_fetch(&all->running, 1, __ATOMIC_SEQ_CST);
    rc = -pthread_create(&s->thread, NULL, send_all, s);
  }
  for (unsigned round = 0; !rc && round < out->rounds; round++)
    rc = storm_round(all, round);
  __atomic_store_n(&all->stop, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&all->running, __ATOMIC_SEQ_CST))
    turn(all);
  for (unsigned i = 0; i < out->threads && i < THREADS; i++) {
    pthread_join(all->senders[i].thread, NULL);
    add_up(out, &all->senders[i].seen);
    out->lost += all->senders[i].sent - all->senders[i].seen.passed -
                 all->senders[i].seen.cancelled - all->senders[i].seen.refused;
  }
  turn(all);
  segue__gate_refuse(house->gate, SEGUE_EMODULE);
  drain_and_release(all, all->instance);
  pthread_mutex_destroy(&all->lock);
  segue__free(all);
  return rc;
}

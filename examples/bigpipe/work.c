/* SPDX-License-Identifier: MIT
 *
 * The queue's thread. Each turn takes all that came since the last one, writes it with one call,
 * lets it be synced if the configuration wants that, and only then answers 202: however many calls
 * come at once, they cost one write. Then it hands out what is due, as much as the dispatcher
 * takes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "queue.h"

enum { REFUSED_MS = 5, BROKEN_MS = 200, IDLE_MS = 1000 };

typedef struct turn {
  pipe_call *puts, *reports;
  bool stop;
} turn;

/* ---- Waiting ---- */

static struct timespec at_ms(uint64_t ms) {
  return (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

static uint64_t wake_at(queue *q, uint64_t now) {
  uint64_t due = calls_due(&q->calls, now), at = now + IDLE_MS;
  if (q->refused) at = now + REFUSED_MS;
  if (q->broken) at = now + BROKEN_MS;
  if (q->unsynced && q->sync_ms > SYNC_ALWAYS && q->synced_ms + q->sync_ms < at)
    at = q->synced_ms + q->sync_ms;
  return due < at ? due : at;
}

static turn wait_for_work(queue *q) {
  struct timespec until = at_ms(wake_at(q, now_ms()));
  pthread_mutex_lock(&q->lock);
  while (!q->put_first && !q->report_first && !q->stop)
    if (pthread_cond_timedwait(&q->wake, &q->lock, &until)) break;
  turn t = {q->put_first, q->report_first, q->stop && !q->put_first && !q->report_first};
  q->put_first = q->put_last = q->report_first = q->report_last = NULL;
  pthread_mutex_unlock(&q->lock);
  return t;
}

/* ---- What came in ---- */

static void answer(segue_request *request, int status, uint64_t id) {
  static const char name[] = "Retry-After";
  char text[64];
  segue_header header = {{name, sizeof name - 1}, {"1", 1}};
  int len = status == 202
                ? snprintf(text, sizeof text, "{\"id\":\"%016llx\"}\n", (unsigned long long)id)
                : snprintf(text, sizeof text, "the queue cannot keep it now\n");
  segue_answer a = {.status = status,
                    .content_type = status == 202 ? "application/json" : "text/plain",
                    .headers = &header,
                    .header_count = status != 202,
                    .body = text,
                    .len = (size_t)len};
  if (segue_request_answer(request, &a)) segue_request_end(request);
}

static int write_puts(queue *q, pipe_call *puts) {
  bytes out = {0};
  for (pipe_call *call = puts; call; call = call->next) {
    call->id = q->journal.next_id++;
    if (!q->memory) record_kept(&out, call, 0, 0);
  }
  int rc = q->memory ? 0 : journal_append(&q->journal, &out);
  free(out.data);
  if (!rc && !q->memory) q->unsynced = true;
  return rc;
}

static void keep_one(queue *q, pipe_call *call, int rc) {
  segue_request *request = call->request;
  uint64_t id = call->id;
  size_t len = call->len;
  entry *e = rc ? NULL : entry_new(call);
  call->request = NULL;
  if (e) {
    calls_add(&q->calls, e);
    rc = calls_wait(&q->calls, e);
    if (rc) rc = calls_wait_until(&q->calls, e, now_ms() + BROKEN_MS);
    if (rc) calls_remove(&q->calls, e);
  } else {
    pipe_call_unref(call);
  }
  if (!e || rc) {
    pthread_mutex_lock(&q->lock);
    q->kept_count--;
    q->kept_bytes -= len;
    pthread_mutex_unlock(&q->lock);
    record_gone(&q->unwritten, id); /* it may be written all the same */
    (void)segue_count(q->s, "refused_total", 1);
    answer(request, 503, id);
    return;
  }
  (void)segue_count(q->s, "accepted_total", 1);
  answer(request, 202, id);
}

static void keep(queue *q, pipe_call *puts, int rc) {
  while (puts) {
    pipe_call *call = puts;
    puts = call->next;
    call->next = NULL;
    keep_one(q, call, rc);
  }
}

/* ---- What became of calls ---- */

static void forget(queue *q, entry *e) {
  pthread_mutex_lock(&q->lock);
  q->kept_count--;
  q->kept_bytes -= e->call->len;
  pthread_mutex_unlock(&q->lock);
  calls_remove(&q->calls, e);
}

/* A letter that cannot be buried stays, and is tried again: nothing goes without a trace. */
static void settle(queue *q, entry *e, pipe_call *call) {
  uint64_t id = call->id;
  if (call->outcome == PIPE_DEAD && journal_bury(&q->journal, call, e->attempts + 1)) {
    call->outcome = PIPE_RETRY;
    call->pause_ms = 1000;
  }
  if (call->outcome != PIPE_RETRY) {
    record_gone(&q->unwritten, id);
    forget(q, e);
    return;
  }
  uint64_t due = now_ms() + call->pause_ms;
  e->attempts++;
  record_tried(&q->unwritten, id, e->attempts, due);
  if (calls_wait_until(&q->calls, e, due)) (void)calls_wait(&q->calls, e);
}

static void settle_all(queue *q, pipe_call *reports) {
  while (reports) {
    pipe_call *call = reports;
    reports = call->next;
    entry *e = calls_find(&q->calls, call->id);
    if (e && e->state == OUT) settle(q, e, call);
    pipe_call_unref(call);
  }
}

/* The outcomes of calls are kept until they can be written: if they never are, the calls are
 * delivered again. */
static void write_reports(queue *q) {
  if (q->memory || !q->unwritten.len) {
    q->unwritten.len = 0;
    return;
  }
  q->unwritten.failed = false; /* what is missing is done again after the next start, no more */
  q->broken = journal_append(&q->journal, &q->unwritten) != 0;
  if (q->broken) return;
  q->unwritten.len = 0;
  q->unsynced = true;
}

static int sync_now(queue *q) {
  int rc = q->unsynced ? journal_sync(&q->journal) : 0;
  q->unsynced = false;
  q->synced_ms = now_ms();
  return rc;
}

/* ---- Handing out ---- */

static int push_line(queue *q, pipe_dispatcher *to, line *l) {
  int rc = PIPE_TAKEN;
  while (l->first && rc == PIPE_TAKEN) {
    entry *e = l->first;
    e->call->attempts = e->attempts;
    rc = to->push(to, e->call);
    if (rc == PIPE_TAKEN) calls_out(&q->calls, l);
  }
  return rc;
}

/* The line that was first goes last, so that none starves. */
static void rotate(calls *c) {
  line *first = c->lines, *last = first;
  if (!first || !first->next) return;
  while (last->next)
    last = last->next;
  c->lines = first->next;
  first->next = NULL;
  last->next = first;
}

static void hand_out(queue *q) {
  segue_pass pass;
  calls_due(&q->calls, now_ms());
  q->refused = q->calls.waiting > 0;
  if (!q->calls.waiting || segue_gate_enter(q->dispatcher, &pass)) return;
  int rc = PIPE_TAKEN;
  for (line *l = q->calls.lines; l && rc != PIPE_BUSY; l = l->next)
    rc = push_line(q, pass.instance, l);
  segue_gate_leave(&pass);
  rotate(&q->calls);
  q->refused = q->calls.waiting > 0;
}

/* ---- Beginning and end ---- */

static bool take_over(queue *q) {
  legacy *l = q->got;
  if (!l || !l->full || !journal_resume(&q->journal, l->inode, l->size, l->next_id)) return false;
  q->calls = l->calls;
  l->calls = (calls){0};
  l->full = false;
  return true;
}

static int load(queue *q, segue_error *error) {
  if (take_over(q)) return 0;
  int rc = calls_init(&q->calls);
  if (rc) return segue_error_set(error, rc, "out of memory");
  return journal_load(&q->journal, &q->calls, error);
}

static int begin(queue *q, segue_error *error) {
  int rc = journal_open(&q->journal, q->folder, error);
  q->locks = true;
  if (!rc) rc = load(q, error);
  if (!rc && q->memory) {
    rc = journal_remove(&q->journal);
    if (rc)
      segue_error_set(error, rc, "%s cannot be removed: %s", q->journal.path, segue_strerror(rc));
  }
  q->kept_count = q->calls.count;
  q->kept_bytes = q->calls.bytes;
  q->synced_ms = now_ms();
  return rc;
}

static void leave(queue *q) {
  legacy *l = q->left;
  l->inode = journal_inode(&q->journal);
  l->size = q->journal.size;
  l->next_id = q->journal.next_id;
  l->calls = q->calls;
  l->full = true;
  q->calls = (calls){0};
}

/* For the next instance, or the next process. */
static int end(queue *q) {
  bytes out = {0};
  int rc = q->memory ? journal_rewrite(&q->journal, &q->calls) : 0;
  if (!rc && q->unwritten.len) rc = journal_append(&q->journal, &q->unwritten);
  for (size_t i = 0; i < q->calls.bucket_count; i++)
    for (entry *e = q->calls.buckets[i]; e; e = e->chain)
      if (e->state == OUT) record_out(&out, e->call->id);
  if (!rc && out.len) rc = journal_append(&q->journal, &out);
  if (!rc && q->sync_ms != SYNC_NEVER) rc = journal_sync(&q->journal);
  free(out.data);
  if (!rc) leave(q);
  return rc;
}

static void work(queue *q) {
  for (;;) {
    turn t = wait_for_work(q);
    if (t.stop) return;
    settle_all(q, t.reports);
    write_reports(q);
    int rc = t.puts ? write_puts(q, t.puts) : 0;
    if (q->sync_ms == SYNC_ALWAYS ||
        (q->sync_ms > SYNC_ALWAYS && now_ms() >= q->synced_ms + q->sync_ms)) {
      int synced = sync_now(q);
      if (!rc) rc = synced;
    }
    keep(q, t.puts, rc);
    hand_out(q);
    (void)segue_gauge(q->s, "queue_calls", (double)q->calls.count);
    if (!q->memory && journal_is_long(&q->journal, &q->calls))
      q->broken = journal_rewrite(&q->journal, &q->calls) != 0;
  }
}

void *queue_work(void *instance) {
  queue *q = instance;
  segue_error error = {0};
  int rc = begin(q, &error);
  segue_op_done(q->start_op, rc, rc ? &error : NULL);
  if (rc) return NULL;
  work(q);
  rc = end(q);
  if (rc) segue_error_set(&error, rc, "the journal could not be written: %s", segue_strerror(rc));
  journal_close(&q->journal); /* the lock is the next one's */
  q->locks = false;
  if (q->stop_op) segue_op_done(q->stop_op, rc, rc ? &error : NULL);
  return NULL;
}

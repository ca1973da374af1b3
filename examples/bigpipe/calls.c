/* SPDX-License-Identifier: MIT
 *
 * The calls that are kept. Each is found by its id; it waits in the line of its target, or in a
 * heap until it is due again, or is out, with the dispatcher.
 */
#include <string.h>
#include <uv.h>

#include "queue.h"

enum { FIRST_BUCKETS = 1024 };

int calls_init(calls *c) {
  memset(c, 0, sizeof *c);
  c->buckets = calloc(FIRST_BUCKETS, sizeof *c->buckets);
  c->bucket_count = FIRST_BUCKETS;
  return c->buckets ? 0 : UV_ENOMEM;
}

entry *entry_new(pipe_call *call) {
  entry *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->call = call;
  e->attempts = call->attempts;
  e->state = OUT; /* in no line yet */
  return e;
}

void entry_free(entry *e) {
  if (e) pipe_call_unref(e->call);
  free(e);
}

void calls_deinit(calls *c) {
  for (size_t i = 0; c->buckets && i < c->bucket_count; i++)
    while (c->buckets[i]) {
      entry *e = c->buckets[i];
      c->buckets[i] = e->chain;
      entry_free(e);
    }
  while (c->lines) {
    line *l = c->lines;
    c->lines = l->next;
    free(l);
  }
  free(c->buckets);
  free(c->heap);
  memset(c, 0, sizeof *c);
}

/* ---- By id ---- */

static entry **bucket_of(const calls *c, uint64_t id) {
  return &c->buckets[id & (c->bucket_count - 1)];
}

/* Without memory for more the chains grow longer. */
static void spread(calls *c) {
  size_t count = c->bucket_count * 2;
  entry **before = c->buckets, **more = calloc(count, sizeof *more);
  if (!more) return;
  c->buckets = more;
  c->bucket_count = count;
  for (size_t i = 0; i < count / 2; i++)
    while (before[i]) {
      entry *e = before[i];
      before[i] = e->chain;
      entry **bucket = bucket_of(c, e->call->id);
      e->chain = *bucket;
      *bucket = e;
    }
  free(before);
}

void calls_add(calls *c, entry *e) {
  if (c->count >= c->bucket_count) spread(c);
  entry **bucket = bucket_of(c, e->call->id);
  e->chain = *bucket;
  *bucket = e;
  c->count++;
  c->bytes += e->call->len;
}

entry *calls_find(const calls *c, uint64_t id) {
  entry *e = *bucket_of(c, id);
  while (e && e->call->id != id)
    e = e->chain;
  return e;
}

static int by_id(const void *a, const void *b) {
  uint64_t x = (*(entry *const *)a)->call->id, y = (*(entry *const *)b)->call->id;
  return x < y ? -1 : x > y;
}

entry **calls_sorted(const calls *c) {
  entry **all = malloc((c->count + 1) * sizeof *all);
  size_t n = 0;
  for (size_t i = 0; all && i < c->bucket_count; i++)
    for (entry *e = c->buckets[i]; e; e = e->chain)
      all[n++] = e;
  if (all) qsort(all, n, sizeof *all, by_id);
  return all;
}

/* ---- By time ---- */

static void place(calls *c, entry *e, size_t slot) {
  c->heap[slot - 1] = e;
  e->slot = slot;
}

static void sift_up(calls *c, entry *e) {
  size_t slot = e->slot;
  for (; slot > 1 && c->heap[slot / 2 - 1]->due_ms > e->due_ms; slot /= 2)
    place(c, c->heap[slot / 2 - 1], slot);
  place(c, e, slot);
}

static void sift_down(calls *c, entry *e) {
  size_t slot = e->slot;
  for (size_t child; (child = 2 * slot) <= c->heap_count; slot = child) {
    if (child < c->heap_count && c->heap[child]->due_ms < c->heap[child - 1]->due_ms) child++;
    if (c->heap[child - 1]->due_ms >= e->due_ms) break;
    place(c, c->heap[child - 1], slot);
  }
  place(c, e, slot);
}

static void unheap(calls *c, entry *e) {
  size_t slot = e->slot;
  entry *last = c->heap[--c->heap_count];
  e->slot = 0;
  if (last == e) return;
  place(c, last, slot);
  sift_up(c, last);
  sift_down(c, last);
}

int calls_wait_until(calls *c, entry *e, uint64_t due_ms) {
  if (c->heap_count == c->heap_capacity) {
    size_t capacity = c->heap_capacity ? c->heap_capacity * 2 : 64;
    entry **more = realloc(c->heap, capacity * sizeof *more);
    if (!more) return UV_ENOMEM;
    c->heap = more;
    c->heap_capacity = capacity;
  }
  e->state = LATER;
  e->due_ms = due_ms;
  place(c, e, ++c->heap_count);
  sift_up(c, e);
  return 0;
}

uint64_t calls_due(calls *c, uint64_t now) {
  while (c->heap_count && c->heap[0]->due_ms <= now) {
    entry *e = c->heap[0];
    unheap(c, e);
    if (calls_wait(c, e) && calls_wait_until(c, e, now + 1000)) break;
  }
  return c->heap_count ? c->heap[0]->due_ms : UINT64_MAX;
}

/* ---- By target ---- */

static line *line_of(calls *c, const char *target) {
  line *l = c->lines;
  while (l && strcmp(l->target, target) != 0)
    l = l->next;
  if (l || !(l = calloc(1, sizeof *l))) return l;
  memcpy(l->target, target, strlen(target) + 1);
  l->next = c->lines;
  c->lines = l;
  return l;
}

int calls_wait(calls *c, entry *e) {
  line *l = line_of(c, e->call->target);
  if (!l) return UV_ENOMEM;
  e->state = WAITING;
  e->next = NULL;
  if (l->last)
    l->last->next = e;
  else
    l->first = e;
  l->last = e;
  c->waiting++;
  return 0;
}

void calls_out(calls *c, line *l) {
  entry *e = l->first;
  l->first = e->next;
  if (!l->first) l->last = NULL;
  e->next = NULL;
  e->state = OUT;
  c->waiting--;
}

static void leave_line(calls *c, entry *e) {
  line *l = line_of(c, e->call->target);
  entry *before = NULL;
  for (entry *at = l->first; at && at != e; at = at->next)
    before = at;
  if (before)
    before->next = e->next;
  else
    l->first = e->next;
  if (l->last == e) l->last = before;
  c->waiting--;
}

void calls_remove(calls *c, entry *e) {
  entry **link = bucket_of(c, e->call->id);
  while (*link != e)
    link = &(*link)->chain;
  *link = e->chain;
  if (e->state == LATER && e->slot) unheap(c, e);
  if (e->state == WAITING) leave_line(c, e);
  c->count--;
  c->bytes -= e->call->len;
  entry_free(e);
}

/* SPDX-License-Identifier: MIT
 *
 * Guards: absence of data is not data. The items of a delivery are counted before it may go live. A
 * delivery that looks like an accident is held, with the numbers, until the source delivers
 * something else or an operator accepts it, once.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "collect.h"
#include "guard.h"
#include "run.h"

/* Before the first generation is live no admin API answers, so the message names only the option of
 * the guard. */
static const char *guard_remedy(const segue__txn *txn) {
  return txn->engine->live
             ? "look at the source, or let it through once by a reload with accept-shrink"
             : "look at the source, or change its guard";
}

/* The items of a key space are its keys. */
static uint64_t count_items(const segue__documents *documents) {
  uint64_t items = 0;
  for (size_t i = 0; i < documents->count; i++) {
    const segue__document *doc = documents->items[i];
    items += doc->keys ? doc->keys->count : segue_node_count(&doc->root);
  }
  return items;
}

/* Finds the count of the generation before the restart, while no generation is live yet. */
static bool find_recorded(const segue__engine *engine, const segue__source *source,
                          uint64_t *items) {
  const segue__last_good *good = &segue__record_found(engine->record)->last_good;
  for (size_t i = 0; i < good->sources.count; i++) {
    if (strcmp(good->sources.items[i].source, source->name) != 0) continue;
    *items = good->sources.items[i].items;
    return true;
  }
  return false;
}

static bool find_applied(const segue__engine *engine, const segue__source *source,
                         uint64_t *items) {
  return segue__sources_applied(engine->sources, source, items) ||
         (engine->resumes && find_recorded(engine, source, items));
}

static void guard_hold(segue__txn *txn, const segue__source *source, const segue_error *error) {
  segue_error reported = *error;
  segue__error_source(&reported, source->name);
  segue__errors_add(&txn->guarded.held, &reported);
}

static void validate_count(segue__txn *txn, const segue__source *source, uint64_t items) {
  const segue__guard *guard = &source->guard;
  segue_error error;
  uint64_t before = 0;
  if (items < guard->min_items) {
    segue__errorf(&error, SEGUE_EHELD,
                  "%.200s has %llu item%s, and its guard requires min_items = %llu: %s",
                  source->name, (unsigned long long)items, items == 1 ? "" : "s",
                  (unsigned long long)guard->min_items, guard_remedy(txn));
    guard_hold(txn, source, &error);
  }
  if (!guard->shrink_limited || !find_applied(txn->engine, source, &before) || items >= before)
    return;
  double part = (double)(before - items) / (double)before;
  if (part <= guard->max_shrink) return;
  segue__errorf(&error, SEGUE_EHELD,
                "%.200s went from %llu items to %llu (%.0f %% less), and its guard allows "
                "max_shrink = %g: %s",
                source->name, (unsigned long long)before, (unsigned long long)items, part * 100,
                guard->max_shrink, guard_remedy(txn));
  guard_hold(txn, source, &error);
}

static bool guard_is_there(const segue__documents *documents, const char *path) {
  for (size_t i = 0; i < documents->count; i++)
    if (segue_node_get(&documents->items[i]->root, path)) return true;
  return false;
}

static void validate_required(segue__txn *txn, const segue__source *source,
                              const segue__documents *documents) {
  for (size_t i = 0; i < source->guard.required_count; i++) {
    const char *path = source->guard.required[i];
    segue_error error;
    if (guard_is_there(documents, path)) continue;
    segue__errorf(&error, SEGUE_EHELD, "%.200s has nothing at %.100s, which its guard requires: %s",
                  source->name, path, guard_remedy(txn));
    segue__error_path(&error, path);
    guard_hold(txn, source, &error);
  }
}

/* The name of a source that is too old is mixed into the hash of the input. So the same bytes have
 * another hash when the source is back, and the reload is tried again instead of being skipped as
 * one that was held before. */
static void validate_age(segue__txn *txn, const segue__source *source) {
  segue__source_set set = segue__policy_sources(txn->policy);
  const segue_error *why;
  segue_error error;
  uint64_t age_ms;
  if (!segue__sources_is_too_old(txn->engine->sources, &set, source, &age_ms, &why)) return;
  segue__errorf(&error, SEGUE_EHELD,
                "%.200s is away, and what it delivered %llu s ago is older than max_age = %llu s "
                "allows: bring it back%s (%.150s)",
                source->name, (unsigned long long)(age_ms / 1000),
                (unsigned long long)(source->guard.max_age_ms / 1000),
                txn->engine->live ? ", or let it through once by a reload with accept-shrink" : "",
                why->message);
  guard_hold(txn, source, &error);
  txn->content.raw = segue__hash_bytes(source->name, strlen(source->name), txn->content.raw);
}

int segue__guards_check(segue__txn *txn, const segue__collect *collect) {
  for (size_t i = 0; i < collect->source_count; i++) {
    const segue__source *source = &collect->policy->sources[i];
    uint64_t items = count_items(&collect->documents[i]);
    int rc =
        segue__source_counts_add(&txn->guarded.counts, source->name, strlen(source->name), items);
    if (rc) return rc;
    if (txn->run->files) continue; /* a replayed generation was checked when it first went live */
    if (txn->run->accept_shrink) continue;
    validate_age(txn, source);
    if (!collect->fetched[i]) continue;
    validate_count(txn, source, items);
    validate_required(txn, source, &collect->documents[i]);
  }
  return 0;
}

bool segue__guards_hold(segue__txn *txn) {
  const segue__errors *held = &txn->guarded.held;
  for (size_t i = 0; i < held->count; i++)
    segue__txn_fail(txn, &held->items[i]);
  if (held->total && !segue__txn_failed(txn)) { /* memory for the findings has run out */
    segue_error error;
    segue__errorf(&error, SEGUE_EHELD, "a guard holds what a source delivered");
    segue__txn_fail(txn, &error);
  }
  return held->total > 0;
}

void segue__guards_settle(segue__txn *txn) {
  const segue__source_counts *counts = &txn->guarded.counts;
  segue__source_set set = segue__policy_sources(txn->policy);
  for (size_t i = 0; i < counts->count; i++)
    segue__sources_set_applied(txn->engine->sources, &set, &set.items[i], counts->items[i].items);
}

void segue__guards_take_counts(segue__txn *txn, segue__source_counts *out) {
  *out = txn->guarded.counts;
  txn->guarded.counts = (segue__source_counts){0};
}

void segue__guards_deinit(segue__txn *txn) {
  segue__errors_deinit(&txn->guarded.held);
  segue__source_counts_deinit(&txn->guarded.counts);
}

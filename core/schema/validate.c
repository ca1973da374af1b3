/* SPDX-License-Identifier: MIT
 *
 * Validation: a walk over the value and the schema together. Everything that grows is bounded: the
 * depth of nested schemas, the number of steps, the time. A limit that is reached is an error and
 * never counts as "valid" or "not valid": inside `not` a failure would otherwise become a success.
 */
#include <string.h>
#include <time.h>
#include <uv.h>

#include "schema_internal.h"

enum { DEPTH_MAX = 800, CLOCK_STEPS = 4096 };

#define STEPS_DEFAULT UINT64_C(100000000)
#define TIME_DEFAULT_MS UINT64_C(10000)

/* ---- Limits ---------------------------------------------------------------------------------- */

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

bool segue__validate_stop(segue__validation *v, const segue__place *place, int code) {
  if (v->status) return false;
  v->findings = v->all; /* this is recorded even while breaches are not */
  v->code = code;
  if (code == UV_ENOMEM)
    segue__finding_add(v, NULL, NULL, place, "cannot be validated: out of memory");
  else
    segue__finding_add(v, NULL, NULL, place,
                       "cannot be validated: the schema takes too much work here (steps, time, "
                       "depth or backtracking of a pattern)");
  v->findings = NULL;
  v->status = code;
  return false;
}

bool segue__validate_step(segue__validation *v, const segue__place *place, uint64_t count) {
  if (v->status) return false;
  if (count > v->steps) return segue__validate_stop(v, place, SEGUE_ELIMIT);
  v->steps -= count;
  v->since += count;
  if (v->since < CLOCK_STEPS) return true;
  v->since = 0;
  return now_ns() <= v->deadline || segue__validate_stop(v, place, SEGUE_ELIMIT);
}

bool segue__validate_match(segue__validation *v, const segue__place *place,
                           const segue__regex *regex, const char *text, size_t len) {
  /* Matching may be slow in itself: the clock is read more often. */
  if (!segue__validate_step(v, place, 64 + len / 16)) return false;
  int rc = segue__regex_match(regex, &v->matcher, text, len);
  return rc < 0 ? segue__validate_stop(v, place, rc) : rc == 1;
}

/* ---- Marks ----------------------------------------------------------------------------------- */

static size_t words_of(const segue_node *node) {
  return node->type >= SEGUE_LIST ? ((size_t)node->count + 63) / 64 : 0;
}

static size_t marks_push(segue__validation *v, const segue_node *node) {
  size_t words = words_of(node), need = v->bits_used + words;
  if (need > v->bits_capacity) {
    size_t capacity = v->bits_capacity ? v->bits_capacity : 64;
    while (capacity < need)
      capacity *= 2;
    uint64_t *bits = segue__realloc(v->bits, capacity * sizeof *bits);
    if (!bits) return 0;
    v->bits = bits;
    v->bits_capacity = capacity;
  }
  if (words) memset(v->bits + v->bits_used, 0, words * sizeof *v->bits);
  v->bits_used = need;
  return need - words + 1;
}

static void marks_pop(segue__validation *v, size_t marks) {
  if (marks) v->bits_used = marks - 1;
}

static void marks_merge(segue__validation *v, size_t to, size_t from, const segue_node *node) {
  for (size_t i = 0; to && from && i < words_of(node); i++)
    v->bits[to - 1 + i] |= v->bits[from - 1 + i];
}

void segue__marks_set(segue__validation *v, size_t marks, uint32_t child) {
  if (marks) v->bits[marks - 1 + child / 64] |= UINT64_C(1) << child % 64;
}

void segue__marks_set_all(segue__validation *v, size_t marks, const segue_node *node) {
  if (marks && words_of(node)) memset(v->bits + marks - 1, 0xff, words_of(node) * sizeof *v->bits);
}

bool segue__marks_get(const segue__validation *v, size_t marks, uint32_t child) {
  return marks && v->bits[marks - 1 + child / 64] >> child % 64 & 1;
}

/* ---- The walk -------------------------------------------------------------------------------- */

/* Adds a resource to the dynamic scope: the resources that were entered on the way here. */
static int validate_enter(segue__validation *v, const segue__resource *resource) {
  if (v->scope_count && v->scope[v->scope_count - 1] == resource) return 0;
  if (v->scope_count == v->scope_capacity) {
    size_t capacity = v->scope_capacity ? v->scope_capacity * 2 : 16;
    const segue__resource **scope =
        segue__realloc((void *)v->scope, capacity * sizeof(const segue__resource *));
    if (!scope) return UV_ENOMEM;
    v->scope = scope;
    v->scope_capacity = capacity;
  }
  v->scope[v->scope_count++] = resource;
  return 0;
}

static bool validate(segue__validation *v, const segue__sub *sub, const segue__place *place,
                     size_t marks) {
  bool good = true;
  for (uint32_t i = 0; i < sub->keyword_count && !v->status; i++) {
    const segue__keyword *k = &sub->keywords[i];
    if (!k->def->check) continue;
    /* Keywords about the remaining children run only if all others hold, else every breach would be
     * reported twice. */
    if (!good && k->def->vocabulary == SEGUE__V_UNEVALUATED) break;
    if (k->def->check(v, sub, k, place, marks)) continue;
    good = false;
    if (!v->findings || k->def->check == segue__check_type) break;
  }
  return good && !v->status;
}

bool segue__validate_sub(segue__validation *v, const segue__sub *sub, const segue__place *place,
                         size_t marks) {
  if (sub->always == 1) return true;
  if (sub->always) return segue__finding_add(v, sub, NULL, place, "is not allowed here");
  if (!segue__validate_step(v, place, 1)) return false;
  size_t scope = v->scope_count, own = 0;
  if (v->depth == DEPTH_MAX) return segue__validate_stop(v, place, SEGUE_ELIMIT);
  if (validate_enter(v, sub->resource) || (sub->marks && !(own = marks_push(v, place->node))))
    return segue__validate_stop(v, place, UV_ENOMEM);
  v->depth++;
  bool good = validate(v, sub, place, own ? own : marks);
  v->depth--;
  v->scope_count = scope;
  if (own && good) marks_merge(v, marks, own, place->node);
  marks_pop(v, own);
  return good;
}

bool segue__validate_quietly(segue__validation *v, const segue__sub *sub, const segue__place *place,
                             size_t marks) {
  segue__findings *findings = v->findings;
  v->findings = NULL;
  bool good = segue__validate_sub(v, sub, place, marks);
  if (!v->status) v->findings = findings;
  return good;
}

bool segue__validate_try(segue__validation *v, const segue__sub *sub, const segue__place *place,
                         size_t marks) {
  size_t scratch = marks ? marks_push(v, place->node) : 0;
  if (marks && !scratch) return segue__validate_stop(v, place, UV_ENOMEM);
  bool good = segue__validate_quietly(v, sub, place, scratch);
  if (good) marks_merge(v, marks, scratch, place->node);
  marks_pop(v, scratch);
  return good;
}

int segue__schema_validate(const segue__schema *schema, const segue_node *root,
                           segue__findings *findings, const segue__validate_options *options) {
  uint64_t steps = options && options->steps ? options->steps : STEPS_DEFAULT;
  uint64_t time_ms = options && options->time_ms ? options->time_ms : TIME_DEFAULT_MS;
  segue__validation v = {.schema = schema,
                         .options = options,
                         .findings = findings,
                         .all = findings,
                         .steps = steps,
                         .deadline = now_ns() + time_ms * UINT64_C(1000000)};
  segue__place place = {.node = root};
  bool good = segue__validate_sub(&v, schema->root, &place, 0);
  segue__matcher_deinit(&v.matcher);
  segue__free((void *)v.scope);
  segue__free(v.bits);
  return v.status ? v.status : good ? 0 : SEGUE_ESCHEMA;
}

/* SPDX-License-Identifier: MIT
 *
 * Keywords that check one value by itself, and their messages.
 */
#include <string.h>
#include <uv.h>

#include "schema_internal.h"

enum { FEW = 8 };

static uint64_t type_bits(const segue_node *node) {
  static const uint8_t bits[] = {
      SEGUE__T_NULL,   SEGUE__T_BOOLEAN, SEGUE__T_INTEGER | SEGUE__T_NUMBER,
      SEGUE__T_NUMBER, SEGUE__T_STRING,  SEGUE__T_ARRAY,
      SEGUE__T_OBJECT};
  uint64_t mask = bits[node->type];
  if (node->type == SEGUE_FLOAT && segue__number_integral(node)) mask |= SEGUE__T_INTEGER;
  return mask;
}

bool segue__check_type(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                       const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE], types[SEGUE__SHOWN_SIZE];
  (void)marks;
  if (type_bits(place->node) & k->number) return true;
  return segue__finding_add(v, sub, k, place, "must be %s%s",
                            segue__finding_types(k->number, types),
                            segue__finding_not_type(place, shown));
}

bool segue__check_const(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                        const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE];
  segue__quoted wanted;
  (void)marks;
  if (segue__value_equal(place->node, k->value)) return true;
  segue__finding_show(k->value, &wanted);
  segue__finding_not(v, place, shown);
  bool alike = shown[0] && strstr(shown, wanted.text); /* two maps of two members, shortened */
  if (alike || segue__finding_hidden(v, place))
    return segue__finding_add(v, sub, k, place, "must have the value that the schema gives");
  return segue__finding_add(v, sub, k, place, "must be %s%s", wanted.text, shown);
}

static void assert_add_values(segue__buf *out, const segue_node *list) {
  segue__quoted shown;
  for (uint32_t i = 0; i < list->count; i++) {
    if (i) segue__buf_adds(out, i + 1 == list->count ? " or " : ", ");
    if (out->len > 160) {
      segue__buf_addf(out, "%u more", list->count - i);
      return;
    }
    segue__buf_adds(out, segue__finding_show(&list->v.items[i], &shown));
  }
}

bool segue__check_enum(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                       const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE];
  (void)marks;
  uint64_t work = k->value->count / 8;
  segue__hash hash = segue__value_hash(place->node, &work);
  if (!segue__validate_step(v, place, work)) return false;
  for (uint32_t i = 0; i < k->value->count; i++)
    if (segue__hash_equal(k->hashes[i], hash) &&
        segue__value_equal(&k->value->v.items[i], place->node))
      return true;
  if (!v->findings || segue__finding_hidden(v, place))
    return segue__finding_add(v, sub, k, place, "must be one of the values that the schema allows");
  segue__buf values;
  segue__buf_init(&values);
  assert_add_values(&values, k->value);
  segue__finding_add(v, sub, k, place, "must be %s%s",
                     values.data && !values.failed ? values.data : "one of a list",
                     segue__finding_not(v, place, shown));
  segue__buf_deinit(&values);
  return false;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static bool assert_is_number(const segue_node *node) {
  return node->type == SEGUE_INT || node->type == SEGUE_FLOAT;
}

static bool report_number(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          const segue__place *place, const char *rule) {
  char shown[SEGUE__SHOWN_SIZE];
  segue__quoted limit;
  return segue__finding_add(v, sub, k, place, "must be %s %s%s", rule,
                            segue__finding_show(k->value, &limit),
                            segue__finding_not(v, place, shown));
}

bool segue__check_maximum(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          const segue__place *place, size_t marks) {
  (void)marks;
  /* A value that is not a number (.nan) is on no side of a limit. */
  return !assert_is_number(place->node) || segue__number_compare(place->node, k->value) <= 0 ||
         report_number(v, sub, k, place, "at most");
}

bool segue__check_exclusive_max(segue__validation *v, const segue__sub *sub,
                                const segue__keyword *k, const segue__place *place, size_t marks) {
  (void)marks;
  return !assert_is_number(place->node) || segue__number_compare(place->node, k->value) < 0 ||
         report_number(v, sub, k, place, "less than");
}

bool segue__check_minimum(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          const segue__place *place, size_t marks) {
  (void)marks;
  int c = assert_is_number(place->node) ? segue__number_compare(place->node, k->value) : 0;
  return c == 0 || c == 1 || report_number(v, sub, k, place, "at least");
}

bool segue__check_exclusive_min(segue__validation *v, const segue__sub *sub,
                                const segue__keyword *k, const segue__place *place, size_t marks) {
  (void)marks;
  return !assert_is_number(place->node) || segue__number_compare(place->node, k->value) == 1 ||
         report_number(v, sub, k, place, "more than");
}

bool segue__check_multiple(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                           const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE];
  segue__quoted step;
  (void)marks;
  if (!assert_is_number(place->node) || segue__number_multiple(place->node, k->value)) return true;
  return segue__finding_add(v, sub, k, place, "must be a multiple of %s%s",
                            segue__finding_show(k->value, &step),
                            segue__finding_not(v, place, shown));
}

/* ---- Text ------------------------------------------------------------------------------------ */

static uint64_t characters(const segue_node *node) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < node->count; i++)
    n += ((unsigned char)node->v.s[i] & 0xc0) != 0x80;
  return n;
}

/* "must have at least 5 characters, not 3" */
static bool report_count(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, uint64_t count, const char *what) {
  bool most = k->def->name[1] == 'a'; /* max... */
  return segue__finding_add(v, sub, k, place, "must have at %s %llu %s%s, not %llu",
                            most ? "most" : "least", (unsigned long long)k->number, what,
                            k->number == 1 ? "" : "s", (unsigned long long)count);
}

bool segue__check_max_length(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                             const segue__place *place, size_t marks) {
  (void)marks;
  if (place->node->type != SEGUE_STRING || place->node->count <= k->number) return true;
  if (!segue__validate_step(v, place, place->node->count / 64)) return false;
  uint64_t count = characters(place->node);
  return count <= k->number || report_count(v, sub, k, place, count, "character");
}

bool segue__check_min_length(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                             const segue__place *place, size_t marks) {
  (void)marks;
  if (place->node->type != SEGUE_STRING) return true;
  if (!segue__validate_step(v, place, place->node->count / 64)) return false;
  uint64_t count = characters(place->node);
  return count >= k->number || report_count(v, sub, k, place, count, "character");
}

bool segue__check_pattern(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE];
  segue__quoted pattern;
  (void)marks;
  const segue_node *node = place->node;
  if (node->type != SEGUE_STRING ||
      segue__validate_match(v, place, k->regexes[0], node->v.s, node->count))
    return true;
  return !v->status && segue__finding_add(v, sub, k, place, "must match %s%s",
                                          segue__finding_show_text(k->value, &pattern),
                                          segue__finding_not(v, place, shown));
}

bool segue__check_format(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, size_t marks) {
  char shown[SEGUE__SHOWN_SIZE];
  (void)marks;
  if (!k->format || place->node->type != SEGUE_STRING) return true;
  if (!segue__validate_step(v, place, place->node->count / 16)) return false;
  int rc = k->format->check(place->node->v.s, place->node->count);
  if (rc < 0) return segue__validate_stop(v, place, rc);
  return rc || segue__finding_add(v, sub, k, place, "must be %s%s", k->format->what,
                                  segue__finding_not(v, place, shown));
}

/* ---- Lists and maps -------------------------------------------------------------------------- */

bool segue__check_max_items(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                            const segue__place *place, size_t marks) {
  (void)marks;
  return place->node->type != SEGUE_LIST || place->node->count <= k->number ||
         report_count(v, sub, k, place, place->node->count, "item");
}

bool segue__check_min_items(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                            const segue__place *place, size_t marks) {
  (void)marks;
  return place->node->type != SEGUE_LIST || place->node->count >= k->number ||
         report_count(v, sub, k, place, place->node->count, "item");
}

bool segue__check_max_properties(segue__validation *v, const segue__sub *sub,
                                 const segue__keyword *k, const segue__place *place, size_t marks) {
  (void)marks;
  return place->node->type != SEGUE_MAP || place->node->count <= k->number ||
         report_count(v, sub, k, place, place->node->count, "member");
}

bool segue__check_min_properties(segue__validation *v, const segue__sub *sub,
                                 const segue__keyword *k, const segue__place *place, size_t marks) {
  (void)marks;
  return place->node->type != SEGUE_MAP || place->node->count >= k->number ||
         report_count(v, sub, k, place, place->node->count, "member");
}

/* Compares each item with each: for a few items this is cheaper than a table. */
static bool find_twin_of_few(const segue_node *list, uint32_t *i, uint32_t *twin) {
  for (*i = 1; *i < list->count; ++*i)
    for (*twin = 0; *twin < *i; ++*twin)
      if (segue__value_equal(&list->v.items[*twin], &list->v.items[*i])) return true;
  return false;
}

static bool report_twin(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                        const segue__place *place, uint32_t i, uint32_t twin) {
  segue__place child = segue__place_item(place, i);
  return segue__finding_add(v, sub, k, &child, "must differ from item %u of the same list", twin);
}

/* Finds two equal items by a table of their hashes; a slot holds item + 1, 0 means free. */
static bool find_twin(const segue_node *list, const segue__hash *hashes, uint32_t *slots,
                      size_t mask, uint32_t i, uint32_t *twin) {
  size_t at = hashes[i].lo & mask;
  for (; slots[at]; at = (at + 1) & mask) {
    *twin = slots[at] - 1;
    if (segue__hash_equal(hashes[*twin], hashes[i]) &&
        segue__value_equal(&list->v.items[*twin], &list->v.items[i]))
      return true;
  }
  slots[at] = i + 1;
  return false;
}

bool segue__check_unique(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, size_t marks) {
  (void)marks;
  const segue_node *list = place->node;
  if (!k->value->v.b || list->type != SEGUE_LIST || list->count < 2) return true;
  if (!segue__validate_step(v, place, list->count)) return false;
  uint32_t i = 0, twin = 0;
  if (list->count <= FEW)
    return !find_twin_of_few(list, &i, &twin) || report_twin(v, sub, k, place, i, twin);
  size_t size = 4;
  while (size < 2 * (size_t)list->count)
    size *= 2;
  segue__hash *hashes = segue__malloc(list->count * sizeof *hashes);
  uint32_t *slots = segue__calloc(size, sizeof *slots);
  bool twins = false, memory = hashes && slots;
  uint64_t work = 0;
  for (; memory && i < list->count && !twins; i++) {
    hashes[i] = segue__value_hash(&list->v.items[i], &work);
    twins = find_twin(list, hashes, slots, size - 1, i, &twin);
  }
  segue__free(hashes);
  segue__free(slots);
  if (!memory) return segue__validate_stop(v, place, UV_ENOMEM);
  if (!segue__validate_step(v, place, work)) return false;
  return !twins || report_twin(v, sub, k, place, i - 1, twin);
}

static bool assert_require(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                           const segue__place *place, const segue_node *names,
                           const segue__member *because) {
  bool good = true;
  for (uint32_t i = 0; i < names->count && (good || v->findings); i++) {
    const segue_node *name = &names->v.items[i];
    segue__quoted shown;
    if (!segue__validate_step(v, place, 1)) return false;
    if (segue__node_find(place->node, name->v.s, name->count)) continue;
    good = false;
    if (because && !segue__finding_hidden(v, place))
      segue__finding_add(v, sub, k, place, "must have the key %s beside the key \"%.80s\"",
                         segue__finding_show(name, &shown), because->key);
    else
      segue__finding_add(v, sub, k, place, "must have the key %s",
                         segue__finding_show(name, &shown));
  }
  return good;
}

bool segue__check_required(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                           const segue__place *place, size_t marks) {
  (void)marks;
  return place->node->type != SEGUE_MAP || assert_require(v, sub, k, place, k->value, NULL);
}

bool segue__check_dependent_required(segue__validation *v, const segue__sub *sub,
                                     const segue__keyword *k, const segue__place *place,
                                     size_t marks) {
  (void)marks;
  bool good = true;
  if (place->node->type != SEGUE_MAP) return true;
  for (uint32_t i = 0; i < k->value->count && (good || v->findings); i++) {
    const segue__member *m = &k->value->v.members[i];
    if (m->value.type == SEGUE_LIST && segue__node_find(place->node, m->key, m->key_len))
      good = assert_require(v, sub, k, place, &m->value, m) && good;
  }
  return good;
}

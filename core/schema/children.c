/* SPDX-License-Identifier: MIT
 *
 * Keywords whose subschemas apply to the members of a map or the items of a list. They mark the
 * children that they evaluated, for the keywords about the remaining ones.
 */
#include <string.h>

#include "../config/node.h"
#include "schema_internal.h"

/* ---- Maps ------------------------------------------------------------------------------------ */

static uint32_t members_of(const segue__place *place) {
  return place->node->type == SEGUE_MAP ? place->node->count : 0;
}

static const segue__sub *children_declared(const segue__keyword *properties,
                                           const segue__member *m) {
  const segue__member *found =
      properties ? segue__node_find(properties->value, m->key, m->key_len) : NULL;
  return found ? properties->subs[found - properties->value->v.members] : NULL;
}

bool segue__check_properties(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                             const segue__place *place, size_t marks) {
  (void)sub;
  bool good = true;
  for (uint32_t i = 0; i < members_of(place) && (good || v->findings); i++) {
    segue__place child = segue__place_member(place, i);
    const segue__sub *wanted = children_declared(k, child.member);
    if (!segue__validate_step(v, place, 1)) return false;
    if (!wanted) continue;
    good = segue__validate_sub(v, wanted, &child, 0) && good;
    segue__marks_set(v, marks, i);
  }
  return good;
}

bool segue__check_pattern_properties(segue__validation *v, const segue__sub *sub,
                                     const segue__keyword *k, const segue__place *place,
                                     size_t marks) {
  (void)sub;
  bool good = true;
  for (uint32_t i = 0; i < members_of(place) && (good || v->findings); i++) {
    segue__place child = segue__place_member(place, i);
    for (uint32_t j = 0; j < k->sub_count; j++) {
      if (!segue__validate_match(v, &child, k->regexes[j], child.member->key,
                                 child.member->key_len))
        continue;
      good = segue__validate_sub(v, k->subs[j], &child, 0) && good;
      segue__marks_set(v, marks, i);
    }
  }
  return good && !v->status;
}

static bool by_pattern(segue__validation *v, const segue__keyword *patterns,
                       const segue__place *child) {
  for (uint32_t j = 0; patterns && j < patterns->sub_count; j++)
    if (segue__validate_match(v, child, patterns->regexes[j], child->member->key,
                              child->member->key_len))
      return true;
  return false;
}

/* Validates a member that no other keyword provides for. If nothing is allowed there, the message
 * suggests the nearest declared key. */
static bool validate_rest(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          segue__place *child, const segue_node *known) {
  if (k->sub->always != 2) return segue__validate_sub(v, k->sub, child, 0);
  const segue__member *m = child->member;
  child->at_key = true;
  bool guess = known && !segue__finding_hidden(v, child);
  const char *meant = guess ? segue__schema_nearest(m->key, m->key_len, known) : NULL;
  return segue__finding_add(v, sub, k, child, "is not a known key here%s%s%s",
                            meant ? ": did you mean \"" : "", meant ? meant : "",
                            meant ? "\"?" : "");
}

bool segue__check_additional(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                             const segue__place *place, size_t marks) {
  bool good = true;
  if (k->sub->always != 1)
    for (uint32_t i = 0; i < members_of(place) && (good || v->findings); i++) {
      segue__place child = segue__place_member(place, i);
      if (!segue__validate_step(v, place, 1)) return false;
      if (children_declared(k->beside, child.member) || by_pattern(v, k->also, &child)) continue;
      good = validate_rest(v, sub, k, &child, k->beside ? k->beside->value : NULL) && good;
    }
  /* The keyword that declares a child marks it. */
  if (good && place->node->type == SEGUE_MAP) segue__marks_set_all(v, marks, place->node);
  return good && !v->status;
}

bool segue__check_unevaluated_properties(segue__validation *v, const segue__sub *sub,
                                         const segue__keyword *k, const segue__place *place,
                                         size_t marks) {
  bool good = true;
  for (uint32_t i = 0; i < members_of(place) && (good || v->findings); i++) {
    segue__place child = segue__place_member(place, i);
    if (segue__marks_get(v, marks, i)) continue;
    good = validate_rest(v, sub, k, &child, NULL) && good;
    segue__marks_set(v, marks, i);
  }
  return good && !v->status;
}

bool segue__check_property_names(segue__validation *v, const segue__sub *sub,
                                 const segue__keyword *k, const segue__place *place, size_t marks) {
  (void)sub;
  (void)marks;
  bool good = true;
  for (uint32_t i = 0; i < members_of(place) && (good || v->findings); i++) {
    segue__place child = segue__place_member(place, i);
    const segue__member *m = child.member;
    segue_node name = {.type = SEGUE_STRING,
                       .document = m->value.document,
                       .line = m->line,
                       .column = m->column,
                       .count = m->key_len,
                       .v.s = m->key};
    child.node = &name;
    child.at_key = true;
    good = segue__validate_sub(v, k->sub, &child, 0) && good;
  }
  return good;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

static uint32_t items_of(const segue__place *place) {
  return place->node->type == SEGUE_LIST ? place->node->count : 0;
}

bool segue__check_prefix_items(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                               const segue__place *place, size_t marks) {
  (void)sub;
  bool good = true;
  uint32_t count = items_of(place) < k->sub_count ? items_of(place) : k->sub_count;
  for (uint32_t i = 0; i < count && (good || v->findings); i++) {
    segue__place child = segue__place_item(place, i);
    good = segue__validate_sub(v, k->subs[i], &child, 0) && good;
    segue__marks_set(v, marks, i);
  }
  return good;
}

static bool validate_item(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                          const segue__place *child, uint32_t allowed) {
  if (k->sub->always != 2) return segue__validate_sub(v, k->sub, child, 0);
  return segue__finding_add(v, sub, k, child, "is one item too many: %u at most", allowed);
}

bool segue__check_items(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                        const segue__place *place, size_t marks) {
  bool good = true;
  uint32_t first = k->beside ? k->beside->sub_count : 0;
  if (k->sub->always != 1)
    for (uint32_t i = first; i < items_of(place) && (good || v->findings); i++) {
      segue__place child = segue__place_item(place, i);
      good = validate_item(v, sub, k, &child, first) && good;
      if (k->sub->always) break; /* the message is the same for each further item */
    }
  if (good && place->node->type == SEGUE_LIST) segue__marks_set_all(v, marks, place->node);
  return good;
}

bool segue__check_contains(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                           const segue__place *place, size_t marks) {
  uint64_t hits = 0;
  unsigned reach = v->reach;
  if (place->node->type != SEGUE_LIST) return true;
  for (uint32_t i = 0; i < place->node->count && !v->status; i++) {
    segue__place child = segue__place_item(place, i);
    if (!segue__validate_quietly(v, k->sub, &child, 0)) continue;
    segue__marks_set(v, marks, i);
    hits++;
    /* Further items cannot change the result. */
    if (!marks && (hits > k->number_max || (k->number_max == UINT64_MAX && hits >= k->number)))
      break;
  }
  v->reach = reach;
  if (v->status) return false;
  if (hits < k->number)
    return segue__finding_add(v, sub, k->number > 1 ? k->beside : k, place,
                              "must contain at least %llu item%s of the kind that the schema "
                              "names, not %llu",
                              (unsigned long long)k->number, k->number == 1 ? "" : "s",
                              (unsigned long long)hits);
  if (hits > k->number_max)
    return segue__finding_add(v, sub, k->also, place,
                              "must contain at most %llu item%s of the kind that the schema names",
                              (unsigned long long)k->number_max, k->number_max == 1 ? "" : "s");
  return true;
}

bool segue__check_unevaluated_items(segue__validation *v, const segue__sub *sub,
                                    const segue__keyword *k, const segue__place *place,
                                    size_t marks) {
  bool good = true;
  for (uint32_t i = 0; i < items_of(place) && (good || v->findings); i++) {
    segue__place child = segue__place_item(place, i);
    if (segue__marks_get(v, marks, i)) continue;
    if (k->sub->always == 2)
      good = segue__finding_add(v, sub, k, &child, "is an item that nothing provides for");
    else
      good = segue__validate_sub(v, k->sub, &child, 0) && good;
    segue__marks_set(v, marks, i);
  }
  return good && !v->status;
}

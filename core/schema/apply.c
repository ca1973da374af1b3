/* SPDX-License-Identifier: MIT
 *
 * Keywords whose subschemas apply to the same value: references, combinations and conditions. If
 * one of several forms must match and none does, the message describes the breaches of the nearest
 * form: the one whose first breach lies deepest in the value.
 */
#include <stdio.h>
#include <string.h>

#include "schema_internal.h"

/* $dynamicRef leads to the outermost resource in the dynamic scope that has a dynamic anchor of
 * this name (JSON Schema Core 8.2.3.2). */
static const segue__sub *target_of(const segue__validation *v, const segue__keyword *k) {
  if (k->dynamic < 0) return k->sub;
  for (size_t i = 0; i < v->scope_count; i++)
    for (const segue__anchor *a = v->scope[i]->anchors; a; a = a->next)
      if (a->dynamic == k->dynamic) return a->sub;
  return k->sub;
}

bool segue__check_ref(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                      const segue__place *place, size_t marks) {
  (void)sub;
  if (k->dynamic >= 0 && !segue__validate_step(v, place, v->scope_count)) return false;
  return segue__validate_sub(v, target_of(v, k), place, marks);
}

bool segue__check_all_of(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, size_t marks) {
  (void)sub;
  bool good = true;
  for (uint32_t i = 0; i < k->sub_count && (good || v->findings); i++)
    good = segue__validate_sub(v, k->subs[i], place, marks) && good;
  return good;
}

/* ---- anyOf and oneOf ------------------------------------------------------------------------- */

/* Writes a name for a form: its title, its type, or the target of its reference. Returns false if
 * it has none of these. */
static bool add_form(segue__buf *out, const segue__sub *form) {
  char types[SEGUE__SHOWN_SIZE];
  segue__quoted shown;
  if (form->title) segue__buf_adds(out, form->title);
  for (uint32_t i = 0; i < form->keyword_count && !form->title; i++) {
    const segue__keyword *k = &form->keywords[i];
    const char *slash = !strcmp(k->def->name, "$ref") ? strrchr(k->value->v.s, '/') : NULL;
    if (!strcmp(k->def->name, "type"))
      segue__buf_adds(out, segue__finding_types(k->number, types));
    else if (!strcmp(k->def->name, "const"))
      segue__buf_adds(out, segue__finding_show(k->value, &shown));
    else if (slash && slash[1])
      segue__buf_adds(out, slash + 1);
    else
      continue;
    return true;
  }
  return form->title != NULL;
}

static void report_forms(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place) {
  char shown[SEGUE__SHOWN_SIZE];
  segue__buf forms;
  segue__buf_init(&forms);
  bool named = !segue__finding_hidden(v, place);
  for (uint32_t i = 0; i < k->sub_count && named && forms.len < 200; i++) {
    if (i) segue__buf_adds(&forms, i + 1 == k->sub_count ? " or " : ", ");
    named = add_form(&forms, k->subs[i]);
  }
  segue__finding_not(v, place, shown);
  if (named && !forms.failed && forms.data)
    segue__finding_add(v, sub, k, place, "must be %s%s", forms.data, shown);
  else
    segue__finding_add(v, sub, k, place, "must fit one of the %u forms that are allowed here%s",
                       k->sub_count, shown);
  segue__buf_deinit(&forms);
}

/* Reports that no form fits. If one form got further into the value than all others, its breaches
 * are the message; otherwise the message lists the forms. */
static bool report_none(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                        const segue__place *place, unsigned best_reach, uint32_t best, bool alone) {
  if (v->status || !v->findings) {
    if (v->reach < best_reach) v->reach = best_reach;
    return false;
  }
  if ((!alone || best_reach <= place->depth) && k->sub_count > 1) {
    report_forms(v, sub, k, place);
    return false;
  }
  /* The breaches of the nearest form are the whole message; the result of this call is known. */
  segue__validate_sub(v, k->subs[best], place, 0);
  return false;
}

typedef struct tally {
  uint32_t hits, first, second; /* forms that fit */
  uint32_t best;
  unsigned best_reach;
  bool alone; /* no other form got as far as the best */
} tally;

/* With `marks` all forms are tried: each form that fits marks children, also behind the first one.
 * Findings are not recorded meanwhile; `reach` shows how deep the first breach of each form lies.
 */
static tally try_forms(segue__validation *v, const segue__keyword *k, const segue__place *place,
                       size_t marks, bool first_is_enough) {
  tally t = {.alone = true};
  unsigned reach = v->reach;
  for (uint32_t i = 0; i < k->sub_count && !v->status; i++) {
    v->reach = 0;
    if (segue__validate_try(v, k->subs[i], place, marks)) {
      *(t.hits ? &t.second : &t.first) = i;
      if (t.hits++ == 0 ? first_is_enough : !marks && !first_is_enough) break;
    } else if (i == 0 || v->reach > t.best_reach) {
      t.best = i;
      t.best_reach = v->reach;
      t.alone = true;
    } else if (v->reach == t.best_reach) {
      t.alone = false;
    }
  }
  v->reach = reach;
  return t;
}

bool segue__check_any_of(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, size_t marks) {
  tally t = try_forms(v, k, place, marks, !marks);
  return t.hits ? !v->status : report_none(v, sub, k, place, t.best_reach, t.best, t.alone);
}

/* Two forms fit. Numbers count from 1, as people count the lines of a list. */
static bool report_both(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                        const segue__place *place, const tally *t) {
  segue__buf first, second;
  segue__buf_init(&first);
  segue__buf_init(&second);
  bool named = v->findings && !segue__finding_hidden(v, place) &&
               add_form(&first, k->subs[t->first]) && add_form(&second, k->subs[t->second]) &&
               !first.failed && !second.failed && strcmp(first.data, second.data) != 0;
  if (named)
    segue__finding_add(v, sub, k, place, "must be either %s or %s, not both", first.data,
                       second.data);
  else
    segue__finding_add(v, sub, k, place,
                       "must fit exactly one of the %u forms in oneOf, not forms %u and %u at once",
                       k->sub_count, t->first + 1, t->second + 1);
  segue__buf_deinit(&first);
  segue__buf_deinit(&second);
  return false;
}

bool segue__check_one_of(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                         const segue__place *place, size_t marks) {
  tally t = try_forms(v, k, place, marks, false);
  if (v->status) return false;
  if (!t.hits) return report_none(v, sub, k, place, t.best_reach, t.best, t.alone);
  if (t.hits == 1) return true;
  return report_both(v, sub, k, place, &t);
}

/* ---- Conditions ------------------------------------------------------------------------------ */

static bool report_excluded(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                            const segue__place *place) {
  segue__buf form;
  segue__buf_init(&form);
  bool simple = k->sub->title || k->sub->keyword_count == 1; /* the form names all of it */
  bool named = simple && v->findings && !segue__finding_hidden(v, place) &&
               add_form(&form, k->sub) && !form.failed;
  if (named)
    segue__finding_add(v, sub, k, place, "must not be %s", form.data);
  else
    segue__finding_add(v, sub, k, place, "must not fit the schema under \"not\"");
  segue__buf_deinit(&form);
  return false;
}

/* `reach` is restored: how far the value got in a schema that must not fit is no measure for the
 * nearest form. */
bool segue__check_not(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                      const segue__place *place, size_t marks) {
  (void)marks;
  unsigned reach = v->reach;
  bool fits = segue__validate_quietly(v, k->sub, place, 0);
  v->reach = reach;
  if (v->status) return false;
  return !fits || report_excluded(v, sub, k, place);
}

bool segue__check_if(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                     const segue__place *place, size_t marks) {
  (void)sub;
  if (!k->beside && !k->also && !marks) return true;
  unsigned reach = v->reach;
  bool fits = segue__validate_try(v, k->sub, place, marks);
  v->reach = reach;
  const segue__keyword *next = fits ? k->beside : k->also;
  if (v->status) return false;
  return !next || segue__validate_sub(v, next->sub, place, marks);
}

bool segue__check_dependent_schemas(segue__validation *v, const segue__sub *sub,
                                    const segue__keyword *k, const segue__place *place,
                                    size_t marks) {
  (void)sub;
  bool good = true;
  if (place->node->type != SEGUE_MAP) return true;
  for (uint32_t i = 0; i < k->sub_count && (good || v->findings); i++) {
    const segue__member *m = &k->value->v.members[i];
    if (k->subs[i] && segue__node_find(place->node, m->key, m->key_len))
      good = segue__validate_sub(v, k->subs[i], place, marks) && good;
  }
  return good;
}

/* The keyword of older drafts holds lists of names and schemas in one map, so both checks of the
 * present draft run over it. */
bool segue__check_dependencies(segue__validation *v, const segue__sub *sub, const segue__keyword *k,
                               const segue__place *place, size_t marks) {
  bool good = segue__check_dependent_required(v, sub, k, place, marks);
  if (!good && (v->status || !v->findings)) return false;
  return segue__check_dependent_schemas(v, sub, k, place, marks) && good;
}

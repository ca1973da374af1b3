/* SPDX-License-Identifier: MIT
 *
 * The keywords: one table in the order in which they are checked (a wrong type first, keywords that
 * depend on all others last), and the form that the value of each must have. A value of the wrong
 * form is an error of the schema; an unknown keyword is an annotation, and a warning if it looks
 * like a spelling mistake.
 */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "../os/suggest.h"
#include "schema_internal.h"

/* ---- Values of keywords ---------------------------------------------------------------------- */

static const segue__keyword *keywords_sibling(const segue__sub *sub, const char *name) {
  for (uint32_t i = 0; i < sub->keyword_count; i++)
    if (!strcmp(sub->keywords[i].def->name, name)) return &sub->keywords[i];
  return NULL;
}

static int is_text(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return k->value->type == SEGUE_STRING ? 0 : segue__compile_fail(c, "it must be text");
}

static int is_bool(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return k->value->type == SEGUE_BOOL ? 0 : segue__compile_fail(c, "it must be true or false");
}

static int keywords_is_number(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  bool good = k->value->type == SEGUE_INT ||
              (k->value->type == SEGUE_FLOAT && k->value->v.f == k->value->v.f);
  return good ? 0 : segue__compile_fail(c, "it must be a number");
}

static int is_divisor(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  static const segue_node zero = {.type = SEGUE_INT};
  int rc = keywords_is_number(c, sub, k);
  if (!rc && (segue__number_compare(k->value, &zero) <= 0 ||
              (k->value->type == SEGUE_FLOAT && k->value->v.f - k->value->v.f != 0)))
    rc = segue__compile_fail(c, "it must be greater than 0");
  return rc;
}

static bool read_count(const segue_node *node, uint64_t *out) {
  if (!segue__number_integral(node)) return false;
  if (node->type == SEGUE_INT) {
    *out = node->v.u;
    return node->flags & SEGUE__NODE_UNSIGNED || node->v.i >= 0;
  }
  if (node->v.f < 0) return false;
  *out = node->v.f < 1e19 ? (uint64_t)node->v.f : UINT64_MAX;
  return true;
}

static int is_count(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return read_count(k->value, &k->number)
             ? 0
             : segue__compile_fail(c, "it must be a whole number of 0 or more");
}

static int has_map(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return k->value->type == SEGUE_MAP ? 0 : segue__compile_fail(c, "it must be a map of schemas");
}

static int has_list(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return k->value->type == SEGUE_LIST && k->value->count
             ? 0
             : segue__compile_fail(c, "it must be a list of at least one schema");
}

static int has_one(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  if (k->value->type != SEGUE_LIST) return 0;
  return segue__compile_fail(c, strcmp(k->def->name, "items") == 0
                                    ? "a list of schemas is written prefixItems since draft 2020-12"
                                    : "it must be one schema, not a list");
}

static int keywords_by_text(const void *a, const void *b) {
  const segue_node *x = *(const segue_node *const *)a, *y = *(const segue_node *const *)b;
  if (x->count != y->count) return x->count < y->count ? -1 : 1;
  return memcmp(x->v.s, y->v.s, x->count);
}

/* Rejects a list that contains a name twice. All items are strings. They are sorted by length
 * first, which is cheaper than comparing bytes. */
static int no_twins(segue__compile *c, const segue_node *list) {
  const segue_node **sorted = segue__malloc((list->count + 1) * sizeof(const segue_node *));
  const segue_node *twin = NULL;
  if (!sorted) return segue__compile_memory(c);
  for (uint32_t i = 0; i < list->count; i++)
    sorted[i] = &list->v.items[i];
  qsort((void *)sorted, list->count, sizeof(const segue_node *), keywords_by_text);
  for (uint32_t i = 1; i < list->count && !twin; i++)
    if (segue__node_equal(sorted[i - 1], sorted[i])) twin = sorted[i];
  segue__free((void *)sorted);
  if (!twin) return c->status;
  return segue__compile_fail(c, "\"%.*s\" is in the list twice", segue__text_cut(twin->count),
                             twin->v.s);
}

static int is_texts(segue__compile *c, const segue_node *value) {
  bool good = value->type == SEGUE_LIST;
  for (uint32_t i = 0; good && i < value->count; i++)
    good = value->v.items[i].type == SEGUE_STRING;
  return good ? no_twins(c, value) : segue__compile_fail(c, "it must be a list of names");
}

static int compile_required(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  return is_texts(c, k->value);
}

static int compile_dependent(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  if (k->value->type != SEGUE_MAP) return segue__compile_fail(c, "it must be a map of lists");
  for (uint32_t i = 0; i < k->value->count; i++)
    if (is_texts(c, &k->value->v.members[i].value)) return c->status;
  return 0;
}

/* Of older drafts: maps from a key to the names or the schema that it requires. */
static int compile_dependencies(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  if (k->value->type != SEGUE_MAP)
    return segue__compile_fail(c, "it must be a map of lists and schemas");
  for (uint32_t i = 0; i < k->value->count; i++) {
    const segue_node *value = &k->value->v.members[i].value;
    if (value->type == SEGUE_LIST && is_texts(c, value)) return c->status;
  }
  return 0;
}

/* ---- type, enum, const ----------------------------------------------------------------------- */

static const char *const type_names[] = {"null",   "boolean", "integer", "number",
                                         "string", "array",   "object"};

static uint64_t type_bit(const segue_node *name) {
  for (unsigned i = 0; name->type == SEGUE_STRING && i < 7; i++)
    if (!strcmp(name->v.s, type_names[i])) return UINT64_C(1) << i;
  return 0;
}

static int compile_type(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  const segue_node *v = k->value;
  bool list = v->type == SEGUE_LIST && v->count;
  if (!list) k->number = type_bit(v);
  for (uint32_t i = 0; list && i < v->count; i++) {
    uint64_t bit = type_bit(&v->v.items[i]);
    if (k->number & bit)
      return segue__compile_fail(c, "\"%s\" is in the list twice", v->v.items[i].v.s);
    list = bit != 0;
    k->number = bit ? k->number | bit : 0;
  }
  if (k->number) return 0;
  if (v->type == SEGUE_STRING)
    return segue__compile_fail(
        c, "\"%.*s\" is none of array, boolean, integer, null, number, object and string",
        segue__text_cut(v->count), v->v.s);
  return segue__compile_fail(
      c, "it must be one or a list of array, boolean, integer, null, number, object and string");
}

/* The hashes of the values are computed once here: a validation then compares hashes, however large
 * the values are. */
static int compile_enum(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  if (k->value->type != SEGUE_LIST) return segue__compile_fail(c, "it must be a list of values");
  k->hashes = segue__compile_alloc(c, k->value->count * sizeof *k->hashes);
  for (uint32_t i = 0; k->hashes && i < k->value->count; i++)
    k->hashes[i] = segue__value_hash(&k->value->v.items[i], NULL);
  if (k->hashes && !k->value->count)
    segue__compile_warn(c, "the list is empty: nothing is allowed");
  return c->status;
}

/* ---- Patterns and formats -------------------------------------------------------------------- */

static int keyword_compile_regex(segue__compile *c, segue__keyword *k, size_t index,
                                 const char *pattern, size_t len) {
  segue__schema *s = c->schema;
  segue_error err;
  if (s->regex_count == s->regex_capacity) {
    size_t capacity = s->regex_capacity ? s->regex_capacity * 2 : 16;
    segue__regex **more =
        (segue__regex **)segue__realloc((void *)s->regexes, capacity * sizeof(segue__regex *));
    if (!more) return segue__compile_memory(c);
    s->regexes = more;
    s->regex_capacity = capacity;
  }
  int rc = segue__regex_new(&k->regexes[index], pattern, len, &err);
  if (rc == UV_ENOMEM) return segue__compile_memory(c);
  if (rc)
    return segue__compile_fail(c, "the pattern \"%.*s\" is not supported: %s", segue__text_cut(len),
                               pattern, err.message);
  s->regexes[s->regex_count++] = k->regexes[index];
  return 0;
}

static int compile_pattern(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  if (is_text(c, sub, k)) return c->status;
  k->regexes = (segue__regex **)segue__compile_alloc(c, sizeof(segue__regex *));
  if (k->regexes) keyword_compile_regex(c, k, 0, k->value->v.s, k->value->count);
  return c->status;
}

static int compile_pattern_properties(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  if (has_map(c, sub, k)) return c->status;
  k->regexes = (segue__regex **)segue__compile_alloc(c, k->value->count * sizeof(segue__regex *));
  for (uint32_t i = 0; k->regexes && i < k->value->count && !segue__compile_stopped(c); i++) {
    const segue__member *m = &k->value->v.members[i];
    c->line = m->line;
    c->column = m->column;
    keyword_compile_regex(c, k, i, m->key, m->key_len);
  }
  return c->status;
}

/* An unknown format is only a warning, because the draft makes formats annotations. A format that
 * is known but cannot be checked is an error where formats assert: the author relies on it. */
static int compile_format(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  if (is_text(c, sub, k)) return c->status;
  int cut = segue__text_cut(k->value->count);
  bool asserts = (c->options && c->options->formats) ||
                 sub->resource->vocabularies & SEGUE__V_FORMAT_ASSERTION;
  const segue__format_def *def = segue__format_find(k->value->v.s, k->value->count);
  if (!def) {
    segue__compile_warn(c, "\"%.*s\" is not a known format: it is not checked", cut, k->value->v.s);
    return 0;
  }
  if (asserts && !def->check)
    return segue__compile_fail(c, "\"%.*s\" is not supported: use a pattern", cut, k->value->v.s);
  if (asserts || def->own) k->format = def;
  return 0;
}

/* ---- Keywords that need to know others of their schema --------------------------------------- */

static int compile_additional(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  k->beside = keywords_sibling(sub, "properties");
  k->also = keywords_sibling(sub, "patternProperties");
  return has_one(c, sub, k);
}

static int compile_items(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  k->beside = keywords_sibling(sub, "prefixItems");
  return has_one(c, sub, k);
}

static int compile_if(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  k->beside = keywords_sibling(sub, "then");
  k->also = keywords_sibling(sub, "else");
  return has_one(c, sub, k);
}

/* minContains and maxContains have an effect only beside contains, so they are read here and have
 * no check of their own. */
static int compile_contains(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  k->beside = keywords_sibling(sub, "minContains");
  k->also = keywords_sibling(sub, "maxContains");
  k->number = 1;
  k->number_max = UINT64_MAX;
  if (k->beside) read_count(k->beside->value, &k->number);
  if (k->also) read_count(k->also->value, &k->number_max);
  return has_one(c, sub, k);
}

/* `marks` makes the validation of this subschema record the children that its other keywords
 * evaluate, which costs a bit for each child. */
static int compile_unevaluated(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  sub->marks = true;
  return has_one(c, sub, k);
}

static int compile_write_only(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  if (is_bool(c, sub, k)) return c->status;
  sub->secret = k->value->v.b;
  c->schema->any_secret |= sub->secret;
  return 0;
}

static int compile_title(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  if (is_text(c, sub, k)) return c->status;
  sub->title = k->value->v.s;
  return 0;
}

static int compile_vocabulary(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  (void)sub;
  bool good = k->value->type == SEGUE_MAP;
  for (uint32_t i = 0; good && i < k->value->count; i++)
    good = k->value->v.members[i].value.type == SEGUE_BOOL;
  return good ? 0 : segue__compile_fail(c, "it must be a map from URIs to true or false");
}

/* ---- The table ------------------------------------------------------------------------------- */

#define VALUE SEGUE__SHAPE_VALUE
#define ONE SEGUE__SHAPE_ONE
#define LIST SEGUE__SHAPE_LIST
#define MAP SEGUE__SHAPE_MAP
#define MIXED SEGUE__SHAPE_MIXED
#define CORE SEGUE__V_CORE
#define APPLY SEGUE__V_APPLICATOR
#define VALID SEGUE__V_VALIDATION
#define META SEGUE__V_META
#define UNEV SEGUE__V_UNEVALUATED
#define FORMAT (SEGUE__V_FORMAT_ANNOTATION | SEGUE__V_FORMAT_ASSERTION)
#define CONTENT SEGUE__V_CONTENT

const segue__keyword_def segue__keyword_table[] = {
    /* name, shape, vocabulary, in place, compile, check */
    {"$schema", VALUE, CORE, false, is_text, NULL},
    {"$id", VALUE, CORE, false, is_text, NULL},
    {"$anchor", VALUE, CORE, false, is_text, NULL},
    {"$dynamicAnchor", VALUE, CORE, false, is_text, NULL},
    {"$vocabulary", VALUE, CORE, false, compile_vocabulary, NULL},
    {"$comment", VALUE, CORE, false, is_text, NULL},
    {"$defs", MAP, CORE, false, has_map, NULL},
    {"definitions", MAP, CORE, false, has_map, NULL},
    {"title", VALUE, META, false, compile_title, NULL},
    {"description", VALUE, META, false, is_text, NULL},
    {"default", VALUE, META, false, NULL, NULL},
    {"deprecated", VALUE, META, false, is_bool, NULL},
    {"readOnly", VALUE, META, false, is_bool, NULL},
    {"writeOnly", VALUE, META, false, compile_write_only, NULL},
    {"examples", VALUE, META, false, NULL, NULL},
    {"contentEncoding", VALUE, CONTENT, false, is_text, NULL},
    {"contentMediaType", VALUE, CONTENT, false, is_text, NULL},
    {"contentSchema", ONE, CONTENT, false, has_one, NULL},
    {"type", VALUE, VALID, false, compile_type, segue__check_type},
    {"const", VALUE, VALID, false, NULL, segue__check_const},
    {"enum", VALUE, VALID, false, compile_enum, segue__check_enum},
    {"multipleOf", VALUE, VALID, false, is_divisor, segue__check_multiple},
    {"maximum", VALUE, VALID, false, keywords_is_number, segue__check_maximum},
    {"exclusiveMaximum", VALUE, VALID, false, keywords_is_number, segue__check_exclusive_max},
    {"minimum", VALUE, VALID, false, keywords_is_number, segue__check_minimum},
    {"exclusiveMinimum", VALUE, VALID, false, keywords_is_number, segue__check_exclusive_min},
    {"maxLength", VALUE, VALID, false, is_count, segue__check_max_length},
    {"minLength", VALUE, VALID, false, is_count, segue__check_min_length},
    {"pattern", VALUE, VALID, false, compile_pattern, segue__check_pattern},
    {"format", VALUE, FORMAT, false, compile_format, segue__check_format},
    {"maxItems", VALUE, VALID, false, is_count, segue__check_max_items},
    {"minItems", VALUE, VALID, false, is_count, segue__check_min_items},
    {"uniqueItems", VALUE, VALID, false, is_bool, segue__check_unique},
    {"maxContains", VALUE, VALID, false, is_count, NULL},
    {"minContains", VALUE, VALID, false, is_count, NULL},
    {"maxProperties", VALUE, VALID, false, is_count, segue__check_max_properties},
    {"minProperties", VALUE, VALID, false, is_count, segue__check_min_properties},
    {"required", VALUE, VALID, false, compile_required, segue__check_required},
    {"dependentRequired", VALUE, VALID, false, compile_dependent, segue__check_dependent_required},
    {"$ref", VALUE, CORE, true, segue__compile_ref, segue__check_ref},
    {"$dynamicRef", VALUE, CORE, true, segue__compile_ref, segue__check_ref},
    {"allOf", LIST, APPLY, true, has_list, segue__check_all_of},
    {"anyOf", LIST, APPLY, true, has_list, segue__check_any_of},
    {"oneOf", LIST, APPLY, true, has_list, segue__check_one_of},
    {"not", ONE, APPLY, true, has_one, segue__check_not},
    {"if", ONE, APPLY, true, compile_if, segue__check_if},
    {"then", ONE, APPLY, true, has_one, NULL},
    {"else", ONE, APPLY, true, has_one, NULL},
    {"dependentSchemas", MAP, APPLY, true, has_map, segue__check_dependent_schemas},
    {"dependencies", MIXED, APPLY, true, compile_dependencies, segue__check_dependencies},
    {"propertyNames", ONE, APPLY, false, has_one, segue__check_property_names},
    {"properties", MAP, APPLY, false, has_map, segue__check_properties},
    {"patternProperties", MAP, APPLY, false, compile_pattern_properties,
     segue__check_pattern_properties},
    {"additionalProperties", ONE, APPLY, false, compile_additional, segue__check_additional},
    {"prefixItems", LIST, APPLY, false, has_list, segue__check_prefix_items},
    {"items", ONE, APPLY, false, compile_items, segue__check_items},
    {"contains", ONE, APPLY, false, compile_contains, segue__check_contains},
    {"unevaluatedItems", ONE, UNEV, false, compile_unevaluated, segue__check_unevaluated_items},
    {"unevaluatedProperties", ONE, UNEV, false, compile_unevaluated,
     segue__check_unevaluated_properties},
    {NULL, VALUE, 0, false, NULL, NULL},
};

const segue__keyword_def *segue__keyword_find(const char *name, size_t len) {
  for (const segue__keyword_def *def = segue__keyword_table; def->name; def++)
    if (def->name[0] == name[0] && strlen(def->name) == len && !memcmp(def->name, name, len))
      return def;
  return NULL;
}

/* ---- Spelling mistakes ----------------------------------------------------------------------- */

/* Keywords of other drafts, which would have no effect in this one without a warning. */
static const struct {
  const char *name, *instead;
} former[] = {
    {"additionalItems", "items beside prefixItems"},
    {"id", "$id"},
    {"$recursiveRef", "$dynamicRef"},
    {"$recursiveAnchor", "$dynamicAnchor"},
    {"divisibleBy", "multipleOf"},
    {"nullable", "type: [..., null]"},
};

static void warn_unknown(segue__compile *c, const segue__member *m) {
  c->keyword = NULL;
  for (size_t i = 0; i < sizeof former / sizeof *former; i++)
    if (!strcmp(m->key, former[i].name)) {
      segue__compile_warn(c, "\"%s\" is not a keyword of draft 2020-12 and checks nothing: use %s",
                          m->key, former[i].instead);
      return;
    }
  if (m->key_len < 3) return;
  for (const segue__keyword_def *def = segue__keyword_table; def->name; def++) {
    size_t len = strlen(def->name);
    if (segue__suggest_distance(m->key, m->key_len, def->name, len) > (len > 5 ? 2u : 1u)) continue;
    segue__compile_warn(c, "\"%s\" is not a keyword and checks nothing: did you mean \"%s\"?",
                        m->key, def->name);
    return;
  }
}

/* ---- One subschema --------------------------------------------------------------------------- */

static int by_table(const void *a, const void *b) {
  const segue__keyword *x = a, *y = b;
  return (x->def > y->def) - (x->def < y->def);
}

static int find_subs(segue__compile *c, segue__sub *sub, segue__keyword *k) {
  const segue_node *v = k->value;
  if (k->def->shape == SEGUE__SHAPE_ONE) k->sub = segue__compile_find(c, v, sub->resource);
  if (k->def->shape < SEGUE__SHAPE_LIST || v->type < SEGUE_LIST) return 0;
  k->subs = (segue__sub **)segue__compile_alloc(c, v->count * sizeof(segue__sub *));
  if (!k->subs) return c->status;
  k->sub_count = v->count;
  for (uint32_t i = 0; i < v->count; i++)
    k->subs[i] = segue__compile_find(
        c, v->type == SEGUE_MAP ? &v->v.members[i].value : &v->v.items[i], sub->resource);
  return 0;
}

static int keywords_collect(segue__compile *c, segue__sub *sub, unsigned vocabularies) {
  const segue_node *node = sub->node;
  segue__keyword *keywords = segue__compile_alloc(c, node->count * sizeof *keywords);
  if (!keywords) return c->status;
  for (uint32_t i = 0; i < node->count; i++) {
    const segue__member *m = &node->v.members[i];
    const segue__keyword_def *def = segue__keyword_find(m->key, m->key_len);
    c->line = m->line;
    c->column = m->column;
    if (!def) warn_unknown(c, m);
    if (!def || !(def->vocabulary & vocabularies)) continue;
    keywords[sub->keyword_count++] = (segue__keyword){
        .def = def, .value = &m->value, .line = m->line, .column = m->column, .dynamic = -1};
  }
  qsort(keywords, sub->keyword_count, sizeof *keywords, by_table);
  sub->keywords = keywords;
  return 0;
}

/* Compiles the keywords of one subschema, in the order of the table. A subschema is compiled once,
 * although several references may lead to it. */
int segue__compile_keywords(segue__compile *c, segue__sub *sub) {
  if (sub->compiled || sub->node->type != SEGUE_MAP) return c->status;
  sub->compiled = true;
  unsigned vocabularies = segue__compile_vocabularies(c, sub->resource);
  c->sub = sub;
  c->at = sub->node;
  if (keywords_collect(c, sub, vocabularies)) return c->status;
  for (uint32_t i = 0; i < sub->keyword_count && !segue__compile_stopped(c); i++) {
    segue__keyword *k = &sub->keywords[i];
    c->keyword = k->def->name;
    c->at = k->value;
    c->line = k->line;
    c->column = k->column;
    if (!find_subs(c, sub, k) && k->def->compile) k->def->compile(c, sub, k);
  }
  c->keyword = NULL;
  return c->status;
}

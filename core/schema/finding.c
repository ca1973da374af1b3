/* SPDX-License-Identifier: MIT
 *
 * The message of a violation: "weight must be at most 100, not 500", with the position in the
 * user's file and the rule of the schema. All messages have the form "X must be Y, not Z". Z is
 * shortened, and shown only if it is no secret; keys below a secret are not shown either. A schema
 * may explain a rule to the user with errorMessage (one text, or one for each keyword), or with the
 * description beside a pattern; that text follows the message.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../config/mask_internal.h"
#include "../config/utf8.h"
#include "../os/suggest.h"
#include "schema_internal.h"

/* ---- Values ---------------------------------------------------------------------------------- */

const char *segue__finding_show(const segue_node *node, segue__quoted *out) {
  return segue__quote_node(out, true, node);
}

const char *segue__finding_show_text(const segue_node *node, segue__quoted *out) {
  return segue__quote_text(out, true, node->v.s, node->count);
}

/* Returns the topmost secret on the way to a place, or NULL. */
static const segue__place *secret_above(const segue__validation *v, const segue__place *place) {
  segue__path_step steps[64];
  size_t depth = place->depth;
  segue__path path = {.steps = steps, .count = depth};
  const struct segue__mask *mask = v->options ? v->options->mask : NULL;
  if (!v->schema->any_secret && !mask) return NULL;
  if (depth > sizeof steps / sizeof *steps) path.steps = segue__malloc(depth * sizeof *steps);
  int secret = 0; /* without memory everything is one */
  if (path.steps) {
    for (const segue__place *p = place; p->up; p = p->up)
      path.steps[p->depth - 1] = (segue__path_step){.key = p->member ? p->member->key : NULL,
                                                    .key_len = p->member ? p->member->key_len : 0,
                                                    .index = p->index};
    secret = segue__schema_secret_depth(v->schema, &path);
    size_t depth_of_mask = 0; /* without memory: 0, the root */
    bool masked = mask && segue__mask_depth(mask, &path, &depth_of_mask) != 0;
    if (masked && (secret < 0 || (int)depth_of_mask < secret)) secret = (int)depth_of_mask;
  }
  if (path.steps != steps) segue__free(path.steps);
  while (secret >= 0 && place->up && place->depth > (uint32_t)secret)
    place = place->up;
  return secret < 0 ? NULL : place;
}

bool segue__finding_hidden(const segue__validation *v, const segue__place *place) {
  const segue__place *secret = v->findings ? secret_above(v, place) : NULL;
  return secret && (!place->at_key || secret != place);
}

const char *segue__finding_not(const segue__validation *v, const segue__place *place,
                               char out[SEGUE__SHOWN_SIZE]) {
  segue__quoted shown;
  out[0] = 0;
  bool key = place->at_key && place->member;
  if (!v->findings || key || segue__finding_hidden(v, place)) return out;
  snprintf(out, SEGUE__SHOWN_SIZE, ", not %s", segue__quote_node(&shown, true, place->node));
  return out;
}

const char *segue__finding_not_type(const segue__place *place, char out[SEGUE__SHOWN_SIZE]) {
  static const char *const names[] = {"null",     "a boolean", "an integer", "a float",
                                      "a string", "a list",    "a map"};
  snprintf(out, SEGUE__SHOWN_SIZE, ", not %s", names[place->node->type]);
  return out;
}

const char *segue__finding_types(uint64_t mask, char out[SEGUE__SHOWN_SIZE]) {
  static const char *const names[] = {"null",     "a boolean", "an integer", "a number",
                                      "a string", "a list",    "a map"};
  size_t len = 0;
  uint64_t left = mask;
  out[0] = 0;
  for (unsigned i = 0; i < 7; i++) {
    if (!(mask >> i & 1)) continue;
    left &= ~(UINT64_C(1) << i);
    len += (size_t)snprintf(out + len, SEGUE__SHOWN_SIZE - len, "%s%s",
                            !len    ? ""
                            : !left ? " or "
                                    : ", ",
                            names[i]);
  }
  return out;
}

/* ---- Spelling mistakes ----------------------------------------------------------------------- */

const char *segue__schema_nearest(const char *key, size_t len, const segue_node *map) {
  const char *best = NULL;
  size_t least = len > 5 ? 3 : 2;
  for (uint32_t i = 0; len > 2 && i < map->count && i < 1000; i++) {
    const segue__member *m = &map->v.members[i];
    size_t d = segue__suggest_distance(key, len, m->key, m->key_len);
    if (d >= least) continue;
    least = d;
    best = m->key;
  }
  return best;
}

/* ---- Where ----------------------------------------------------------------------------------- */

static void finding_add_path(segue__buf *out, const segue__place *place) {
  if (!place->up) return;
  finding_add_path(out, place->up);
  if (place->member)
    segue__path_add_key(out, place->member->key, place->member->key_len);
  else
    segue__path_add_index(out, place->index);
}

static void add_pointer(segue__buf *out, const segue__place *place) {
  if (!place->up) return;
  add_pointer(out, place->up);
  segue__buf_addc(out, '/');
  if (!place->member) segue__buf_addf(out, "%u", place->index);
  for (uint32_t i = 0; place->member && i < place->member->key_len; i++) {
    char c = place->member->key[i];
    if (c == '~' || c == '/')
      segue__buf_adds(out, c == '~' ? "~0" : "~1");
    else
      segue__buf_addc(out, c);
  }
}

/* Appends the subject of a sentence: the key of the value, with the indexes behind it. */
static void finding_add_subject(segue__buf *out, const segue__place *place) {
  if (!place->up) {
    segue__buf_adds(out, "the top level");
  } else if (place->member) {
    uint32_t len = place->member->key_len;
    if (place->at_key && place->node != &place->member->value) segue__buf_adds(out, "the key ");
    segue__buf_add(out, place->member->key, (size_t)segue__text_cut(len));
  } else {
    if (!place->up->up)
      segue__buf_adds(out, "item ");
    else
      finding_add_subject(out, place->up);
    segue__path_add_index(out, place->index);
  }
}

static void finding_locate(const segue__validation *v, segue_error *err,
                           const segue__place *place) {
  const segue__document *doc = NULL;
  if (v->options && v->options->config)
    doc = segue__config_document(v->options->config, place->node);
  if (!doc && v->options && v->options->document &&
      (v->options->document->id == place->node->document || !place->up))
    doc = v->options->document;
  /* The members of a key space have no place of their own: a key of the store has one place. */
  bool key = place->at_key && place->member && !(doc && doc->keys);
  segue_node at = *place->node;
  if (key) {
    at.line = place->member->line;
    at.column = place->member->column;
  }
  const char *file = NULL;
  uint32_t line = at.line, column = at.column;
  if (doc) segue__document_place(doc, &at, &file, &line, &column);
  segue__error_set_place(err, file, line, column);
  segue__error_source(err, doc ? doc->source : NULL);
}

static char *rule_path(const segue__validation *v, const segue__sub *sub,
                       const segue__keyword *keyword) {
  segue__buf text;
  segue__buf_init(&text);
  if (sub->resource->doc != v->schema->root->resource->doc)
    segue__buf_adds(&text, sub->resource->doc->name);
  segue__buf_addf(&text, "#%s%s%s", sub->location, keyword ? "/" : "",
                  keyword ? keyword->def->name : "");
  char *copy = text.failed ? NULL : segue__strdup(text.data);
  segue__buf_deinit(&text);
  return copy;
}

static char *pointer_of(const segue__place *place) {
  segue__buf text;
  segue__buf_init(&text);
  add_pointer(&text, place);
  char *copy = text.failed ? NULL : segue__strdup(text.data ? text.data : "");
  segue__buf_deinit(&text);
  return copy;
}

static segue__finding *finding_add(segue__findings *list) {
  list->total++;
  if (list->count == SEGUE__ERRORS_MAX) return NULL;
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 4;
    segue__finding *items = segue__realloc(list->items, capacity * sizeof *items);
    if (!items) return NULL;
    list->items = items;
    list->capacity = capacity;
  }
  segue__finding *f = &list->items[list->count];
  memset(f, 0, sizeof *f);
  return f;
}

/* The schema's own explanation of a rule, or NULL. A description usually explains the value in
 * general; beside a pattern it explains the pattern, which is hard to read. */
static const segue_node *hint_of(const segue__sub *sub, const segue__keyword *keyword) {
  static const char message[] = "errorMessage", description[] = "description";
  if (!sub || !keyword || sub->node->type != SEGUE_MAP) return NULL;
  const segue__member *m = segue__node_find(sub->node, message, sizeof message - 1);
  if (m && m->value.type == SEGUE_MAP)
    m = segue__node_find(&m->value, keyword->def->name, strlen(keyword->def->name));
  if (!m && keyword->def->check == segue__check_pattern)
    m = segue__node_find(sub->node, description, sizeof description - 1);
  return m && m->value.type == SEGUE_STRING && m->value.count ? &m->value : NULL;
}

static void add_hint(segue__buf *out, const segue__sub *sub, const segue__keyword *keyword) {
  enum { HINT_MAX = 160 };
  const segue_node *hint = hint_of(sub, keyword);
  if (!hint) return;
  size_t len = hint->count < HINT_MAX ? hint->count : HINT_MAX;
  while (len < hint->count && len && ((unsigned char)hint->v.s[len] & 0xc0) == 0x80)
    len--; /* not in the middle of a character */
  const char *space = len < hint->count ? memrchr(hint->v.s, ' ', len) : NULL;
  if (space) len = (size_t)(space - hint->v.s); /* nor of a word, which may be a secret */
  segue__buf_adds(out, ": ");
  segue__buf_add(out, hint->v.s, len);
  if (len < hint->count) segue__buf_adds(out, "...");
}

/* reported: the topmost secret on the way to place, else place itself; the message names no deeper
 * step. */
static void finding_fill(const segue__validation *v, segue__finding *f, const segue__sub *sub,
                         const segue__keyword *keyword, const segue__place *place,
                         const segue__place *reported) {
  segue__buf path;
  segue__buf_init(&path);
  finding_add_path(&path, reported);
  if (!path.failed && path.data) segue__error_path(&f->error, path.data);
  segue__buf_deinit(&path);
  finding_locate(v, &f->error, place);
  f->keyword = keyword ? keyword->def->name : "";
  f->pointer = pointer_of(reported);
  if (!sub) return;
  f->schema_path = rule_path(v, sub, keyword);
  f->schema_file = sub->resource->doc->name;
  f->schema_line = keyword ? keyword->line : sub->node->line;
  f->schema_column = keyword ? keyword->column : sub->node->column;
}

bool segue__finding_add(segue__validation *v, const segue__sub *sub, const segue__keyword *keyword,
                        const segue__place *place, const char *format, ...) {
  /* A constant that differs means that another form was intended, not that this one nearly
   * matches. */
  bool form = keyword && (keyword->def->check == segue__check_const ||
                          keyword->def->check == segue__check_enum);
  unsigned reach = place->depth - (form && place->depth);
  if (v->reach < reach) v->reach = reach;
  if (!v->findings) return false;
  segue__finding *f = finding_add(v->findings);
  if (!f) return false;
  v->findings->count++;
  char sentence[400];
  segue__buf subject;
  va_list args;
  va_start(args, format);
  vsnprintf(sentence, sizeof sentence, format, args);
  va_end(args);
  segue__buf_init(&subject);
  const segue__place *secret = secret_above(v, place), *reported = secret ? secret : place;
  if (reported != place) segue__buf_adds(&subject, "a part of ");
  finding_add_subject(&subject, reported);
  segue__buf_addf(&subject, " %s", sentence);
  add_hint(&subject, sub, keyword);
  segue__errorf(&f->error, v->code ? v->code : SEGUE_ESCHEMA, "%s",
                subject.failed ? "the value does not fit the schema: out of memory" : subject.data);
  segue__buf_deinit(&subject);
  finding_fill(v, f, sub, keyword, place, reported);
  return false;
}

void segue__findings_deinit(segue__findings *findings) {
  for (size_t i = 0; i < findings->count; i++) {
    segue__free(findings->items[i].pointer);
    segue__free(findings->items[i].schema_path);
  }
  segue__free(findings->items);
  memset(findings, 0, sizeof *findings);
}

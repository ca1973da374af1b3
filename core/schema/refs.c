/* SPDX-License-Identifier: MIT
 *
 * References: resolves the text of $ref and $dynamicRef to a subschema, reads the dialect that
 * $schema names, and searches for circles that would never end.
 */
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "schema_internal.h"

enum { CHAIN_MAX = 200 };

#define DRAFT "https://json-schema.org/draft/2020-12/"

/* ---- Places inside of a resource ------------------------------------------------------------- */

static segue__anchor *find_anchor(const segue__resource *r, const char *name, size_t len) {
  segue__anchor *a = r->anchors;
  while (a && (a->len != len || memcmp(a->name, name, len) != 0))
    a = a->next;
  return a;
}

/* Follows one step of a pointer; token is unescaped. An index has no sign and no leading zero (RFC
 * 6901, 4). */
static const segue_node *refs_step(const segue_node *node, const char *token, size_t len) {
  if (node->type == SEGUE_MAP) {
    const segue__member *m = segue__node_find(node, token, len);
    return m ? &m->value : NULL;
  }
  size_t index = 0;
  bool good = node->type == SEGUE_LIST && len > 0 && len < 10 && (len == 1 || *token != '0');
  for (size_t i = 0; good && i < len; i++) {
    good = token[i] >= '0' && token[i] <= '9';
    index = index * 10 + (size_t)(token[i] - '0');
  }
  return good && index < node->count ? &node->v.items[index] : NULL;
}

/* Takes the next token of a pointer (behind its "/"), with ~0 and ~1 resolved. */
static const char *next_token(const char *p, const char *end, segue__buf *token) {
  token->len = 0;
  segue__buf_add(token, "", 0);
  for (; p < end && *p != '/'; p++) {
    bool escape = *p == '~' && p + 1 < end && (p[1] == '0' || p[1] == '1');
    segue__buf_addc(token, escape ? (p[1] == '0' ? '~' : '/') : *p);
    p += escape;
  }
  return p;
}

/* Returns the subschema at a JSON pointer. Usually the scan has found it; a place that no keyword
 * leads to is scanned now. `inside` follows the resources on the way, because they change the base
 * URI. */
static segue__sub *at_pointer(segue__compile *c, segue__resource *r, const char *p, size_t len) {
  const char *end = p + len, *location = r->root->location;
  const segue_node *node = r->root->node;
  segue__resource *outer = r->root->outer, *inside = r;
  segue__buf token;
  segue__buf_init(&token);
  while (node && p < end && !segue__compile_stopped(c)) {
    p = next_token(p + 1, end, &token);
    if (token.failed) {
      segue__compile_memory(c);
      break;
    }
    const char *text = token.data ? token.data : "";
    node = refs_step(node, text, token.len);
    location = segue__compile_join(c, location, text, token.len);
    outer = inside;
    segue__sub *found = node ? segue__compile_find(c, node, outer) : NULL;
    if (found) inside = found->resource;
  }
  segue__buf_deinit(&token);
  if (!node || segue__compile_stopped(c)) return NULL;
  return segue__compile_scan(c, node, outer, location);
}

static segue__sub *at_fragment(segue__compile *c, segue__resource *r, const char *fragment,
                               size_t len, int32_t *dynamic) {
  segue__sub *found = NULL;
  segue__buf text;
  segue__buf_init(&text);
  bool good = segue__uri_decode(&text, fragment, len);
  if (text.failed) {
    segue__compile_memory(c);
  } else if (good && text.len && text.data[0] != '/') {
    segue__anchor *a = find_anchor(r, text.data, text.len);
    if (a) *dynamic = a->dynamic;
    found = a ? a->sub : NULL;
  } else if (good) {
    found = at_pointer(c, r, text.data ? text.data : "", text.len);
  }
  segue__buf_deinit(&text);
  return found;
}

/* ---- $ref and $dynamicRef -------------------------------------------------------------------- */

static void refs_not_found(segue__compile *c, const segue_node *value, const char *uri,
                           bool resource) {
  int cut = segue__text_cut(value->count);
  if (resource)
    segue__compile_fail(c, "\"%.*s\" leads to no schema inside of %s", cut, value->v.s, uri);
  else
    segue__compile_fail(c,
                        "\"%.*s\" means %s, which is not part of this schema: nothing is "
                        "fetched, put it under $defs with its $id or give its file with it",
                        cut, value->v.s, uri);
}

int segue__compile_ref(segue__compile *c, segue__sub *sub, segue__keyword *keyword) {
  const segue_node *value = keyword->value;
  if (value->type != SEGUE_STRING) return segue__compile_fail(c, "it must be text");
  segue__buf uri;
  const char *fragment;
  size_t len;
  int32_t dynamic = -1;
  segue__buf_init(&uri);
  segue__uri_resolve(&uri, sub->resource->uri, value->v.s, value->count, &fragment, &len);
  if (uri.failed) {
    segue__buf_deinit(&uri);
    return segue__compile_memory(c);
  }
  const char *text = uri.data ? uri.data : "";
  segue__resource *r = segue__compile_resource(c, text);
  if (!r) r = segue__compile_metaschema(c, text);
  if (r) {
    segue__compile saved = *c;
    keyword->sub = fragment && len ? at_fragment(c, r, fragment, len, &dynamic) : r->root;
    int status = c->status;
    *c = saved;
    c->status = status;
  }
  if (!keyword->sub && !segue__compile_stopped(c)) refs_not_found(c, value, text, r != NULL);
  segue__buf_deinit(&uri);
  keyword->dynamic = strcmp(keyword->def->name, "$dynamicRef") == 0 ? dynamic : -1;
  return c->status;
}

/* ---- $schema --------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  unsigned bit;
} vocabularies[] = {
    {"core", SEGUE__V_CORE},
    {"applicator", SEGUE__V_APPLICATOR},
    {"unevaluated", SEGUE__V_UNEVALUATED},
    {"validation", SEGUE__V_VALIDATION},
    {"meta-data", SEGUE__V_META},
    {"format-annotation", SEGUE__V_FORMAT_ANNOTATION},
    {"format-assertion", SEGUE__V_FORMAT_ASSERTION},
    {"content", SEGUE__V_CONTENT},
};

static unsigned vocabulary_bit(const segue__member *m) {
  static const char prefix[] = DRAFT "vocab/";
  if (m->key_len < sizeof prefix || memcmp(m->key, prefix, sizeof prefix - 1) != 0) return 0;
  for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
    if (!strcmp(m->key + sizeof prefix - 1, vocabularies[i].name)) return vocabularies[i].bit;
  return 0;
}

/* Returns the vocabularies that a metaschema of the user turns on. */
static unsigned read_vocabularies(segue__compile *c, const segue__resource *meta) {
  const segue_node *map = segue_node_member(meta->root->node, "$vocabulary");
  unsigned all = SEGUE__V_CORE;
  if (!map || map->type != SEGUE_MAP) return SEGUE__V_DEFAULT;
  for (uint32_t i = 0; i < map->count; i++) {
    const segue__member *m = &map->v.members[i];
    unsigned bit = vocabulary_bit(m);
    bool required = m->value.type == SEGUE_BOOL && m->value.v.b;
    if (!bit && required)
      segue__compile_fail(c, "its metaschema requires the vocabulary %.*s, which is not supported",
                          segue__text_cut(m->key_len), m->key);
    all |= bit;
  }
  return all;
}

static unsigned refs_read_schema(segue__compile *c, const segue_node *value) {
  int cut = segue__text_cut(value->count);
  size_t len = value->count;
  if (len && value->v.s[len - 1] == '#') len--;
  if (len == strlen(DRAFT "schema") && !memcmp(value->v.s, DRAFT "schema", len))
    return SEGUE__V_DEFAULT;
  char *uri = segue__strndup(value->v.s, len);
  if (!uri) {
    segue__compile_memory(c);
    return SEGUE__V_DEFAULT;
  }
  segue__resource *meta = segue__compile_resource(c, uri);
  segue__free(uri);
  if (meta && meta->root) return read_vocabularies(c, meta);
  segue__compile_fail(c, "\"%.*s\" is not supported: only draft 2020-12 is (" DRAFT "schema)", cut,
                      value->v.s);
  return SEGUE__V_DEFAULT;
}

/* A resource without $schema has the dialect of the resource around it. The position for errors is
 * restored, because this is called while another subschema is compiled. */
unsigned segue__compile_vocabularies(segue__compile *c, segue__resource *resource) {
  if (resource->vocabularies) return resource->vocabularies;
  const segue__sub *root = resource->root;
  const segue__member *m =
      root && root->node->type == SEGUE_MAP ? segue__node_find(root->node, "$schema", 7) : NULL;
  segue__compile saved = *c;
  unsigned bits = SEGUE__V_DEFAULT;
  if (m) {
    c->sub = resource->root;
    c->keyword = "$schema";
    c->line = m->line;
    c->column = m->column;
    if (m->value.type == SEGUE_STRING)
      bits = refs_read_schema(c, &m->value);
    else
      segue__compile_fail(c, "it must be text");
  } else if (resource->outer) {
    bits = segue__compile_vocabularies(c, resource->outer);
  }
  int status = c->status;
  *c = saved;
  c->status = status;
  return resource->vocabularies = bits;
}

/* ---- Circles --------------------------------------------------------------------------------- */

enum { NEW, OPEN, DONE };

static void refs_walk(segue__compile *c, segue__sub *sub, unsigned depth);

static void refs_walk_to(segue__compile *c, segue__sub *from, const segue__keyword *k,
                         segue__sub *to, unsigned depth) {
  if (!to || to->visiting == DONE || c->status) return;
  c->sub = from;
  c->keyword = k->def->name;
  c->line = k->line;
  c->column = k->column;
  if (to->visiting == OPEN)
    segue__compile_fail(c, "this leads back to #%s for the same value: it would never end",
                        to->location);
  else if (depth > CHAIN_MAX)
    segue__compile_fail(c, "schemas for the same value are chained more than %d deep", CHAIN_MAX);
  else
    refs_walk(c, to, depth + 1);
}

/* A circle is an error only if every step applies to the same value (`in_place`): a recursive
 * schema for a tree descends with each round and ends with the data. A dynamic reference has no
 * fixed target, so the depth limit of the validation covers it. */
static void refs_walk(segue__compile *c, segue__sub *sub, unsigned depth) {
  sub->visiting = OPEN;
  for (uint32_t i = 0; i < sub->keyword_count; i++) {
    const segue__keyword *k = &sub->keywords[i];
    if (!k->def->in_place) continue;
    if (k->dynamic < 0) refs_walk_to(c, sub, k, k->sub, depth);
    for (uint32_t j = 0; j < k->sub_count; j++)
      refs_walk_to(c, sub, k, k->subs[j], depth);
  }
  sub->visiting = DONE;
}

int segue__compile_circles(segue__compile *c) {
  for (segue__sub *sub = c->schema->subs; sub && !c->status; sub = sub->next)
    if (sub->visiting == NEW) refs_walk(c, sub, 0);
  return c->status;
}

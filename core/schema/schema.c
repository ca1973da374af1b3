/* SPDX-License-Identifier: MIT
 *
 * Compiling a schema. First a scan finds every subschema and its names: $id makes a resource with a
 * URI of its own, $anchor and $dynamicAnchor name places in it. Then the keywords of each subschema
 * are compiled, in order of discovery. A reference may lead to a place that no keyword leads to:
 * that subschema is added to the list while the list is processed.
 */
#include "schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../config/utf8.h"
#include "schema_internal.h"

enum { SUBS_MAX = 200000, RESOURCES_MAX = 2000 };

/* ---- Errors and memory ----------------------------------------------------------------------- */

bool segue__compile_stopped(const segue__compile *c) {
  return c->status && c->status != SEGUE_ESCHEMA;
}

static void schema_describe(const segue__compile *c, segue_error *err, const char *text) {
  const segue__document *doc = c->sub ? c->sub->resource->doc : NULL;
  char path[4 * sizeof err->path]; /* a longer path is shortened in its middle later */
  segue__errorf(err, SEGUE_ESCHEMA, "%s%s%s", c->keyword ? c->keyword : "", c->keyword ? ": " : "",
                text);
  snprintf(path, sizeof path, "#%s%s%s", c->sub ? c->sub->location : "", c->keyword ? "/" : "",
           c->keyword ? c->keyword : "");
  segue__error_path(err, path);
  uint32_t line = c->line ? c->line : c->at ? c->at->line : 0;
  uint32_t column = c->line ? c->column : c->at ? c->at->column : 0;
  segue__error_set_place(err, doc ? doc->name : NULL, line, column);
}

static void schema_add(const segue__compile *c, segue__errors *errors, const char *format,
                       va_list args) {
  char text[400];
  segue_error err;
  vsnprintf(text, sizeof text, format, args);
  schema_describe(c, &err, text);
  segue__errors_add(errors, &err);
}

int segue__compile_fail(segue__compile *c, const char *format, ...) {
  if (segue__compile_stopped(c)) return c->status;
  va_list args;
  va_start(args, format);
  schema_add(c, c->errors, format, args);
  va_end(args);
  return c->status = SEGUE_ESCHEMA;
}

void segue__compile_warn(segue__compile *c, const char *format, ...) {
  if (!c->options || !c->options->warnings) return;
  va_list args;
  va_start(args, format);
  schema_add(c, c->options->warnings, format, args);
  va_end(args);
}

int segue__compile_memory(segue__compile *c) {
  if (segue__compile_stopped(c)) return c->status;
  segue_error err;
  segue__errorf(&err, UV_ENOMEM, "out of memory while compiling the schema");
  segue__errors_add(c->errors, &err);
  return c->status = UV_ENOMEM;
}

static int fail_limit(segue__compile *c, const char *what, unsigned max) {
  int status = segue__compile_fail(c, "there are more than %u %s", max, what);
  return segue__compile_stopped(c) ? status : (c->status = SEGUE_ELIMIT);
}

/* Everything that lives as long as the schema comes from its arena, so an error in the middle of
 * compiling needs no cleanup per object. */
void *segue__compile_alloc(segue__compile *c, size_t size) {
  void *p = segue__arena_alloc(&c->schema->arena, size ? size : 1);
  if (p)
    memset(p, 0, size);
  else
    segue__compile_memory(c);
  return p;
}

const char *segue__compile_join(segue__compile *c, const char *location, const char *token,
                                size_t len) {
  size_t before = strlen(location), extra = 0;
  for (size_t i = 0; i < len; i++)
    extra += token[i] == '~' || token[i] == '/';
  char *out = segue__compile_alloc(c, before + len + extra + 2);
  if (!out) return NULL;
  memcpy(out, location, before);
  char *p = out + before;
  *p++ = '/';
  for (size_t i = 0; i < len; i++) {
    bool escape = token[i] == '~' || token[i] == '/';
    *p++ = escape ? '~' : token[i];
    if (escape) *p++ = token[i] == '~' ? '0' : '1';
  }
  return out;
}

/* ---- The index of subschemas ----------------------------------------------------------------- */

/* A subschema is identified by its node and the resource around it: aliases of YAML share one node,
 * and the same node inside two resources has two base URIs. */
static size_t schema_slot_of(const segue__schema *s, const segue_node *node,
                             const segue__resource *outer) {
  uint64_t h = (uintptr_t)node * UINT64_C(0x9e3779b97f4a7c15) ^
               (uintptr_t)outer * UINT64_C(0xc2b2ae3d27d4eb4f);
  size_t i = (h >> 17) & (s->slots - 1);
  while (s->index[i] && (s->index[i]->node != node || s->index[i]->outer != outer))
    i = (i + 1) & (s->slots - 1);
  return i;
}

segue__sub *segue__compile_find(const segue__compile *c, const segue_node *node,
                                const segue__resource *outer) {
  const segue__schema *s = c->schema;
  return s->slots ? s->index[schema_slot_of(s, node, outer)] : NULL;
}

static int schema_grow_index(segue__compile *c) {
  segue__schema *s = c->schema;
  size_t slots = s->slots ? s->slots * 2 : 64;
  segue__sub **index = segue__calloc(slots, sizeof(segue__sub *));
  if (!index) return segue__compile_memory(c);
  segue__free(s->index);
  s->index = index;
  s->slots = slots;
  for (segue__sub *sub = s->subs; sub; sub = sub->next)
    index[schema_slot_of(s, sub->node, sub->outer)] = sub;
  return 0;
}

static segue__sub *add_sub(segue__compile *c, const segue_node *node, segue__resource *outer,
                           const char *location) {
  segue__schema *s = c->schema;
  if (s->sub_count == SUBS_MAX) {
    fail_limit(c, "subschemas", SUBS_MAX);
    return NULL;
  }
  if (2 * (size_t)s->sub_count >= s->slots && schema_grow_index(c)) return NULL;
  segue__sub *sub = segue__compile_alloc(c, sizeof *sub);
  if (!sub) return NULL;
  sub->node = node;
  sub->outer = sub->resource = outer;
  sub->location = location;
  sub->index = s->sub_count++;
  *s->last = sub;
  s->last = &sub->next;
  s->index[schema_slot_of(s, node, outer)] = sub;
  return sub;
}

/* ---- The scan -------------------------------------------------------------------------------- */

segue__resource *segue__compile_resource(const segue__compile *c, const char *uri) {
  segue__resource *r = c->schema->resources;
  while (r && strcmp(r->uri, uri) != 0)
    r = r->next;
  return r && r->root ? r->root->resource : r;
}

static segue__resource *add_resource(segue__compile *c, const char *uri, size_t len,
                                     const segue__document *doc, segue__resource *outer) {
  unsigned count = 0;
  for (segue__resource *r = c->schema->resources; r; r = r->next)
    count++;
  if (count >= RESOURCES_MAX) {
    fail_limit(c, "resources with an $id", RESOURCES_MAX);
    return NULL;
  }
  segue__resource *r = segue__compile_alloc(c, sizeof *r);
  r = r && (r->uri = segue__arena_strndup(&c->schema->arena, uri, len)) ? r : NULL;
  if (!r) {
    segue__compile_memory(c);
    return NULL;
  }
  r->doc = doc;
  r->outer = outer;
  r->next = c->schema->resources;
  return c->schema->resources = r;
}

/* Returns the value of a keyword that must be text, or NULL if it is missing or has another type.
 * Sets the position for errors. */
static const segue_node *schema_text_of(segue__compile *c, const segue_node *map, const char *key) {
  const segue__member *m = segue__node_find(map, key, strlen(key));
  if (!m) return NULL;
  c->keyword = key;
  c->line = m->line;
  c->column = m->column;
  if (m->value.type == SEGUE_STRING) return &m->value;
  segue__compile_fail(c, "it must be text");
  return NULL;
}

/* Handles $id: the subschema becomes a resource of its own. */
static void schema_identify(segue__compile *c, segue__sub *sub) {
  const segue_node *id = schema_text_of(c, sub->node, "$id");
  if (!id) return;
  const char *fragment;
  size_t fragment_len;
  segue__buf uri;
  segue__buf_init(&uri);
  segue__uri_resolve(&uri, sub->resource->uri, id->v.s, id->count, &fragment, &fragment_len);
  const char *text = uri.data ? uri.data : "";
  if (uri.failed)
    segue__compile_memory(c);
  else if (fragment && fragment_len)
    segue__compile_fail(c, "\"%.*s\" has a fragment: name places inside with $anchor",
                        segue__text_cut(id->count), id->v.s);
  else if (!sub->resource->root && !strcmp(text, sub->resource->uri))
    ; /* a document that declares the name it is known by */
  else if (segue__compile_resource(c, text))
    segue__compile_fail(c, "\"%s\" is the $id of another schema too: each needs its own", text);
  else {
    segue__resource *r = add_resource(c, text, uri.len, sub->resource->doc, sub->resource);
    if (r) sub->resource = r;
  }
  segue__buf_deinit(&uri);
}

static bool anchor_char(char c, bool first) {
  return (c | 32) >= 'a' && (c | 32) <= 'z'
             ? true
             : c == '_' || (!first && ((c >= '0' && c <= '9') || c == '-' || c == '.'));
}

static bool anchor_name(const segue_node *node) {
  for (uint32_t i = 0; i < node->count; i++)
    if (!anchor_char(node->v.s[i], i == 0)) return false;
  return node->count > 0;
}

static int32_t compile_dynamic(segue__compile *c, const char *name, size_t len) {
  segue__schema *s = c->schema;
  for (int32_t i = 0; i < s->dynamic_count; i++)
    if (strlen(s->dynamic_names[i]) == len && !memcmp(s->dynamic_names[i], name, len)) return i;
  const char **names =
      segue__realloc((void *)s->dynamic_names, ((size_t)s->dynamic_count + 1) * sizeof *names);
  if (names) s->dynamic_names = names;
  const char *copy = names ? segue__arena_strndup(&s->arena, name, len) : NULL;
  if (!copy) {
    segue__compile_memory(c);
    return -1;
  }
  names[s->dynamic_count] = copy;
  return s->dynamic_count++;
}

/* $anchor and $dynamicAnchor of one subschema may have the same name; then it is one anchor with
 * both properties. */
static void add_anchor(segue__compile *c, segue__sub *sub, const char *key, bool dynamic) {
  const segue_node *name = schema_text_of(c, sub->node, key);
  if (!name) return;
  if (!anchor_name(name)) {
    segue__compile_fail(c,
                        "\"%.*s\" is not a name: letters, digits, _, - and ., a letter or _ first",
                        segue__text_cut(name->count), name->v.s);
    return;
  }
  segue__resource *r = sub->resource;
  for (segue__anchor *a = r->anchors; a; a = a->next) {
    if (a->len != name->count || memcmp(a->name, name->v.s, a->len) != 0) continue;
    if (a->sub == sub && a->dynamic < 0 && dynamic)
      a->dynamic = compile_dynamic(c, name->v.s, name->count);
    else if (a->sub != sub)
      segue__compile_fail(c, "\"%s\" is the name of another place in this schema too", name->v.s);
    return;
  }
  segue__anchor *a = segue__compile_alloc(c, sizeof *a);
  if (!a) return;
  *a = (segue__anchor){name->v.s, name->count, sub, -1, r->anchors};
  if (dynamic) a->dynamic = compile_dynamic(c, name->v.s, name->count);
  r->anchors = a;
}

static void scan_keyword(segue__compile *c, segue__sub *sub, const segue__keyword_def *def,
                         const segue_node *value) {
  if (def->shape == SEGUE__SHAPE_VALUE) return;
  const char *location = segue__compile_join(c, sub->location, def->name, strlen(def->name));
  if (!location) return;
  if (def->shape == SEGUE__SHAPE_ONE) {
    if (value->type != SEGUE_LIST) segue__compile_scan(c, value, sub->resource, location);
    return; /* the compiler of the keyword reports a list that is wrong */
  }
  segue_type wanted = def->shape == SEGUE__SHAPE_LIST ? SEGUE_LIST : SEGUE_MAP;
  for (uint32_t i = 0; value->type == wanted && i < value->count && !segue__compile_stopped(c);
       i++) {
    char number[16];
    snprintf(number, sizeof number, "%u", i);
    const segue__member *m = wanted == SEGUE_MAP ? &value->v.members[i] : NULL;
    const char *below =
        segue__compile_join(c, location, m ? m->key : number, m ? m->key_len : strlen(number));
    const segue_node *node = m ? &m->value : &value->v.items[i];
    bool none = def->shape == SEGUE__SHAPE_MIXED && node->type == SEGUE_LIST;
    if (below && !none) segue__compile_scan(c, node, sub->resource, below);
  }
}

/* The subschema is in the index before its keywords are scanned: every further way to the same node
 * finds it there. */
segue__sub *segue__compile_scan(segue__compile *c, const segue_node *node, segue__resource *outer,
                                const char *location) {
  segue__sub *sub = segue__compile_find(c, node, outer);
  if (sub || segue__compile_stopped(c) || !(sub = add_sub(c, node, outer, location))) return sub;
  segue__sub *above = c->sub;
  c->sub = sub;
  c->at = node;
  c->keyword = NULL;
  c->line = 0;
  if (node->type == SEGUE_BOOL) {
    sub->always = node->v.b ? 1 : 2;
  } else if (node->type != SEGUE_MAP) {
    char type[SEGUE__SHOWN_SIZE];
    segue__place place = {.node = node};
    segue__compile_fail(c, "a schema must be a map of keywords, true or false%s",
                        segue__finding_not_type(&place, type));
  } else {
    schema_identify(c, sub);
    if (!sub->resource->root) sub->resource->root = sub;
    add_anchor(c, sub, "$anchor", false);
    add_anchor(c, sub, "$dynamicAnchor", true);
    for (uint32_t i = 0; i < node->count && !segue__compile_stopped(c); i++) {
      const segue__member *m = &node->v.members[i];
      const segue__keyword_def *def = segue__keyword_find(m->key, m->key_len);
      if (def) scan_keyword(c, sub, def, &m->value);
    }
  }
  if (!sub->resource->root) sub->resource->root = sub;
  c->sub = above;
  return segue__compile_stopped(c) ? NULL : sub;
}

/* ---- Documents ------------------------------------------------------------------------------- */

static int keep_document(segue__compile *c, segue__document *doc) {
  segue__schema *s = c->schema;
  segue__document **more =
      segue__realloc(s->documents, (s->document_count + 1) * sizeof(segue__document *));
  if (!more) return segue__compile_memory(c);
  s->documents = more;
  more[s->document_count++] = segue__document_ref(doc);
  return 0;
}

static void fail_twice(segue__compile *c, const segue__document *doc, const char *name) {
  segue_error err;
  segue__errorf(&err, SEGUE_ESCHEMA,
                "two of the documents that belong to the schema are called %.200s: each needs a "
                "name of its own",
                name);
  segue__error_set_place(&err, doc->name, 0, 0);
  segue__errors_add(c->errors, &err);
  if (!c->status) c->status = SEGUE_ESCHEMA;
}

static void warn_wide(segue__compile *c, const segue__document *doc) {
  if (!doc->wide || !c->options || !c->options->warnings) return;
  segue_error err;
  segue__document_report_wide(doc, &err);
  segue__errors_add(c->options->warnings, &err);
}

/* Adds a document. It is known by the URI that the caller gives, or else by its own name. If it
 * declares an $id, that is a second name. */
static segue__sub *take_document(segue__compile *c, segue__document *doc, const char *name) {
  if (keep_document(c, doc)) return NULL;
  warn_wide(c, doc);
  if (!name) name = doc->name;
  segue__buf uri;
  const char *fragment;
  size_t fragment_len;
  segue__buf_init(&uri);
  segue__uri_resolve(&uri, "segue:/", name, strlen(name), &fragment, &fragment_len);
  segue__resource *r = NULL;
  if (uri.failed)
    segue__compile_memory(c);
  else if (segue__compile_resource(c, uri.data ? uri.data : ""))
    fail_twice(c, doc, name);
  else
    r = add_resource(c, uri.data ? uri.data : "", uri.len, doc, NULL);
  segue__buf_deinit(&uri);
  segue__sub *sub = r ? segue__compile_scan(c, &doc->root, r, "") : NULL;
  if (sub && !r->root) r->root = sub; /* it has an $id, and is known by its name all the same */
  return sub;
}

/* A metaschema is loaded in the middle of compiling something else, so the position for errors is
 * restored afterwards; only the status is kept. */
segue__resource *segue__compile_metaschema(segue__compile *c, const char *uri) {
  const char *text = segue__metaschema(uri);
  if (!text) return NULL;
  char *copy = segue__strdup(text);
  segue__document *doc = NULL;
  segue__compile saved = *c;
  if (!copy || segue__document_new(&doc, 0, "", uri, SEGUE__JSON, copy, strlen(text)) ||
      segue__document_parse(doc, NULL, NULL, NULL, NULL)) {
    segue__document_unref(doc);
    segue__compile_memory(c);
    return NULL;
  }
  segue__sub *sub = take_document(c, doc, NULL);
  segue__document_unref(doc);
  int status = c->status;
  *c = saved;
  c->status = status;
  return sub ? sub->resource : NULL;
}

static void compile_all(segue__compile *c, segue__document *doc) {
  const segue__schema_options *o = c->options;
  c->schema->root = take_document(c, doc, NULL);
  for (size_t i = 0; o && i < o->bundle_count && !segue__compile_stopped(c); i++)
    take_document(c, o->bundle[i], o->bundle_uris ? o->bundle_uris[i] : NULL);
  for (segue__sub *sub = c->schema->subs; sub && !segue__compile_stopped(c); sub = sub->next)
    segue__compile_keywords(c, sub);
  if (!c->status) segue__compile_circles(c);
}

int segue__schema_new(segue__schema **out, segue__document *doc,
                      const segue__schema_options *options, segue__errors *errors) {
  *out = NULL;
  segue__schema *s = segue__calloc(1, sizeof *s);
  segue__compile c = {.schema = s, .options = options, .errors = errors};
  if (!s) return segue__compile_memory(&c);
  s->refs = 1;
  s->last = &s->subs;
  segue__arena_init(&s->arena);
  compile_all(&c, doc);
  if (c.status) {
    segue__schema_unref(s);
    return c.status;
  }
  *out = s;
  return 0;
}

segue__document *const *segue__schema_documents(const segue__schema *schema, size_t *count) {
  *count = schema->document_count;
  return schema->documents;
}

segue__schema *segue__schema_ref(segue__schema *schema) {
  __atomic_add_fetch(&schema->refs, 1, __ATOMIC_RELAXED);
  return schema;
}

void segue__schema_unref(segue__schema *schema) {
  if (!schema || __atomic_sub_fetch(&schema->refs, 1, __ATOMIC_ACQ_REL)) return;
  for (size_t i = 0; i < schema->regex_count; i++)
    segue__regex_free(schema->regexes[i]);
  for (size_t i = 0; i < schema->document_count; i++)
    segue__document_unref(schema->documents[i]);
  segue__free((void *)schema->regexes);
  segue__free(schema->documents);
  segue__free(schema->index);
  segue__free((void *)schema->dynamic_names);
  segue__arena_deinit(&schema->arena);
  segue__free(schema);
}

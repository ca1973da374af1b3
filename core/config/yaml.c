/* SPDX-License-Identifier: MIT
 *
 * YAML through libyaml's events. libyaml knows the syntax; this file adds the semantics: the 1.2
 * core schema, tags, anchors, merge keys, and rejects what a configuration must not contain
 * (several documents, keys that are not text). Aliases share the subtree of their anchor.
 */
#include "yaml.h"
#include "../os/text.h"

#include <string.h>
#include <uv.h>

#include "scalar.h"
#include "utf8.h"

typedef struct anchor {
  const char *name;
  uint64_t hash;
  bool open; /* its list or map has not ended yet */
  segue_node node;
  uint32_t nodes, height;
  size_t text;
} anchor;

typedef struct reader {
  segue__parse *parse;
  segue__builder *b;
  yaml_parser_t parser;
  segue__yaml_cursor cursor;
  anchor *anchors;
  size_t anchor_count, anchor_capacity;
  uint32_t *index; /* hash table of anchors: open addressing, anchor + 1, 0 = free */
  size_t slots;
  /* Anchors of lists and maps that are open. */
  struct {
    size_t depth, anchor;
  } * open;
  size_t open_count, open_capacity;
  unsigned documents;
  size_t fed; /* bytes that libyaml has */
} reader;

static int yaml_fail_memory(reader *r) {
  return segue__builder_fail(r->b, UV_ENOMEM, "out of memory while parsing YAML");
}

static int yaml_grow(reader *r, void **items, size_t *capacity, size_t size) {
  size_t more = *capacity ? *capacity * 2 : 16;
  void *grown = segue__realloc(*items, more * size);
  if (!grown) return yaml_fail_memory(r);
  *items = grown;
  *capacity = more;
  return 0;
}

/* ---- Anchors --------------------------------------------------------------------------------- */

/* Returns the slot of a name: the used one, or a free one. */
static uint32_t *yaml_slot_of(const reader *r, uint64_t hash, const char *name) {
  size_t i = hash & (r->slots - 1);
  for (; r->index[i]; i = (i + 1) & (r->slots - 1)) {
    const anchor *a = &r->anchors[r->index[i] - 1];
    if (a->hash == hash && !strcmp(a->name, name)) break;
  }
  return &r->index[i];
}

static int yaml_grow_index(reader *r) {
  size_t slots = r->slots ? r->slots * 2 : 32;
  uint32_t *index = segue__calloc(slots, sizeof *index);
  if (!index) return yaml_fail_memory(r);
  segue__free(r->index);
  r->index = index;
  r->slots = slots;
  for (size_t i = 0; i < r->anchor_count; i++)
    *yaml_slot_of(r, r->anchors[i].hash, r->anchors[i].name) = (uint32_t)i + 1;
  return 0;
}

/* Finds or makes the anchor of a name. A name may be defined again, and then means the later value
 * (YAML 1.2, 7.1). */
static anchor *name_anchor(reader *r, const char *name) {
  if (2 * r->anchor_count >= r->slots && yaml_grow_index(r)) return NULL;
  uint64_t hash = segue__key_hash(name, strlen(name)).lo;
  uint32_t *slot = yaml_slot_of(r, hash, name);
  if (*slot) return &r->anchors[*slot - 1];
  if (r->anchor_count == r->anchor_capacity &&
      yaml_grow(r, (void **)&r->anchors, &r->anchor_capacity, sizeof *r->anchors))
    return NULL;
  const char *copy = segue__arena_strndup(&r->b->doc->arena, name, strlen(name));
  if (!copy) {
    yaml_fail_memory(r);
    return NULL;
  }
  anchor *a = &r->anchors[r->anchor_count++];
  *a = (anchor){.name = copy, .hash = hash};
  *slot = (uint32_t)r->anchor_count;
  return a;
}

/* Stores the size of the subtree (nodes, text, height): each alias counts it again, so that a few
 * lines cannot expand to gigabytes. */
static int anchor_done(reader *r, anchor *a) {
  a->open = false;
  a->node = r->b->last->member.value;
  a->nodes = r->b->last_nodes;
  a->text = r->b->last_text;
  a->height = r->b->last_height;
  return 0;
}

static int anchor_scalar(reader *r, const char *name) {
  anchor *a = name ? name_anchor(r, name) : NULL;
  return a ? anchor_done(r, a) : r->b->status;
}

static int alias_key(reader *r, const anchor *a) {
  segue__quoted name;
  if (a->node.type != SEGUE_STRING)
    return segue__builder_fail(r->b, SEGUE_ETYPE, "'*%s' is a %s: a key must be text",
                               segue__builder_quote(r->b, &name, a->name, strlen(a->name)),
                               segue_type_name(a->node.type));
  return segue__builder_add_key(r->b, a->node.v.s, a->node.count);
}

static int on_alias(reader *r, const char *name) {
  segue__quoted shown;
  uint32_t *slot = r->slots ? yaml_slot_of(r, segue__key_hash(name, strlen(name)).lo, name) : NULL;
  if (!slot || !*slot)
    return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                               "there is no anchor &%s before this alias: check the name, or quote "
                               "the value if it is text",
                               segue__builder_quote(r->b, &shown, name, strlen(name)));
  const anchor *a = &r->anchors[*slot - 1];
  if (a->open)
    return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                               "alias *%s is inside of its own anchor: a value cannot contain "
                               "itself",
                               segue__builder_quote(r->b, &shown, name, strlen(name)));
  if (segue__builder_wants_key(r->b)) return alias_key(r, a);
  return segue__builder_share(r->b, &a->node, a->nodes, a->text, a->height);
}

/* ---- Scalars --------------------------------------------------------------------------------- */

/* The tags of the core schema, without "tag:yaml.org,2002:". */
static const struct {
  const char *name;
  int type;
} tags[] = {{"str", SEGUE_STRING}, {"int", SEGUE_INT},   {"float", SEGUE_FLOAT},
            {"bool", SEGUE_BOOL},  {"null", SEGUE_NULL}, {"seq", SEGUE_LIST},
            {"map", SEGUE_MAP}};

enum { TAG_NONE = -1, TAG_UNKNOWN = -2 };

static int tag_type(const char *tag) {
  static const char prefix[] = "tag:yaml.org,2002:";
  if (!tag) return TAG_NONE;
  for (size_t i = 0; !strncmp(tag, prefix, sizeof prefix - 1) && i < sizeof tags / sizeof *tags;
       i++)
    if (!strcmp(tag + sizeof prefix - 1, tags[i].name)) return tags[i].type;
  return TAG_UNKNOWN;
}

static int fail_tag(reader *r, const char *tag) {
  segue__quoted shown;
  return segue__builder_fail(r->b, SEGUE_ETYPE,
                             "tag %s is not known: only !!str, !!int, !!float, !!bool, !!null, "
                             "!!seq and !!map are",
                             segue__builder_quote(r->b, &shown, tag, strlen(tag)));
}

/* Adds a scalar with an explicit tag: the text must have the form of that type. */
static int yaml_tagged(reader *r, const char *s, size_t len, const char *tag) {
  segue__quoted shown;
  int type = strcmp(tag, "!") ? tag_type(tag) : SEGUE_STRING;
  if (type == SEGUE_STRING) return segue__builder_add_string(r->b, s, len);
  if (type == TAG_UNKNOWN) return fail_tag(r, tag);
  segue_node node;
  int rc = segue__scalar_resolve(s, len, &node);
  if (rc == UV_ENOMEM) return yaml_fail_memory(r);
  if (rc == SEGUE_ERANGE) return segue__builder_fail_range(r->b, s, len);
  if (!rc && type == SEGUE_FLOAT && node.type == SEGUE_INT) {
    double value = 0;
    segue_node_double(&node, &value);
    return segue__builder_float(r->b, value);
  }
  if (rc || node.type != type)
    return segue__builder_fail(r->b, SEGUE_ETYPE, "'%s' is not a valid %s",
                               segue__builder_quote(r->b, &shown, s, len),
                               segue_type_name((segue_type)type));
  return segue__builder_add_scalar(r->b, node);
}

static int yaml_plain(reader *r, const char *s, size_t len) {
  segue_node node;
  int rc = segue__scalar_resolve(s, len, &node);
  if (rc == SEGUE_ERANGE && r->b->doc->foreign) {
    rc = segue__scalar_wide(s, len, &node);
    if (!rc) segue__builder_wide(r->b);
  }
  switch (rc) {
  case 0:
    return segue__builder_add_scalar(r->b, node);
  case SEGUE_ERANGE:
    return segue__builder_fail_range(r->b, s, len);
  case UV_ENOMEM:
    return yaml_fail_memory(r);
  default:
    return segue__builder_add_string(r->b, s, len);
  }
}

/* A key is its text, whatever type it would have as a value; only null is rejected. */
static int scalar_key(reader *r, const yaml_event_t *e, const char *s, size_t len) {
  const char *tag = (const char *)e->data.scalar.tag;
  bool is_plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tag;
  if (is_plain && len == 2 && !memcmp(s, "<<", 2)) return segue__builder_merge_key(r->b);
  segue_node node;
  if ((is_plain && !segue__scalar_resolve(s, len, &node) && node.type == SEGUE_NULL) ||
      tag_type(tag) == SEGUE_NULL)
    return segue__builder_fail(r->b, SEGUE_ETYPE,
                               len ? "a key cannot be null: quote it if it is text"
                                   : "there is no key before the ':'");
  if (tag && tag_type(tag) == TAG_UNKNOWN && strcmp(tag, "!") != 0) return fail_tag(r, tag);
  if (segue__builder_add_key(r->b, s, len)) return r->b->status;
  if (!e->data.scalar.anchor) return 0;
  anchor *a = name_anchor(r, (const char *)e->data.scalar.anchor);
  char *copy = a ? segue__arena_strndup(&r->b->doc->arena, s, len) : NULL;
  if (!copy) return yaml_fail_memory(r);
  a->node = (segue_node){.type = SEGUE_STRING,
                         .document = r->b->doc->id,
                         .line = r->b->line,
                         .column = r->b->column,
                         .count = (uint32_t)len,
                         .v.s = copy};
  a->nodes = 1;
  a->text = len;
  a->height = 0;
  a->open = false;
  return 0;
}

/* Returns whether the scalar is null ("", null, ~ or !!null). Called for a document that consists
 * of this scalar only. */
static bool is_null(const char *s, size_t len, bool is_plain, const char *tag) {
  segue_node node;
  if (tag) return tag_type(tag) == SEGUE_NULL;
  return is_plain && !segue__scalar_resolve(s, len, &node) && node.type == SEGUE_NULL;
}

static int on_scalar(reader *r, const yaml_event_t *e) {
  const char *s = (const char *)e->data.scalar.value;
  const char *tag = (const char *)e->data.scalar.tag;
  size_t len = e->data.scalar.length;
  if (!r->b->doc->foreign && e->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE &&
      memchr(s, 0, len))
    return segue__builder_fail(r->b, SEGUE_EENCODING, "\\0 is not allowed: strings end at NUL");
  if (segue__builder_wants_key(r->b)) return scalar_key(r, e, s, len);
  bool is_plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  if (r->b->depth == r->parse->depth && is_null(s, len, is_plain, tag))
    return segue__parse_empty(r->parse, len > 0);
  const char *written = s;
  if (segue__expand(r->parse, &s, &len)) return r->b->status;
  int rc;
  if (tag)
    rc = yaml_tagged(r, s, len, tag);
  else if (is_plain)
    rc = s == written ? yaml_plain(r, s, len) : segue__builder_untyped(r->b, s, len);
  else
    rc = segue__builder_add_string(r->b, s, len);
  return rc ? rc : anchor_scalar(r, (const char *)e->data.scalar.anchor);
}

/* ---- Lists and maps -------------------------------------------------------------------------- */

static int yaml_on_start(reader *r, segue_type type, const char *name, const char *tag) {
  if (segue__builder_wants_key(r->b))
    return segue__builder_fail(r->b, SEGUE_ETYPE,
                               "a %s cannot be a key: keys are text (quote what starts with '%c')",
                               segue_type_name(type), type == SEGUE_MAP ? '{' : '[');
  if (tag && strcmp(tag, "!") != 0 && tag_type(tag) != (int)type) {
    if (tag_type(tag) == TAG_UNKNOWN) return fail_tag(r, tag);
    return segue__builder_fail(r->b, SEGUE_ETYPE, "this is a %s, its tag is that of a %s",
                               segue_type_name(type), segue_type_name((segue_type)tag_type(tag)));
  }
  if (segue__builder_begin(r->b, type) || !name) return r->b->status;
  anchor *a = name_anchor(r, name);
  if (!a || (r->open_count == r->open_capacity &&
             yaml_grow(r, (void **)&r->open, &r->open_capacity, sizeof *r->open)))
    return r->b->status;
  a->open = true;
  r->open[r->open_count].depth = r->b->depth;
  r->open[r->open_count++].anchor = (size_t)(a - r->anchors);
  return 0;
}

static int yaml_on_end(reader *r) {
  size_t depth = r->b->depth;
  if (segue__builder_end(r->b)) return r->b->status;
  if (!r->open_count || r->open[r->open_count - 1].depth != depth) return 0;
  return anchor_done(r, &r->anchors[r->open[--r->open_count].anchor]);
}

static bool is_old(const yaml_version_directive_t *version) {
  return version && version->major == 1 && version->minor < 2;
}

static int on_event(reader *r, const yaml_event_t *e) {
  switch (e->type) {
  case YAML_DOCUMENT_START_EVENT:
    if (r->documents++)
      return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                                 "a second document starts here: put it in a file of its own");
    if (is_old(e->data.document_start.version_directive))
      r->b->doc->old_yaml_line = (uint32_t)e->start_mark.line + 1;
    return 0;
  case YAML_SCALAR_EVENT:
    return on_scalar(r, e);
  case YAML_ALIAS_EVENT:
    return on_alias(r, (const char *)e->data.alias.anchor);
  case YAML_SEQUENCE_START_EVENT:
    return yaml_on_start(r, SEGUE_LIST, (const char *)e->data.sequence_start.anchor,
                         (const char *)e->data.sequence_start.tag);
  case YAML_MAPPING_START_EVENT:
    return yaml_on_start(r, SEGUE_MAP, (const char *)e->data.mapping_start.anchor,
                         (const char *)e->data.mapping_start.tag);
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT:
    return yaml_on_end(r);
  case YAML_STREAM_END_EVENT:
    if (r->documents) return 0;
    return segue__parse_empty(r->parse, false);
  default:
    return 0;
  }
}

/* ---- Differences between libyaml and YAML 1.2 ------------------------------------------------ */

/* libyaml reads YAML 1.1 and ends a line at U+0085, U+2028 and U+2029: text behind one in a comment
 * becomes a key, and inside quotes they become spaces. In YAML 1.2 they are ordinary characters. */
static int check_breaks(reader *r) {
  const char *text = r->parse->text, *end = text + r->parse->len;
  for (const char *p = text; !r->cursor.ascii && p + 1 < end; p++) {
    unsigned code = 0;
    if (p[0] == '\xc2' && p[1] == '\x85') code = 0x85;
    if (p[0] == '\xe2' && p + 2 < end && p[1] == '\x80' && (p[2] & ~1) == '\xa8')
      code = 0x2028 + (p[2] & 1);
    if (!code) continue;
    segue__parse_at(r->parse, (size_t)(p - text));
    return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                               "here is U+%04X, an invisible line break: remove it, or write it as "
                               "\\u%04X in double quotes",
                               code, code);
  }
  return 0;
}

/* In [ ] and { } libyaml takes each '?' for the mark of a key: [?page=1] would be a list of a map.
 * In 1.2 it is one only before a blank. `at` is where a node starts; an empty key (`? `) starts
 * right behind its mark. */
static int check_question(reader *r, const char *at) {
  const char *text = r->parse->text, *end = text + r->parse->len;
  if (at == text || at[-1] != '?' || at == end || segue__is_one_of(*at, " \t\r\n")) return 0;
  return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                             "a plain value in [ ] or { } cannot start with '?' here: put it in "
                             "quotes");
}

static const char *yaml_name_of(const yaml_event_t *e) {
  switch (e->type) {
  case YAML_SCALAR_EVENT:
    return (const char *)e->data.scalar.anchor;
  case YAML_ALIAS_EVENT:
    return (const char *)e->data.alias.anchor;
  case YAML_SEQUENCE_START_EVENT:
    return (const char *)e->data.sequence_start.anchor;
  case YAML_MAPPING_START_EVENT:
    return (const char *)e->data.mapping_start.anchor;
  default:
    return NULL;
  }
}

/* libyaml ends the name of an anchor or alias at ':' and a few other characters, and reads on
 * without a blank: `a: &x:y z` would be ":y z", and [*x:y] a list of a map. In YAML 1.2 these
 * characters belong to the name. `*x: 1` stays a key, because files that contain it mean a key.
 * `at` is where the node starts; a tag may stand before the anchor. */
static int check_name(reader *r, const yaml_event_t *e, const char *at) {
  const char *name = yaml_name_of(e), *end = r->parse->text + r->parse->len;
  if (!name) return 0;
  if (at < end && *at == '!') {
    while (at < end && !segue__is_one_of(*at, " \t\r\n"))
      at++;
    while (at < end && segue__is_one_of(*at, " \t\r\n"))
      at++;
  }
  size_t len = strlen(name);
  if ((size_t)(end - at) <= len + 1 || memcmp(at + 1, name, len) != 0) return 0;
  const char *next = at + 1 + len;
  bool is_key = e->type == YAML_ALIAS_EVENT && *next == ':' &&
                (next + 1 == end || segue__is_one_of(next[1], " \t\r\n"));
  if (is_key || !segue__is_one_of(*next, ":?%@`")) return 0;
  return segue__builder_fail(r->b, SEGUE_ESYNTAX,
                             "the name after '%c' contains '%c': use letters, digits, '-' and '_', "
                             "or put a space behind the name",
                             *at, *next);
}

static int yaml_run(reader *r) {
  yaml_event_type_t type = YAML_NO_EVENT;
  while (type != YAML_STREAM_END_EVENT) {
    yaml_event_t event;
    if (!yaml_parser_parse(&r->parser, &event))
      return segue__yaml_fail(r->parse, &r->parser, &r->cursor);
    type = event.type;
    uint32_t column;
    const char *at = segue__yaml_locate(&r->cursor, &event.start_mark, &column);
    segue__builder_at(r->b, (uint32_t)event.start_mark.line + 1, column);
    bool starts_node = type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT ||
                       type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT;
    int rc = starts_node ? check_question(r, at) : 0;
    if (!rc) rc = check_name(r, &event, at);
    if (!rc) rc = on_event(r, &event);
    yaml_event_delete(&event);
    if (rc) return rc;
  }
  return 0;
}

/* libyaml takes the text in pieces, so that a scalar of many megabytes does not keep the thread
 * past its time limit. */
static int yaml_feed(void *data, unsigned char *buffer, size_t size, size_t *size_read) {
  reader *r = data;
  size_t left = r->parse->len - r->fed;
  *size_read = size < left ? size : left;
  memcpy(buffer, r->parse->text + r->fed, *size_read);
  r->fed += *size_read;
  return segue__builder_check_time(r->b) == 0;
}

int segue__yaml_parse(segue__parse *parse) {
  reader r = {.parse = parse, .b = parse->builder};
  if (!yaml_parser_initialize(&r.parser)) return yaml_fail_memory(&r);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input(&r.parser, yaml_feed, &r);
  segue__yaml_cursor_init(&r.cursor, parse->text, parse->len);
  int rc = check_breaks(&r);
  if (!rc) rc = yaml_run(&r);
  yaml_parser_delete(&r.parser);
  segue__free(r.anchors);
  segue__free(r.index);
  segue__free(r.open);
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * Documents: counted bytes with a name, and the steps from bytes to a tree that all formats share:
 * size, encoding, emptiness, then the parser of the format.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "builder.h"
#include "parse.h"
#include "utf8.h"

enum { BYTES_DEFAULT = 64 << 20 };

int segue__document_new(segue__document **out, uint32_t id, const char *source, const char *name,
                        segue__format format, char *data, size_t len) {
  *out = NULL;
  segue__document *doc = segue__calloc(1, sizeof *doc);
  if (!doc) {
    segue__free(data);
    return UV_ENOMEM;
  }
  doc->refs = 1;
  doc->id = id;
  doc->format = format;
  doc->data = data;
  doc->len = len;
  segue__arena_init(&doc->arena);
  doc->source = segue__strdup(source ? source : "");
  doc->name = segue__strdup(name ? name : "");
  if (!doc->source || !doc->name) {
    segue__document_unref(doc);
    return UV_ENOMEM;
  }
  doc->root.type = SEGUE_MAP;
  if (data) doc->hash = segue__hash_bytes(data, len, (segue__hash){0, 0});
  *out = doc;
  return 0;
}

segue__document *segue__document_ref(segue__document *doc) {
  __atomic_add_fetch(&doc->refs, 1, __ATOMIC_RELAXED);
  return doc;
}

void segue__document_unref(segue__document *doc) {
  if (!doc || __atomic_sub_fetch(&doc->refs, 1, __ATOMIC_ACQ_REL)) return;
  size_t len = doc->len;
  if (doc->keys) doc->keys->release(doc->keys);
  segue__free(doc->refusal);
  segue__arena_deinit(&doc->arena);
  segue__free(doc->source);
  segue__free(doc->name);
  segue__free(doc->revision);
  segue__free(doc->data);
  segue__free(doc);
  segue__mem_note_freed(len);
}

void segue__parse_at(const segue__parse *parse, size_t offset) {
  const char *text = parse->text;
  uint32_t line = 1;
  size_t start = 0;
  for (const char *p; (p = memchr(text + start, '\n', offset - start)); line++)
    start = (size_t)(p - text) + 1;
  segue__builder_at(parse->builder, line, (uint32_t)(offset - start) + 1);
}

static int check_encoding(const segue__parse *parse) {
  segue__builder *b = parse->builder;
  const char *text = parse->text;
  size_t len = parse->len;
  const unsigned char *u = (const unsigned char *)text;
  if (len >= 2 && ((u[0] == 0xff && u[1] == 0xfe) || (u[0] == 0xfe && u[1] == 0xff))) {
    segue__parse_at(parse, 0);
    return segue__builder_fail(b, SEGUE_EENCODING, "the file is UTF-16: save it as UTF-8");
  }
  const char *nul = memchr(text, 0, len);
  size_t good = segue__utf8_check(text, len);
  if (nul && (size_t)(nul - text) <= good) {
    segue__parse_at(parse, (size_t)(nul - text));
    return segue__builder_fail(b, SEGUE_EENCODING,
                               "here is a NUL byte: configuration is text, is this a binary file?");
  }
  if (good != len) {
    segue__quoted shown;
    char hex[8];
    segue__parse_at(parse, good);
    int n = snprintf(hex, sizeof hex, "0x%02x", (unsigned)u[good]);
    return segue__builder_fail(b, SEGUE_EENCODING,
                               "byte %s is not valid UTF-8: save the file as UTF-8",
                               segue__builder_quote_stray(b, &shown, hex, (size_t)n));
  }
  return 0;
}

static bool is_blank(const char *text, size_t len) {
  return strspn(text, " \t\r\n") == len;
}

static const char empty_message[] = "the file is empty: was it cut short? ({} in it, or empty = "
                                    "\"allow\" at its source, means that "
                                    "this is wanted)";

int segue__document_fail_empty(const segue__document *doc, segue_error *err) {
  int rc = segue__errorf(err, SEGUE_EEMPTY, "%s", empty_message);
  segue__error_set_place(err, doc->name, 0, 0);
  return rc;
}

/* 0 bytes, comments, "---" and null usually have one cause: a writer that failed, a template
 * without values, a volume without files. So there is one rule and one message for all formats. */
int segue__parse_empty(segue__parse *parse, bool literal) {
  segue__builder *b = parse->builder;
  if (b->doc->allow_empty) {
    segue__builder_begin(b, SEGUE_MAP);
    return segue__builder_end(b);
  }
  if (b->doc->foreign && literal) return segue__builder_null(b);
  segue__builder_at(b, 0, 0);
  return segue__builder_fail(b, SEGUE_EEMPTY, "%s", empty_message);
}

static int check_bytes(const segue__parse *parse, size_t max) {
  if (parse->len > max)
    return segue__builder_fail(parse->builder, SEGUE_ELIMIT,
                               "the document has %zu bytes, more than the limit of %zu: split it",
                               parse->len, max);
  return check_encoding(parse);
}

void segue__document_report_wide(const segue__document *doc, segue_error *out) {
  char more[64] = "";
  if (doc->wide > 1) snprintf(more, sizeof more, ", and so are %u more", doc->wide - 1);
  segue__errorf(out, SEGUE_ERANGE,
                "this integer has more than 64 bits: it is read as the nearest float%s", more);
  segue__error_set_place(out, doc->name, doc->wide_line, doc->wide_column);
}

void segue__document_warn_old_yaml(const segue__document *doc, segue_error *out) {
  segue__errorf(out, SEGUE_ESYNTAX,
                "%%YAML 1.1 has no effect: the file is read as YAML 1.2, where yes and on are "
                "text and 0644 is the number 644");
  segue__error_set_place(out, doc->name, doc->old_yaml_line, 1);
}

segue__format segue__format_of(const char *name, bool *guessed) {
  static const char *const ends[] = {".yaml", ".yml", ".json"};
  size_t len = strlen(name), n;
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    if (len < (n = strlen(ends[i])) || strcmp(name + len - n, ends[i]) != 0) continue;
    *guessed = false;
    return i == 2 ? SEGUE__JSON : SEGUE__YAML;
  }
  *guessed = true;
  return SEGUE__YAML;
}

static const char *const format_names[] = {[SEGUE__YAML] = "yaml",
                                           [SEGUE__JSON] = "json",
                                           [SEGUE__BUILT] = "built",
                                           [SEGUE__TEXT] = "text"};

const char *segue__document_format_name(segue__format format) {
  return format_names[format];
}

bool segue__document_format_find(const char *name, segue__format *out) {
  static const segue__format numbered[] = {SEGUE__YAML, SEGUE__JSON, SEGUE__BUILT, SEGUE__TEXT};
  for (size_t i = 0; i < sizeof numbered / sizeof *numbered; i++) {
    bool digit = name[0] == (char)('0' + i) && !name[1];
    if (numbered[i] == SEGUE__BUILT || (!digit && strcmp(name, format_names[numbered[i]]) != 0))
      continue;
    *out = numbered[i];
    return true;
  }
  return false;
}

typedef struct source_text {
  const char *text;
  size_t len, max;
  segue__getenv getenv;
  void *getenv_data;
  const segue__limits *limits;
} source_text;

/* Parses a text file, which has no syntax. So an empty one has only one form, which is allowed or
 * rejected. */
static int parse_text(segue__parse *parse) {
  const char *s = parse->text;
  size_t len = parse->len;
  if (is_blank(s, len) && !parse->builder->doc->allow_empty)
    return segue__parse_empty(parse, false);
  if (segue__expand(parse, &s, &len)) return parse->builder->status;
  return segue__builder_add_string(parse->builder, s, len);
}

static int parse_content(segue__parse *parse, segue__format format, size_t max) {
  int rc = check_bytes(parse, max);
  if (rc) return rc;
  if (format == SEGUE__TEXT) return parse_text(parse);
  if (is_blank(parse->text, parse->len)) return segue__parse_empty(parse, false);
  return format == SEGUE__JSON ? segue__json_parse(parse) : segue__yaml_parse(parse);
}

/* Parses the file into a map whose only key is the name of the file. */
static int parse_by_file(segue__parse *parse, segue__format format, size_t max) {
  segue__builder *b = parse->builder;
  const char *name = b->doc->name, *slash = strrchr(name, '/');
  if (slash && slash[1]) name = slash + 1;
  segue__builder_at(b, 1, 1);
  segue__builder_begin(b, SEGUE_MAP);
  segue__builder_key(b, name, strlen(name));
  parse->depth = b->depth;
  int rc = b->status ? b->status : parse_content(parse, format, max);
  return rc ? rc : segue__builder_end(b);
}

static int parse_as(segue__document *doc, segue__format format, const source_text *from,
                    segue_error *err) {
  segue__builder *b;
  int rc = segue__builder_new(&b, doc, from->limits);
  if (rc) return segue__errorf(err, rc, "out of memory while parsing %s", doc->name);
  segue__parse parse = {.builder = b,
                        .text = from->text,
                        .len = from->len,
                        .getenv = from->getenv,
                        .getenv_data = from->getenv_data};
  if (doc->by_file || format == SEGUE__TEXT)
    parse_by_file(&parse, format, from->max);
  else
    parse_content(&parse, format, from->max);
  segue__buf_deinit(&parse.expanded);
  rc = segue__builder_finish(b, err);
  segue__builder_free(b);
  if (!rc) doc->format = format;
  return rc;
}

/* Frees the result of a failed attempt, before the text is parsed as another format. */
static void document_forget(segue__document *doc, segue__hash hash) {
  segue__arena_deinit(&doc->arena);
  segue__arena_init(&doc->arena);
  doc->variables = NULL;
  doc->hash = hash;
  doc->wide = doc->old_yaml_line = 0;
}

static bool begins_as_json(const source_text *from) {
  size_t n = strspn(from->text, " \t\r\n");
  return n < from->len && memchr("{[\"", from->text[n], 3);
}

/* Parses a text of unknown format as JSON, then as YAML. If both fail, returns the error that lies
 * further into the text: the text is more likely of that format. */
static int parse_either(segue__document *doc, const source_text *from, segue_error *err) {
  segue_error as_json = {0}, as_yaml = {0};
  segue__hash hash = doc->hash;
  int rc = parse_as(doc, SEGUE__JSON, from, &as_json);
  if (rc && rc != UV_ENOMEM && rc != SEGUE_ELIMIT) {
    document_forget(doc, hash);
    rc = parse_as(doc, SEGUE__YAML, from, &as_yaml);
    bool longer = as_json.line > as_yaml.line ||
                  (as_json.line == as_yaml.line && as_json.column > as_yaml.column);
    if (rc == UV_ENOMEM || !longer) as_json = as_yaml;
  }
  if (rc && err) *err = as_json;
  return rc ? as_json.code : 0;
}

int segue__document_parse(segue__document *doc, const segue__limits *limits, segue__getenv getenv,
                          void *getenv_data, segue_error *err) {
  if (doc->refusal) {
    if (err) *err = *doc->refusal;
    return doc->refusal->code;
  }
  if (doc->format == SEGUE__BUILT) return 0;
  source_text from = {.text = doc->data ? doc->data : "",
                      .len = doc->data ? doc->len : 0,
                      .max = limits && limits->bytes ? limits->bytes : (size_t)BYTES_DEFAULT,
                      .getenv = getenv,
                      .getenv_data = getenv_data,
                      .limits = limits};
  if (from.len >= 3 && !memcmp(from.text, "\xef\xbb\xbf", 3)) {
    from.text += 3;
    from.len -= 3;
  }
  return doc->guessed && begins_as_json(&from) ? parse_either(doc, &from, err)
                                               : parse_as(doc, doc->format, &from, err);
}

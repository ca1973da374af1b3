/* SPDX-License-Identifier: MIT
 *
 * ${NAME} in values, and defaults that contain further references. Each variable that was looked up
 * is stored with the document and is a part of its hash: the same bytes in another environment are
 * another document.
 */
#include <string.h>
#include <uv.h>

#include "parse.h"
#include "utf8.h"

/* The same name repeats at short distances: only the last LOOK_BACK variables are searched. */
enum { LOOK_BACK = 32, NESTED_MAX = 16 };

static int expand_text(segue__parse *parse, const char *p, const char *end, unsigned nested);

static int expand_fail_memory(segue__parse *parse) {
  return segue__builder_fail(parse->builder, UV_ENOMEM, "out of memory while expanding variables");
}

static const segue__variable *expand_known(const segue__document *doc, const char *name,
                                           size_t len) {
  const segue__variable *v = doc->variables;
  for (int i = 0; v && i < LOOK_BACK; i++, v = v->next)
    if (!strncmp(v->name, name, len) && !v->name[len]) return v;
  return NULL;
}

/* Returns the name of a variable for a message. `password: ${DB_PASSWORD}` names the origin of the
 * password, and the reader of the message needs that name; in `pa${ss}w0rd` the same characters are
 * a part of the password. So a name is shown only if the reference is the whole value and the name
 * looks like a variable: capital letters, digits and "_". Any other name counts as a part of the
 * value. */
static const char *name_for_message(segue__parse *parse, segue__quoted *out, const char *name,
                                    size_t len) {
  bool plain = parse->whole;
  for (size_t i = 0; i < len; i++)
    plain = plain && (name[i] == '_' || (name[i] >= 'A' && name[i] <= 'Z') ||
                      (name[i] >= '0' && name[i] <= '9'));
  return plain ? segue__quote_text(out, true, name, len)
               : segue__builder_quote(parse->builder, out, name, len);
}

static int look_up(segue__parse *parse, const char *name, size_t len, const segue__variable **out) {
  segue__quoted shown;
  segue__document *doc = parse->builder->doc;
  *out = expand_known(doc, name, len);
  if (*out) return 0;
  segue__variable *v = segue__arena_alloc(&doc->arena, sizeof *v);
  char *copy = segue__arena_strndup(&doc->arena, name, len);
  if (!v || !copy) return expand_fail_memory(parse);
  *v = (segue__variable){.next = doc->variables, .name = copy};
  const char *value = parse->getenv ? parse->getenv(parse->getenv_data, copy) : NULL;
  if (value) {
    size_t value_len = strlen(value);
    if (segue__utf8_check(value, value_len) != value_len)
      return segue__builder_fail(parse->builder, SEGUE_EENCODING,
                                 "environment variable %s is not valid UTF-8",
                                 name_for_message(parse, &shown, name, len));
    v->value = segue__arena_strndup(&doc->arena, value, value_len);
    if (!v->value) return expand_fail_memory(parse);
  }
  doc->variables = v;
  doc->hash = segue__hash_bytes(copy, len, doc->hash);
  doc->hash = segue__hash_bytes(v->value, v->value ? strlen(v->value) + 1 : 0, doc->hash);
  *out = v;
  return 0;
}

static size_t name_length(const char *s, const char *end) {
  size_t n = 0;
  while (s + n < end && (s[n] == '_' || (s[n] >= '0' && s[n] <= '9' && n) ||
                         ((s[n] | 32) >= 'a' && (s[n] | 32) <= 'z')))
    n++;
  return n;
}

/* Finds the '}' that closes a "${" before s: a default may contain "${...}" itself. Returns NULL if
 * there is none. */
static const char *find_close(const char *s, const char *end) {
  unsigned depth = 1;
  for (; s < end; s++) {
    if (*s == '}' && --depth == 0) return s;
    if (end - s < 2 || s[0] != '$' || s[1] != '{') continue;
    if (s[-1] != '$') depth++; /* "$${" is text */
    s++;
  }
  return NULL;
}

/* Returns whether the text is one ${...} and nothing else. */
static bool is_whole(const char *s, const char *end) {
  return end - s > 2 && s[0] == '$' && s[1] == '{' && find_close(s + 2, end) == end - 1;
}

/* Expands one ${...}; *at is behind "${" and moves behind "}". */
static int expand_one(segue__parse *parse, const char **at, const char *end, unsigned nested) {
  segue__quoted shown;
  const char *name = *at, *close = find_close(name, end);
  size_t len = name_length(name, end);
  const char *rest = name + len;
  if (!close)
    return segue__builder_fail(
        parse->builder, SEGUE_ESYNTAX, "'${%s' has no '}': write $${ for a literal ${",
        segue__builder_quote(parse->builder, &shown, name, (size_t)(end - name)));
  bool has_default = close - rest >= 2 && rest[0] == ':' && rest[1] == '-';
  if (!len || (rest != close && !has_default))
    return segue__builder_fail(
        parse->builder, SEGUE_ESYNTAX,
        "'${%s}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
        segue__builder_quote(parse->builder, &shown, name, (size_t)(close - name)));
  const segue__variable *v;
  if (look_up(parse, name, len, &v)) return parse->builder->status;
  *at = close + 1;
  if (has_default && (!v->value || !v->value[0])) {
    parse->whole = parse->whole && is_whole(rest + 2, close);
    return expand_text(parse, rest + 2, close, nested + 1);
  }
  if (!v->value)
    return segue__builder_fail(parse->builder, SEGUE_ESOURCE,
                               "environment variable %s is not set: set it or write ${%s:-default}",
                               name_for_message(parse, &shown, v->name, len), shown.text);
  segue__buf_adds(&parse->expanded, v->value);
  return 0;
}

/* Appends the text with its ${...} replaced. Values of variables are not expanded again. */
static int expand_text(segue__parse *parse, const char *p, const char *end, unsigned nested) {
  segue__buf *out = &parse->expanded;
  if (nested > NESTED_MAX)
    return segue__builder_fail(parse->builder, SEGUE_ELIMIT,
                               "defaults are nested more than %d deep", NESTED_MAX);
  while (p < end) {
    const char *dollar = memchr(p, '$', (size_t)(end - p));
    segue__buf_add(out, p, (size_t)((dollar ? dollar : end) - p));
    if (!dollar) break;
    p = dollar + 1;
    if (end - p >= 2 && p[0] == '$' && p[1] == '{') {
      segue__buf_adds(out, "${");
      p += 2;
    } else if (p < end && *p == '{') {
      p++;
      if (expand_one(parse, &p, end, nested)) return parse->builder->status;
    } else {
      segue__buf_addc(out, '$');
    }
  }
  return 0;
}

int segue__expand(segue__parse *parse, const char **s, size_t *len) {
  if (!parse->builder->doc->expand || !memchr(*s, '$', *len)) return 0;
  segue__buf *out = &parse->expanded;
  parse->whole = is_whole(*s, *s + *len);
  out->len = 0;
  segue__buf_adds(out, ""); /* allocates: an empty result needs data, too */
  if (expand_text(parse, *s, *s + *len, 0)) return parse->builder->status;
  if (out->failed || !out->data) return expand_fail_memory(parse);
  *s = out->data;
  *len = out->len;
  return 0;
}

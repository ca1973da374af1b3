/* SPDX-License-Identifier: MIT
 *
 * Paths: listen[0].port, a."odd key".b. One scanner serves both the parsed path and the direct
 * lookup, which allocates nothing.
 */
#include "path.h"

#include <string.h>
#include <uv.h>

#include "tree.h"
#include "utf8.h"

static bool plain_byte(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c > 127 ||
         c == '_' || c == '-' || c == '/' || c == ':';
}

static bool plain_key(const char *key, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (!plain_byte((unsigned char)key[i])) return false;
  return len > 0;
}

/* One step as written in the text: a quoted key still has its escapes. */
typedef struct raw_step {
  const char *start;
  size_t len, index;
  bool is_index, escaped;
} raw_step;

/* "[12]"; p is behind the bracket. */
static const char *scan_index(const char *p, raw_step *step, const char **why) {
  step->is_index = true;
  const char *digits = p;
  for (; *p >= '0' && *p <= '9'; p++)
    if (__builtin_mul_overflow(step->index, 10u, &step->index) ||
        __builtin_add_overflow(step->index, (size_t)(*p - '0'), &step->index)) {
      *why = "the index is too large";
      return NULL;
    }
  if (p == digits || *p != ']') {
    *why = "an index is written [0]";
    return NULL;
  }
  return p + 1;
}

static const char *scan_quoted(const char *p, raw_step *step, const char **why) {
  step->start = ++p;
  for (; *p && *p != '"'; p++) {
    if (*p != '\\') continue;
    step->escaped = true;
    if (p[1] != '"' && p[1] != '\\') {
      *why = "only \\\" and \\\\ are escapes in a quoted key";
      return NULL;
    }
    p++;
  }
  if (!*p) {
    *why = "the quoted key is not closed";
    return NULL;
  }
  step->len = (size_t)(p - step->start);
  return p + 1;
}

/* Scans one step. Returns NULL, with the reason, if there is none at p. first: a key has no dot in
 * front of it. */
static const char *scan_step(const char *p, bool first, raw_step *step, const char **why) {
  memset(step, 0, sizeof *step);
  if (*p == '[') return scan_index(p + 1, step, why);
  if (!first && *p++ != '.') {
    *why = "'.' or '[' is expected: quote keys that have other characters";
    return NULL;
  }
  if (*p == '"') return scan_quoted(p, step, why);
  step->start = p;
  while (plain_byte((unsigned char)*p))
    p++;
  step->len = (size_t)(p - step->start);
  *why = "a key is expected: quote keys that have other characters";
  return step->len ? p : NULL;
}

static size_t path_unescape(char *to, const char *from, size_t len) {
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    if (from[i] == '\\') i++;
    to[n++] = from[i];
  }
  to[n++] = 0;
  return n;
}

static int parse_steps(segue__path *path, const char *text, segue_error *err) {
  size_t used = 0;
  for (const char *p = text; *p;) {
    raw_step raw;
    const char *why = "", *next = scan_step(p, p == text, &raw, &why);
    if (!next)
      return segue__errorf(err, SEGUE_EPATH, "path '%.*s' is wrong at byte %zu: %s",
                           segue__text_cut(strlen(text)), text, (size_t)(p - text) + 1, why);
    segue__path_step *step = &path->steps[path->count++];
    *step = (segue__path_step){.index = raw.index};
    if (!raw.is_index) {
      step->key = path->text + used;
      used += path_unescape(path->text + used, raw.start, raw.len);
      step->key_len = (size_t)(path->text + used - step->key) - 1;
    }
    p = next;
  }
  return 0;
}

int segue__path_parse(segue__path *out, const char *text, segue_error *err) {
  memset(out, 0, sizeof *out);
  size_t len = strlen(text), steps = 1;
  for (const char *p = text; *p; p++)
    steps += *p == '.' || *p == '[';
  out->steps = segue__malloc(steps * sizeof *out->steps);
  out->text = segue__malloc(len + steps + 1); /* each key and its end */
  int rc = out->steps && out->text
               ? parse_steps(out, text, err)
               : segue__errorf(err, UV_ENOMEM, "out of memory while parsing a path");
  if (rc) segue__path_deinit(out);
  return rc;
}

void segue__path_deinit(segue__path *path) {
  segue__free(path->steps);
  segue__free(path->text);
  memset(path, 0, sizeof *path);
}

static const segue_node *path_child(const segue_node *node, const char *key, size_t len,
                                    size_t index) {
  if (!key) return node->type == SEGUE_LIST ? segue_node_at(node, index, NULL) : NULL;
  const segue__member *m = segue__node_find(node, key, len);
  return m ? &m->value : NULL;
}

const segue_node *segue__path_find(const segue__path *path, const segue_node *root) {
  const segue_node *node = root;
  for (size_t i = 0; node && i < path->count; i++)
    node = path_child(node, path->steps[i].key, path->steps[i].key_len, path->steps[i].index);
  return node;
}

static const segue_node *get_escaped(const segue_node *node, const char *text) {
  segue__path path;
  if (segue__path_parse(&path, text, NULL)) return NULL;
  node = segue__path_find(&path, node);
  segue__path_deinit(&path);
  return node;
}

const segue_node *segue_node_get(const segue_node *node, const char *path) {
  const segue_node *found = node;
  for (const char *p = path; *p;) {
    raw_step raw;
    const char *why, *next = scan_step(p, p == path, &raw, &why);
    if (!next) return NULL;
    if (raw.escaped) return get_escaped(node, path);
    /* The rest is scanned even when nothing is left: a malformed path is never found. */
    found = found ? path_child(found, raw.is_index ? NULL : raw.start, raw.len, raw.index) : NULL;
    p = next;
  }
  return found;
}

void segue__path_add_key(segue__buf *b, const char *key, size_t len) {
  if (b->len) segue__buf_addc(b, '.');
  if (plain_key(key, len)) {
    segue__buf_add(b, key, len);
    return;
  }
  segue__buf_addc(b, '"');
  for (size_t i = 0; i < len; i++) {
    if (key[i] == '"' || key[i] == '\\') segue__buf_addc(b, '\\');
    segue__buf_addc(b, key[i]);
  }
  segue__buf_addc(b, '"');
}

void segue__path_add_index(segue__buf *b, size_t index) {
  segue__buf_addf(b, "[%zu]", index);
}

/* SPDX-License-Identifier: MIT
 *
 * Writes trees as JSON. The output is always valid JSON: bytes that are not UTF-8 become U+FFFD.
 */
#include <inttypes.h>
#include <string.h>

#include "../os/hex.h"
#include "config.h"
#include "mask_internal.h"
#include "printable.h"
#include "scalar.h"
#include "utf8.h"

static void write_escape(segue__buf *out, unsigned char c) {
  static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  for (const char *p = names; *p; p += 2)
    if ((unsigned char)*p == c) {
      segue__buf_addc(out, '\\');
      segue__buf_addc(out, p[1]);
      return;
    }
  segue__buf_addf(out, "\\u%04x", c);
}

void segue__json_string(segue__buf *out, const char *s, size_t len) {
  segue__buf_addc(out, '"');
  size_t start = 0, i = 0;
  while (i < len) {
    unsigned char c = (unsigned char)s[i];
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      i++;
      continue;
    }
    uint32_t code = c;
    size_t n = c < 0x80 ? 0 : segue__utf8_next(s + i, len - i);
    bool odd = n && segue__printable_odd(s + i, len - i, &code);
    if (n && !odd) {
      i += n;
      continue;
    }
    segue__buf_add(out, s + start, i - start);
    if (odd) /* a program reads the same string, and a terminal gets no control character */
      segue__buf_addf(out, "\\u%04x", (unsigned)code);
    else if (c < 0x80)
      write_escape(out, c);
    else
      segue__buf_adds(out, "\xef\xbf\xbd");
    i += n ? n : 1;
    start = i;
  }
  segue__buf_add(out, s + start, len - start);
  segue__buf_addc(out, '"');
}

void segue__json_bytes(segue__buf *out, const char *data, size_t len) {
  if (segue__utf8_check(data, len) == len && !memchr(data, 0, len)) {
    segue__json_string(out, data, len);
    return;
  }
  segue__buf_adds(out, "{\"hex\":\"");
  for (size_t i = 0; i < len; i++) {
    segue__buf_addc(out, segue__hex_digit((unsigned char)data[i] >> 4));
    segue__buf_addc(out, segue__hex_digit((unsigned char)data[i]));
  }
  segue__buf_adds(out, "\"}");
}

static void write_float(segue__buf *out, double value) {
  char text[SEGUE__FLOAT_SIZE];
  if (value != value) {
    segue__buf_adds(out, "\".nan\"");
  } else if (value - value != 0) {
    segue__buf_adds(out, value < 0 ? "\"-.inf\"" : "\".inf\"");
  } else {
    segue__float_write(value, text);
    segue__buf_adds(out, text);
  }
}

static void new_line(segue__buf *out, unsigned indent, unsigned depth) {
  static const char spaces[] = "                ";
  if (!indent) return;
  segue__buf_addc(out, '\n');
  for (size_t n = (size_t)indent * depth; n;) {
    size_t part = n < sizeof spaces - 1 ? n : sizeof spaces - 1;
    segue__buf_add(out, spaces, part);
    n -= part;
  }
}

/* The style of a text. Writing stops when out holds `limit` bytes. `walk` follows the path for the
 * mask; NULL means that there are no secrets at this node or below it. */
typedef struct style {
  unsigned indent;
  size_t limit;
  segue__mask_walk *walk;
} style;

static void write_node(segue__buf *out, const segue_node *node, const style *style, unsigned depth);

static const segue_node *json_write_child_of(const segue_node *node, uint32_t i) {
  return node->type == SEGUE_MAP ? &node->v.members[i].value : &node->v.items[i];
}

/* Once the mask knows that nothing below is secret, the rest is written without a walk, which costs
 * time for each node. */
static void write_seen(segue__buf *out, const segue_node *node, const style *style, unsigned depth,
                       segue__seen seen) {
  struct style plain = *style;
  plain.walk = NULL;
  if (seen == SEGUE__SEEN_SECRET)
    segue__json_string(out, SEGUE__MASKED, sizeof SEGUE__MASKED - 1);
  else
    write_node(out, node, seen == SEGUE__SEEN_CLEAR ? &plain : style, depth);
}

static void write_masked(segue__buf *out, const segue_node *node, uint32_t i, const style *style,
                         unsigned depth) {
  segue__path_step step = {.index = i};
  if (node->type == SEGUE_MAP)
    step = (segue__path_step){.key = node->v.members[i].key, .key_len = node->v.members[i].key_len};
  segue__seen seen = segue__mask_walk_down(style->walk, &step);
  write_seen(out, json_write_child_of(node, i), style, depth, seen);
  segue__mask_walk_up(style->walk);
}

static void write_children(segue__buf *out, const segue_node *node, const style *style,
                           unsigned depth) {
  unsigned indent = style->indent;
  bool map = node->type == SEGUE_MAP;
  segue__buf_addc(out, map ? '{' : '[');
  for (uint32_t i = 0; i < node->count && !out->failed && out->len < style->limit; i++) {
    if (i) segue__buf_addc(out, ',');
    new_line(out, indent, depth + 1);
    if (map) {
      segue__json_string(out, node->v.members[i].key, node->v.members[i].key_len);
      segue__buf_adds(out, indent ? ": " : ":");
    }
    if (style->walk)
      write_masked(out, node, i, style, depth + 1);
    else
      write_node(out, json_write_child_of(node, i), style, depth + 1);
  }
  if (node->count) new_line(out, indent, depth);
  segue__buf_addc(out, map ? '}' : ']');
}

static void write_node(segue__buf *out, const segue_node *node, const style *style,
                       unsigned depth) {
  switch (node->type) {
  case SEGUE_NULL:
    segue__buf_adds(out, "null");
    break;
  case SEGUE_BOOL:
    segue__buf_adds(out, node->v.b ? "true" : "false");
    break;
  case SEGUE_INT:
    if (node->flags & SEGUE__NODE_UNSIGNED)
      segue__buf_addf(out, "%" PRIu64, node->v.u);
    else
      segue__buf_addf(out, "%" PRId64, node->v.i);
    break;
  case SEGUE_FLOAT:
    write_float(out, node->v.f);
    break;
  case SEGUE_STRING:
    segue__json_string(out, node->v.s, node->count < style->limit ? node->count : style->limit);
    break;
  default:
    write_children(out, node, style, depth);
  }
}

void segue__json_write(segue__buf *out, const segue_node *node, unsigned indent) {
  write_node(out, node, &(style){.indent = indent, .limit = SIZE_MAX}, 0);
}

void segue__json_write_within(segue__buf *out, const segue_node *node, unsigned indent,
                              size_t limit) {
  write_node(out, node, &(style){.indent = indent, .limit = limit ? limit : SIZE_MAX}, 0);
}

void segue__json_write_start(segue__buf *out, const segue_node *node, size_t limit) {
  write_node(out, node, &(style){.limit = limit}, 0);
}

/* Moves the walk along the path of a node. */
static segue__seen json_write_walk_to(segue__mask_walk *walk, const char *text) {
  segue__path path;
  segue_error ignored;
  if (segue__path_parse(&path, text, &ignored) < 0) return SEGUE__SEEN_SECRET;
  segue__seen seen = segue__mask_walk_top(walk);
  for (size_t i = 0; i < path.count && seen != SEGUE__SEEN_SECRET; i++)
    seen = segue__mask_walk_down(walk, &path.steps[i]);
  segue__path_deinit(&path);
  return seen;
}

void segue__mask_write(segue__buf *out, const segue__mask *mask, const segue_node *node,
                       const char *path, unsigned indent, size_t limit) {
  style style = {.indent = indent, .limit = limit ? limit : SIZE_MAX};
  if (!mask) {
    write_node(out, node, &style, 0);
  } else if (segue__mask_walk_new(&style.walk, mask) < 0) {
    out->failed = 1;
  } else {
    write_seen(out, node, &style, 0, json_write_walk_to(style.walk, path));
    segue__mask_walk_free(style.walk);
  }
}

void segue__mask_write_change(segue__buf *out, const segue__mask *mask, const segue__change *change,
                              const segue_node *side, size_t limit) {
  if (change->secret)
    segue__json_string(out, SEGUE__MASKED, sizeof SEGUE__MASKED - 1);
  else
    segue__mask_write(out, mask, side, change->path, 0, limit);
}

/* SPDX-License-Identifier: MIT
 *
 * Trees as YAML, in block style: two spaces for each level, one line for each scalar, every text
 * that another reader could take for something else in double quotes. segue__document_parse reads
 * the result as an equal tree.
 */
#include <string.h>
#include <strings.h>

#include "../os/text.h"
#include "config.h"
#include "scalar.h"
#include "utf8.h"

/* YAML allows at most 1024 characters before the ':' of a key on one line; a longer key is written
 * in the form "? key". */
enum { KEY_MAX = 1000 };

typedef struct yaml_writer {
  segue__buf *out;
  size_t limit;
} yaml_writer;

/* ---- Scalars --------------------------------------------------------------------------------- */

/* YAML 1.1 reads these words as booleans, and files that segue writes are read by such readers. */
static bool yaml_is_old_word(const char *s, size_t len) {
  static const char *const words[] = {"y", "n", "yes", "no", "on", "off"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strlen(words[i]) == len && !strncasecmp(words[i], s, len)) return true;
  return false;
}

static bool yaml_is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';
}

static bool yaml_is_plain(const char *s, size_t len) {
  segue_node node;
  if (!len || !yaml_is_letter(s[0]) || yaml_is_old_word(s, len)) return false;
  for (size_t i = 1; i < len; i++)
    if (!yaml_is_letter(s[i]) && !(s[i] >= '0' && s[i] <= '9') && !segue__is_one_of(s[i], ".-+@"))
      return false;
  return segue__scalar_resolve(s, len, &node) == 1;
}

static uint32_t yaml_code_of(const char *s, size_t n) {
  static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  uint32_t code = (unsigned char)s[0] & first[n];
  for (size_t i = 1; i < n; i++)
    code = code << 6 | ((unsigned char)s[i] & 0x3f);
  return code;
}

/* Characters that YAML does not allow in a file, and those that libyaml takes for line breaks. */
static bool yaml_is_escaped(uint32_t code) {
  return code < 0x20 || code == '"' || code == '\\' || (code >= 0x7f && code < 0xa0) ||
         code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff;
}

static void yaml_escape(segue__buf *out, uint32_t code) {
  static const char names[] = "\"\"\\\\\nn\rr\tt";
  for (const char *p = names; *p; p += 2) {
    if ((uint32_t)(unsigned char)*p != code) continue;
    segue__buf_addc(out, '\\');
    segue__buf_addc(out, p[1]);
    return;
  }
  segue__buf_addf(out, "\\u%04x", (unsigned)code);
}

static void yaml_quote(segue__buf *out, const char *s, size_t len) {
  size_t start = 0, i = 0;
  segue__buf_addc(out, '"');
  while (i < len) {
    size_t n = segue__utf8_next(s + i, len - i);
    uint32_t code = n ? yaml_code_of(s + i, n) : 0xfffd;
    if (n && !yaml_is_escaped(code)) {
      i += n;
      continue;
    }
    segue__buf_add(out, s + start, i - start);
    yaml_escape(out, code);
    i += n ? n : 1;
    start = i;
  }
  segue__buf_add(out, s + start, len - start);
  segue__buf_addc(out, '"');
}

static void yaml_string(segue__buf *out, const char *s, size_t len) {
  if (yaml_is_plain(s, len))
    segue__buf_add(out, s, len);
  else
    yaml_quote(out, s, len);
}

static void yaml_float(segue__buf *out, double value) {
  char text[SEGUE__FLOAT_SIZE];
  if (value != value) {
    segue__buf_adds(out, ".nan");
  } else if (value - value != 0) {
    segue__buf_adds(out, value < 0 ? "-.inf" : ".inf");
  } else {
    segue__float_write(value, text);
    segue__buf_adds(out, text);
  }
}

/* A scalar, or a list or map without content: the others are the same in JSON. */
static void yaml_scalar(segue__buf *out, const segue_node *node) {
  if (node->type == SEGUE_FLOAT)
    yaml_float(out, node->v.f);
  else if (node->type == SEGUE_STRING)
    yaml_string(out, node->v.s, node->count);
  else
    segue__json_write(out, node, 0);
}

/* ---- Lists and maps -------------------------------------------------------------------------- */

static void yaml_indent(segue__buf *out, unsigned indent) {
  static const char spaces[] = "                ";
  for (size_t n = indent; n;) {
    size_t part = n < sizeof spaces - 1 ? n : sizeof spaces - 1;
    segue__buf_add(out, spaces, part);
    n -= part;
  }
}

static bool yaml_is_block(const segue_node *node) {
  return (node->type == SEGUE_MAP || node->type == SEGUE_LIST) && node->count > 0;
}

static void yaml_key(segue__buf *out, const segue__member *member, unsigned indent) {
  size_t start = out->len;
  yaml_string(out, member->key, member->key_len);
  if (out->failed || out->len - start <= KEY_MAX) {
    segue__buf_addc(out, ':');
    return;
  }
  out->len = start;
  segue__buf_adds(out, "? ");
  yaml_quote(out, member->key, member->key_len);
  segue__buf_addc(out, '\n');
  yaml_indent(out, indent);
  segue__buf_addc(out, ':');
}

/* The lines of a list or map with content. inside: its first line has begun, behind "- ". */
static void yaml_block(const yaml_writer *w, const segue_node *node, unsigned indent, bool inside) {
  for (uint32_t i = 0; i < node->count && !w->out->failed && w->out->len < w->limit; i++) {
    const segue_node *child = &node->v.items[i];
    if (i || !inside) yaml_indent(w->out, indent);
    if (node->type == SEGUE_MAP) {
      child = &node->v.members[i].value;
      yaml_key(w->out, &node->v.members[i], indent);
    } else {
      segue__buf_addc(w->out, '-');
    }
    bool block = yaml_is_block(child), below = block && node->type == SEGUE_MAP;
    segue__buf_addc(w->out, below ? '\n' : ' ');
    if (block) {
      yaml_block(w, child, indent + 2, !below);
    } else {
      yaml_scalar(w->out, child);
      segue__buf_addc(w->out, '\n');
    }
  }
}

void segue__yaml_write(segue__buf *out, const segue_node *node, size_t limit) {
  yaml_writer w = {out, limit ? limit : SIZE_MAX};
  if (yaml_is_block(node)) {
    yaml_block(&w, node, 0, false);
  } else {
    yaml_scalar(out, node);
    segue__buf_addc(out, '\n');
  }
}

/* SPDX-License-Identifier: MIT
 *
 * Finds the line of each entry of a table in the source text, for error messages: Lua keeps no
 * lines of table entries. One pass over the text finds names that are followed by an equals sign,
 * and the table in which they are assigned: a constructor in braces, or the prefix before a dot.
 * The pass skips comments and texts, and follows blocks by their keywords. An assignment inside a
 * function belongs to no table, because it may run never or often. A text that is not Lua gives
 * wrong positions and does no other harm.
 */
#include "lua_positions.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../../config/tree.h"
#include "../../os/mem.h"

static bool in_name(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int positions_compare(const char *a, size_t a_len, const char *b, size_t b_len) {
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return order ? order : (a_len > b_len) - (a_len < b_len);
}

typedef enum frame_kind { BRACE, BLOCK, FUNCTION } frame_kind;

typedef struct frame {
  frame_kind kind;
  int32_t table; /* the table of names that are assigned here */
} frame;

enum { FRAMES = 256 }; /* Lua itself accepts fewer */

typedef struct scan {
  segue__lua_positions *lines;
  const char *at, *end;
  uint32_t line;
  frame frames[FRAMES];
  size_t depth;
  int32_t prefix;   /* the table before the dot; -1: no dot */
  int32_t assigned; /* the table that begins if a brace follows; -1: none */
  bool returns;     /* after the `return` of the text: the first brace is the returned table */
  bool returned;    /* directly after it */
  bool failed;      /* out of memory */
} scan;

/* ---- Results --------------------------------------------------------------------------------- */

static void positions_add(scan *s, const char *name, size_t len, int32_t table) {
  segue__lua_positions *lines = s->lines;
  if (lines->count == lines->capacity) {
    size_t capacity = lines->capacity ? lines->capacity * 2 : 64;
    segue__line *items = segue__realloc(lines->items, capacity * sizeof *items);
    s->failed |= !items;
    if (!items) return;
    lines->items = items;
    lines->capacity = capacity;
  }
  lines->items[lines->count++] = (segue__line){name, (uint32_t)len, s->line, table};
}

static int32_t add_table(scan *s, const char *name, size_t len, int32_t parent) {
  segue__lua_positions *lines = s->lines;
  if (lines->table_count == lines->table_capacity) {
    size_t capacity = lines->table_capacity ? lines->table_capacity * 2 : 64;
    segue__lua_positions_table *tables = segue__realloc(lines->tables, capacity * sizeof *tables);
    s->failed |= !tables;
    if (!tables) return -1;
    lines->tables = tables;
    lines->table_capacity = capacity;
  }
  lines->tables[lines->table_count] = (segue__lua_positions_table){name, (uint32_t)len, parent};
  return (int32_t)lines->table_count++;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

static int32_t table_here(const scan *s) {
  return s->depth ? s->frames[s->depth - 1].table : 0;
}

static void positions_push(scan *s, frame_kind kind, int32_t table) {
  if (s->depth < FRAMES)
    s->frames[s->depth++] = (frame){kind, table};
  else
    s->at = s->end;
}

static void positions_pop(scan *s, bool brace) {
  if (s->depth && (s->frames[s->depth - 1].kind == BRACE) == brace) s->depth--;
}

static void open_brace(scan *s) {
  bool is_root = s->returns && !s->depth;
  int32_t table = s->assigned >= 0 ? s->assigned : add_table(s, NULL, 0, table_here(s));
  if (is_root) {
    s->lines->root = table;
    s->lines->variable = NULL;
    s->returns = false;
  }
  positions_push(s, BRACE, table);
}

static void begin_return(scan *s) {
  if (s->depth) return;
  s->lines->root = 0;
  s->lines->variable = NULL;
  s->returns = s->returned = true;
}

/* Handles a keyword that begins or ends a block; returns false for other words. */
static bool positions_keyword(scan *s, const char *word, size_t len) {
  static const char *const words[] = {"function", "if",    "do",     "repeat",
                                      "end",      "until", "return", "local"};
  size_t i = 0, count = sizeof words / sizeof *words;
  while (i < count && (strlen(words[i]) != len || memcmp(words[i], word, len)))
    i++;
  if (i == count) return false;
  if (i == 0)
    positions_push(s, FUNCTION, -1);
  else if (i < 4)
    positions_push(s, BLOCK, table_here(s));
  else if (i < 6)
    positions_pop(s, false);
  else if (i == 6)
    begin_return(s);
  return true;
}

/* ---- Words and texts ------------------------------------------------------------------------- */

static const char *skip_blanks(const scan *s, const char *at) {
  while (at < s->end && (*at == ' ' || *at == '\t'))
    at++;
  return at;
}

/* Returns whether `=`, not `==`, follows. */
static bool is_assigned(const scan *s, const char *at) {
  at = skip_blanks(s, at);
  return at < s->end && *at == '=' && !(at + 1 < s->end && at[1] == '=');
}

static void positions_assign(scan *s, const char *name, size_t len, int32_t table) {
  positions_add(s, name, len, table);
  s->assigned = table >= 0 ? add_table(s, name, len, table) : -1;
}

static void take_word(scan *s) {
  const char *word = s->at;
  int32_t table = s->prefix >= 0 ? s->prefix : table_here(s);
  bool returned = s->returned;
  s->prefix = s->assigned = -1;
  s->returned = false;
  while (s->at < s->end && in_name(*s->at))
    s->at++;
  size_t len = (size_t)(s->at - word);
  if (positions_keyword(s, word, len)) return;
  if (returned) {
    s->lines->variable = word;
    s->lines->variable_len = (uint32_t)len;
  }
  bool dot = s->at + 1 < s->end && *s->at == '.' && s->at[1] != '.';
  if (dot)
    s->prefix = table >= 0 ? add_table(s, word, len, table) : -1;
  else if (is_assigned(s, s->at))
    positions_assign(s, word, len, table);
  if (dot) s->at++;
}

/* Skips a long bracket, [[ or [=[ and so on, to its end; returns false if there is none. */
static bool positions_skip_long(scan *s) {
  const char *at = s->at + 1;
  size_t level = 0;
  for (; at < s->end && *at == '='; at++)
    level++;
  if (at == s->end || *at != '[') return false;
  for (; at < s->end; at++) {
    s->line += *at == '\n';
    size_t n = 0;
    if (*at != ']') continue;
    while (at + 1 + n < s->end && at[1 + n] == '=' && n < level)
      n++;
    if (n == level && at + 1 + n < s->end && at[1 + n] == ']') {
      at += n + 2;
      break;
    }
  }
  s->at = at;
  return true;
}

static void positions_skip_comment(scan *s) {
  s->at += 2;
  if (s->at < s->end && *s->at == '[' && positions_skip_long(s)) return;
  while (s->at < s->end && *s->at != '\n')
    s->at++;
}

/* Reads a quoted text; ["name"] = is an assignment too. */
static void positions_take_text(scan *s, const char *before) {
  char quote = *s->at++;
  const char *text = s->at;
  while (s->at < s->end && *s->at != quote && *s->at != '\n')
    s->at += *s->at == '\\' && s->at + 1 < s->end ? 2 : 1;
  size_t len = (size_t)(s->at - text);
  if (s->at < s->end && *s->at == quote) s->at++;
  s->prefix = s->assigned = -1;
  if (before && *before == '[' && s->at < s->end && *s->at == ']' && is_assigned(s, s->at + 1))
    positions_assign(s, text, len, table_here(s));
}

static void take_sign(scan *s) {
  char c = *s->at++;
  bool brace = c == '{';
  if (brace) open_brace(s);
  if (c == '}') positions_pop(s, true);
  s->prefix = -1;
  s->returned = false;
  /* '=' and ']' are between a name and the brace that it is assigned: the name stays valid. */
  if (c != '=' && c != ']') s->assigned = -1;
}

static void positions_take(scan *s, const char *before) {
  const char *at = s->at;
  if (*at == '\n') s->line++;
  if (*at == '\n' || *at == ' ' || *at == '\t' || *at == '\r')
    s->at++;
  else if (in_name(*at))
    take_word(s);
  else if (*at == '-' && at + 1 < s->end && at[1] == '-')
    positions_skip_comment(s);
  else if (*at == '"' || *at == '\'')
    positions_take_text(s, before);
  else if (*at != '[' || !positions_skip_long(s))
    take_sign(s);
}

int segue__lua_positions_init(segue__lua_positions *lines, const char *text, size_t len) {
  scan s = {.lines = lines, .at = text, .end = text + len, .line = 1, .prefix = -1, .assigned = -1};
  memset(lines, 0, sizeof *lines);
  add_table(&s, NULL, 0, -1);
  while (s.at < s.end && !s.failed)
    positions_take(&s, s.at > text ? s.at - 1 : NULL);
  if (s.failed) {
    segue__lua_positions_deinit(lines);
    return UV_ENOMEM;
  }
  return 0;
}

void segue__lua_positions_deinit(segue__lua_positions *lines) {
  segue__free(lines->items);
  segue__free(lines->tables);
  memset(lines, 0, sizeof *lines);
}

/* ---- By path --------------------------------------------------------------------------------- */

static bool is_root(const segue__lua_positions *lines, int32_t table) {
  const segue__lua_positions_table *t = &lines->tables[table];
  if (table == 0) return false;
  if (!lines->variable) return table == lines->root;
  return t->parent == 0 && t->name &&
         !positions_compare(t->name, t->len, lines->variable, lines->variable_len);
}

/* Returns whether the table is inside the returned table, at any depth. */
static bool is_below_root(const segue__lua_positions *lines, int32_t table) {
  for (; table > 0; table = lines->tables[table].parent)
    if (is_root(lines, table)) return true;
  return false;
}

/* Returns whether the table is at the first len bytes of the path. */
static bool stands_at(const segue__lua_positions *lines, int32_t table, const char *path,
                      size_t len) {
  while (len && table > 0 && !is_root(lines, table)) {
    const segue__lua_positions_table *t = &lines->tables[table];
    size_t begin = len;
    while (begin && path[begin - 1] != '.')
      begin--;
    if (!t->name || positions_compare(t->name, t->len, path + begin, len - begin)) return false;
    len = begin ? begin - 1 : 0;
    table = t->parent;
  }
  return !len && table > 0 && is_root(lines, table);
}

/* Returns the line of the only assignment at the path, or with `elsewhere` of its last name outside
 * of the returned table; 0 if there is none or more than one. */
static uint32_t positions_only(const segue__lua_positions *lines, const char *path, size_t len,
                               bool elsewhere) {
  const segue__line *found = NULL;
  size_t begin = len;
  while (begin && path[begin - 1] != '.')
    begin--;
  for (const segue__line *l = lines->items, *end = l + lines->count; l < end; l++) {
    if (positions_compare(l->name, l->len, path + begin, len - begin)) continue;
    if (elsewhere ? l->table < 0 || is_below_root(lines, l->table)
                  : !stands_at(lines, l->table, path, begin ? begin - 1 : 0))
      continue;
    if (found) return 0;
    found = l;
  }
  return found ? found->line : 0;
}

/* Searches the whole path first and then its parents: if the line of an entry is unknown, the line
 * of the table around it is the best place to show. */
uint32_t segue__lua_positions_at(const segue__lua_positions *lines, const char *path) {
  size_t len = strlen(path);
  uint32_t line = 0;
  if (!lines->count) return 0;
  while (len && !line) {
    line = positions_only(lines, path, len, false);
    if (!line) line = positions_only(lines, path, len, true);
    while (len && path[len - 1] != '.')
      len--;
    len -= len > 0;
  }
  return line;
}

/* ---- By the hash of the path ----------------------------------------------------------------- */

struct segue__lua_lines_slot {
  uint64_t hash; /* 0: free */
  uint32_t line; /* 0: it is assigned more than once */
};

/* The parents of names that have no path: outside of the returned value, and in its lists. */
enum { LINES_ELSEWHERE = SEGUE__LUA_LINES_ROOT + 1, LINES_IN_LISTS, LINES_RESERVED };

uint64_t segue__lua_lines_path(uint64_t parent, const char *name, size_t len) {
  uint64_t hash = segue__hash_bytes(name, len, (segue__hash){parent, 0}).lo;
  return hash >= LINES_RESERVED ? hash : hash + LINES_RESERVED;
}

static struct segue__lua_lines_slot *lines_slot(const segue__lua_lines *lines, uint64_t hash) {
  size_t i = (size_t)hash & lines->mask;
  while (lines->slots[i].hash && lines->slots[i].hash != hash)
    i = (i + 1) & lines->mask;
  return &lines->slots[i];
}

static uint32_t lines_get(const segue__lua_lines *lines, uint64_t parent, const char *name,
                          size_t len) {
  return lines_slot(lines, segue__lua_lines_path(parent, name, len))->line;
}

uint32_t segue__lua_lines_find(const segue__lua_lines *lines, uint64_t parent, const char *name,
                               size_t len) {
  uint32_t line = lines_get(lines, parent ? parent : LINES_IN_LISTS, name, len);
  return line ? line : lines_get(lines, LINES_ELSEWHERE, name, len);
}

/* Computes the path of each table; 0: it has none. below: it is in the returned value. */
static void hash_tables(const segue__lua_positions *found, uint64_t *hashes, bool *below) {
  for (size_t i = 0; i < found->table_count; i++) {
    const segue__lua_positions_table *t = &found->tables[i];
    bool has_parent = t->parent >= 0 && (size_t)t->parent < i, root = is_root(found, (int32_t)i);
    below[i] = root || (has_parent && below[t->parent]);
    hashes[i] = root ? SEGUE__LUA_LINES_ROOT : 0;
    if (!hashes[i] && has_parent && hashes[t->parent] && t->name)
      hashes[i] = segue__lua_lines_path(hashes[t->parent], t->name, t->len);
  }
}

static void lines_fill(segue__lua_lines *lines, const segue__lua_positions *found, uint64_t *hashes,
                       bool *below) {
  hash_tables(found, hashes, below);
  for (size_t i = 0; i < found->count; i++) {
    const segue__line *l = &found->items[i];
    uint64_t parent = l->table >= 0 ? hashes[l->table] : 0;
    if (!parent) parent = l->table >= 0 && below[l->table] ? LINES_IN_LISTS : LINES_ELSEWHERE;
    uint64_t hash = segue__lua_lines_path(parent, l->name, l->len);
    struct segue__lua_lines_slot *slot = lines_slot(lines, hash);
    slot->line = slot->hash ? 0 : l->line;
    slot->hash = hash;
  }
}

int segue__lua_lines_init(segue__lua_lines *lines, const char *text, size_t len) {
  segue__lua_positions found;
  size_t size = 64;
  memset(lines, 0, sizeof *lines);
  int rc = segue__lua_positions_init(&found, text, len);
  if (rc) return rc;
  while (size < found.count * 2 + 2)
    size *= 2;
  lines->slots = segue__calloc(size, sizeof *lines->slots);
  lines->mask = size - 1;
  uint64_t *hashes = segue__calloc(found.table_count, sizeof *hashes);
  bool *below = segue__calloc(found.table_count, sizeof *below);
  if (lines->slots && hashes && below)
    lines_fill(lines, &found, hashes, below);
  else
    rc = UV_ENOMEM;
  segue__free(below);
  segue__free(hashes);
  segue__lua_positions_deinit(&found);
  return rc;
}

void segue__lua_lines_deinit(segue__lua_lines *lines) {
  segue__free(lines->slots);
  memset(lines, 0, sizeof *lines);
}

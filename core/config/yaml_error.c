/* SPDX-License-Identifier: MIT
 *
 * Turns libyaml's errors into sentences for the author of the file: the problem and the remedy.
 * Also converts positions: libyaml counts characters, the tree counts bytes.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "utf8.h"
#include "yaml.h"

void segue__yaml_cursor_init(segue__yaml_cursor *c, const char *text, size_t len) {
  *c = (segue__yaml_cursor){.text = text, .end = text + len, .line = text, .byte = text};
  unsigned char any = 0;
  for (size_t i = 0; i < len; i++)
    any |= (unsigned char)text[i];
  c->ascii = any < 0x80;
}

static bool yaml_error_continues(char c) {
  return ((unsigned char)c & 0xc0) == 0x80;
}

/* Moves a pointer that has `from` characters before it to where it has `to`. */
static const char *yaml_error_move(const segue__yaml_cursor *c, const char *p, size_t from,
                                   size_t to) {
  for (; from < to && p < c->end; from++)
    for (p++; p < c->end && yaml_error_continues(*p); p++) {
    }
  for (; from > to && p > c->text; from--)
    for (p--; p > c->text && yaml_error_continues(*p); p--) {
    }
  return p;
}

const char *segue__yaml_locate(segue__yaml_cursor *c, const yaml_mark_t *mark, uint32_t *column) {
  if (c->ascii) {
    *column = (uint32_t)mark->column + 1;
    size_t len = (size_t)(c->end - c->text);
    return c->text + (mark->index < len ? mark->index : len);
  }
  size_t line_index = mark->index - mark->column;
  c->line = yaml_error_move(c, c->line, c->line_index, line_index);
  c->line_index = line_index;
  if (c->index < line_index || c->index > mark->index) {
    c->byte = c->line;
    c->index = line_index;
  }
  c->byte = yaml_error_move(c, c->byte, c->index, mark->index);
  c->index = mark->index;
  *column = (uint32_t)(c->byte - c->line) + 1;
  return c->byte;
}

/* The beginning of libyaml's problem text, and our sentence: "%u" is the line where the construct
 * began. */
static const struct {
  const char *problem, *sentence;
} sentences[] = {
    {"mapping values are not allowed",
     "a ':' is not expected here: quote the value if the colon belongs to it, else check the "
     "indentation"},
    {"block sequence entries are not allowed",
     "a '-' is not expected here: a list starts on its own line"},
    {"mapping keys are not allowed", "a '?' is not expected here: quote it if it is text"},
    {"did not find expected key",
     "a key is expected here: check the indentation against line %u, where this map begins"},
    {"did not find expected node content",
     "a value is expected here: put text with special characters in quotes"},
    {"did not find expected '-' indicator",
     "a '-' is expected here: check the indentation against line %u, where this list begins"},
    {"did not find expected ',' or ']'",
     "',' or ']' is expected here: the list of line %u is not closed"},
    {"did not find expected ',' or '}'",
     "',' or '}' is expected here: the map of line %u is not closed"},
    {"could not find expected ':'", "the key of line %u is not followed by ':': a line is missing "
                                    "one, or a value is not indented"},
    {"found unexpected end of stream", "the quoted string that starts in line %u is not closed"},
    {"found unexpected document indicator",
     "the quoted string that starts in line %u is not closed"},
    {"found undefined tag handle", "this tag is not known: remove it"},
    {"did not find expected <document start>",
     "text follows where the document ends: check the indentation"},
    {"found unknown escape character",
     "this escape is not known: write \\\\ for a backslash, or use single quotes"},
    {"did not find expected alphabetic or numeric character",
     "a name of letters and digits is expected after '&' or '*': quote the value if it is text"},
    {"did not find expected comment or line break",
     "only a comment can follow here: put the text on the next line"},
    {"found invalid Unicode character code",
     "this escape is no character: characters above U+FFFF are written \\UXXXXXXXX"},
    {"found incompatible YAML document", "this YAML version is not known: remove the %%YAML line"},
    {"control characters are not allowed",
     "a control character is not allowed here: write it as an escape in double quotes"},
};

static int fail_start(segue__builder *b, char c) {
  if (c == '\t') return segue__builder_fail(b, SEGUE_ESYNTAX, "a tab cannot indent: use spaces");
  segue__quoted shown;
  return segue__builder_fail(b, SEGUE_ESYNTAX,
                             "a plain value cannot start with '%s': put it in quotes",
                             segue__builder_quote_stray(b, &shown, &c, 1));
}

/* The text ends inside [ ] or { }. libyaml reports only a missing value, not the missing end. The
 * innermost open container lies just below its first child. */
static int fail_open(segue__builder *b) {
  const segue__frame *frame = &b->frames[b->depth - 1];
  const segue_node *open = &b->entries[frame->start - 1].member.value;
  segue__builder_at(b, open->line, open->column);
  return segue__builder_fail(
      b, SEGUE_ESYNTAX,
      "the file ends before the %s that starts here is closed: is a '%c' missing, or was the file "
      "cut short?",
      open->type == SEGUE_MAP ? "map" : "list", open->type == SEGUE_MAP ? '}' : ']');
}

int segue__yaml_fail(segue__parse *parse, const yaml_parser_t *p, segue__yaml_cursor *cursor) {
  segue__builder *b = parse->builder;
  if (p->error == YAML_MEMORY_ERROR)
    return segue__builder_fail(b, UV_ENOMEM, "out of memory while parsing YAML");
  yaml_mark_t mark = p->problem_mark;
  uint32_t column;
  const char *at = segue__yaml_locate(cursor, &mark, &column);
  segue__builder_at(b, (uint32_t)mark.line + 1, column);
  if (p->error == YAML_READER_ERROR) /* knows the byte, and no mark */
    segue__parse_at(parse, p->problem_offset < parse->len ? p->problem_offset : parse->len);
  const char *problem = p->problem ? p->problem : "this is not YAML";
  if (!strncmp(problem, "found character that cannot start any token", 43))
    return fail_start(b, at < cursor->end ? *at : ' ');
  bool at_end = at + strspn(at, " \t\r\n") == cursor->end;
  if (at_end && b->depth > parse->depth && !strcmp(problem, "did not find expected node content"))
    return fail_open(b);
  uint32_t began = (uint32_t)p->context_mark.line + 1;
  if (!strcmp(problem, "did not find expected key") && p->context_mark.line == mark.line)
    return segue__builder_fail(
        b, SEGUE_ESYNTAX, "a key is expected here: put text with special characters in quotes");
  for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++) {
    if (strncmp(problem, sentences[i].problem, strlen(sentences[i].problem)) != 0) continue;
    char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, sentences[i].sentence, began);
#pragma GCC diagnostic pop
    return segue__builder_fail(b, SEGUE_ESYNTAX, "%s", text);
  }
  if (p->context)
    return segue__builder_fail(b, SEGUE_ESYNTAX, "%s (%s that begins in line %u)", problem,
                               p->context, began);
  return segue__builder_fail(b, SEGUE_ESYNTAX, "%s", problem);
}

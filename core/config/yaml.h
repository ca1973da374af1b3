/* SPDX-License-Identifier: MIT
 *
 * yaml.h: turns libyaml's errors into sentences; a file of its own because it consists mostly of
 * text.
 */
#ifndef SEGUE_CONFIG_YAML_H
#define SEGUE_CONFIG_YAML_H

#include <yaml.h>

#include "parse.h"

/* Converts a mark of libyaml, which counts characters, into bytes from the start of the line. Marks
 * are looked up in nearly ascending order, so each search starts at the previous result. */
typedef struct segue__yaml_cursor {
  const char *text, *end;
  bool ascii;               /* columns are bytes already */
  size_t line_index, index; /* characters before line and byte */
  const char *line, *byte;
} segue__yaml_cursor;

void segue__yaml_cursor_init(segue__yaml_cursor *cursor, const char *text, size_t len);
/* Returns the byte that a mark points at; *column is 1-based, in bytes. */
const char *segue__yaml_locate(segue__yaml_cursor *cursor, const yaml_mark_t *mark,
                               uint32_t *column);

int segue__yaml_fail(segue__parse *parse, const yaml_parser_t *parser, segue__yaml_cursor *cursor);

#endif

/* SPDX-License-Identifier: MIT
 *
 * yaml.h: libyaml's errors as sentences; apart from the parser because it is mostly words.
 */
#ifndef SEGUE_CONFIG_YAML_H
#define SEGUE_CONFIG_YAML_H

#include <yaml.h>

#include "parse.h"

/* Bytes from the start of the line to a mark; libyaml counts characters. Marks are asked for in
 * nearly ascending order, so each starts from the one before. */
typedef struct segue__yaml_cursor {
  const char *text, *end;
  bool ascii;               /* columns are bytes already */
  size_t line_index, index; /* characters before line and byte */
  const char *line, *byte;
} segue__yaml_cursor;

void segue__yaml_cursor_init(segue__yaml_cursor *cursor, const char *text, size_t len);
/* The byte a mark points at; *column is 1-based, in bytes. */
const char *segue__yaml_locate(segue__yaml_cursor *cursor, const yaml_mark_t *mark,
                               uint32_t *column);

int segue__yaml_fail(segue__parse *parse, const yaml_parser_t *parser, segue__yaml_cursor *cursor);

#endif

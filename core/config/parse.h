/* SPDX-License-Identifier: MIT
 *
 * parse.h: declarations that the parsers of all formats share. Failures go into the builder.
 */
#ifndef SEGUE_CONFIG_PARSE_H
#define SEGUE_CONFIG_PARSE_H

#include "builder.h"

typedef struct segue__parse {
  segue__builder *builder;
  const char *text; /* UTF-8 without NUL and byte order mark, terminated */
  size_t len;
  segue__getenv getenv; /* may be NULL */
  void *getenv_data;
  segue__buf expanded;
  bool whole;   /* the value that is being expanded is one ${...} and nothing else */
  size_t depth; /* depth of the builder where the top level of the document is */
} segue__parse;

/* Gives the builder line and column of a byte of the text. */
void segue__parse_at(const segue__parse *parse, size_t offset);

/* For a document without content: adds an empty map, or fails with SEGUE_EEMPTY. literal: the
 * document consists of a null. */
int segue__parse_empty(segue__parse *parse, bool literal);

int segue__yaml_parse(segue__parse *parse);
int segue__json_parse(segue__parse *parse);

/* Replaces ${...} in a value if the document is to be expanded: *s and *len then point into
 * parse->expanded, until the next call. Otherwise both are unchanged. */
int segue__expand(segue__parse *parse, const char **s, size_t *len);

#endif

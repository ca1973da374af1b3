/* SPDX-License-Identifier: MIT
 *
 * describe.h: texts that are made from tables of options: the manual, `segue help options`, types
 * for editors, a JSON Schema. A topic is a table on its own (name NULL: "policy", "guard") or a
 * kind of a family ("source" "url"). [any thread]
 */
#ifndef SEGUE_OPTIONS_DESCRIBE_H
#define SEGUE_OPTIONS_DESCRIBE_H

#include "options.h"

typedef struct segue__topics {
  const segue__option_kind *items;
  size_t count;
} segue__topics;

/* The topic by its title ("source url"), or by its name alone if only one has it ("url"). */
const segue__option_kind *segue__topic_find(const segue__topics *topics, const char *title);
/* Appends "source url". */
void segue__topic_title(const segue__option_kind *topic, segue__buf *out);

/* Options in lines of text; topic NULL: a list of the topics. */
void segue__describe_help(const segue__topics *topics, const segue__option_kind *topic,
                          segue__buf *out);
/* The .Bl list of one topic, for the manual. */
void segue__describe_man(const segue__topics *topics, const segue__option_kind *topic,
                         segue__buf *out);
/* LuaCATS classes of all tables. */
void segue__describe_lua(const segue__topics *topics, segue__buf *out);
/* A JSON Schema (draft 2020-12) of the table `root`, with the others as $defs. */
void segue__describe_schema(const segue__topics *topics, const segue_option_table *root,
                            segue__buf *out);

#endif

/* SPDX-License-Identifier: MIT
 *
 * describe_internal.h: what the texts of describe.h share.
 */
#ifndef SEGUE_OPTIONS_DESCRIBE_INTERNAL_H
#define SEGUE_OPTIONS_DESCRIBE_INTERNAL_H

#include "describe.h"

/* All tables that topics lead to, each once, in the order in which they are met. */
enum { SEGUE__TABLES_MAX = 256 };
typedef struct segue__tables {
  const segue_option_table *items[SEGUE__TABLES_MAX];
  size_t count;
} segue__tables;
void segue__tables_collect(const segue__topics *topics, segue__tables *out);

/* The topic of a table; NULL: it has none. */
const segue__option_kind *segue__topic_of(const segue__topics *topics,
                                          const segue_option_table *table);
/* Kinds of the family of a table, by number; NULL past the last. */
const segue__option_kind *segue__topic_kind(const segue__topics *topics,
                                            const segue_option_table *table, size_t index);

/* "duration", "list of texts", "\"swap\" | \"handover\"": the type in a few words. */
void segue__option_word(const segue_option *row, segue__buf *out);
/* "Default: 10s. 1 to 256." or "": the facts of the row besides its doc line, as sentences. */
void segue__option_facts(const segue_option *row, segue__buf *out);

#endif

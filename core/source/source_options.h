/* SPDX-License-Identifier: MIT
 *
 * source_options.h: the options of sources. A kind of source adds its rows to those of its table
 * here: rows in the struct of all sources (struct_size 0), or a struct of its own.
 */
#ifndef SEGUE_SOURCE_OPTIONS_H
#define SEGUE_SOURCE_OPTIONS_H

#include "../options/options.h"
#include "source.h"

/* The family "source": what its elements are filled into is a segue__source. */
extern const segue_option_table segue__source_options;
/* For kinds to include: conditions for data, and those with the times of remote sources. */
extern const segue_option_table segue__guard_options, segue__guarded_options, segue__remote_options;
/* The kinds that are built in. */
extern const segue_option_table segue__source_file_options, segue__source_dir_options,
    segue__source_env_options, segue__source_value_options, segue__source_lua_options;

/* Rows that kinds share. */
#define SEGUE__SOURCE_AT(field) .offset = offsetof(segue__source, field)
#define SEGUE__SOURCE_ROW_FORMAT                                                                   \
  {                                                                                                \
    .name = "format", .type = SEGUE_OPTION_CHOICE, SEGUE__SOURCE_AT(format),                       \
    .choices = "yaml|json|text", .absent = "by the name",                                          \
    .doc = "form of the content; text: a map of the name to the text"                              \
  }
#define SEGUE__SOURCE_ROW_EMPTY                                                                    \
  {                                                                                                \
    .name = "empty", .type = SEGUE_OPTION_SWITCH, SEGUE__SOURCE_AT(allow_empty),                   \
    .choices = "allow", .absent = "it is an error", .doc = "content that is empty is an empty map" \
  }
/* In the check of a kind with a row `format`: the struct knows it as a segue__format or -1. */
void segue__source_fix_format(segue__source *source, const segue_option_report *report);

#endif

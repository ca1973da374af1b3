/* SPDX-License-Identifier: MIT
 *
 * The options of the sources that are built in, and what all sources share.
 */
#include "source_options.h"

#include <string.h>

#include "../os/glob.h"

#define AT(field) SEGUE__SOURCE_AT(field)

/* ---- Shared ---------------------------------------------------------------------------------- */

static const segue_option guard_rows[] = {
    {.name = "min_items",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(segue__guard, min_items),
     .doc = "least number of members at the root of the documents, all together"},
    {.name = "max_shrink",
     .type = SEGUE_OPTION_NUMBER,
     .max = 1,
     .offset = offsetof(segue__guard, max_shrink),
     .given = 1 + offsetof(segue__guard, shrink_limited),
     .absent = "any part",
     .doc = "greatest part of the members applied last that may disappear"},
    {.name = "required",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .offset = offsetof(segue__guard, required),
     .doc = "paths that must be there, such as \"listen.port\""},
    {.name = "max_age",
     .type = SEGUE_OPTION_DURATION,
     .offset = offsetof(segue__guard, max_age_ms),
     .absent = "any age",
     .doc = "greatest age of a cached delivery; past it no reload uses it, and the daemon is not "
            "ready"},
};
const segue_option_table segue__guard_options = {
    SEGUE_OPTION_ROWS(segue__guard, guard_rows), .name = "guard",
    .doc = "Conditions that the data of a source must meet; else the reload is held."};

static const segue_option guarded_rows[] = {
    {.name = "optional",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(optional),
     .fallback = "false",
     .doc = "absence is no error"},
    {.name = "guard",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__guard_options,
     AT(guard),
     .doc = "conditions that the data must meet"},
};
const segue_option_table segue__guarded_options = {SEGUE_OPTION_ROWS(segue__source, guarded_rows),
                                                   .name = "guarded", .in_family = true};

static const segue_option retry_rows[] = {
    {.name = "min",
     .type = SEGUE_OPTION_DURATION,
     AT(retry_min_ms),
     .min = 1,
     .fallback = "1s",
     .doc = "first pause after a failure"},
    {.name = "max",
     .type = SEGUE_OPTION_DURATION,
     AT(retry_max_ms),
     .min = 1,
     .fallback = "60s",
     .doc = "longest pause"},
};

static void check_retry(void *options, segue_option_report *report) {
  const segue__source *source = options;
  if (source->retry_min_ms > source->retry_max_ms)
    segue_option_wrong(report, "min", "must not be longer than max");
}

static const segue_option_table retry_options = {SEGUE_OPTION_ROWS(segue__source, retry_rows),
                                                 .name = "retry", .check = check_retry,
                                                 .doc = "Pauses after failures, with jitter."};

static const segue_option remote_rows[] = {
    SEGUE__SOURCE_ROW_EMPTY,
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(timeout_ms),
     .min = 1,
     .fallback = "10s",
     .doc = "time limit of one fetch"},
    {.name = "retry",
     .type = SEGUE_OPTION_TABLE,
     .table = &retry_options,
     .offset = 0,
     .doc = "pauses after failures"},
};
const segue_option_table segue__remote_options = {
    SEGUE_OPTION_ROWS(segue__source, remote_rows), .name = "remote",
    .include = &segue__guarded_options, .in_family = true};

void segue__source_fix_format(segue__source *source, const segue_option_report *report) {
  static const segue__format formats[] = {SEGUE__YAML, SEGUE__JSON, SEGUE__TEXT};
  source->format = segue_option_given(report, "format") ? (int)formats[source->format] : -1;
}

/* ---- Files ----------------------------------------------------------------------------------- */

#define ROW_PATH(sample, text)                                                                     \
  {                                                                                                \
    .name = "path", .type = SEGUE_OPTION_PATH, AT(path), .flags = SEGUE_OPTION_REQUIRED,           \
    .example = sample, .doc = text                                                                 \
  }
#define ROW_WRITING                                                                                \
  {                                                                                                \
    .name = "writing", .type = SEGUE_OPTION_SWITCH, AT(allow_writing), .choices = "allow",         \
    .absent = "it waits until the file is closed",                                                 \
    .doc = "read the file even while a program has it open for writing"                            \
  }
#define ROWS_OF_FILES                                                                              \
  SEGUE__SOURCE_ROW_FORMAT,                                                                        \
      {.name = "by",                                                                               \
       .type = SEGUE_OPTION_SWITCH,                                                                \
       AT(by_file),                                                                                \
       .choices = "file",                                                                          \
       .doc = "the name of the file is the key of its content"},                                   \
      SEGUE__SOURCE_ROW_EMPTY,                                                                     \
      {.name = "expand",                                                                           \
       .type = SEGUE_OPTION_SWITCH,                                                                \
       AT(expand),                                                                                 \
       .choices = "env",                                                                           \
       .doc = "replace ${NAME} in values by environment variables"},                               \
      ROW_WRITING

static const segue_option file_rows[] = {
    ROW_PATH("\"config.yaml\"", "the file; relative to the policy's folder"), ROWS_OF_FILES};
static const segue_option dir_rows[] = {
    ROW_PATH("\"conf.d/*.yaml\"",
             "a pattern such as \"conf.d/*.{yaml,yml}\": *, ?, [a-z] and {a,b} in its last part"),
    ROWS_OF_FILES};
static const segue_option lua_rows[] = {ROW_PATH("\"config.lua\"", "the file; it returns a table"),
                                        ROW_WRITING};

static void check_file(void *options, segue_option_report *report) {
  segue__source_fix_format(options, report);
}

static void check_dir(void *options, segue_option_report *report) {
  segue__source *source = options;
  const char *slash = strrchr(source->path, '/'), *last = slash ? slash + 1 : source->path;
  const char *problem = segue__glob_problem(last);
  segue__source_fix_format(source, report);
  if (!strpbrk(last, "[*?{"))
    segue_option_wrong(report, "path", "must have a pattern in its last part, such as %s/*.yaml",
                       last);
  else if (problem)
    segue_option_wrong(report, "path", "is a wrong pattern: %s", problem);
}

#define KIND(array)                                                                                \
  .size = sizeof(segue_option_table), .row_size = sizeof(segue_option), .rows = (array),           \
  .count = sizeof(array) / sizeof *(array), .key_offset = SEGUE_OPTION_NOT_STORED,                 \
  .kind_offset = SEGUE_OPTION_NOT_STORED

const segue_option_table segue__source_file_options = {
    KIND(file_rows),      .name = "file",
    .positional = "path", .include = &segue__guarded_options,
    .check = check_file,  .doc = "One YAML or JSON file, or a text."};
const segue_option_table segue__source_dir_options = {
    KIND(dir_rows),       .name = "dir",
    .positional = "path", .include = &segue__guarded_options,
    .check = check_dir,   .doc = "The files that match a pattern, in the order of their names."};
const segue_option_table segue__source_lua_options = {
    KIND(lua_rows), .name = "lua", .positional = "path", .include = &segue__guarded_options,
    .doc = "A file in Lua that returns a table; it can neither read nor wait."};

/* ---- Others ---------------------------------------------------------------------------------- */

static const segue_option env_rows[] = {
    {.name = "prefix",
     .type = SEGUE_OPTION_TEXT,
     AT(prefix),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "prefix = \"APP_\"",
     .doc = "the beginning of their names"},
    {.name = "separator",
     .type = SEGUE_OPTION_TEXT,
     AT(separator),
     .absent = "\"__\"",
     .doc = "text that divides a name into a path"},
    {.name = "values",
     .type = SEGUE_OPTION_SWITCH,
     AT(as_text),
     .choices = "text",
     .absent = "a value gets a type where writing it gives the same text",
     .doc = "all values are texts"},
};
const segue_option_table segue__source_env_options = {
    KIND(env_rows), .name = "env",
    .doc = "Environment variables: APP_LISTEN__PORT is listen.port."};

static const segue_option value_rows[] = {
    {.name = "value",
     .type = SEGUE_OPTION_ANY,
     .offset = SEGUE_OPTION_NOT_STORED,
     .flags = SEGUE_OPTION_HIDDEN,
     .doc = "the values"},
};
const segue_option_table segue__source_value_options = {
    KIND(value_rows), .name = "value", .positional = "value",
    .doc = "Values in the policy itself, for instance defaults."};

/* ---- The family ------------------------------------------------------------------------------ */

const segue_option_table segue__source_options = {.size = sizeof(segue_option_table),
                                                  .row_size = sizeof(segue_option),
                                                  .name = "source",
                                                  .doc = "An origin of configuration.",
                                                  .struct_size = sizeof(segue__source),
                                                  .key_offset = SEGUE_OPTION_NOT_STORED,
                                                  .family = true,
                                                  .kind_offset = offsetof(segue__source, made),
                                                  .tag = "segue.file \"config.yaml\""};

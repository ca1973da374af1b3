/* SPDX-License-Identifier: MIT
 *
 * A table of options with a row of each type.
 */
#include "options_harness.h"

#include "core/bind/module/modules.h"
#include "core/bind/policy/lua_options.h"
#include "core/http/fetch.h"
#include "core/http/http.h"
#include "core/record/history.h"
#include "core/trigger/watch.h"

static const segue_option drain_rows[] = {
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     .offset = offsetof(options_drain, within_ms),
     .fallback = "10s",
     .min = 1,
     .doc = "time for it"},
    {.name = "over",
     .type = SEGUE_OPTION_CHOICE,
     .offset = offsetof(options_drain, over),
     .choices = "cut|wait|undo",
     .doc = "what comes then"},
};

static void check_drain(void *options, segue_option_report *report) {
  const options_drain *drain = options;
  if (drain->over == 2 && drain->within_ms > 60000)
    segue_option_wrong(report, "within", "must be at most 1m where over is \"undo\"");
}

static const segue_option_table drain_table = {SEGUE_OPTION_ROWS(options_drain, drain_rows),
                                               .name = "drain", .check = check_drain};

static const segue_option pet_rows[] = {
    {.name = "legs",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(options_pet, legs),
     .fallback = "4",
     .max = 8,
     .doc = "how many"},
};
const segue_option_table options_pet_table = {.size = sizeof(segue_option_table),
                                              .row_size = sizeof(segue_option),
                                              .rows = pet_rows,
                                              .count = 1,
                                              .struct_size = sizeof(options_pet),
                                              .name = "pet",
                                              .doc = "An animal.",
                                              .key_offset = offsetof(options_pet, name),
                                              .family = true,
                                              .kind_offset = offsetof(options_pet, kind)};

/* Where a cat has its home, the pet has the name of its kind, which must not be freed. So the spec
 * of memory that runs out fails if the rows of a cat are freed in the struct of the pet. */
_Static_assert(offsetof(options_cat, home) ==
                   offsetof(options_pet, kind) + offsetof(segue_option_kind_value, name),
               "the offset of an owned text");

static const segue_option cat_rows[] = {
    {.name = "lives",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(options_cat, lives),
     .fallback = "9",
     .doc = "how often"},
    {.name = "home",
     .type = SEGUE_OPTION_PATH,
     .offset = offsetof(options_cat, home),
     .flags = SEGUE_OPTION_REQUIRED,
     .doc = "home = \"/sofa\""},
};
const segue_option_table options_cat_table = {SEGUE_OPTION_ROWS(options_cat, cat_rows),
                                              .name = "cat", .doc = "A cat."};
static const segue_option_table dog_table = {.size = sizeof(segue_option_table),
                                             .row_size = sizeof(segue_option),
                                             .name = "dog",
                                             .doc = "A dog.",
                                             .key_offset = SEGUE_OPTION_NOT_STORED,
                                             .kind_offset = SEGUE_OPTION_NOT_STORED};
static const segue__option_kind kinds[] = {{"pet", "cat", &options_cat_table, "meow"},
                                           {"pet", "dog", &dog_table, "woof"}};

#define AT(field) .offset = offsetof(options_all, field)
static const segue_option all_rows[] = {
    {.name = "text", .type = SEGUE_OPTION_TEXT, AT(text), .doc = "a text"},
    {.name = "path", .type = SEGUE_OPTION_PATH, AT(path), .fallback = "x.so", .doc = "a path"},
    {.name = "string", .type = SEGUE_OPTION_STRING, AT(string), .doc = "bytes"},
    {.name = "duration",
     .type = SEGUE_OPTION_DURATION,
     AT(duration_ms),
     .min = 100,
     .max = 3600000,
     .fallback = "1s",
     .doc = "a time"},
    {.name = "size",
     .type = SEGUE_OPTION_SIZE,
     AT(size_bytes),
     .fallback = "1MiB",
     .doc = "a size"},
    {.name = "count",
     .type = SEGUE_OPTION_COUNT,
     AT(count),
     .max = 256,
     .fallback = "3",
     .doc = "a number"},
    {.name = "integer",
     .type = SEGUE_OPTION_INTEGER,
     AT(integer),
     .fallback = "-7",
     .doc = "a number"},
    {.name = "number",
     .type = SEGUE_OPTION_NUMBER,
     AT(number),
     .max = 1,
     .given = 1 + offsetof(options_all, number_given),
     .doc = "a part"},
    {.name = "boolean",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(boolean),
     .fallback = "true",
     .doc = "a flag"},
    {.name = "choice",
     .type = SEGUE_OPTION_CHOICE,
     AT(choice),
     .choices = "swap|handover|restart",
     .fallback = "handover",
     .doc = "one of three"},
    {.name = "on",
     .type = SEGUE_OPTION_SWITCH,
     AT(on),
     .choices = "never|always",
     .fallback = "never",
     .doc = "one of two"},
    {.name = "pages",
     .type = SEGUE_OPTION_FLAGS,
     AT(pages),
     .choices = "health|metrics",
     .doc = "some of two"},
    {.name = "rate", .type = SEGUE_OPTION_RATE, AT(rate), .fallback = "50/s", .doc = "a rate"},
    {.name = "mode", .type = SEGUE_OPTION_MODE, AT(mode), .doc = "permissions"},
    {.name = "secret",
     .type = SEGUE_OPTION_COUNT,
     .offset = SEGUE_OPTION_NOT_STORED,
     .flags = SEGUE_OPTION_SECRET,
     .doc = "not shown"},
    {.name = "texts",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE,
     AT(texts),
     .max = 3,
     .doc = "texts"},
    {.name = "times",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_DURATION,
     AT(times),
     .doc = "times"},
    {.name = "pairs",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE | SEGUE_OPTION_FALSE | SEGUE_OPTION_NUMBERS,
     AT(pairs),
     .doc = "texts by name"},
    {.name = "drain",
     .type = SEGUE_OPTION_TABLE,
     .table = &drain_table,
     .shorthand = "within",
     .flags = SEGUE_OPTION_TRUE,
     AT(drain),
     .doc = "a table"},
    {.name = "drains",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &drain_table,
     AT(drains),
     .doc = "tables"},
    {.name = "pets",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_TABLE,
     .table = &options_pet_table,
     AT(pets),
     .doc = "animals by name"},
    {.name = "call", .type = SEGUE_OPTION_FUNCTION, AT(function), .doc = "a function"},
    {.name = "any", .type = SEGUE_OPTION_ANY, AT(any), .doc = "anything"},
};
#undef AT

const segue_option_table options_all_table = {SEGUE_OPTION_ROWS(options_all, all_rows),
                                              .name = "all", .positional = "texts",
                                              .doc = "A row of each type."};

static const char *file_of(void *data, uint32_t document) {
  (void)data;
  (void)document;
  return "reload.lua";
}

int options_all_fill(const segue_node *node, uint32_t first, options_all *out,
                     segue__errors *errors) {
  segue__options_env env = {
      .kinds = kinds, .kind_count = 2, .folder = "etc", .first = first, .file = file_of};
  return segue__options_fill(&options_all_table, node, out, &env, errors);
}

void options_all_clear(options_all *out) {
  segue__options_clear(&options_all_table, out);
}

static const segue__option_kind topics[] = {{"all", NULL, &options_all_table, NULL},
                                            {"pet", NULL, &options_pet_table, NULL},
                                            {"pet", "cat", &options_cat_table, NULL},
                                            {"pet", "dog", &dog_table, NULL}};
const segue__topics options_topics = {topics, 4};

segue__topics options_policy_topics(segue__option_kind *room) {
  segue__module_kind all[SEGUE__MODULE_KINDS];
  segue__module_kinds(all, NULL, NULL, NULL, NULL);
  return segue__lua_topics(all, SEGUE__MODULE_KINDS, room);
}

const options_constant options_constants[] = {
    {"module", "prepare", SEGUE__PREPARE_MS},
    {"module", "start", SEGUE__START_MS},
    {"module", "stop", SEGUE__STOP_MS},
    {"module", "drain.within", SEGUE__DRAIN_MS},
    {"module", "drain.again", SEGUE__DRAIN_AGAIN},
    {"module", "buffer.items", SEGUE__BUFFER_ITEMS},
    {"module", "buffer.bytes", SEGUE__BUFFER_BYTES},
    {"module", "buffer.age", SEGUE__BUFFER_AGE_MS},
    {"module", "limits.head", SEGUE__HTTP_HEAD_BYTES},
    {"module", "limits.body", SEGUE__HTTP_BODY_BYTES},
    {"module", "limits.head_time", SEGUE__HTTP_HEAD_MS},
    {"module", "limits.body_time", SEGUE__HTTP_BODY_MS},
    {"module", "limits.idle", SEGUE__HTTP_IDLE_MS},
    {"module", "limits.write", SEGUE__HTTP_WRITE_MS},
    {"trigger watch", "rescan", SEGUE__RESCAN_MS},
    {"source source", "retry.min", SEGUE__RETRY_MIN_MS},
    {"source source", "retry.max", SEGUE__RETRY_MAX_MS},
    {"source source", "safety", SEGUE__SAFETY_MS},
    {"source plugin", "safety", SEGUE__SAFETY_MS},
    {"call fetch", "connect_timeout", SEGUE__FETCH_CONNECT_MS},
    {"source url", "max_bytes", SEGUE__FETCH_BYTES},
    {"policy", "history.reloads", SEGUE__HISTORY_RELOADS},
    {"policy", "history.generations", SEGUE__HISTORY_GENERATIONS},
    {"policy", "history.age", (double)SEGUE__HISTORY_AGE_MS},
    {"policy", "history.max_bytes", (double)SEGUE__HISTORY_BYTES},
    {NULL, NULL, 0},
};

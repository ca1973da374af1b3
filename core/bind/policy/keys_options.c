/* SPDX-License-Identifier: MIT
 *
 * Options of segue.keys, and of the description of an answer that a key space reads.
 */
#include "lua_options.h"
#include "policy.h"

typedef struct texts {
  char **items;
  size_t count;
} texts;

typedef struct pairs {
  segue_option_pair *items;
  size_t count;
} pairs;

typedef struct call_keys {
  struct {
    segue_option_string *items;
    size_t count;
  } prefix;
  pairs prefixes, keys;
  texts key, include, exclude;
  char *at, *separator, *value_key, *commit;
  int values, binary;
  bool suffix, lists;
  uint64_t max_keys, max_bytes;
} call_keys;

#define AT(field) .offset = offsetof(call_keys, field)
static const segue_option keys_rows[] = {
    {.name = "prefix",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_ONE,
     AT(prefix),
     .doc = "the keys below these count; what is behind the prefix is the path. \"\": all keys"},
    {.name = "prefixes",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     AT(prefixes),
     .doc = "prefixes, each with its own place in the tree: { [\"/ads/\"] = \"ads\" }"},
    {.name = "key",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE,
     AT(key),
     .doc = "a key whose value is a whole document: YAML, or JSON if its name ends in .json"},
    {.name = "keys",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     AT(keys),
     .doc = "such keys, each with its own place in the tree"},
    {.name = "at",
     .type = SEGUE_OPTION_TEXT,
     AT(at),
     .absent = "the root",
     .doc = "where all of it is in the tree: \"db.main\""},
    {.name = "separator",
     .type = SEGUE_OPTION_TEXT,
     AT(separator),
     .fallback = "/",
     .doc = "between the parts of a key; empty parts do not count"},
    {.name = "values",
     .type = SEGUE_OPTION_CHOICE,
     AT(values),
     .choices = "scalar|text|yaml|json",
     .fallback = "scalar",
     .doc = "scalar: numbers, true, false and null that are written as Segue writes them have "
            "their type, all else is text; yaml, json: each value is a document"},
    {.name = "suffix",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(suffix),
     .fallback = "false",
     .doc = "the values of keys that end in .yaml, .yml or .json are documents"},
    {.name = "value_key",
     .type = SEGUE_OPTION_TEXT,
     AT(value_key),
     .absent = "such keys are refused",
     .doc = "for a key that has a value and keys below it: the name of its value in that folder"},
    {.name = "lists",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(lists),
     .fallback = "false",
     .doc = "a folder whose keys are 0 to n-1 is a list"},
    {.name = "binary",
     .type = SEGUE_OPTION_CHOICE,
     AT(binary),
     .choices = "refuse|base64",
     .fallback = "refuse",
     .doc = "a value that is not UTF-8 text: its key is refused, or it is kept as base64"},
    {.name = "include",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE,
     AT(include),
     .absent = "all",
     .doc = "patterns of the keys that count, behind their prefix: * within a part, ** any text, "
            "? one character"},
    {.name = "exclude",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE,
     AT(exclude),
     .doc = "patterns of keys that do not count"},
    {.name = "commit",
     .type = SEGUE_OPTION_TEXT,
     AT(commit),
     .doc = "a key: what was written is taken up when it changes. It is not in the tree"},
    {.name = "max_keys",
     .type = SEGUE_OPTION_COUNT,
     AT(max_keys),
     .fallback = "1000000",
     .doc = "more keys are refused"},
    {.name = "max_bytes",
     .type = SEGUE_OPTION_SIZE,
     AT(max_bytes),
     .fallback = "128MiB",
     .doc = "more bytes of keys and values are refused"},
};
#undef AT

static void check_keys(void *options, segue_option_report *report) {
  const call_keys *keys = options;
  if (!keys->prefix.count && !keys->prefixes.count && !keys->key.count && !keys->keys.count)
    segue_option_wrong(report, "prefix", "is missing: which keys count? (\"\" means all)");
}

const segue_option_table segue__keys_options = {
    SEGUE_OPTION_ROWS(call_keys, keys_rows), .name = "keys", .check = check_keys,
    .doc = "segue.keys: the keys of a store as one document."};

typedef struct call_answer {
  char *list, *key, *value, *revision, *all_revision, *prefix, *map, *within, *removed, *removed_is;
  unsigned base64;
  pairs get;
} call_answer;

#define TEXT(field, text)                                                                          \
  { .name = #field, .type = SEGUE_OPTION_TEXT, .offset = offsetof(call_answer, field), .doc = text }
static const segue_option answer_rows[] = {
    {.name = "list",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(call_answer, list),
     .absent = "the answer itself",
     .doc = "path of the list of records; a map there is the only record"},
    TEXT(key, "path of the key in a record"),
    TEXT(value, "path of the value; a missing one is empty"),
    TEXT(revision, "path of the revision of the record"),
    TEXT(all_revision, "path of one revision for all records, from the top"),
    {.name = "base64",
     .type = SEGUE_OPTION_FLAGS,
     .offset = offsetof(call_answer, base64),
     .choices = "key|value",
     .doc = "fields that are written in base64"},
    TEXT(prefix, "goes before each key"),
    TEXT(map, "instead of key and value: path of a map of keys to values in each record"),
    TEXT(within, "with map: path of the name of a record, which goes before its keys"),
    TEXT(removed, "path of a field that marks removals"),
    TEXT(removed_is, "the text of that field in a removal"),
    {.name = "get",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_TEXT,
     .offset = offsetof(call_answer, get),
     .doc = "values of the answer that are returned: names, each with its path"},
};

static void check_answer(void *options, segue_option_report *report) {
  const call_answer *answer = options;
  if (!answer->key == !answer->map)
    segue_option_wrong(report, "key",
                       answer->key ? "and map exclude each other"
                                   : "is missing: where is the key of a record?");
  if (!answer->removed != !answer->removed_is)
    segue_option_wrong(report, "removed", "and removed_is belong together");
}

const segue_option_table segue__answer_options = {
    SEGUE_OPTION_ROWS(call_answer, answer_rows), .name = "answer", .check = check_answer,
    .doc = "The read of a key space: where an answer in JSON has its keys."};

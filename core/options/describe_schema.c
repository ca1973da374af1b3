/* SPDX-License-Identifier: MIT
 *
 * A JSON Schema of a policy, for tools that read policies as data, or write them. A function has no
 * form in JSON: its schema accepts every value, and a comment in it states that.
 */
#include <string.h>

#include "../config/config.h"
#include "describe_internal.h"
#include "fill.h"

static void schema_string(segue__buf *out, const char *s) {
  segue__json_string(out, s, strlen(s));
}

static void schema_ref(segue__buf *out, const segue__topics *topics,
                       const segue_option_table *table) {
  const segue__option_kind *topic = segue__topic_of(topics, table);
  segue__buf_adds(out, "{\"$ref\":\"#/$defs/");
  if (topic && topic->name) segue__buf_addf(out, "%s.", topic->family);
  segue__buf_addf(out, "%s\"}", topic && topic->name ? topic->name : table->name);
}

static void schema_choices(segue__buf *out, const char *choices) {
  const char *s;
  size_t len;
  segue__buf_adds(out, "{\"enum\":[");
  for (size_t i = 0; (s = segue__choices_at(choices, i, &len)); i++) {
    if (i) segue__buf_addc(out, ',');
    segue__json_string(out, s, len);
  }
  segue__buf_adds(out, "]}");
}

static void schema_number(segue__buf *out, const segue_option *row, segue_option_type type) {
  segue__buf_addf(out, "{\"type\":\"%s\"", type == SEGUE_OPTION_NUMBER ? "number" : "integer");
  if (type == SEGUE_OPTION_COUNT && !row->min) segue__buf_adds(out, ",\"minimum\":1");
  if (row->min) segue__buf_addf(out, ",\"minimum\":%.15g", row->min);
  if (type == SEGUE_OPTION_NUMBER && row->max && !row->min) segue__buf_adds(out, ",\"minimum\":0");
  if (row->max) segue__buf_addf(out, ",\"maximum\":%.15g", row->max);
  segue__buf_addc(out, '}');
}

static void schema_of(segue__buf *out, const segue__topics *topics, const segue_option *row,
                      segue_option_type type) {
  switch (type) {
  case SEGUE_OPTION_TEXT:
  case SEGUE_OPTION_PATH:
    segue__buf_adds(out, row->flags & SEGUE_OPTION_NUMBERS
                             ? "{\"type\":[\"string\",\"number\"],\"minLength\":1}"
                             : "{\"type\":\"string\",\"minLength\":1}");
    break;
  case SEGUE_OPTION_STRING:
    segue__buf_adds(out, "{\"type\":\"string\"}");
    break;
  case SEGUE_OPTION_DURATION:
    segue__buf_adds(out, "{\"type\":[\"string\",\"number\"],\"minimum\":0,"
                         "\"format\":\"segue-duration\"}");
    break;
  case SEGUE_OPTION_SIZE:
    segue__buf_adds(out, "{\"type\":[\"string\",\"integer\"],\"minimum\":1,"
                         "\"format\":\"segue-bytesize\"}");
    break;
  case SEGUE_OPTION_BOOLEAN:
    segue__buf_adds(out, "{\"type\":\"boolean\"}");
    break;
  case SEGUE_OPTION_CHOICE:
  case SEGUE_OPTION_SWITCH:
    schema_choices(out, row->choices);
    break;
  case SEGUE_OPTION_FLAGS:
    segue__buf_adds(out, "{\"type\":\"array\",\"items\":");
    schema_choices(out, row->choices);
    segue__buf_addc(out, '}');
    break;
  case SEGUE_OPTION_RATE:
    segue__buf_adds(out, "{\"pattern\":\"^([0-9]+/[smh]|none)$\"}");
    break;
  case SEGUE_OPTION_MODE:
    segue__buf_adds(out, "{\"pattern\":\"^[0-7]{3,4}$\"}");
    break;
  case SEGUE_OPTION_TABLE:
    schema_ref(out, topics, row->table);
    break;
  case SEGUE_OPTION_FUNCTION:
    segue__buf_adds(out, "{\"$comment\":\"a function\"}");
    break;
  case SEGUE_OPTION_ANY:
    segue__buf_adds(out, "{}");
    break;
  default:
    schema_number(out, row, type);
  }
}

static void schema_items(segue__buf *out, const segue_option *row) {
  bool list = row->type == SEGUE_OPTION_LIST;
  if (row->min) segue__buf_addf(out, ",\"%s\":%.0f", list ? "minItems" : "minProperties", row->min);
  if (row->max) segue__buf_addf(out, ",\"%s\":%.0f", list ? "maxItems" : "maxProperties", row->max);
}

static void schema_list(segue__buf *out, const segue__topics *topics, const segue_option *row) {
  bool one = row->flags & SEGUE_OPTION_ONE;
  if (one) {
    segue__buf_adds(out, "{\"anyOf\":[");
    schema_of(out, topics, row, row->of);
    segue__buf_addc(out, ',');
  }
  segue__buf_adds(out, "{\"type\":\"array\",\"items\":");
  schema_of(out, topics, row, row->of);
  schema_items(out, row);
  segue__buf_adds(out, one ? "}]}" : "}");
}

static void schema_map(segue__buf *out, const segue__topics *topics, const segue_option *row) {
  bool alternatives = row->flags & (SEGUE_OPTION_ONE | SEGUE_OPTION_FALSE);
  segue__buf_addf(out, "{\"type\":%s,\"additionalProperties\":",
                  row->flags & SEGUE_OPTION_KEYLESS ? "[\"object\",\"array\"]" : "\"object\"");
  if (alternatives) segue__buf_adds(out, "{\"anyOf\":[");
  schema_of(out, topics, row, row->of);
  if (row->flags & SEGUE_OPTION_ONE) {
    segue__buf_adds(out, ",{\"type\":\"array\",\"items\":");
    schema_of(out, topics, row, row->of);
    segue__buf_addc(out, '}');
  }
  if (row->flags & SEGUE_OPTION_FALSE) segue__buf_adds(out, ",{\"const\":false}");
  if (alternatives) segue__buf_adds(out, "]}");
  schema_items(out, row);
  segue__buf_addc(out, '}');
}

/* The option that a table without keys is a list for; NULL: there is none. */
static const segue_option *schema_keyless(const segue_option_table *table) {
  const segue_option *list =
      table->positional ? segue__options_find(table, table->positional, strlen(table->positional))
                        : NULL;
  return list && list->type == SEGUE_OPTION_LIST ? list : NULL;
}

static void schema_nested(segue__buf *out, const segue__topics *topics, const segue_option *row) {
  const segue_option *inner =
      row->shorthand ? segue__options_find(row->table, row->shorthand, strlen(row->shorthand))
                     : NULL;
  const segue_option *list = schema_keyless(row->table);
  bool alternatives = inner || list || row->flags & SEGUE_OPTION_TRUE;
  if (alternatives) segue__buf_adds(out, "{\"anyOf\":[");
  if (row->flags & SEGUE_OPTION_TRUE) segue__buf_adds(out, "{\"const\":true},");
  if (inner) {
    schema_of(out, topics, inner, inner->type);
    segue__buf_addc(out, ',');
  }
  if (list) {
    segue__buf_adds(out, "{\"type\":\"array\",\"items\":");
    schema_of(out, topics, list, list->of);
    segue__buf_adds(out, "},");
  }
  schema_ref(out, topics, row->table);
  if (alternatives) segue__buf_adds(out, "]}");
}

/* The schema of a row, and beside it what a person reads. */
static void schema_row(segue__buf *out, const segue__topics *topics, const segue_option *row) {
  schema_string(out, row->name);
  segue__buf_adds(out, ":{\"description\":");
  schema_string(out, row->doc ? row->doc : "");
  if (row->fallback && row->type == SEGUE_OPTION_BOOLEAN) {
    segue__buf_addf(out, ",\"default\":%s", row->fallback);
  } else if (row->fallback) {
    bool number = row->type == SEGUE_OPTION_COUNT || row->type == SEGUE_OPTION_INTEGER ||
                  row->type == SEGUE_OPTION_NUMBER;
    segue__buf_adds(out, ",\"default\":");
    if (number)
      segue__buf_adds(out, row->fallback);
    else
      schema_string(out, row->fallback);
  }
  segue__buf_adds(out, ",\"allOf\":[");
  if (row->type == SEGUE_OPTION_LIST)
    schema_list(out, topics, row);
  else if (row->type == SEGUE_OPTION_MAP)
    schema_map(out, topics, row);
  else if (row->type == SEGUE_OPTION_TABLE)
    schema_nested(out, topics, row);
  else
    schema_of(out, topics, row, row->type);
  segue__buf_adds(out, "]}");
}

static void schema_properties(segue__buf *out, const segue__topics *topics,
                              const segue_option_table *table, bool *any) {
  const segue_option *row;
  for (size_t i = 0; table && (row = segue__options_row(table, i)); i++) {
    if (*any) segue__buf_addc(out, ',');
    *any = true;
    schema_row(out, topics, row);
  }
}

static void schema_required(segue__buf *out, const segue_option_table *table, bool *any) {
  const segue_option *row;
  for (size_t i = 0; table && (row = segue__options_row(table, i)); i++) {
    if (!(row->flags & SEGUE_OPTION_REQUIRED)) continue;
    segue__buf_adds(out, *any ? "," : ",\"required\":[");
    schema_string(out, row->name);
    *any = true;
  }
}

/* family: whose rows are there as well; kind: the value of `kind`; both may be NULL. */
static void schema_object(segue__buf *out, const segue__topics *topics,
                          const segue_option_table *table, const segue_option_table *family,
                          const char *kind) {
  bool any = false, required = false;
  const char *doc = table && table->doc ? table->doc : family && family->doc ? family->doc : "";
  segue__buf_adds(out, "{\"type\":\"object\",\"description\":");
  schema_string(out, doc);
  segue__buf_adds(out, ",\"additionalProperties\":false,\"properties\":{");
  if (kind) {
    segue__buf_adds(out, "\"kind\":{\"const\":");
    schema_string(out, kind);
    segue__buf_addc(out, '}');
    any = true;
  }
  if (family && family->tag) {
    segue__buf_adds(out, ",\"tag\":{\"const\":");
    schema_string(out, family->name);
    segue__buf_addc(out, '}');
  }
  schema_properties(out, topics, family, &any);
  schema_properties(out, topics, table, &any);
  segue__buf_addc(out, '}');
  schema_required(out, family, &required);
  schema_required(out, table, &required);
  if (required) segue__buf_addc(out, ']');
  segue__buf_addc(out, '}');
}

/* One of its kinds. */
static void schema_family(segue__buf *out, const segue__topics *topics,
                          const segue_option_table *table) {
  const segue__option_kind *kind;
  segue__buf_adds(out, "{\"oneOf\":[");
  for (size_t i = 0; (kind = segue__topic_kind(topics, table, i)); i++) {
    if (i) segue__buf_addc(out, ',');
    segue__buf_addf(out, "{\"$ref\":\"#/$defs/%s.%s\"}", kind->family, kind->name);
  }
  segue__buf_adds(out, "]}");
}

static const segue_option_table *schema_parent(const segue__topics *topics,
                                               const segue__option_kind *topic) {
  for (size_t i = 0; topic->name && i < topics->count; i++)
    if (!topics->items[i].name && !strcmp(topics->items[i].family, topic->family))
      return topics->items[i].table;
  return NULL;
}

static void schema_defs(segue__buf *out, const segue__topics *topics,
                        const segue_option_table *root) {
  segue__tables tables;
  bool any = false;
  segue__tables_collect(topics, &tables);
  for (size_t t = 0; t < tables.count; t++) {
    const segue_option_table *table = tables.items[t];
    const segue__option_kind *topic = segue__topic_of(topics, table);
    if (table == root || (topic && topic->name)) continue;
    if (any) segue__buf_addc(out, ',');
    any = true;
    schema_string(out, table->name);
    segue__buf_addc(out, ':');
    if (table->family)
      schema_family(out, topics, table);
    else
      schema_object(out, topics, table, NULL, NULL);
  }
  for (size_t i = 0; i < topics->count; i++) {
    const segue__option_kind *topic = &topics->items[i];
    if (!topic->name) continue;
    if (any) segue__buf_addc(out, ',');
    any = true;
    segue__buf_addf(out, "\"%s.%s\":", topic->family, topic->name);
    schema_object(out, topics, topic->table, schema_parent(topics, topic), topic->name);
  }
}

void segue__describe_schema(const segue__topics *topics, const segue_option_table *root,
                            segue__buf *out) {
  segue__buf_adds(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",");
  segue__buf_adds(out, "\"$defs\":{");
  schema_defs(out, topics, root);
  segue__buf_adds(out, "},\"allOf\":[");
  schema_object(out, topics, root, NULL, NULL);
  segue__buf_adds(out, "]}\n");
}

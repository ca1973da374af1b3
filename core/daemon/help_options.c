/* SPDX-License-Identifier: MIT
 *
 * segue help options [TOPIC]: the options of policies, from the tables that judge them. --json
 * prints them as a JSON Schema; `manual` and `types` print the parts of reload.lua(5) and of the
 * types for editors that `make options` writes.
 */
#include <stdio.h>
#include <string.h>

#include "../bind/module/modules.h"
#include "../bind/policy/lua_options.h"
#include "../config/config.h"
#include "../reload/policy_options.h"
#include "cli.h"

static void add_manual(const segue__topics *topics, segue__buf *out) {
  segue__buf_adds(out, ".\\\" options: all\n");
  for (size_t i = 0; i < topics->count; i++) {
    const segue__option_kind *topic = &topics->items[i];
    if (!topic->table || !topic->table->doc) continue;
    segue__buf_adds(out, ".Ss Options: ");
    segue__topic_title(topic, out);
    segue__buf_addf(out, "\n%s\n", topic->table->doc);
    segue__describe_man(topics, topic, out);
  }
  segue__buf_adds(out, ".\\\" end of options\n");
}

static void add_types(const segue__topics *topics, segue__buf *out) {
  segue__buf classes;
  segue__buf_init(&classes);
  segue__describe_lua(topics, &classes);
  segue__buf_addf(out, "-- options: all\n%s\n-- end of options\n",
                  classes.failed ? "" : classes.data);
  out->failed |= classes.failed;
  segue__buf_deinit(&classes);
}

/* Indented: the text goes through the reader of JSON, which also proves that it is JSON. */
static int add_schema(const segue__topics *topics, segue__buf *out, segue_error *err) {
  segue__document *doc = NULL;
  segue__buf text;
  segue__buf_init(&text);
  segue__describe_schema(topics, &segue__policy_options, &text);
  int rc = text.failed
               ? UV_ENOMEM
               : segue__document_new(&doc, 1, "", "schema", SEGUE__JSON, text.data, text.len);
  if (!rc) doc->foreign = true;
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, err);
  if (!rc) segue__json_write(out, &doc->root, 1);
  segue__buf_addc(out, '\n');
  segue__document_unref(doc);
  return rc;
}

static int unknown_topic(const char *title) {
  return segue__cli_fail(SEGUE__EXIT_USAGE,
                         "there are no options of \"%.60s\": segue help options lists the topics",
                         title);
}

int segue__cli_help_options(const segue__cli *cli) {
  segue__module_kind kinds[] = {segue__module_kind_c(NULL), segue__module_kind_lua(NULL)};
  segue__option_kind room[SEGUE__LUA_TOPICS_MAX];
  segue__topics topics = segue__lua_topics(kinds, 2, room);
  char title[128] = "";
  segue__buf out;
  segue_error err = {0};
  int rc = 0;
  for (int i = 1; i < cli->arg_count; i++)
    snprintf(title + strlen(title), sizeof title - strlen(title), "%s%.40s", i > 1 ? " " : "",
             cli->args[i]);
  const segue__option_kind *topic = *title ? segue__topic_find(&topics, title) : NULL;
  bool manual = !strcmp(title, "manual"), types = !strcmp(title, "types");
  if (*title && !topic && !manual && !types) return unknown_topic(title);
  segue__buf_init(&out);
  if (manual)
    add_manual(&topics, &out);
  else if (types)
    add_types(&topics, &out);
  else if (cli->json)
    rc = add_schema(&topics, &out, &err);
  else
    segue__describe_help(&topics, topic, &out);
  if (!rc && out.failed) rc = UV_ENOMEM;
  if (!rc) fputs(out.data, stdout);
  segue__buf_deinit(&out);
  return rc ? segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the options cannot be written: %s",
                              err.message[0] ? err.message : segue_strerror(rc))
            : SEGUE__EXIT_OK;
}

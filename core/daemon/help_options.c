/* SPDX-License-Identifier: MIT
 *
 * segue help options [TOPIC | PLUGIN]: the options of policies, from the tables that judge them,
 * and those of a plugin. --json prints them as a JSON Schema; `manual` and `types` print the parts
 * of reload.lua(5) and of the types for editors that `make options` writes.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../bind/module/modules.h"
#include "../bind/policy/lua_options.h"
#include "../config/config.h"
#include "../instance/lua_paths.h"
#include "../module/plugin.h"
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
static int add_schema(const segue__topics *topics, const segue_option_table *root, segue__buf *out,
                      segue_error *err) {
  segue__document *doc = NULL;
  segue__buf text;
  segue__buf_init(&text);
  segue__describe_schema(topics, root, &text);
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

/* ---- Options of a plugin --------------------------------------------------------------------- */

static int help_unknown(const char *title) {
  return segue__cli_fail(SEGUE__EXIT_USAGE,
                         "there are no options of \"%.200s\": segue help options lists the topics; "
                         "of a plugin give its path, or its name where it came with segue",
                         title);
}

static bool is_path(const char *name) {
  size_t len = strlen(name);
  return strchr(name, '/') || (len > 3 && !strcmp(name + len - 3, ".so"));
}

/* The path of a plugin that is named by its path, or by its name as one that comes with segue. */
static void add_plugin_path(const char *name, segue__buf *out) {
  char *folder = NULL;
  segue_error ignored;
  if (is_path(name))
    segue__buf_adds(out, name);
  else if (!segue__plugin_dir_find(&folder, &ignored) && folder)
    segue__buf_addf(out, "%s/%s.so", folder, name);
  segue__free(folder);
}

static int add_plugin(const segue__cli *cli, const segue__plugin *plugin, segue__buf *out,
                      segue_error *err) {
  const segue_module_descriptor *module = segue__plugin_descriptor(plugin);
  const segue_source_descriptor *source = segue__plugin_source(plugin);
  segue__option_kind found[2];
  segue__topics topics = {found, 0};
  int rc = 0;
  if (module && module->options)
    found[topics.count++] = (segue__option_kind){"module", module->name, module->options, NULL};
  if (source && source->options)
    found[topics.count++] = (segue__option_kind){"source", source->name, source->options, NULL};
  for (size_t i = 0; i < topics.count && !rc; i++)
    if (cli->json)
      rc = add_schema(&topics, found[i].table, out, err);
    else
      segue__describe_help(&topics, &found[i], out);
  if (!topics.count) segue__buf_adds(out, "the plugin has no options\n");
  return rc;
}

/* The tables are in the plugin, so it is loaded; none of its operations is called. */
static int help_plugin(const segue__cli *cli, const char *name) {
  segue_error err = {0};
  segue__plugins *plugins = NULL;
  segue__plugin *plugin = NULL;
  segue__bytes bytes = {0};
  segue__buf path, out;
  segue__buf_init(&path);
  segue__buf_init(&out);
  add_plugin_path(name, &path);
  int rc = path.len ? segue__read_whole(segue__os_default(), path.data, SEGUE__PLUGIN_BYTES, &bytes,
                                        &err)
                    : UV_ENOENT;
  bool unknown = rc == UV_ENOENT;
  if (!rc) rc = segue__plugins_new(&plugins);
  if (!rc) rc = segue__plugin_load(plugins, path.data, bytes.data, bytes.len, &plugin, &err);
  if (!rc) rc = add_plugin(cli, plugin, &out, &err);
  if (!rc && out.failed) rc = UV_ENOMEM;
  if (!rc) fputs(out.data, stdout);
  segue__plugin_unref(plugin);
  segue__plugins_free(plugins);
  segue__free(bytes.data);
  segue__buf_deinit(&path);
  segue__buf_deinit(&out);
  if (unknown) return help_unknown(name);
  return rc ? segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the options cannot be shown: %s",
                              err.message[0] ? err.message : segue_strerror(rc))
            : SEGUE__EXIT_OK;
}

/* ---- Topics ---------------------------------------------------------------------------------- */

int segue__cli_help_options(const segue__cli *cli) {
  segue__module_kind kinds[SEGUE__MODULE_KINDS];
  segue__module_kinds(kinds, NULL, NULL, NULL);
  segue__option_kind room[SEGUE__LUA_TOPICS_MAX];
  segue__topics topics = segue__lua_topics(kinds, SEGUE__MODULE_KINDS, room);
  char title[128] = "";
  segue__buf out;
  segue_error err = {0};
  int rc = 0;
  for (int i = 1; i < cli->arg_count; i++)
    snprintf(title + strlen(title), sizeof title - strlen(title), "%s%.40s", i > 1 ? " " : "",
             cli->args[i]);
  const segue__option_kind *topic = *title ? segue__topic_find(&topics, title) : NULL;
  bool manual = !strcmp(title, "manual"), types = !strcmp(title, "types");
  if (*title && !topic && !manual && !types)
    return cli->arg_count == 2 ? help_plugin(cli, cli->args[1]) : help_unknown(title);
  segue__buf_init(&out);
  if (manual)
    add_manual(&topics, &out);
  else if (types)
    add_types(&topics, &out);
  else if (cli->json)
    rc = add_schema(&topics, &segue__policy_options, &out, &err);
  else
    segue__describe_help(&topics, topic, &out);
  if (!rc && out.failed) rc = UV_ENOMEM;
  if (!rc) fputs(out.data, stdout);
  segue__buf_deinit(&out);
  return rc ? segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the options cannot be written: %s",
                              err.message[0] ? err.message : segue_strerror(rc))
            : SEGUE__EXIT_OK;
}

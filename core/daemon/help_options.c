/* SPDX-License-Identifier: MIT
 *
 * segue help options [TOPIC | PLUGIN]: the options of policies, from the tables that validate them,
 * and those of a plugin in C or Lua. --json prints them as a JSON Schema; `manual` and `types`
 * print the parts of reload.lua(5) and of the types for editors that `make options` writes.
 */
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
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
  return segue__cli_fail(
      SEGUE__EXIT_USAGE,
      "there are no options of \"%.200s\": segue help options lists the topics and the plugins; "
      "give the path of a plugin that is in no folder of plugins",
      title);
}

static bool is_path(const char *name) {
  size_t len = strlen(name);
  return strchr(name, '/') || (len > 3 && !strcmp(name + len - 3, ".so"));
}

/* The folders in which the policy finds plugins in C. Without -c and without a policy in this
 * folder: only the one that comes with segue. */
static int plugin_folders(const segue__cli *cli, segue__names *folders, segue_error *err) {
  char *installed = NULL;
  int rc = 0;
  if (cli->policy_given || access(cli->policy, R_OK) == 0)
    rc = segue__cli_plugin_folders(cli, folders, err);
  if (!cli->policy_given) rc = 0; /* a broken policy that was not named does not stop the help */
  if (!rc) rc = segue__plugin_dir_find(&installed, err);
  if (!rc && installed) rc = segue__names_add(folders, "", 0, installed);
  segue__free(installed);
  return rc;
}

/* Adds the names of the plugins FOLDER/NAME followed by the suffix. */
static void list_plugins(const char *folder, const char *suffix, segue__names *out) {
  segue__buf pattern;
  glob_t found = {0};
  segue__buf_init(&pattern);
  segue__buf_addf(&pattern, "%s/*%s", folder, suffix);
  if (!pattern.failed) glob(pattern.data, 0, NULL, &found);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    char *name = found.gl_pathv[i] + strlen(folder) + 1;
    name[strlen(name) - strlen(suffix)] = 0;
    (void)segue__names_add(out, "", 0, name);
  }
  globfree(&found);
  segue__buf_deinit(&pattern);
}

static int add_plugin_names(const segue__cli *cli, segue__buf *out, segue_error *err) {
  segue__names folders = {0}, names = {0};
  segue__buf plugins;
  char *lua_dir = NULL;
  segue__buf_init(&plugins);
  int rc = segue__lua_paths_find(cli->lua_dir, &lua_dir, err);
  if (!rc) rc = plugin_folders(cli, &folders, err);
  if (!rc) segue__buf_addf(&plugins, "%s/../plugins", lua_dir);
  if (plugins.failed) rc = UV_ENOMEM;
  if (!rc) list_plugins(plugins.data, "/init.lua", &names);
  for (size_t i = 0; !rc && i < folders.count; i++)
    list_plugins(folders.items[i], ".so", &names);
  if (!rc && names.count) segue__buf_adds(out, "Plugins:\n");
  for (size_t i = 0; !rc && i < names.count; i++)
    segue__buf_addf(out, "  %s\n", names.items[i]);
  segue__names_deinit(&folders);
  segue__names_deinit(&names);
  segue__buf_deinit(&plugins);
  segue__free(lua_dir);
  return rc;
}

/* The help or the JSON Schema of tables that a plugin brings. */
static int add_tables(const segue__cli *cli, const segue__topics *topics, segue__buf *out,
                      segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < topics->count && !rc; i++)
    if (cli->json)
      rc = add_schema(topics, topics->items[i].table, out, err);
    else
      segue__describe_help(topics, &topics->items[i], out);
  if (!topics->count) segue__buf_adds(out, "the plugin has no options\n");
  return rc;
}

static int add_plugin(const segue__cli *cli, const segue__plugin *plugin, segue__buf *out,
                      segue_error *err) {
  const segue_module_descriptor *module = segue__plugin_descriptor(plugin);
  const segue_source_descriptor *source = segue__plugin_source(plugin);
  segue__option_kind found[2];
  segue__topics topics = {found, 0};
  if (module && module->options)
    found[topics.count++] = (segue__option_kind){"module", module->name, module->options, NULL};
  if (source && source->options)
    found[topics.count++] = (segue__option_kind){"source", source->name, source->options, NULL};
  return add_tables(cli, &topics, out, err);
}

/* The tables are in the plugin, so it is loaded; none of its operations is called. */
static int help_shared_object(const segue__cli *cli, const char *path, segue__buf *out,
                              segue_error *err) {
  segue__plugins *plugins = NULL;
  segue__plugin *plugin = NULL;
  segue__bytes bytes = {0};
  int rc = segue__read_whole(segue__os_default(), path, SEGUE__PLUGIN_BYTES, &bytes, err);
  if (!rc) rc = segue__plugins_new(&plugins);
  if (!rc) rc = segue__plugin_load(plugins, path, bytes.data, bytes.len, &plugin, err);
  if (!rc) rc = add_plugin(cli, plugin, out, err);
  segue__plugin_unref(plugin);
  segue__plugins_free(plugins);
  segue__free(bytes.data);
  return rc;
}

typedef struct lua_plugin {
  const segue__cli *cli;
  segue__buf *out;
  segue_error *err;
} lua_plugin;

static int add_lua_plugin(void *data, const segue_option_table *table) {
  lua_plugin *p = data;
  segue__option_kind found = {"source", table ? table->name : NULL, table, NULL};
  const segue__topics topics = {&found, table != NULL};
  return add_tables(p->cli, &topics, p->out, p->err);
}

/* A plugin that is named by its name: in Lua first, as a policy finds it; then in the folders that
 * the policy names, and in the one that comes with segue. */
static int help_named(const segue__cli *cli, const char *name, segue__buf *out, segue_error *err) {
  segue__names folders = {0};
  char *lua_dir = NULL;
  lua_plugin p = {cli, out, err};
  int rc = segue__lua_paths_find(cli->lua_dir, &lua_dir, err);
  if (!rc) rc = segue__lua_plugin_options(lua_dir, name, add_lua_plugin, &p, err);
  segue__free(lua_dir);
  if (rc != UV_ENOENT) return rc;
  rc = plugin_folders(cli, &folders, err);
  for (size_t i = 0; !rc && i <= folders.count; i++) {
    if (i == folders.count) {
      rc = UV_ENOENT;
      break;
    }
    segue__buf path;
    segue__buf_init(&path);
    segue__buf_addf(&path, "%s/%s.so", folders.items[i], name);
    if (path.failed) rc = UV_ENOMEM;
    bool found = !rc && access(path.data, F_OK) == 0;
    if (found) rc = help_shared_object(cli, path.data, out, err);
    segue__buf_deinit(&path);
    if (found) break;
  }
  segue__names_deinit(&folders);
  return rc;
}

static int help_plugin(const segue__cli *cli, const char *name) {
  segue_error err = {0};
  segue__buf out;
  segue__buf_init(&out);
  int rc =
      is_path(name) ? help_shared_object(cli, name, &out, &err) : help_named(cli, name, &out, &err);
  if (!rc && out.failed) rc = UV_ENOMEM;
  if (!rc) fputs(out.data, stdout);
  segue__buf_deinit(&out);
  if (rc == UV_ENOENT) return help_unknown(name);
  if (!rc) return SEGUE__EXIT_OK;
  char text[1024];
  segue_error_format(&err, text, sizeof text);
  return segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the options cannot be shown: %s",
                         err.message[0] ? text : segue_strerror(rc));
}

/* ---- Topics ---------------------------------------------------------------------------------- */

int segue__cli_help_options(const segue__cli *cli) {
  segue__module_kind kinds[SEGUE__MODULE_KINDS];
  segue__module_kinds(kinds, NULL, NULL, NULL, NULL);
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
  if (!*title && !cli->json) rc = add_plugin_names(cli, &out, &err);
  if (!rc && out.failed) rc = UV_ENOMEM;
  if (!rc) fputs(out.data, stdout);
  segue__buf_deinit(&out);
  return rc ? segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the options cannot be written: %s",
                              err.message[0] ? err.message : segue_strerror(rc))
            : SEGUE__EXIT_OK;
}

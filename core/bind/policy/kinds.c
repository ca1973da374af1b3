/* SPDX-License-Identifier: MIT
 *
 * The kind "c": modules that the host program registered, and plugins. A plugin's bytes become part
 * of the policy, like a Lua file that it requires: a changed one is a reason to reload, and a
 * rollback brings the old one back.
 */
#include <string.h>
#include <uv.h>

#include "policy.h"

static bool registered(const segue__host_modules *host, const char *name, segue__module_spec *spec,
                       const segue_option_table **table) {
  for (size_t i = 0; i < host->count; i++) {
    if (strcmp(host->items[i].name, name)) continue;
    spec->ops = host->items[i].ops;
    spec->userdata = host->items[i].userdata;
    *table = host->items[i].options;
    return true;
  }
  return false;
}

/* ---- Finding a plugin ------------------------------------------------------------------------ */

/* Relative to the folder of the policy. NULL: out of memory. */
static char *path_from(const char *folder, const char *path) {
  segue__buf out;
  segue__buf_init(&out);
  if (*folder && *path != '/') segue__buf_addf(&out, "%s/", strcmp(folder, "/") ? folder : "");
  segue__buf_adds(&out, path);
  if (!out.failed) return out.data;
  segue__buf_deinit(&out);
  return NULL;
}

static char *kinds_path_in(const char *folder, const char *name) {
  segue__buf out;
  segue__buf_init(&out);
  segue__buf_addf(&out, "%s/%s.so", folder, name);
  if (!out.failed) return out.data;
  segue__buf_deinit(&out);
  return NULL;
}

/* ", log, stats": the names of the plugins in a folder. */
static void list_folder(const segue__os *os, const char *folder, segue__buf *out) {
  segue__names names = {0};
  segue__buf pattern;
  segue__buf_init(&pattern);
  segue__buf_addf(&pattern, "%s/*.so", folder);
  segue_error ignored;
  if (pattern.failed || os->list_files(os->data, pattern.data, &names, &ignored)) names.count = 0;
  for (size_t i = 0; i < names.count; i++) {
    const char *name = strrchr(names.items[i], '/') + 1;
    segue__buf_addf(out, "%s%.*s", out->len ? ", " : "", (int)strlen(name) - 3, name);
  }
  segue__names_deinit(&names);
  segue__buf_deinit(&pattern);
}

static int kinds_not_found(const segue__c_modules *modules, const segue__kind_place *place,
                           const char *name, segue_error *err) {
  segue__buf there, where;
  segue__buf_init(&there);
  segue__buf_init(&where);
  for (size_t i = 0; i < modules->host.count; i++)
    segue__buf_addf(&there, "%s%s", there.len ? ", " : "", modules->host.items[i].name);
  for (size_t i = 0; i < place->policy->plugin_count; i++) {
    segue__buf_addf(&where, "%s, ", place->policy->plugins[i]);
    list_folder(place->os, place->policy->plugins[i], &there);
  }
  if (modules->folder) {
    segue__buf_addf(&where, "%s, ", modules->folder);
    list_folder(place->os, modules->folder, &there);
  }
  int rc = segue__errorf(
      err, SEGUE_EPOLICY, "there is no C module '%s'%s%.*s: %s%s", name, where.len ? " in " : "",
      where.len ? (int)where.len - 2 : 0, where.len ? where.data : "",
      there.len ? "available are " : "the host program registered none, and there is no plugin",
      there.len ? there.data : "");
  segue__buf_deinit(&there);
  segue__buf_deinit(&where);
  return rc;
}

/* 0: *bytes is the file's. UV_ENOENT: there is none. Takes path. */
static int read_plugin(const segue__kind_place *place, char *path, segue__bytes *bytes, char **read,
                       segue_error *err) {
  if (!path) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = segue__read_whole(place->os, path, SEGUE__PLUGIN_BYTES, bytes, err);
  if (rc)
    segue__free(path);
  else
    *read = path;
  return rc;
}

static int kinds_find(const segue__c_modules *modules, const segue__kind_place *place,
                      const char *name, segue__bytes *bytes, char **path, segue_error *err) {
  if (strchr(name, '/'))
    return read_plugin(place, path_from(place->folder, name), bytes, path, err);
  int rc = UV_ENOENT;
  for (size_t i = 0; i < place->policy->plugin_count && rc == UV_ENOENT; i++)
    rc = read_plugin(place, kinds_path_in(place->policy->plugins[i], name), bytes, path, err);
  if (rc == UV_ENOENT && modules->folder)
    rc = read_plugin(place, kinds_path_in(modules->folder, name), bytes, path, err);
  return rc == UV_ENOENT ? kinds_not_found(modules, place, name, err) : rc;
}

/* A user who may write the file decides what the daemon does. */
static int validate_mode(const segue__kind_place *place, const char *path, segue_error *err) {
  unsigned mode;
  if (!place->os->file_mode || place->os->file_mode(place->os->data, path, &mode) < 0) return 0;
  if (!(mode & 02)) return 0;
  return segue__errorf(err, SEGUE_EPOLICY, "plugin %s can be written by every user: chmod o-w it",
                       path);
}

/* Loads the plugin of a name as a file of the policy. *out is a reference, also after a failure. */
static int load_plugin(const segue__c_modules *modules, const segue__kind_place *place,
                       const char *name, segue__plugin **out, segue_error *err) {
  segue__bytes bytes = {0};
  char *path = NULL;
  int rc = kinds_find(modules, place, name, &bytes, &path, err);
  if (!rc) rc = validate_mode(place, path, err);
  if (!rc) rc = segue__plugin_load(modules->plugins, path, bytes.data, bytes.len, out, err);
  if (!rc) {
    segue__input input = {.path = path, .hash = segue__plugin_hash(*out)};
    rc = segue__policy_add_input(place->policy, &input);
    if (rc) segue__errorf(err, rc, "plugin %s: out of memory", path);
  }
  segue__free(bytes.data);
  segue__free(path);
  return rc;
}

/* ---- Options of a plugin --------------------------------------------------------------------- */

int segue__plugin_options(const segue__kind_place *place, const segue_node *node,
                          const segue_option_table *table, segue__option_values **out) {
  const segue_node *options = segue_node_member(node, "options");
  segue_node none = *node;
  if (!options || (options->type == SEGUE_LIST && !options->count)) {
    none.type = SEGUE_MAP; /* with the place of the table that lacks a required option */
    none.flags = 0;
    none.count = 0;
    none.v.members = NULL;
    options = &none;
  }
  return segue__option_values_new(out, table, options, place->env, place->errors);
}

/* Options that nothing reads are a mistake: the plugin is another one, or an older one. */
static int refuse_options(const char *name, const segue_node *options,
                          const segue__kind_place *place, segue_error *err) {
  const segue__options_env *env = place->env;
  int rc =
      segue__errorf(err, SEGUE_EPOLICY, "the plugin %s has no options: remove %s", name, env->path);
  segue__error_set_place(err, env->file(env->data, options->document), options->line, 0);
  return rc;
}

static int validate_options(const segue__kind_place *place, const char *name,
                            const segue_node *node, const segue_option_table *table,
                            segue__module_spec *spec, segue_error *err) {
  const segue_node *options = segue_node_member(node, "options");
  if (!table && options) return refuse_options(name, options, place, err);
  if (!table) return 0;
  if (options) spec->options = segue__node_hash(options);
  return segue__plugin_options(place, node, table, &spec->values);
}

/* ---- The kind -------------------------------------------------------------------------------- */

typedef struct c_options {
  char *plugin;
} c_options;

static int use_plugin(const segue__c_modules *modules, const segue__kind_place *place,
                      const char *name, segue__module_spec *spec, const segue_option_table **table,
                      segue_error *err) {
  if (!modules->plugins) return kinds_not_found(modules, place, name, err);
  int rc = load_plugin(modules, place, name, &spec->plugin, err);
  if (rc) return rc;
  const segue_module_descriptor *descriptor = segue__plugin_descriptor(spec->plugin);
  if (!descriptor)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "plugin %s has a source and no module: name it in segue.source", name);
  spec->ops = descriptor->ops;
  spec->userdata = descriptor->userdata;
  spec->inputs = segue__plugin_hash(spec->plugin);
  *table = descriptor->options;
  return 0;
}

static int resolve_c(const segue__module_kind *kind, const segue__kind_place *place,
                     const segue_node *node, void *options, segue__module_spec *spec,
                     segue_error *err) {
  const segue__c_modules *modules = kind->data;
  const c_options *own = options;
  const char *name = own && own->plugin ? own->plugin : spec->name;
  const segue_option_table *table = NULL;
  int rc = 0;
  if (!registered(&modules->host, name, spec, &table))
    rc = use_plugin(modules, place, name, spec, &table, err);
  return rc ? rc : validate_options(place, name, node, table, spec, err);
}

static const segue_option c_rows[] = {
    {.name = "plugin",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(c_options, plugin),
     .absent = "the name of the module",
     .doc = "a module that the host program registered, or a shared object; with a slash its path"},
    {.name = "options",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_ANY,
     .offset = SEGUE_OPTION_NOT_STORED,
     .doc = "options of the plugin, validated by its own table: segue help options PLUGIN"},
};
const segue_option_table segue__module_c_options = {
    SEGUE_OPTION_ROWS(c_options, c_rows), .name = "c",
    .doc = "A module that the host program registered, or a plugin."};

segue__module_kind segue__module_kind_c(const segue__c_modules *modules) {
  return (segue__module_kind){.name = "c",
                              .options = &segue__module_c_options,
                              .resolve = resolve_c,
                              .data = (void *)modules};
}

int segue__source_resolve(const segue__lua_options *options, const segue__kind_place *place,
                          const char *name, segue__source *source,
                          const segue_source_descriptor **out, segue_error *err) {
  const segue__c_modules *modules = NULL;
  for (size_t i = 0; i < options->kind_count; i++)
    if (options->kinds[i].resolve == resolve_c) modules = options->kinds[i].data;
  for (size_t i = 0; modules && i < modules->source_count; i++) {
    *out = modules->sources[i];
    if (!strcmp((*out)->name, name)) return 0;
  }
  if (!modules || !modules->plugins)
    return segue__errorf(err, SEGUE_EPOLICY, "there is no source '%s': the host registered none",
                         name);
  int rc = load_plugin(modules, place, name, &source->plugin, err);
  *out = rc ? NULL : segue__plugin_source(source->plugin);
  if (rc || *out) return rc;
  return segue__errorf(err, SEGUE_EPOLICY,
                       "plugin %s has a module and no source: name it in modules", name);
}

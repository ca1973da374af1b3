/* SPDX-License-Identifier: MIT
 *
 * The kind "files": its options, and a module from the options of a policy.
 */
#include "kind.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../config/printable.h"
#include "../os/error.h"
#include "../os/user.h"
#include "../reload/policy_options.h"
#include "check.h"
#include "internal.h"
#include "module.h"
#include "simulation.h"

/* ---- Shared state of the kind ---- */

void segue__file_world_unref(segue__file_world *world) {
  if (--world->refs) return;
  segue__inventory_deinit(world->inventory);
  segue__file_book_free(world->book);
  segue__simulation_free(world->simulation);
  segue__wants_free(world->wants);
  segue__free(world);
}

int segue__file_world_new(segue__file_world **out, segue__loop *loop, const segue__logger *log,
                          const segue__os *os, const char *record) {
  segue__file_world *world = segue__calloc(1, sizeof *world);
  *out = NULL;
  if (!world) return UV_ENOMEM;
  *world = (segue__file_world){.refs = 1, .loop = loop, .log = log, .os = os};
  int rc = segue__file_book_new(&world->book, record);
  if (!rc) rc = segue__wants_new(&world->wants);
  if (rc)
    segue__file_world_unref(world);
  else
    *out = world;
  return rc;
}

void segue__file_world_rehearse(segue__file_world *world) {
  segue__file_book_rehearse(world->book);
}

int segue__file_world_simulate(segue__file_world *world, const segue__file_store *store,
                               const segue__effect_outside *outside) {
  segue__file_book_free(world->book);
  world->book = NULL;
  world->outside = outside;
  return segue__simulation_new(&world->simulation, store);
}

void segue__file_world_record(segue__file_world *world, segue__answers *answers) {
  world->answers = answers;
}

segue__wants *segue__file_world_wants(segue__file_world *world) {
  return world->wants;
}

void segue__file_world_capture(segue__file_world *world, segue__file_capture *fn, void *data) {
  world->capture = fn;
  world->capture_data = data;
}

/* A job that hangs in the disk may end later, when there is nothing left to log to. */
void segue__file_world_close(segue__file_world *world) {
  if (!world) return;
  world->log = NULL;
  segue__file_world_clear_leftovers(world); /* each has a reference */
  segue__file_world_unref(world);
}

void segue__shared_set_unref(segue__shared_set *shared) {
  if (--shared->refs) return;
  segue__file_set_free(shared->set);
  segue__file_world_unref(shared->world);
  segue__free(shared);
}

/* ---- A module ---- */

void segue__file_module_unref(segue__file_module *module) {
  if (!module || --module->refs) return;
  segue__file_removal_free(module->removal);
  for (size_t i = 0; i < module->count; i++) {
    segue__free((char *)module->files[i].to);
    segue__free((char *)module->files[i].owner);
    if (module->templates) segue__file_template_clear(&module->templates[i]);
  }
  segue__effect_clear(&module->check);
  segue__effect_clear(&module->apply);
  segue__effect_clear(&module->undo);
  segue__free((char *)module->members.path);
  segue__free((char *)module->members.owner);
  segue__free(module->files);
  segue__source_views_deinit(&module->views);
  segue__free(module->templates);
  segue__free(module->config);
  segue__free(module->name);
  segue__free(module->folder);
  segue__free(module->root);
  if (module->world) segue__file_world_unref(module->world);
  segue__free(module);
}

static int kind_copy_folder(segue__file_module *module, const segue__files_options *options) {
  if (!options->folder || !options->count) return 0;
  module->members = (segue__file_folder){.path = segue__strdup(options->folder),
                                         .mode = options->folder_mode,
                                         .owner = segue__strdup(options->folder_owner),
                                         .backups = (unsigned)options->folder_backups};
  return module->members.path && (module->members.owner || !options->folder_owner) ? 0 : UV_ENOMEM;
}

static int kind_copy_files(segue__file_module *module, const segue__files_options *options) {
  module->files = segue__calloc(options->count + 1, sizeof *module->files);
  module->templates = segue__calloc(options->count + 1, sizeof *module->templates);
  if (!module->files || !module->templates) return UV_ENOMEM;
  for (size_t i = 0; i < options->count; i++) {
    const segue__file_options *from = &options->files[i];
    segue__file_want *to = &module->files[module->count++];
    *to = (segue__file_want){.mode = from->mode,
                             .backups = (unsigned)from->backups,
                             .replace_link = from->replace_link,
                             .member = from->name != NULL};
    to->to =
        from->name ? segue__folder_inside(options->folder, from->name) : segue__strdup(from->to);
    to->owner = segue__strdup(from->owner);
    if (!to->to || (from->owner && !to->owner)) return UV_ENOMEM;
  }
  return 0;
}

/* Destinations are absolute, so that a set does not depend on the folder of the process. */
static char *kind_folder(const char *folder) {
  char current[4096];
  segue__buf text;
  if (*folder == '/') return segue__strdup(folder);
  size_t size = sizeof current;
  if (uv_cwd(current, &size)) return NULL;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s%s%s", current, *folder ? "/" : "", folder);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

/* The error has the place of the template, or a path of it. */
static int kind_load_templates(segue__file_module *module, const segue__files_options *options,
                               const segue__file_module_place *place, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < module->count && !rc; i++) {
    module->templates[i].config = module->config;
    module->templates[i].views = &module->views;
    rc = segue__file_template_load(&module->templates[i], &options->files[i], place, err);
  }
  return rc;
}

static int kind_copy_effect(const segue__file_module *module, const segue__files_options *options,
                            const segue__effect *from, segue__effect *out) {
  segue_error ignored;
  const char *folder = from->argv.count || from->shell ? module->folder : NULL;
  return segue__effect_copy(from, folder, options->timeout_ms, out, &ignored);
}

static int kind_fill(segue__file_module *module, const segue__files_options *options,
                     const segue__module_spec *spec, const char *folder) {
  module->name = segue__strdup(spec->name);
  module->config = segue__strdup(spec->config ? spec->config : "");
  module->folder = kind_folder(folder);
  module->root = segue__strdup(options->root);
  module->wait_ms = options->wait_ms;
  module->retry_times = options->retries ? options->retry_times : 0;
  module->retry_pause_ms = options->retry_pause_ms;
  module->verify_ms = options->verified ? options->verify_ms : 0;
  module->drift = (segue__drift_mode)options->drift;
  module->removed = (segue__removed_mode)options->removed;
  if (!module->name || !module->config || !module->folder || (options->root && !module->root))
    return UV_ENOMEM;
  int rc = kind_copy_folder(module, options);
  if (!rc) rc = kind_copy_files(module, options);
  if (!rc) rc = kind_copy_effect(module, options, &options->check, &module->check);
  if (!rc) rc = kind_copy_effect(module, options, &options->apply, &module->apply);
  if (!rc) rc = kind_copy_effect(module, options, &options->undo, &module->undo);
  return rc;
}

static segue__hash kind_hash_text(const char *text, segue__hash seed) {
  return segue__hash_bytes(text ? text : "", text ? strlen(text) + 1 : 0, seed);
}

static segue__hash kind_hash_effects(const segue__file_module *module, segue__hash hash) {
  segue__buf json;
  segue__buf_init(&json);
  segue__effect_write(&module->check, &json);
  segue__effect_write(&module->apply, &json);
  segue__effect_write(&module->undo, &json);
  if (!json.failed) hash = segue__hash_bytes(json.data, json.len, hash);
  segue__buf_deinit(&json);
  return hash;
}

/* A command, a mode, an owner or a template that changed is a reason to replace the module, and so
 * is a text of the policy where its functions render. */
static segue__hash kind_hash(const segue__file_module *module, segue__hash texts) {
  segue__hash hash = {0, 0};
  for (size_t i = 0; i < module->count; i++)
    if (!module->templates[i].path) hash = texts;
  if (module->verify_ms || module->undo.has_call) hash = texts;
  uint64_t numbers[] = {module->verify_ms,      module->wait_ms, module->retry_times,
                        module->retry_pause_ms, module->drift,   module->removed};
  hash = segue__hash_bytes(numbers, sizeof numbers, hash);
  hash = kind_hash_text(module->root, hash);
  if (module->members.path) {
    unsigned of_folder[] = {module->members.mode, module->members.backups};
    hash = segue__hash_bytes(of_folder, sizeof of_folder, hash);
    hash = kind_hash_text(module->members.path, kind_hash_text(module->members.owner, hash));
  }
  for (size_t i = 0; i < module->count; i++) {
    const segue__file_want *file = &module->files[i];
    unsigned rest[] = {file->mode, file->backups, file->replace_link};
    hash = segue__hash_bytes(rest, sizeof rest, hash);
    hash = kind_hash_text(file->owner, kind_hash_text(file->to, hash));
    hash = segue__hash_bytes(&module->templates[i].hash, sizeof(segue__hash), hash);
  }
  return kind_hash_effects(module, hash);
}

static void kind_free(void *module) {
  segue__file_module_unref(module);
}

/* The functions of the policy, and a check that names files, are of no use to a module that has
 * none. */
static int kind_make_removal(segue__file_module *of, const segue__files_options *options,
                             const segue__module_spec *spec, const char *folder) {
  segue__files_options none = *options;
  segue__file_module *module = segue__calloc(1, sizeof *module);
  if (!module) return UV_ENOMEM;
  module->refs = 1;
  module->renderer = of->renderer;
  module->world = of->world;
  of->world->refs++;
  none.count = 0;
  none.verified = false;
  if (segue__check_names_files(&none.check)) none.check = (segue__effect){0};
  if (none.undo.has_call) none.undo = (segue__effect){0};
  int rc = kind_fill(module, &none, spec, folder);
  if (!rc) of->removal = segue__file_removal_new(module);
  segue__file_module_unref(module);
  return of->removal ? 0 : UV_ENOMEM;
}

/* A check that sees the staged files in their places mounts them, which root alone may do for
 * another user. A daemon that had loaded such a policy would notice at its first change only. */
static int kind_users(const segue__file_module *module, segue_error *err) {
  const segue__file_world *world = module->world;
  const segue__effect *const effects[] = {&module->check, &module->apply, &module->undo};
  static const char *const names[] = {"check", "apply", "undo"};
  if (!world || world->simulation || world->capture) return 0;
  for (size_t i = 0; i < sizeof effects / sizeof *effects; i++) {
    if (!effects[i]->user || (i && segue__file_book_rehearses(world->book)))
      continue; /* a plan runs the check only */
    bool mounts = !i && !segue__check_names_files(effects[i]);
    if (mounts ? geteuid() == 0 : segue__user_may_change()) continue;
    return segue__errorf(err, SEGUE_ECONFIG,
                         "module '%s': %s: the option user needs a segue that runs as root: run it "
                         "as root, or remove the option",
                         module->name, names[i]);
  }
  return 0;
}

int segue__file_module_resolve(segue__file_world *world, const void *options,
                               const segue__file_module_place *place, segue__module_spec *spec,
                               segue_error *err) {
  static const segue_module_ops nothing = {.size = sizeof nothing};
  segue__file_module *module = segue__calloc(1, sizeof *module);
  if (!module) return segue__errorf(err, UV_ENOMEM, "module '%s': out of memory", spec->name);
  module->refs = 1;
  module->renderer = *place->renderer;
  module->world = world;
  if (world) world->refs++;
  int rc = kind_fill(module, options, spec, place->folder);
  if (!rc && world) rc = kind_make_removal(module, options, spec, place->folder);
  if (rc)
    segue__errorf(err, rc, "module '%s': out of memory", spec->name);
  else
    rc = kind_users(module, err);
  if (!rc) rc = kind_load_templates(module, options, place, err);
  if (rc) {
    segue__file_module_unref(module);
    return rc;
  }
  spec->ops = world ? &segue__file_module_ops : &nothing;
  if (world) spec->action = &segue__action_files;
  spec->unapplied = !segue__effect_any(&module->apply);
  spec->userdata = module;
  spec->free = kind_free;
  spec->inputs = kind_hash(module, place->texts);
  spec->removal = module->removal;
  spec->differs = segue__file_module_differs;
  return 0;
}

/* ---- Options ---- */

#define FILE_AT(field) .offset = offsetof(segue__file_options, field)
static const segue_option file_rows[] = {
    {.name = "to",
     .type = SEGUE_OPTION_PATH,
     FILE_AT(to),
     .absent = "name is given",
     .example = "to = \"/etc/nginx/conf.d/upstreams.conf\"",
     .doc = "the file that is written; missing parent folders are created"},
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(name),
     .absent = "to is given",
     .example = "name = \"upstreams.conf\"",
     .doc = "the name of the file in the folder of the module"},
    {.name = "content",
     .type = SEGUE_OPTION_FUNCTION,
     FILE_AT(content),
     .given = 1 + offsetof(segue__file_options, has_content),
     .absent = "template renders the file",
     .signature = "config: segue.Config",
     .example = "content = function(config) return \"...\" end",
     .doc = "returns the text of the file, from the module's part of the configuration"},
    {.name = "template",
     .type = SEGUE_OPTION_PATH,
     FILE_AT(template),
     .absent = "content renders the file",
     .example = "template = \"upstreams.tmpl\"",
     .doc = "a template in the language of Go, which gets the module's part of the configuration"},
    {.name = "language",
     .type = SEGUE_OPTION_CHOICE,
     FILE_AT(language),
     .given = 1 + offsetof(segue__file_options, has_language),
     .choices = SEGUE__TEMPLATE_LANGUAGES,
     .fallback = "go",
     .doc = "the language of the template; etlua: a text with Lua between <% and %>"},
    {.name = "functions",
     .type = SEGUE_OPTION_CHOICE,
     FILE_AT(functions),
     .given = 1 + offsetof(segue__file_options, has_functions),
     .choices = SEGUE__TEMPLATE_DIALECTS,
     .fallback = "segue",
     .example = "functions = \"segue\", helpers = \"funcs.lua\" for functions of your own",
     .doc = "the functions that the template may call"},
    {.name = "helpers",
     .type = SEGUE_OPTION_PATH,
     FILE_AT(helpers),
     .absent = "no functions of your own",
     .example = "helpers = \"funcs.lua\"",
     .doc = "a Lua file that returns a table of more functions for the template"},
    {.name = "keys",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(keys),
     .absent = "the whole configuration",
     .example = "keys = \"web\"",
     .doc = "the part of the configuration, or of the source, that functions such as key, service "
            "and getv read"},
    {.name = "source",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(source),
     .absent = "the merged configuration",
     .example = "source = \"etcd\"",
     .doc =
         "the name of a source, for one of files its path as it is written: these functions read "
         "what it delivered, whatever other sources put over its values"},
    {.name = "missingkey",
     .type = SEGUE_OPTION_CHOICE,
     FILE_AT(missingkey),
     .given = 1 + offsetof(segue__file_options, has_missingkey),
     .choices = SEGUE__FILE_MISSINGKEY,
     .absent = "zero for consul-template, else default",
     .doc = "a key that the data of the template lacks: no value, the zero value, or an error"},
    {.name = "left_delimiter",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(left),
     .absent = "{{",
     .doc = "the text that begins an action of the template"},
    {.name = "right_delimiter",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(right),
     .absent = "}}",
     .doc = "the text that ends an action of the template"},
    {.name = "mode",
     .type = SEGUE_OPTION_MODE,
     FILE_AT(mode),
     .absent = "of the file that is there, else 0644",
     .doc = "permissions"},
    {.name = "owner",
     .type = SEGUE_OPTION_TEXT,
     FILE_AT(owner),
     .absent = "of the file that is there, else the user of segue",
     .doc = "the owner, as user or user:group; needs root"},
    {.name = "backups",
     .type = SEGUE_OPTION_COUNT,
     FILE_AT(backups),
     .max = 100,
     .absent = "none",
     .doc = "how many replaced versions stay, as .NAME.backup-1 and so on"},
    {.name = "link",
     .type = SEGUE_OPTION_SWITCH,
     FILE_AT(replace_link),
     .choices = "follow|replace",
     .fallback = "follow",
     .doc = "where the file is a symbolic link: write its target, or put a file in its place"},
};
/* A name goes into messages, JSON and commands, as a destination does. */
static bool file_name_is_odd(const char *name) {
  uint32_t code;
  for (size_t i = 0, len = strlen(name); i < len; i++)
    if (segue__printable_odd(name + i, len - i, &code) &&
        ((unsigned char)name[i] < 0x80 || (name[i] & 0xc0) != 0x80))
      return true;
  return false;
}

static void file_check_place(const segue__file_options *file, segue_option_report *report) {
  if (!file->to && !file->name)
    segue_option_wrong(report, NULL,
                       "needs the option to: to = \"/etc/nginx/conf.d/upstreams.conf\"; or name, "
                       "in a module with a folder");
  if (file->to && file->name)
    segue_option_wrong(report, "name", "cannot stand beside to: remove one of them");
  if (!file->name) return;
  if (!*file->name || strchr(file->name, '/') || !strcmp(file->name, ".") ||
      !strcmp(file->name, ".."))
    segue_option_wrong(report, "name", "must be a name in the folder, without /");
  else if (file_name_is_odd(file->name))
    segue_option_wrong(report, "name",
                       "has a control character, or a byte that is not UTF-8: use a name without");
  if (segue_option_given(report, "backups"))
    segue_option_wrong(
        report, "backups",
        "has no effect with name: folder = { \"...\", backups = 2 } is for all files "
        "of the folder");
  if (segue_option_given(report, "link"))
    segue_option_wrong(report, "link", "has no effect with name");
}

/* One of content and template renders a file; the other options are for templates. */
static void file_check(void *options, segue_option_report *report) {
  const segue__file_options *file = options;
  file_check_place(file, report);
  const struct {
    const char *name;
    bool given;
  } of_template[] = {{"functions", file->has_functions},
                     {"missingkey", file->has_missingkey},
                     {"keys", file->keys != NULL},
                     {"source", file->source != NULL},
                     {"language", file->has_language},
                     {"helpers", file->helpers != NULL},
                     {"left_delimiter", file->left != NULL},
                     {"right_delimiter", file->right != NULL}},
    of_go[] = {{"missingkey", file->has_missingkey},
               {"left_delimiter", file->left != NULL},
               {"right_delimiter", file->right != NULL}};
  if (!file->template && !file->has_content)
    segue_option_wrong(report, NULL,
                       "needs the option template or content: template = \"upstreams.tmpl\"");
  if (file->template && file->has_content)
    segue_option_wrong(report, "content", "cannot stand beside template: remove one of them");
  for (size_t i = 0; i < sizeof of_template / sizeof *of_template && !file->template; i++)
    if (of_template[i].given)
      segue_option_wrong(report, of_template[i].name, "has an effect only with template");
  bool etlua = file->has_language && file->language == 1;
  for (size_t i = 0; i < sizeof of_go / sizeof *of_go && file->template && etlua; i++)
    if (of_go[i].given)
      segue_option_wrong(report, of_go[i].name, "has an effect only in the language go");
}

static const segue_option_table file_table = {SEGUE_OPTION_ROWS(segue__file_options, file_rows),
                                              .check = file_check, .name = "rendered file",
                                              .doc = "A file of a module of the kind files."};

#define FILES_AT(field) .offset = offsetof(segue__files_options, field)
static const segue_option folder_rows[] = {
    {.name = "path",
     .type = SEGUE_OPTION_PATH,
     FILES_AT(folder),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "folder = \"/etc/nginx/segue.d\"",
     .doc = "the place of the symbolic link"},
    {.name = "mode",
     .type = SEGUE_OPTION_MODE,
     FILES_AT(folder_mode),
     .absent = "0755",
     .doc = "permissions of the folder"},
    {.name = "owner",
     .type = SEGUE_OPTION_TEXT,
     FILES_AT(folder_owner),
     .absent = "the user of segue",
     .doc = "the owner of the folder, as user or user:group; needs root"},
    {.name = "backups",
     .type = SEGUE_OPTION_INTEGER,
     FILES_AT(folder_backups),
     .max = 100,
     .fallback = "1",
     .doc = "how many replaced folders stay, as links .NAME.backup-1 and so on; a program that has "
            "opened a folder can read it as long as it stays"},
};
/* The content of a folder is compared with the hash in its name, so that its owner must be able to
 * read it. */
static void folder_check(void *options, segue_option_report *report) {
  const segue__files_options *files = options;
  const char *name = files->folder ? strrchr(files->folder, '/') : NULL;
  name = name ? name + 1 : files->folder;
  if (segue_option_given(report, "mode") && (files->folder_mode & 0500) != 0500)
    segue_option_wrong(report, "mode",
                       "must let the owner read and enter the folder: 0755, or at least 0500");
  if (name && (!strcmp(name, ".") || !strcmp(name, "..")))
    segue_option_wrong(report, "path", "must end with a name: segue makes a symbolic link there");
}

static const segue_option_table folder_table = {
    SEGUE_OPTION_ROWS(segue__files_options, folder_rows), .name = "folder of rendered files",
    .positional = "path", .check = folder_check, .doc = "A folder whose files change by one step."};

static const segue_option retry_rows[] = {
    {.name = "times",
     .type = SEGUE_OPTION_COUNT,
     FILES_AT(retry_times),
     .max = 100,
     .fallback = "3",
     .doc = "how often apply is run again after a failure"},
    {.name = "pause",
     .type = SEGUE_OPTION_DURATION,
     FILES_AT(retry_pause_ms),
     .min = 1,
     .fallback = "1s",
     .doc = "the first pause; each following one is twice as long"},
};
static const segue_option_table retry_table = {SEGUE_OPTION_ROWS(segue__files_options, retry_rows),
                                               .name = "apply retry",
                                               .doc = "When apply is run again after a failure."};

static const segue_option files_rows[] = {
    {.name = "files",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &file_table,
     FILES_AT(files),
     .flags = SEGUE_OPTION_REQUIRED,
     .min = 1,
     .unit = "files",
     .example = "files = { { to = \"out.conf\", content = function(config) ... end } }",
     .doc = "the files, which change together"},
    {.name = "folder",
     .type = SEGUE_OPTION_TABLE,
     .table = &folder_table,
     .shorthand = "path",
     .offset = 0,
     .absent = "each file is replaced by itself",
     .example = "folder = \"/etc/nginx/segue.d\"",
     .doc = "a folder that is switched as a whole: a program that reads it never sees files of two "
            "generations. It is a symbolic link to a folder beside it, .NAME.gen-HASH, which has "
            "the files with a name and nothing else, and never changes; the link is replaced. A "
            "real folder in its place is refused"},
    {.name = "root",
     .type = SEGUE_OPTION_PATH,
     FILES_AT(root),
     .absent = "any place",
     .doc = "a folder that all files must be in, also where links lead"},
    {.name = "drift",
     .type = SEGUE_OPTION_CHOICE,
     FILES_AT(drift),
     .choices = "report|restore|adopt",
     .fallback = "report",
     .doc = "where another program changes one of the files: report it, and keep it as a copy when "
            "the module changes next; or restore: keep a copy, write the file again at once and "
            "apply; or adopt: leave it until the rendered content changes"},
    {.name = "removed",
     .type = SEGUE_OPTION_CHOICE,
     FILES_AT(removed),
     .choices = "keep|remove|restore",
     .fallback = "keep",
     .doc = "where the policy no longer has one of the files, or the module: the file stays, which "
            "is logged; or it is removed; or the version from before the first write of segue is "
            "back, or no file if there was none. A change of another program is kept as a copy"},
    {.name = "check",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__check_options,
     .shorthand = "shell",
     FILES_AT(check),
     .absent = "no check",
     .doc = "a command that must succeed before anything is replaced; it sees the new files in the "
            "place of the live ones, or names them as {staged:PATH}. A list is the program and its "
            "arguments, a single text a line for the shell"},
    {.name = "apply",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__apply_options,
     .shorthand = "shell",
     FILES_AT(apply),
     .absent = "nothing",
     .doc = "a command, segue.hup, segue.send_signal or segue.post: runs once after all files are "
            "in place, and again after an undo; if it fails, the reload is undone"},
    {.name = "verify",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__probe_options,
     .offset = 0,
     .given = 1 + offsetof(segue__files_options, verified),
     .shorthand = "call",
     .signature = "fun(): boolean?, string?",
     .absent = "an apply that succeeds is enough",
     .doc = "a function, or one of segue.verify or segue.probe, that decides whether the server "
            "really uses the files; it is asked again until it returns true, and else the reload "
            "is undone"},
    {.name = "verify_within",
     .type = SEGUE_OPTION_DURATION,
     FILES_AT(verify_ms),
     .min = 1,
     .fallback = "10s",
     .doc = "how long verify is asked"},
    {.name = "undo",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__undo_options,
     .shorthand = "shell",
     FILES_AT(undo),
     .absent = "apply runs again",
     .doc = "a command, segue.hup, segue.send_signal, segue.post or a function: runs in an undo in "
            "place of apply, when the previous files are back"},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     FILES_AT(timeout_ms),
     .min = 1,
     .fallback = "10s",
     .doc = "time limit of check, apply and undo, each"},
    {.name = "wait",
     .type = SEGUE_OPTION_DURATION,
     FILES_AT(wait_ms),
     .fallback = "10s",
     .doc = "how long a reload waits for sources to deliver values that are missing and that "
            "templates request by name, such as service \"x\"; then its outcome is held"},
    {.name = "retry",
     .type = SEGUE_OPTION_TABLE,
     .table = &retry_table,
     .offset = 0,
     .given = 1 + offsetof(segue__files_options, retries),
     .flags = SEGUE_OPTION_TRUE,
     .absent = "a failure undoes the reload at once",
     .doc = "when apply is run again"},
};
static void files_check_folder(segue__files_options *files, segue_option_report *report) {
  size_t members = 0;
  for (size_t i = 0; i < files->count; i++)
    members += files->files[i].name != NULL;
  if (members && !files->folder)
    segue_option_wrong(
        report, "files",
        "has a file with a name, which needs the option folder of the module: folder "
        "= \"/etc/nginx/segue.d\"");
  if (!members && files->folder)
    segue_option_wrong(report, "folder",
                       "has no file: give a file in it a name: { name = \"a.conf\", ... }");
  size_t len = files->folder ? strlen(files->folder) : 0;
  while (len > 1 && files->folder[len - 1] == '/')
    files->folder[--len] = 0;
  for (size_t i = 0; len && i < files->count; i++) {
    const char *to = files->files[i].to;
    if (!to || strncmp(to, files->folder, len) != 0 || to[len] != '/') continue;
    segue_option_wrong(report, "files",
                       "has a file whose option to is in the folder of the module: give it a name "
                       "instead, { name = \"a.conf\", ... }");
    return;
  }
}

static void files_check(void *options, segue_option_report *report) {
  segue__files_options *files = options;
  files_check_folder(files, report);
  if (segue_option_given(report, "verify_within") && !files->verified)
    segue_option_wrong(report, "verify_within", "has an effect only with verify");
  if (segue_option_given(report, "undo") && !segue__effect_any(&files->apply))
    segue_option_wrong(report, "undo", "has an effect only with apply");
}

const segue_option_table segue__file_module_options = {
    SEGUE_OPTION_ROWS(segue__files_options, files_rows), .check = files_check, .name = "files",
    .doc = "Files that are rendered from the configuration, and a command that applies them."};

/* SPDX-License-Identifier: MIT
 *
 * Modules that a policy no longer has. A step of the change set drops each of them. The step has a
 * module without declared files; its set contains the files that are in the book. They are removed,
 * kept or restored as the option `removed` states, and the command of apply runs again. A module
 * that was dropped while no process ran is found only in the book: its commands are not known, so
 * no command runs after its files are removed.
 */
#include <string.h>
#include <uv.h>

#include "module.h"

/* ---- The step that drops a module ---- */

segue__module_spec *segue__file_removal_new(segue__file_module *module) {
  segue__module_spec *spec = segue__calloc(1, sizeof *spec);
  if (!spec) return NULL;
  *spec = (segue__module_spec){.name = module->name,
                               .kind = "files",
                               .config = "",
                               .ops = &segue__file_module_ops,
                               .userdata = module,
                               .action = &segue__action_files_remove,
                               .unapplied = !segue__effect_any(&module->apply)};
  module->refs++;
  return spec;
}

void segue__file_removal_free(segue__module_spec *removal) {
  if (removal) segue__file_module_unref(removal->userdata);
  segue__free(removal);
}

/* ---- Modules of the book ---- */

void segue__file_world_clear_leftovers(segue__file_world *world) {
  for (size_t i = 0; i < world->leftover_count; i++)
    segue__file_removal_free(world->leftovers[i]);
  segue__free(world->leftovers);
  world->leftovers = NULL;
  world->leftover_count = 0;
}

/* The book stores the mode of each file. All files of a module have the same mode, so the first one
 * decides. */
static int leftover_mode(segue__file_world *world, const char *name, segue__removed_mode *out) {
  segue__owned_files files = {0};
  int rc = segue__file_book_owned(world->book, name, &files);
  *out = files.count ? files.items[0].removed : SEGUE__REMOVED_KEEP;
  segue__owned_files_deinit(&files);
  return rc;
}

static segue__module_spec *leftover_make(segue__file_world *world, const char *name) {
  segue__file_module *module = segue__calloc(1, sizeof *module);
  if (!module) return NULL;
  module->refs = 1;
  module->world = world;
  int rc = leftover_mode(world, name, &module->removed);
  module->name = segue__strdup(name);
  module->folder = segue__strdup("/");
  module->config = segue__strdup("");
  segue__module_spec *spec = !rc && module->name && module->folder && module->config
                                 ? segue__file_removal_new(module)
                                 : NULL;
  world->refs++;
  segue__file_module_unref(module);
  return spec;
}

static bool leftover_stays(const segue__policy *next, const char *name) {
  const segue__module_spec *spec = segue__policy_module(next, name);
  return spec && !strcmp(spec->kind, "files");
}

/* If memory is short, the modules stay as they are: no file passes from one to another. */
static void leftover_stay(segue__file_world *world, const segue__policy *next) {
  segue__names names = {0};
  int rc = 0;
  for (size_t i = 0; i < next->module_count && !rc; i++)
    if (leftover_stays(next, next->modules[i].name))
      rc = segue__names_add(&names, "", 0, next->modules[i].name);
  if (!rc) segue__file_book_stay(world->book, &names);
  segue__names_deinit(&names);
}

/* A module that is missed because memory is short is found by the next reload. A module that is of
 * another kind now keeps its files: its name has a step already. */
static const segue__module_spec *const *leftover_list(void *data, const segue__policy *next,
                                                      size_t *count) {
  segue__file_world *world = data;
  segue__names owners = {0};
  segue__file_world_clear_leftovers(world);
  if (world->book) leftover_stay(world, next);
  if (world->book) (void)segue__file_book_owners(world->book, &owners);
  if (owners.count) world->leftovers = segue__calloc(owners.count, sizeof *world->leftovers);
  for (size_t i = 0; world->leftovers && i < owners.count; i++) {
    if (segue__policy_module(next, owners.items[i])) continue;
    segue__module_spec *spec = leftover_make(world, owners.items[i]);
    if (spec) world->leftovers[world->leftover_count++] = spec;
  }
  segue__names_deinit(&owners);
  *count = world->leftover_count;
  return (const segue__module_spec *const *)world->leftovers;
}

segue__leftovers_ops segue__file_world_leftovers(segue__file_world *world) {
  return (segue__leftovers_ops){leftover_list, world};
}

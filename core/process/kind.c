/* SPDX-License-Identifier: MIT
 *
 * The kind "process": a module from the options of a policy.
 */
#include "kind.h"

#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "kind_internal.h"

enum { MORE_MS = 5000, EXTENSIONS = 10 };

/* ---- The shared state ---- */

void segue__process_world_unref(segue__process_world *world) {
  if (--world->refs) return;
  while (world->records) {
    segue__process_record *record = world->records;
    world->records = record->next;
    segue__free(record->name);
    segue__free(record);
  }
  segue__free(world->folder);
  segue__free(world);
}

int segue__process_world_new(segue__process_world **out, segue__loop *loop,
                             const segue__logger *log, const segue__os *os, const char *folder) {
  segue__process_world *world = segue__calloc(1, sizeof *world);
  *out = NULL;
  if (!world) return UV_ENOMEM;
  *world = (segue__process_world){.refs = 1, .loop = loop, .log = log, .os = os};
  world->folder = segue__strdup(folder);
  if (folder && !world->folder) {
    segue__process_world_unref(world);
    return UV_ENOMEM;
  }
  *out = world;
  return 0;
}

/* A job that hangs in the disk may end later, when there is nothing left to log to. */
void segue__process_world_close(segue__process_world *world) {
  if (!world) return;
  world->log = NULL;
  segue__process_world_unref(world);
}

static segue__process_record *kind_record(segue__process_world *world, const char *name) {
  segue__process_record *record = world->records;
  while (record && strcmp(record->name, name) != 0)
    record = record->next;
  if (record) return record;
  record = segue__calloc(1, sizeof *record);
  if (record && !(record->name = segue__strdup(name))) {
    segue__free(record);
    return NULL;
  }
  if (!record) return NULL;
  record->next = world->records;
  return world->records = record;
}

/* ---- A module ---- */

void segue__process_module_unref(segue__process_module *module) {
  if (!module || --module->refs) return;
  segue__options_clear(&segue__process_kind_table, &module->options);
  segue__free(module->name);
  segue__free(module->config);
  segue__free(module->folder);
  if (module->world) segue__process_world_unref(module->world);
  segue__free(module);
}

static void kind_free(void *userdata) {
  segue__process_module_unref(userdata);
}

/* A child is started in the folder of the policy, and its program may be named relative to it. */
static char *kind_folder(const char *folder) {
  char current[4096];
  size_t size = sizeof current;
  segue__buf text;
  if (*folder == '/') return segue__strdup(folder);
  if (uv_cwd(current, &size)) return NULL;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s%s%s", current, *folder ? "/" : "", folder);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

static segue__hash kind_hash(const segue_node *node, const char *const *names) {
  segue__hash hash = {2, 2};
  for (size_t i = 0; names[i]; i++) {
    const segue_node *member = segue_node_member(node, names[i]);
    const segue__hash of = member ? segue__node_hash(member) : (segue__hash){0, 0};
    hash = segue__hash_bytes(&of, sizeof of, hash);
  }
  return hash;
}

/* Options of all modules that have no meaning for a program of others, or another one here. */
static int kind_refuse(const segue_node *node, const segue__module_spec *spec, segue_error *err) {
  static const struct {
    const char *name, *remedy;
  } refused[] = {{"listen", "the child opens its own addresses"},
                 {"start", "use ready = { within = ... }"},
                 {"stop", "use kill_after"},
                 {"buffer", "no calls wait for a child"},
                 {"on_failure", "no calls wait for a child"}};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
    if (segue_node_member(node, refused[i].name))
      return segue__errorf(err, SEGUE_EPOLICY, "%s has no effect with kind = \"process\": %s",
                           refused[i].name, refused[i].remedy);
  if (spec->replace_given && spec->replace == SEGUE__SWAP)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "replace must be \"restart\" or \"handover\" with kind = \"process\"");
  return 0;
}

static int kind_fill(segue__process_module *module, const segue__module_spec *spec,
                     const char *folder) {
  module->name = segue__strdup(spec->name);
  module->config = segue__strdup(spec->config ? spec->config : "");
  module->folder = kind_folder(folder);
  if (module->world) module->record = kind_record(module->world, spec->name);
  return module->name && module->config && module->folder && (module->record || !module->world)
             ? 0
             : UV_ENOMEM;
}

static const segue_module_ops kind_nothing = {.size = sizeof kind_nothing};

int segue__process_module_resolve(segue__process_world *world, segue__process_kind_options *options,
                                  const segue_node *node, const char *folder,
                                  segue__module_spec *spec, segue_error *err) {
  static const char *const launch[] = {"argv",   "env",     "cwd",    "user",     "user_group",
                                       "umask",  "rlimits", "nice",   "oom",      "slice",
                                       "stdout", "sockets", "stderr", "watchdog", NULL};
  int rc = kind_refuse(node, spec, err);
  if (rc) return rc;
  rc = segue__child_sockets_check(options, spec->replace_given && spec->replace == SEGUE__HANDOVER,
                                  err);
  if (rc) return rc;
  if (world && !world->folder && options->slice == SEGUE__SLICE_FILE)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "slice = \"file\" needs a state folder: use \"stdin\" or \"env\"");
  segue__process_module *module = segue__calloc(1, sizeof *module);
  if (!module) return segue__errorf(err, UV_ENOMEM, "out of memory");
  module->refs = 1;
  module->options = *options;
  memset(options, 0, sizeof *options);
  module->launch = kind_hash(node, launch);
  module->world = world;
  if (world) world->refs++;
  rc = kind_fill(module, spec, folder);
  if (rc) {
    segue__process_module_unref(module);
    return segue__errorf(err, rc, "out of memory");
  }
  const segue__process_kind_options *o = &module->options;
  spec->userdata = module;
  spec->free = kind_free;
  spec->ops = world ? &segue__process_module_ops : &kind_nothing;
  spec->options = segue__node_hash(node);
  spec->start_ms = o->ready.within_ms * EXTENSIONS + o->kill_ms + MORE_MS;
  spec->stop_ms = o->kill_ms + MORE_MS;
  spec->choose = segue__process_choose;
  if (!spec->replace_given) spec->replace = SEGUE__RESTART;
  spec->replace_given = true;
  return 0;
}

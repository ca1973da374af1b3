/* SPDX-License-Identifier: MIT
 *
 * kind.h: the kind of module "files", for the rest of the program. Its action has effects outside
 * memory: files are moved into place and a command runs at the commit. Control thread.
 */
#ifndef SEGUE_FILES_KIND_H
#define SEGUE_FILES_KIND_H

#include "../config/touched.h"
#include "../record/file_report.h"
#include "../reload/action.h"
#include "../reload/policy.h"
#include "../reload/wants.h"
#include "set.h"

/* The dialects of templates, sets of functions: the option `functions`, and the names that
 * lua/segue/template/dialects.lua has functions for. */
#define SEGUE__TEMPLATE_DIALECTS "segue|confd|consul-template|sprig|go"

/* The languages of templates: the option `language`, and lua/segue/template/command.lua. */
#define SEGUE__TEMPLATE_LANGUAGES "go|etlua"

/* The record of the versions that were written last, in the state folder. */
#define SEGUE__FILES_RECORD "files.json"

/* The files of one instance of segue: what its modules share. */
typedef struct segue__file_world segue__file_world;
/* record: the file of the versions that were written last (book.h); NULL: none. loop, log and os
 * are borrowed. Call close when all modules are gone; the loop may still have jobs of it. */
int segue__file_world_new(segue__file_world **out, segue__loop *loop, const segue__logger *log,
                          const segue__os *os, const char *record);
void segue__file_world_close(segue__file_world *world); /* NULL allowed */
/* Notices from now on what other programs do to the files of settled sets. unwatch: before the
 * engine is freed; cb runs when that has ended. */
typedef struct segue__engine segue__engine;
int segue__file_world_watch(segue__file_world *world, segue__engine *engine);
void segue__file_world_unwatch(segue__file_world *world, void (*cb)(void *data), void *data);
/* Nothing is locked, the record is not written, and staged files of other processes stay: for a
 * plan beside a daemon that owns the files. */
void segue__file_world_rehearse(segue__file_world *world);
/* Files are in memory (simulation.h), and effects go to outside, which is borrowed: for
 * segue.testing.
 */
typedef struct segue__file_store segue__file_store;
typedef struct segue__effect_outside segue__effect_outside;
int segue__file_world_simulate(segue__file_world *world, const segue__file_store *store,
                               const segue__effect_outside *outside);
/* The outcomes of effects are added to answers while an incident is recorded. */
typedef struct segue__answers segue__answers;
void segue__file_world_record(segue__file_world *world, segue__answers *answers);
/* The names that templates of its modules request; for the engine. */
segue__wants *segue__file_world_wants(segue__file_world *world);

/* Modules whose files are in the record, and that a policy does not have; for the engine. */
segue__leftovers_ops segue__file_world_leftovers(segue__file_world *world);

/* Gives each rendered file to fn instead of staging it, which may fail: so no check runs. */
void segue__file_world_capture(segue__file_world *world, segue__file_capture *fn, void *data);
/* Compares the files of all modules with what was written last. done runs once, later; its report
 * is NULL if the loop closes, and may not be kept. On failure it does not run. */
int segue__file_world_report(segue__file_world *world,
                             void (*done)(void *data, segue__file_report *report), void *data);
/* The number of modules that have files, and of their files. */
void segue__file_world_totals(const segue__file_world *world, size_t *modules, size_t *files);

/* A file that is being rendered. */
typedef struct segue__rendering segue__rendering;
struct segue__rendering {
  /* Set by the caller. Runs once, perhaps before render returned. data is borrowed. */
  void (*done)(segue__rendering *rendering, int status, const char *data, size_t len,
               const segue_error *error);
  void *private; /* of the renderer */
  /* Of a template, set before done runs, which borrows them. */
  const segue__touched *touched; /* what it has read; NULL: not known */
  bool reused;                   /* nothing of that has changed: it was not rendered again */
};

/* The merged documents of the sources that templates of a module name; for the next configuration,
 * where those documents are often the same. */
typedef struct segue__source_views {
  struct segue__source_view {
    const char *source; /* of a template */
    segue__config *merged;
  } * items;
  size_t count;
} segue__source_views;

/* A template, with its text as it was when the policy was loaded. */
typedef struct segue__file_template {
  char *path, *text; /* path NULL: there is no template */
  size_t len;
  const char *language;         /* a constant */
  char *functions;              /* the dialect */
  char *helpers_path, *helpers; /* a file of functions in Lua, and its text; NULL: none */
  size_t helpers_len;
  const char *missingkey; /* a constant; NULL: the default of the dialect */
  char *left, *right;     /* delimiters; NULL: those of Go */
  const char *config;     /* path of the module's part of the configuration */
  char *source; /* functions read what this source delivered; NULL: the merged configuration */
  segue__source_views *views; /* of its module */
  char *keys;                 /* path of what functions read in that; NULL: all of it */
  segue__hash hash;           /* of all of it */
} segue__file_template;
/* The roots of what it has touched; each may be NULL: there is nothing. */
const segue_node *segue__file_template_part(const segue__file_template *template,
                                            const segue_snapshot *snapshot);
/* UV_ENOMEM: what a source delivered cannot be merged. Control thread. */
int segue__file_template_keys(const segue__file_template *template, const segue_snapshot *snapshot,
                              const segue_node **out);
/* Appends a path that a function has read as it is in the whole configuration. */
void segue__file_template_name(const segue__file_template *template, const char *path,
                               segue__buf *out);

/* The renderer of the files of a policy: the Lua functions that it names, and templates. */
typedef struct segue__renderer {
  /* template NULL: the function `content` of the file renders. template and next are borrowed until
   * done runs. */
  void (*render)(void *impl, const char *module, size_t index, const segue__file_template *template,
                 const segue_slice *next, segue__rendering *rendering);
  /* Calls a function of a module: "before", "verify" or "undo". done runs later, with status 0 if
   * it returned true, with SEGUE_EPROBE if it returned nil and a reason. verify gets what before
   * returned last. A function that the policy does not have succeeds. On failure done does not
   * run. */
  int (*call)(void *impl, const char *module, const char *function, uint64_t limit_ms,
              segue__rendering *rendering, segue_error *err);
  /* done runs as soon as the rendering or the call can end; its result is ignored. */
  void (*cancel)(void *impl, segue__rendering *rendering);
  void *impl;
} segue__renderer;

/* The surroundings of a module that is resolved. */
typedef struct segue__file_module_place {
  const segue__os *os;   /* reads templates */
  segue__policy *policy; /* templates become inputs of it */
  const char *folder;    /* of the policy */
  const segue__renderer *renderer;
  segue__hash texts; /* hash of the policy's own files, whose functions render */
} segue__file_module_place;

/* Makes the spec of a module: operations, action, input hash. world NULL: the module does nothing.
 * options: the struct that segue__file_module_options filled. */
int segue__file_module_resolve(segue__file_world *world, const void *options,
                               const segue__file_module_place *place, segue__module_spec *spec,
                               segue_error *err);
extern const segue_option_table segue__file_module_options;
extern const segue__action segue__action_files;
extern const segue__action segue__action_files_remove; /* of a module that is dropped */

#endif

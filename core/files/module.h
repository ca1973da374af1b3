/* SPDX-License-Identifier: MIT
 *
 * module.h: what kind.c, module.c, action.c and recovery.c share: a module of the kind "files" and
 * its instances.
 */
#ifndef SEGUE_FILES_MODULE_H
#define SEGUE_FILES_MODULE_H

#include "../record/file_change.h"
#include "effect.h"
#include "kind.h"
#include "world.h"

typedef struct segue__file_options {
  char *to, *name, *owner; /* one of to and name: name is in the folder of the module */
  unsigned mode;
  uint64_t backups;
  bool replace_link;
  int content; /* a function; has_content: it is given */
  char *template, *left, *right, *keys, *helpers, *source;
  int functions, missingkey, language; /* indexes of choices */
  bool has_content, has_functions, has_missingkey, has_language;
} segue__file_options;

typedef struct segue__files_options {
  segue__file_options *files;
  size_t count;
  char *folder, *folder_owner; /* folder NULL: there is none */
  unsigned folder_mode;
  int64_t folder_backups;
  char *root;
  segue__effect check, apply, undo;
  uint64_t timeout_ms, wait_ms, retry_times, retry_pause_ms, verify_ms;
  bool retries, verified;
  int drift;   /* segue__drift_mode */
  int removed; /* segue__removed_mode */
} segue__files_options;

/* A module, as its policy declares it. Counted, because instances outlive policies. */
typedef struct segue__file_module {
  int refs;
  segue__file_world *world;
  char *name, *folder;
  segue__renderer renderer;
  segue__file_want *files;         /* to and owner are owned; data is NULL */
  segue__file_template *templates; /* one for each file */
  segue__source_views views;       /* that they read */
  size_t count;
  segue__file_folder members; /* strings are owned */
  char *root, *config;
  segue__effect check, apply, undo; /* with their folders and time limits */
  uint64_t wait_ms, retry_times, retry_pause_ms;
  uint64_t verify_ms; /* time limit of the calls of verify; 0: there is no verify */
  bool planning;      /* the instance that is built now is one of a plan */
  segue__drift_mode drift;
  segue__removed_mode removed;
  segue__module_spec *removal; /* the module without files, which drops them; NULL: it is that */
} segue__file_module;
void segue__file_module_unref(segue__file_module *module);

/* leftover.c: the spec of the step that drops a module. `module` has no files; the spec owns a
 * reference of it. NULL: no memory. */
segue__module_spec *segue__file_removal_new(segue__file_module *module);
void segue__file_removal_free(segue__module_spec *removal); /* NULL allowed */

/* template.c: reads the template of a file, if it has one, and makes it an input of the policy. */
int segue__file_template_load(segue__file_template *template, const segue__file_options *options,
                              const segue__file_module_place *place, segue_error *err);
void segue__file_template_clear(segue__file_template *template);
void segue__source_views_deinit(segue__source_views *views);
/* "segue|confd|..." of the options functions and missingkey. */
#define SEGUE__FILE_MISSINGKEY "default|zero|error|invalid"

/* A generation of the module's files. */
typedef struct segue__file_instance {
  segue__file_module *module;
  segue__shared_set *shared;
  segue_op *op;                   /* of prepare */
  const segue_slice *next, *prev; /* while it is prepared */
  size_t rendered;
  segue__touched *touched; /* of each file that is a template */
  uint64_t renders, reuses;
  bool rendering_now, cancelled;
  bool waits;              /* a file needs a value that is missing */
  bool committed, applied; /* these have begun */
  segue__rendering rendering;
  segue__effect_run *command; /* the check */
  segue__effect_run *apply;   /* of a commit or an undo */
  struct segue__ask *ask;     /* a function of a commit or an undo */
  uint64_t apply_since_ms, check_since_ms;
  bool hurried; /* the process stops: apply is not tried again */
  char check_folder[64];
  bool planned;                /* it is one of a plan */
  segue__file_changes preview; /* of its staged set, until a result has taken it */
} segue__file_instance;
extern const segue_module_ops segue__file_module_ops;
/* The path of a value that a template of the instance has read by a function, and that is another
 * one in next; NULL: none. */
const char *segue__file_module_differs(const void *object, const segue_snapshot *next);
/* The options of an effect of this module; the caller adds the callback, and tries if it wants
 * them. The result borrows from its arguments. */
segue__effect_options segue__file_module_effect(const segue__file_module *module, const char *title,
                                                const segue__effect *effect);

/* A job of the queue "files" on a set; `done` always runs, on the control thread: with
 * SEGUE_ECANCELLED if the loop closes before the job ran. */
typedef struct segue__set_work segue__set_work;
struct segue__set_work {
  segue__job job;
  segue__shared_set *shared; /* a reference */
  int (*run)(segue__file_set *set, segue_error *err);
  void (*done)(void *data, int status, const segue_error *error);
  void *data;
  int status;
  segue_error error;
};
void segue__set_work_start(segue__shared_set *shared,
                           int (*run)(segue__file_set *set, segue_error *err),
                           void (*done)(void *data, int status, const segue_error *error),
                           void *data);

#endif

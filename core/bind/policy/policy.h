/* SPDX-License-Identifier: MIT
 *
 * policy.h: what loader.c, hooks.c and lua_policy.c share: one loaded policy.
 */
#ifndef SEGUE_BIND_POLICY_H
#define SEGUE_BIND_POLICY_H

#include "../../os/op.h"
#include "../../reload/engine.h"
#include "../io/async_io.h"
#include "../runtime/state.h"
#include "loader.h"

/* Hooks by number; the names are those in the policy. */
#define SEGUE__HOOKS(X)                                                                            \
  X(CHECK, "check") X(RELOAD, "reload") X(PROBE, "probe") X(STRATEGY, "strategy")
enum {
#define X(name, text) SEGUE__HOOK_##name,
  SEGUE__HOOKS(X)
#undef X
      SEGUE__HOOK_COUNT
};

/* A function of a module of the kind files. */
typedef struct segue__render {
  char *module;
  const char *function; /* "content", "before", "verify" or "undo": a constant */
  size_t index;         /* of the file in its module; of the others 0 */
  int fn;               /* a reference */
  int state;            /* of before: a reference to what it returned last, or LUA_NOREF */
  segue__place place;
} segue__render;

typedef struct segue__loaded segue__loaded;
typedef struct segue__watchers segue__watchers;
struct segue__loaded {
  segue__lua_loader *loader;
  segue__program program;
  segue__lua *lua;
  int hooks[SEGUE__HOOK_COUNT];           /* references */
  segue__place places[SEGUE__HOOK_COUNT]; /* where they are written */
  segue__errors found;                    /* everything the last check found */
  int *trigger_fns;                       /* references: what segue.trigger was given */
  size_t trigger_count;
  struct segue__script *scripts; /* sources that are written in Lua, in order */
  size_t script_count;
  struct segue__source_call *source_calls; /* calls of want and outcome of these sources */
  segue__watchers *watchers;               /* NULL: they do not run */
  segue__render *renders;                  /* functions of modules of files */
  size_t render_count;
  uint64_t check_ms, reload_ms, confirm_within_ms;
  uint64_t last_used; /* when a hook of it last ended, by the loader's count */
  segue__loaded *prev, *next;
};

struct segue__lua_loader {
  segue__loop *loop;
  const segue__logger *log;
  const segue__os *os;
  segue__lua_options options;
  segue__budget *budget;
  segue__library *library;
  segue__async_io *async_io;
  struct segue__templates *templates;
  segue__loaded *loaded;
  uint32_t next_document;
  uint64_t uses;
  segue__buf saved; /* segue.state of a policy that was freed */
  uint64_t saved_use;
};

/* hooks.c: a state that hit a limit is replaced; segue.state survives. */
int segue__loaded_repair(segue__loaded *loaded, segue_error *err);
extern const segue__policy_ops segue__lua_policy_ops;

/* loader.c: evaluates the program in a fresh state; policy NULL: only the hooks are wanted. saved:
 * for segue.state; may be NULL. */
int segue__loaded_evaluate(segue__loaded *loaded, segue__policy *policy, const segue__buf *saved,
                           segue__errors *errors, segue_error *err);
void segue__loaded_free(segue__loaded *loaded);

/* trigger.c. take: inside a call; what the policy returned is at index. */
int segue__watchers_take(lua_State *L, int index, segue__loaded *loaded);
void segue__watchers_start(void *impl, void (*fire)(void *data, const char *cause), void *data);
void segue__watchers_stop(void *impl);

/* files.c. take: inside a call; what the policy returned is at index. */
int segue__renders_take(lua_State *L, int index, segue__loaded *loaded,
                        const segue__policy *policy);
void segue__renders_clear(segue__loaded *loaded);
segue__renderer segue__renderer_of(segue__loaded *loaded);

/* templates.c: the templates of the files of all policies of a loader. Counted: a job that renders
 * holds a reference. */
typedef struct segue__templates segue__templates;
int segue__templates_new(segue__templates **out, segue__loop *loop, const char *lua_dir);
void segue__templates_unref(segue__templates *templates); /* NULL allowed */
/* Renders on a worker; see segue__renderer. */
void segue__templates_render(segue__templates *templates, const segue__file_template *template,
                             const segue_slice *next, segue__rendering *rendering);

/* A source that is written in Lua (lua_source.c). */
typedef struct segue__script {
  int fetch, watch, want, outcome; /* references */
  uint64_t timeout_ms;
} segue__script;
extern const segue__source_kind segue__source_script, segue__source_url;
/* source_call.c: operations of such sources; free: before the Lua state of loaded is freed. */
bool segue__lua_source_want(const segue__source *source, const char *const *names, size_t count);
void segue__lua_source_outcome(const segue__source *source, const segue_source_outcome *outcome);
void segue__source_calls_free(segue__loaded *loaded);
/* Starts a call of want that waits for its turn. */
void segue__source_call_first(const segue__source *source);
/* Of a source in C until it is opened (plugin_source.c). */
extern const segue__source_kind segue__source_plugin;
/* call_options.c: the options of these kinds. */
extern const segue_option_table segue__source_script_options, segue__source_url_options,
    segue__source_plugin_options;

/* kinds.c: finds the source that a host registered, or that a plugin exports, under a name. */
int segue__source_resolve(const segue__lua_options *options, const segue__kind_place *place,
                          const char *name, segue__source *source,
                          const segue_source_descriptor **out, segue_error *err);
/* kinds.c: validates `options` of node by the table of a plugin or a host. Mistakes are added to
 * the errors of place. */
int segue__plugin_options(const segue__kind_place *place, const segue_node *node,
                          const segue_option_table *table, segue__option_values **out);
/* plugin_source.c: opens the source of a plugin in C. node: the policy's table for it. Mistakes in
 * its options are added to the errors of place; any other failure is in err. */
int segue__plugin_source_open(const segue__lua_options *options, const segue__kind_place *place,
                              const segue_node *node, segue__source *source, segue_error *err);

/* lua_policy.c: inside a call. The value at index is the first of `count` that the policy returned.
 * Fills policy, and the functions of loaded; resolve: sources of plugins are opened and modules get
 * their operations too. tree is zeroed, belongs to the caller, and must outlive policy's kinds of
 * modules for the call. Mistakes of the policy are added to errors; any other failure is in err. */
struct segue__lua_tree;
int segue__lua_policy(lua_State *L, int index, int count, segue__loaded *loaded,
                      struct segue__lua_tree *tree, segue__policy *policy, bool resolve,
                      segue__errors *errors, segue_error *err);
/* lua_source.c: a document from the field `value` of the table at index. *out is set before
 * anything is raised, so that it can hang where it is freed. */
int segue__document_extract(lua_State *L, int index, segue__lua_loader *loader, const char *source,
                            const char *file, uint32_t line, segue__document **out,
                            segue_error *err);

#endif

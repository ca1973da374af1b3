/* SPDX-License-Identifier: MIT
 *
 * A module in Lua as its policy declares it: its source texts, read together with the policy, and
 * its limits. Every instance is built from these bytes, also after the files on disk have changed.
 */
#include <string.h>

#include "module.h"

/* Of the kind "lua", beside those of all modules. */
typedef struct code_options {
  char *code;
  uint64_t budget_ms, timeout_ms, memory_bytes;
  bool jit;
} code_options;

#define AT(field) .offset = offsetof(code_options, field)
static const segue_option code_rows[] = {
    {.name = "code",
     .type = SEGUE_OPTION_PATH,
     AT(code),
     .absent = "the name of the module and \".lua\"",
     .doc = "its file"},
    {.name = "budget",
     .type = SEGUE_OPTION_DURATION,
     AT(budget_ms),
     .min = 1,
     .fallback = "100ms",
     .doc = "CPU time of a handler between two waits"},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(timeout_ms),
     .fallback = "60s",
     .doc = "time for a handler to begin its answer; 0: no limit"},
    {.name = "memory",
     .type = SEGUE_OPTION_SIZE,
     AT(memory_bytes),
     .min = 1 << 20,
     .fallback = "64MiB",
     .doc = "limit of each Lua state"},
    {.name = "jit",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(jit),
     .fallback = "false",
     .doc = "compile it; nothing can stop an endless loop then"},
};
#undef AT
static const segue_option_table code_table = {SEGUE_OPTION_ROWS(code_options, code_rows),
                                              .name = "lua", .doc = "A module in Lua."};

segue__module_code *segue__module_code_ref(segue__module_code *code) {
  __atomic_add_fetch(&code->refs, 1, __ATOMIC_RELAXED);
  return code;
}

void segue__module_code_unref(segue__module_code *code) {
  if (!code || __atomic_sub_fetch(&code->refs, 1, __ATOMIC_ACQ_REL)) return;
  segue__program_deinit(&code->program);
  segue__free(code->name);
  segue__free(code->slice);
  segue__free(code);
}

/* Returns the path of a module that names no file: NAME.lua beside the policy. */
static char *code_path_of(const segue__kind_place *place, const char *name) {
  segue__buf out;
  segue__buf_init(&out);
  if (*place->folder) segue__buf_addf(&out, "%s/", strcmp(place->folder, "/") ? place->folder : "");
  segue__buf_addf(&out, "%s.lua", name);
  if (!out.failed) return out.data;
  segue__buf_deinit(&out);
  return NULL;
}

static char *code_folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return !slash ? segue__strdup("") : segue__strndup(path, slash > path ? slash - path : 1);
}

static int load_all(lua_State *L) {
  const segue__program *program = lua_touserdata(L, 1);
  for (size_t i = 0; i < program->count; i++) {
    segue__chunk_load(L, &program->chunks[i]);
    lua_pop(L, 1);
  }
  return 0;
}

/* Compiles the texts in an empty state without running them, to find syntax errors. */
static int check_syntax(const segue__program *program, segue_error *err) {
  lua_State *L = luaL_newstate();
  if (!L) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = lua_cpcall(L, load_all, (void *)program);
  if (rc == LUA_ERRMEM)
    rc = segue__errorf(err, UV_ENOMEM, "out of memory");
  else if (rc) {
    segue__program_message(program, lua_tostring(L, -1), err);
    rc = SEGUE_EPOLICY;
  }
  lua_close(L);
  return rc;
}

static int code_read_texts(segue__module_code *code, const segue__os *os, const char *path,
                           segue_error *err) {
  const segue__chunk *main;
  code->program.folder = code_folder_of(path);
  if (!code->program.folder) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", path);
  int rc = segue__program_add(&code->program, os, NULL, path, &main, err);
  if (!rc) rc = segue__requires_add(&code->program, os, err);
  code->program.sealed = true;
  return rc ? rc : check_syntax(&code->program, err);
}

/* Counters live as long as the kind, not as long as an instance: a counter of Prometheus must not
 * fall when a module is replaced. */
static segue__tally *tally_of(segue__lua_modules *all, const char *name) {
  if (!all) return NULL;
  for (segue__tally *tally = all->tallies; tally; tally = tally->next)
    if (!strcmp(tally->name, name)) return tally;
  size_t size = strlen(name) + 1;
  segue__tally *tally = segue__calloc(1, sizeof *tally + size);
  if (!tally) return NULL;
  memcpy(tally->name, name, size);
  tally->next = all->tallies;
  all->tallies = tally;
  return tally;
}

static int code_new(segue__module_code **out, segue__lua_modules *all,
                    const segue__kind_place *place, const code_options *options,
                    const segue__module_spec *spec, segue_error *err) {
  segue__module_code *code = segue__calloc(1, sizeof *code);
  char *path = options->code ? segue__strdup(options->code) : code_path_of(place, spec->name);
  int rc = code && path ? 0 : UV_ENOMEM;
  if (!rc) {
    *code = (segue__module_code){.refs = 1,
                                 .all = all,
                                 .listens = spec->listen.url_count > 0,
                                 .budget_ms = options->budget_ms,
                                 .timeout_ms = options->timeout_ms,
                                 .memory_bytes = options->memory_bytes,
                                 .jit = options->jit};
    code->name = segue__strdup(spec->name);
    code->slice = segue__strdup(spec->config ? spec->config : "");
    code->tally = tally_of(all, spec->name);
    rc = code->name && code->slice && (code->tally || !all) ? 0 : UV_ENOMEM;
  }
  if (rc) segue__errorf(err, rc, "module '%s': out of memory", spec->name);
  if (!rc) rc = code_read_texts(code, place->os, path, err);
  segue__free(path);
  if (rc) {
    segue__module_code_unref(code);
    code = NULL;
  }
  *out = code;
  return rc;
}

/* ---- The kind -------------------------------------------------------------------------------- */

static bool code_is_there(const segue__policy *policy, const char *path) {
  for (size_t i = 0; i < policy->input_count; i++)
    if (!strcmp(policy->inputs[i].path, path)) return true;
  return false;
}

/* Adds the files of the module to those of the policy, and its other options to the input hash. */
static int code_add_inputs(const segue__module_code *code, segue__policy *policy,
                           segue__hash *inputs) {
  struct {
    uint64_t budget_ms, timeout_ms, memory_bytes, jit, listens;
  } rest = {code->budget_ms, code->timeout_ms, code->memory_bytes, code->jit, code->listens};
  segue__hash hash = segue__hash_bytes(&rest, sizeof rest, (segue__hash){0, 0});
  int rc = 0;
  for (size_t i = 0; i < code->program.count && !rc; i++) {
    const segue__chunk *chunk = &code->program.chunks[i];
    hash = segue__hash_bytes(&chunk->hash, sizeof chunk->hash, hash);
    if (!code_is_there(policy, chunk->path))
      rc = segue__policy_add_input(policy,
                                   &(segue__input){.path = chunk->path, .hash = chunk->hash});
  }
  *inputs = hash;
  return rc;
}

static void free_code(void *code) {
  segue__module_code_unref(code);
}

static int code_resolve(const segue__module_kind *kind, const segue__kind_place *place,
                        const segue_node *node, void *options, segue__module_spec *spec,
                        segue_error *err) {
  (void)node;
  segue__module_code *code;
  int rc = code_new(&code, kind->data, place, options, spec, err);
  if (rc) return rc;
  spec->ops = &segue__lua_module_ops;
  spec->userdata = code;
  spec->free = free_code;
  spec->on_workers = true;
  rc = code_add_inputs(code, place->policy, &spec->inputs);
  return rc ? segue__errorf(err, rc, "module '%s': out of memory", spec->name) : 0;
}

void segue__module_kinds(segue__module_kind out[SEGUE__MODULE_KINDS],
                         const segue__c_modules *c_modules, segue__lua_modules *lua_modules,
                         segue__file_world *files, segue__process_world *processes) {
  out[0] = segue__module_kind_c(c_modules);
  out[1] = (segue__module_kind){
      .name = "lua", .options = &code_table, .resolve = code_resolve, .data = lua_modules};
  out[2] = segue__module_kind_files(files);
  out[3] = segue__module_kind_process(processes);
}

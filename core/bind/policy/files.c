/* SPDX-License-Identifier: MIT
 *
 * The module kind "files" for policies: the functions that render files, and those that validate
 * and undo what applies them; each call is a task.
 */
#include <string.h>
#include <uv.h>

#include "../runtime/task.h"
#include "../runtime/value.h"
#include "policy.h"

/* ---- The functions --------------------------------------------------------------------------- */

void segue__renders_clear(segue__loaded *loaded) {
  for (size_t i = 0; i < loaded->render_count; i++)
    segue__free(loaded->renders[i].module);
  segue__free(loaded->renders);
  loaded->renders = NULL;
  loaded->render_count = 0;
}

/* The function is on top; pops it. */
static int renders_add(lua_State *L, segue__loaded *loaded, const char *module,
                       const char *function, size_t index) {
  size_t size = (loaded->render_count + 1) * sizeof *loaded->renders;
  segue__render *renders = segue__realloc(loaded->renders, size);
  if (!renders) return UV_ENOMEM;
  loaded->renders = renders;
  segue__render *render = &renders[loaded->render_count];
  *render = (segue__render){
      .module = segue__strdup(module), .function = function, .index = index, .state = LUA_NOREF};
  if (!render->module) return UV_ENOMEM;
  loaded->render_count++;
  lua_pushvalue(L, -1);
  segue__lua_place_of(segue__lua_of(L), L, &render->place);
  render->fn = segue__lua_ref(segue__lua_of(L), L);
  return 0;
}

/* The list of files is on top; pops it. */
static int renders_take_list(lua_State *L, segue__loaded *loaded, const char *module) {
  int rc = 0;
  size_t count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
  for (size_t i = 0; i < count && !rc; i++) {
    int top = lua_gettop(L);
    lua_rawgeti(L, -1, (int)i + 1);
    lua_pushstring(L, "content");
    if (lua_istable(L, -2)) lua_rawget(L, -2);
    if (lua_isfunction(L, -1)) rc = renders_add(L, loaded, module, "content", i);
    lua_settop(L, top);
  }
  lua_pop(L, 1);
  return rc;
}

/* The field of a module: a function, or a table with functions (a probe, the options of undo). Pops
 * the field. */
static int renders_take_field(lua_State *L, segue__loaded *loaded, const char *module,
                              const char *field) {
  static const char before[] = "before", call[] = "call";
  int rc = 0, top = lua_gettop(L);
  if (lua_isfunction(L, top)) rc = renders_add(L, loaded, module, field, 0);
  for (const char *const *name = (const char *const[]){before, call, NULL};
       *name && lua_istable(L, top) && !rc; name++) {
    lua_pushstring(L, *name);
    lua_rawget(L, top);
    if (lua_isfunction(L, -1))
      rc = renders_add(L, loaded, module, *name == call ? field : before, 0);
    lua_settop(L, top);
  }
  lua_settop(L, top - 1);
  return rc;
}

/* The table of a module is on top. */
static int renders_take_module(lua_State *L, segue__loaded *loaded, const char *module) {
  static const char *const fields[] = {"verify", "undo"};
  lua_pushstring(L, "files");
  lua_rawget(L, -2);
  int rc = renders_take_list(L, loaded, module);
  for (size_t i = 0; i < sizeof fields / sizeof *fields && !rc; i++) {
    lua_pushstring(L, fields[i]);
    lua_rawget(L, -2);
    rc = renders_take_field(L, loaded, module, fields[i]);
  }
  return rc;
}

int segue__renders_take(lua_State *L, int index, segue__loaded *loaded,
                        const segue__policy *policy) {
  int rc = 0;
  segue__renders_clear(loaded);
  luaL_checkstack(L, 8, "files");
  lua_pushstring(L, "modules");
  lua_rawget(L, index);
  for (size_t i = 0; i < policy->module_count && !rc && lua_istable(L, -1); i++) {
    const segue__module_spec *module = &policy->modules[i];
    if (strcmp(module->kind, "files") != 0) continue;
    lua_pushstring(L, module->name);
    lua_rawget(L, -2);
    rc = renders_take_module(L, loaded, module->name);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rc;
}

/* ---- A call ---------------------------------------------------------------------------------- */

typedef struct render_run {
  segue__rendering *rendering;
  segue__loaded *loaded;
  segue__render *render;
  const char *function;
  const segue_slice *next; /* of content */
  segue__task *task;
  segue__buf text;
  int status;
  segue_error error;
  segue__message message;
} render_run;

static segue__render *render_find(segue__loaded *loaded, const char *module, const char *function,
                                  size_t index) {
  for (size_t i = 0; i < loaded->render_count; i++) {
    segue__render *render = &loaded->renders[i];
    if (render->index == index && !strcmp(render->module, module) &&
        !strcmp(render->function, function))
      return render;
  }
  return NULL;
}

/* verify gets what before returned; a state that was built again has forgotten it. */
static int render_push_state(lua_State *co, const render_run *run) {
  const segue__render *before =
      render_find(run->loaded, run->render->module, "before", run->render->index);
  if (strcmp(run->function, "verify") != 0 || !before || before->state == LUA_NOREF) return 0;
  lua_rawgeti(co, LUA_REGISTRYINDEX, before->state);
  return 1;
}

static int render_begin(lua_State *co, void *data, segue_error *err) {
  render_run *run = data;
  (void)err;
  lua_rawgeti(co, LUA_REGISTRYINDEX, run->render->fn);
  if (!run->next) return render_push_state(co, run);
  segue__lua_pace(co, segue__config_bytes(run->next->snapshot->config));
  segue__value_push(co, run->next->snapshot, run->next->config);
  return 1;
}

static int render_keep_state(lua_State *co, int n, render_run *run) {
  segue__lua *lua = segue__lua_of(co);
  if (run->render->state != LUA_NOREF) luaL_unref(co, LUA_REGISTRYINDEX, run->render->state);
  run->render->state = LUA_NOREF;
  if (n < 1 || lua_isnil(co, 1)) return 0;
  lua_pushvalue(co, 1);
  run->render->state = segue__lua_ref(lua, co);
  return 0;
}

/* true, or nil and a reason. */
static int render_decide(lua_State *co, int n, render_run *run, segue_error *err) {
  if (!strcmp(run->function, "before")) return render_keep_state(co, n, run);
  if (n >= 1 && lua_type(co, 1) == LUA_TBOOLEAN && lua_toboolean(co, 1)) return 0;
  if (n >= 2 && !lua_toboolean(co, 1) && lua_type(co, 2) == LUA_TSTRING)
    return segue__errorf(err, SEGUE_EPROBE, "%s", lua_tostring(co, 2));
  return segue__errorf(err, SEGUE_EPOLICY,
                       "%s returned %s: return true, or nil and a text with the reason",
                       run->function, n ? luaL_typename(co, 1) : "nothing");
}

static int render_finish(lua_State *co, int n, void *data, segue_error *err) {
  render_run *run = data;
  if (!run->next) return render_decide(co, n, run, err);
  size_t len = 0;
  bool text = n >= 1 && lua_type(co, 1) == LUA_TSTRING;
  const char *bytes = text ? lua_tolstring(co, 1, &len) : NULL;
  if (n >= 2 && lua_isnil(co, 1) && lua_type(co, 2) == LUA_TSTRING)
    return segue__errorf(err, SEGUE_ECONFIG, "%s", lua_tostring(co, 2));
  if (!text)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "content returned %s%s: return the text of the file, or nil and a reason",
                         n ? "a " : "", n ? luaL_typename(co, 1) : "nothing");
  segue__lua *lua = segue__lua_of(co);
  if (!segue__lua_copies(lua, len)) return segue__lua_refuse_copy(lua, err);
  segue__buf_add(&run->text, bytes, len);
  return run->text.failed ? segue__errorf(err, UV_ENOMEM, "content: out of memory") : 0;
}

static void render_answer(segue__message *message) {
  render_run *run = (render_run *)((char *)message - offsetof(render_run, message));
  run->rendering->private = NULL;
  run->rendering->done(run->rendering, run->status, run->text.data, run->text.len,
                       run->status ? &run->error : NULL);
  segue__buf_deinit(&run->text);
  segue__free(run);
}

/* The answer comes by a message: the next file may need a new state, and this one is still in
 * use below. A tail call leaves no line behind: then the function's own has to do. */
static void render_done(void *data, int status, const segue_error *err) {
  render_run *run = data;
  run->status = status;
  if (err) run->error = *err;
  bool mistake = status == SEGUE_EPOLICY || status == SEGUE_ELIMIT || status == SEGUE_ETIMEOUT;
  if (err && mistake && !err->file[0])
    segue__error_set_place(&run->error, run->render->place.file, run->render->place.line, 0);
  if (mistake && run->next) run->status = run->error.code = SEGUE_ECONFIG;
  run->message.fn = render_answer;
  segue__post(run->loaded->loader->loop, &run->message);
}

static render_run *render_new(segue__loaded *loaded, const char *function,
                              segue__rendering *rendering) {
  render_run *run = segue__calloc(1, sizeof *run);
  if (!run) return NULL;
  rendering->private = run;
  *run = (render_run){.rendering = rendering, .loaded = loaded, .function = function};
  segue__buf_init(&run->text);
  return run;
}

static void render_run_task(render_run *run, uint64_t limit_ms) {
  segue__task_options options = {.name = run->function,
                                 .limit_ms = limit_ms,
                                 .slice_cpu_ms = run->loaded->loader->options.slice_cpu_ms,
                                 .begin = render_begin,
                                 .finish = render_finish,
                                 .done = render_done,
                                 .data = run,
                                 .slot = &run->task};
  segue__task_start(run->loaded->lua, &options);
}

static void render_start(void *impl, const char *module, size_t index,
                         const segue__file_template *template, const segue_slice *next,
                         segue__rendering *rendering) {
  segue__loaded *loaded = impl;
  rendering->private = NULL;
  if (template) {
    segue__templates_render(loaded->loader->templates, template, next, rendering);
    return;
  }
  render_run *run = render_new(loaded, "content", rendering);
  segue_error error;
  if (!run) {
    segue__errorf(&error, UV_ENOMEM, "content: out of memory");
    rendering->done(rendering, UV_ENOMEM, NULL, 0, &error);
    return;
  }
  run->next = next;
  int rc = segue__loaded_repair(loaded, &error);
  run->render = rc ? NULL : render_find(loaded, module, "content", index);
  if (!rc && !run->render)
    rc = segue__errorf(&error, SEGUE_EPOLICY, "file %zu has no function content", index + 1);
  if (rc) {
    run->status = rc;
    run->error = error;
    run->message.fn = render_answer;
    segue__post(loaded->loader->loop, &run->message);
    return;
  }
  render_run_task(run, 0);
}

/* A policy without the function succeeds: most have no "before". */
static int render_call(void *impl, const char *module, const char *function, uint64_t limit_ms,
                       segue__rendering *rendering, segue_error *err) {
  segue__loaded *loaded = impl;
  int rc = segue__loaded_repair(loaded, err);
  if (rc) return rc;
  render_run *run = render_new(loaded, function, rendering);
  if (!run) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", function);
  run->render = render_find(loaded, module, function, 0);
  if (run->render) {
    render_run_task(run, limit_ms);
  } else {
    run->message.fn = render_answer;
    segue__post(loaded->loader->loop, &run->message);
  }
  return 0;
}

/* A template ends by its own limits. */
static void render_cancel(void *impl, segue__rendering *rendering) {
  render_run *run = rendering->private;
  (void)impl;
  if (run) segue__task_cancel(run->task);
}

segue__renderer segue__renderer_of(segue__loaded *loaded) {
  return (segue__renderer){
      .render = render_start, .call = render_call, .cancel = render_cancel, .impl = loaded};
}

/* ---- The kind -------------------------------------------------------------------------------- */

static int files_resolve(const segue__module_kind *kind, const segue__kind_place *place,
                         const segue_node *node, void *options, segue__module_spec *spec,
                         segue_error *err) {
  segue__file_module_place of_files = {.os = place->os,
                                       .policy = place->policy,
                                       .folder = place->folder,
                                       .renderer = place->renderer};
  (void)node;
  for (size_t i = 0; i < place->policy->input_count; i++) {
    const segue__input *input = &place->policy->inputs[i];
    if (!input->credential)
      of_files.texts = segue__hash_bytes(&input->hash, sizeof input->hash, of_files.texts);
  }
  return segue__file_module_resolve(kind->data, options, &of_files, spec, err);
}

segue__module_kind segue__module_kind_files(segue__file_world *world) {
  return (segue__module_kind){.name = "files",
                              .options = &segue__file_module_options,
                              .resolve = files_resolve,
                              .data = world};
}

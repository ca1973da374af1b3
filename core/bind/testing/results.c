/* SPDX-License-Identifier: MIT
 *
 * The results of a rehearsal as values of Lua.
 */
#include <lauxlib.h>
#include <stdio.h>

#include "testing_internal.h"

void segue__testing_set_text(lua_State *L, const char *key, const char *value) {
  if (!value || !*value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

void segue__testing_set_number(lua_State *L, const char *key, lua_Number value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, key);
}

void segue__testing_set_flag(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

void segue__testing_push_node(lua_State *L, const segue_node *node) {
  const char *text, *key;
  size_t len;
  double number;
  bool flag;
  luaL_checkstack(L, 4, "the configuration is nested too deeply");
  switch (segue_node_type(node)) {
  case SEGUE_MAP:
  case SEGUE_LIST:
    lua_newtable(L);
    for (size_t i = 0; i < segue_node_count(node); i++) {
      const segue_node *item = segue_node_at(node, i, &key);
      if (segue_node_type(node) == SEGUE_MAP && segue_node_type(item) == SEGUE_NULL) continue;
      segue__testing_push_node(L, item);
      if (segue_node_type(node) == SEGUE_MAP)
        lua_setfield(L, -2, key);
      else
        lua_rawseti(L, -2, (int)i + 1);
    }
    return;
  case SEGUE_STRING:
    segue_node_string(node, &text, &len);
    lua_pushlstring(L, text, len);
    return;
  case SEGUE_BOOL:
    segue_node_bool(node, &flag);
    lua_pushboolean(L, flag);
    return;
  case SEGUE_INT:
  case SEGUE_FLOAT:
    segue_node_double(node, &number);
    lua_pushnumber(L, number);
    return;
  default:
    lua_pushlightuserdata(L, NULL); /* testing.null */
  }
}

static void push_errors(lua_State *L, const segue__errors *errors) {
  lua_createtable(L, (int)errors->count, 0);
  for (size_t i = 0; i < errors->count; i++) {
    const segue_error *e = &errors->items[i];
    char text[2048];
    lua_createtable(L, 0, 8);
    segue_error_format(e, text, sizeof text);
    segue__testing_set_text(L, "text", text);
    segue__testing_set_text(L, "message", e->message);
    segue__testing_set_text(L, "code", segue_error_name(e->code));
    segue__testing_set_text(L, "file", e->file);
    segue__testing_set_text(L, "path", e->path);
    segue__testing_set_text(L, "source", e->source);
    if (e->line) segue__testing_set_number(L, "line", e->line);
    if (e->column) segue__testing_set_number(L, "column", e->column);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_steps(lua_State *L, const segue__result *result) {
  lua_createtable(L, (int)result->step_count, 0);
  for (size_t i = 0; i < result->step_count; i++) {
    lua_createtable(L, 0, 3);
    segue__testing_set_text(L, "module", result->steps[i].module);
    segue__testing_set_text(L, "action", result->steps[i].action);
    segue__testing_set_text(L, "why", result->steps[i].why);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_changes(lua_State *L, const segue__result *result) {
  static const char *const ops[] = {"add", "remove", "change"};
  lua_createtable(L, (int)result->changes.count, 0);
  for (size_t i = 0; i < result->changes.count; i++) {
    const segue__change *change = &result->changes.items[i];
    lua_createtable(L, 0, 3);
    lua_pushstring(L, change->path);
    lua_setfield(L, -2, "path");
    segue__testing_set_text(L, "op", ops[change->op]);
    segue__testing_set_text(L, "to", result->change_texts ? result->change_texts[i] : NULL);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_side(lua_State *L, const char *key, const segue__file_side *side) {
  char mode[8];
  if (!side->exists) return;
  snprintf(mode, sizeof mode, "%04o", side->mode);
  lua_createtable(L, 0, 3);
  segue__testing_set_text(L, "mode", mode);
  segue__testing_set_text(L, "hash", side->hash);
  segue__testing_set_number(L, "size", (lua_Number)side->size);
  lua_setfield(L, -2, key);
}

static void push_files(lua_State *L, const segue__file_changes *files) {
  lua_createtable(L, (int)files->count, 0);
  for (size_t i = 0; i < files->count; i++) {
    const segue__file_change *file = &files->items[i];
    lua_createtable(L, 0, 8);
    segue__testing_set_text(L, "module", file->module);
    segue__testing_set_text(L, "path", file->path);
    segue__testing_set_text(L, "diff", file->diff);
    segue__testing_set_text(L, "note", file->note);
    segue__testing_set_number(L, "added", (lua_Number)file->added);
    segue__testing_set_number(L, "removed", (lua_Number)file->removed);
    push_side(L, "before", &file->before);
    push_side(L, "after", &file->after);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

void segue__testing_push_result(lua_State *L, const segue__result *result) {
  lua_createtable(L, 0, 20);
  segue__testing_set_number(L, "id", (lua_Number)result->id);
  segue__testing_set_text(L, "outcome", segue__outcome_name(result->outcome));
  segue__testing_set_text(L, "trigger", segue__trigger_name(result->trigger));
  segue__testing_set_text(L, "cause", result->cause);
  segue__testing_set_text(L, "phase", segue__phase_name(result->phase));
  segue__testing_set_number(L, "generation", (lua_Number)result->generation);
  if (result->generation) segue__testing_set_text(L, "hash", result->hash);
  segue__testing_set_number(L, "started", (lua_Number)result->started_wall_ms / 1000);
  segue__testing_set_number(L, "seconds",
                            (lua_Number)(result->ended_wall_ms - result->started_wall_ms) / 1000);
  segue__testing_set_flag(L, "plan_only", result->plan_only);
  segue__testing_set_flag(L, "skipped", result->skipped);
  segue__testing_set_flag(L, "deferred", result->deferred);
  segue__testing_set_flag(L, "undo_failed", result->undo_failed);
  push_errors(L, &result->errors);
  lua_setfield(L, -2, "errors");
  push_steps(L, result);
  lua_setfield(L, -2, "plan");
  push_changes(L, result);
  lua_setfield(L, -2, "changes");
  push_files(L, &result->outputs);
  lua_setfield(L, -2, "files");
}

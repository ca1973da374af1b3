/* SPDX-License-Identifier: MIT
 *
 * segue.source { plugin = ... } for a source in C: its options, a Lua table, become a tree that the
 * source reads while it is opened.
 */
#include <string.h>

#include "../../reload/c_source.h"
#include "../runtime/lua_document.h"
#include "policy.h"

const segue__source_kind segue__source_plugin = {"plugin", NULL, NULL, NULL};

/* Leaves the box on the stack; the tree is in its document. */
static int options_tree(lua_State *L, int index, segue__lua_document *box, segue_error *err) {
  const segue__limits limits = {.text = segue__lua_copies_left(segue__lua_of(L)) + 1};
  int rc = segue__document_new(&box->doc, 0, "options", "options", SEGUE__BUILT, NULL, 0);
  if (!rc) rc = segue__builder_new(&box->builder, box->doc, &limits);
  if (rc) return segue__errorf(err, rc, "out of memory");
  lua_pushstring(L, "options");
  lua_rawget(L, index);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
  }
  rc = segue__lua_document_add(L, lua_gettop(L), box->builder, false, err);
  lua_pop(L, 1);
  return rc ? rc : segue__builder_finish(box->builder, err);
}

int segue__plugin_source_take(lua_State *L, int index, const segue_node *node, const char *file,
                              segue__loaded *loaded, segue__policy *policy, segue__source *source,
                              segue_error *err) {
  const segue__kind_place place = {loaded->loader->os, policy, loaded->program.folder};
  const segue__options_env env = {
      .folder = loaded->program.folder, .subject = source->name, .first = 1};
  const segue_source_descriptor *descriptor = NULL;
  const segue_node *plugin = segue_node_member(node, "plugin");
  segue__lua_document *box = segue__lua_document_push(L);
  memset(err, 0, sizeof *err);
  int rc = segue__source_resolve(&loaded->loader->options, &place, plugin->v.s, source, &descriptor,
                                 err);
  if (!rc) rc = options_tree(L, index, box, err);
  if (!rc) rc = segue__c_source_open(source, descriptor, &box->doc->root, &env, err);
  segue__lua_document_clear(L, box);
  lua_pop(L, 1);
  if (rc && rc != UV_ENOMEM) rc = err->code = SEGUE_EPOLICY;
  if (rc && !err->file[0]) segue__error_set_place(err, file, node->line, 0);
  if (rc) segue__error_source(err, source->name);
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * A listener from the table that lua/segue/http.lua has judged to segue__http_spec. What is made
 * hangs on the policy at once, so that an error, which is only ever memory, leaks nothing.
 */
#include <string.h>

#include "field.h"
#include "policy.h"

static segue__role extract_http_role(lua_State *L, int index, const char *key,
                                     segue__role otherwise) {
  lua_getfield(L, index, key);
  const char *name = lua_tostring(L, -1);
  segue__role result = otherwise;
  for (int i = SEGUE__ROLE_NONE; name && i <= SEGUE__ROLE_OPERATE; i++)
    if (!strcmp(name, segue__role_name((segue__role)i))) result = (segue__role)i;
  lua_pop(L, 1);
  return result;
}

/* The files, and whether a client may come without a certificate. */
static void take_files(lua_State *L, int tls, char **cert, char **key, char **client_ca,
                       bool *optional) {
  *cert = segue__field_text(L, tls, "cert");
  *key = segue__field_text(L, tls, "key");
  *client_ca = segue__field_text(L, tls, "client_ca");
  lua_getfield(L, tls, "client");
  *optional = lua_isstring(L, -1) && !strcmp(lua_tostring(L, -1), "optional");
  lua_pop(L, 1);
}

void segue__listen_tls_extract(lua_State *L, int index, segue__listen_spec *listen) {
  lua_getfield(L, index, "tls");
  int tls = lua_gettop(L);
  if (lua_istable(L, tls))
    take_files(L, tls, &listen->cert, &listen->key, &listen->client_ca, &listen->client_optional);
  lua_settop(L, tls - 1);
}

static void take_tls(lua_State *L, int index, segue__http_spec *spec) {
  lua_getfield(L, index, "tls");
  int tls = lua_gettop(L);
  if (lua_istable(L, tls)) {
    take_files(L, tls, &spec->cert, &spec->key, &spec->client_ca, &spec->client_optional);
    size_t n = segue__field_list(L, tls, "clients", sizeof *spec->clients, &spec->clients);
    for (size_t i = 0; i < n; i++) {
      lua_rawgeti(L, -1, (int)i + 1);
      segue__client_spec *item = &spec->clients[spec->client_count++];
      item->role = extract_http_role(L, lua_gettop(L), "role", SEGUE__ROLE_NONE);
      item->name = segue__field_text(L, lua_gettop(L), "name");
      item->kind = segue__field_text(L, lua_gettop(L), "kind");
      lua_pop(L, 1);
    }
  }
  lua_settop(L, tls - 1);
}

static void take_tokens(lua_State *L, int index, segue__http_spec *spec) {
  size_t n = segue__field_list(L, index, "tokens", sizeof *spec->tokens, &spec->tokens);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    segue__token_spec *item = &spec->tokens[spec->token_count++];
    item->role = extract_http_role(L, lua_gettop(L), "role", SEGUE__ROLE_NONE);
    item->file = segue__field_text(L, lua_gettop(L), "file");
    item->name = segue__field_text(L, lua_gettop(L), "name");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void take_hosts(lua_State *L, int index, segue__http_spec *spec) {
  size_t n = segue__field_list(L, index, "hosts", sizeof *spec->hosts, &spec->hosts);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    spec->hosts[spec->host_count++] = segue__field_copy(L);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

void segue__http_spec_extract(lua_State *L, int index, segue__trigger_spec *trigger) {
  segue__http_spec *spec = segue__calloc(1, sizeof *spec);
  if (!spec) {
    luaL_error(L, "out of memory");
    return;
  }
  trigger->http = spec;
  spec->file = segue__field_text(L, index, "file");
  spec->line = (uint32_t)segue__field_number(L, index, "line", 0);
  spec->public_health = segue__field_flag(L, index, "public_health");
  spec->public_metrics = segue__field_flag(L, index, "public_metrics");
  spec->rate = segue__field_number(L, index, "rate", -1);
  spec->burst = (uint32_t)segue__field_number(L, index, "burst", 0);
  spec->mode = (unsigned)segue__field_number(L, index, "mode", 0);
  spec->others = extract_http_role(L, index, "others", SEGUE__ROLE_READ);
  take_tls(L, index, spec);
  take_tokens(L, index, spec);
  take_hosts(L, index, spec);
}

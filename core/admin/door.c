/* SPDX-License-Identifier: MIT
 *
 * Making a door: files, certificates, tokens, and the rule that nobody opens one to the world
 * without a lock.
 */
#include "door.h"

#include <ctype.h>
#include <string.h>
#include <uv.h>

enum { RATE = 50, BURST = 100 };

segue__door *segue__door_ref(segue__door *door) {
  door->refs++;
  return door;
}

void segue__door_unref(void *data) {
  segue__door *door = data;
  if (!door || --door->refs > 0) return;
  segue__tokens_deinit(&door->tokens);
  segue__tls_context_unref(door->tls);
  for (size_t i = 0; i < door->client_count; i++)
    segue__free(door->clients[i].name);
  for (size_t i = 0; i < door->host_count; i++)
    segue__free(door->hosts[i]);
  segue__free(door->clients);
  segue__free(door->hosts);
  segue__free(door->address);
  segue__free(door);
}

/* ---- Files ----------------------------------------------------------------------------------- */

typedef struct reading {
  segue__policy *policy;
  const segue__os *os;
  segue_error *err;
} reading;

static void forget(segue__bytes *bytes) {
  if (bytes->data) explicit_bzero(bytes->data, bytes->len);
  segue__free(bytes->data);
}

static int read_input(void *data, const char *path, bool secret, segue__bytes *out,
                      segue_error *err) {
  const reading *r = data;
  return segue__policy_read_credential(r->policy, r->os, path, secret, out, err);
}

static int make_tls(reading *r, const segue__http_spec *spec, segue__door *door) {
  segue__tls_paths paths = {spec->cert, spec->key, spec->client_ca, spec->client_optional};
  return segue__tls_context_load(&door->tls, &paths, read_input, r, r->err);
}

static int make_tokens(reading *r, const segue__http_spec *spec, segue__door *door) {
  int rc = 0;
  for (size_t i = 0; i < spec->token_count && !rc; i++) {
    segue__bytes bytes;
    rc = read_input(r, spec->tokens[i].file, true, &bytes, r->err);
    if (!rc) rc = segue__tokens_add(&door->tokens, &spec->tokens[i], bytes.data, bytes.len, r->err);
    forget(&bytes);
  }
  return rc;
}

/* ---- Rules ----------------------------------------------------------------------------------- */

/* A client that is named without a kind is a host or a service: its common name or DNS name. */
static unsigned kinds_of(const char *kind) {
  for (int i = 0; kind && i < SEGUE__NAME_KINDS; i++)
    if (strcmp(kind, segue__name_kind_text((segue__name_kind)i)) == 0) return 1u << i;
  return 1u << SEGUE__NAME_CN | 1u << SEGUE__NAME_DNS;
}

static int copy_names(const segue__http_spec *spec, segue__door *door) {
  door->clients = segue__calloc(spec->client_count, sizeof *door->clients);
  door->hosts = segue__calloc(spec->host_count, sizeof *door->hosts);
  if ((spec->client_count && !door->clients) || (spec->host_count && !door->hosts))
    return UV_ENOMEM;
  for (size_t i = 0; i < spec->client_count; i++) {
    door->clients[i].role = spec->clients[i].role;
    door->clients[i].kinds = kinds_of(spec->clients[i].kind);
    door->clients[i].name = segue__strdup(spec->clients[i].name);
    door->client_count++;
    if (!door->clients[i].name) return UV_ENOMEM;
  }
  for (size_t i = 0; i < spec->host_count; i++) {
    door->hosts[i] = segue__strdup(spec->hosts[i]);
    door->host_count++;
    if (!door->hosts[i]) return UV_ENOMEM;
  }
  return 0;
}

static int check_lock(const segue__trigger_spec *trigger, const segue__http_address *address,
                      const segue__http_spec *spec, segue_error *err) {
  bool locked = spec->token_count || (spec->client_ca && !spec->client_optional);
  if (address->loopback || locked) return 0;
  segue__error_set(err, SEGUE_EPOLICY,
                   "segue.http \"%s\": other machines can reach this address and could reload: "
                   "give it tokens = { { file = \"ops.token\", role = \"operate\" } } or "
                   "tls = { cert = ..., key = ..., client_ca = ... }, or listen on %s:%u",
                   trigger->address, address->text[0] == '[' ? "[::1]" : "127.0.0.1",
                   address->port);
  segue__error_at(err, spec->file, spec->line, 0);
  return SEGUE_EPOLICY;
}

static void set_rules(segue__door *door, const segue__http_spec *spec,
                      const segue__http_address *address) {
  door->client_known = spec->client_ca != NULL;
  door->client_required = spec->client_ca && !spec->client_optional;
  door->locked = spec->token_count || spec->client_ca;
  door->public_health = spec->public_health;
  door->public_metrics = spec->public_metrics;
  door->loopback = address->loopback;
  door->mode = spec->mode;
  door->others = spec->others;
  door->rate = spec->rate >= 0 ? spec->rate : door->locked ? RATE : 0;
  door->burst = spec->burst           ? spec->burst
                : spec->rate < 0      ? BURST
                : spec->rate * 2 > 10 ? spec->rate * 2
                                      : 10;
}

int segue__door_make(segue__policy *policy, segue__trigger_spec *trigger, const segue__os *os,
                     segue_error *err) {
  static const segue__http_spec defaults = {.rate = -1, .others = SEGUE__ROLE_READ};
  const segue__http_spec *spec = trigger->http ? trigger->http : &defaults;
  reading r = {policy, os, err};
  segue__http_address address;
  int rc = segue__http_address_parse(trigger->address, &address, err);
  if (!rc) rc = check_lock(trigger, &address, spec, err);
  if (rc) {
    if (!err->file[0]) segue__error_at(err, spec->file, spec->line, 0);
    return rc;
  }
  segue__door *door = segue__calloc(1, sizeof *door);
  if (!door) return segue__error_set(err, UV_ENOMEM, "segue.http: out of memory");
  door->refs = 1;
  set_rules(door, spec, &address);
  door->address = segue__strdup(address.text);
  door->salt = segue__hash_bytes(address.text, strlen(address.text), (segue__hash){0, 0}).lo;
  rc = !door->address || copy_names(spec, door) < 0
           ? segue__error_set(err, UV_ENOMEM, "segue.http: out of memory")
           : 0;
  if (!rc && spec->cert) rc = make_tls(&r, spec, door);
  if (!rc) rc = make_tokens(&r, spec, door);
  if (rc) {
    segue__door_unref(door);
    return rc;
  }
  trigger->door = door;
  trigger->free_door = segue__door_unref;
  return 0;
}

/* ---- Clients by certificate ------------------------------------------------------------------ */

static size_t label(const char *s) {
  size_t n = 0;
  while (isalnum((unsigned char)s[n]) || s[n] == '-' || s[n] == '_')
    n++;
  return n;
}

/* "*" stands for exactly one label of a DNS name: not for a dot, and not for anything that no host
 * name has. So "*.mon.example" takes neither "a.b.mon.example" nor "x@a.mon.example", nor the
 * wildcard name of a server's certificate. The other bytes have to be the same; letters of DNS
 * names have no case. */
static bool matches(const char *pattern, const char *name, bool dns) {
  for (; *pattern; pattern++) {
    if (*pattern == '*') {
      size_t n = label(name);
      if (!n) return false;
      name += n;
    } else if (*pattern == *name ||
               (dns && tolower((unsigned char)*pattern) == tolower((unsigned char)*name))) {
      name++;
    } else {
      return false;
    }
  }
  return !*name;
}

/* Only these kinds are made of labels: in any other name "*" is a character like all others. */
static bool is_of(const segue__door_name *client, const segue__tls_name *name) {
  if (!(client->kinds & 1u << name->kind)) return false;
  bool labels = client->kinds & 1u << SEGUE__NAME_DNS;
  if (!labels) return strcmp(client->name, name->text) == 0;
  return matches(client->name, name->text, name->kind == SEGUE__NAME_DNS);
}

segue__role segue__door_client(const segue__door *door, const segue__tls_client *client,
                               segue__tls_name *name) {
  segue__role role = door->client_count ? SEGUE__ROLE_NONE : SEGUE__ROLE_OPERATE;
  segue__tls_name at = {.text = NULL};
  *name = at;
  (void)segue__tls_name_next(client, name);
  while (segue__tls_name_next(client, &at))
    for (size_t i = 0; i < door->client_count; i++)
      if (door->clients[i].role > role && is_of(&door->clients[i], &at)) {
        role = door->clients[i].role;
        *name = at;
      }
  return role;
}

/* SPDX-License-Identifier: MIT
 *
 * Makes the authorization rules of a listener from files, certificates and tokens. A listener that
 * other machines can reach is rejected unless it requires credentials.
 */
#include "auth.h"

#include <ctype.h>
#include <string.h>
#include <uv.h>

enum { RATE = 50, BURST = 100 };

/* Counted without atomics: only the control thread takes and releases references. The last one may
 * end long after the policy that made the rules: a listener keeps its rules until the next ones
 * replace them. */
segue__auth *segue__auth_ref(segue__auth *auth) {
  auth->refs++;
  return auth;
}

void segue__auth_unref(void *data) {
  segue__auth *auth = data;
  if (!auth || --auth->refs > 0) return;
  segue__tokens_deinit(&auth->tokens);
  segue__tls_context_unref(auth->tls);
  for (size_t i = 0; i < auth->client_count; i++)
    segue__free(auth->clients[i].name);
  for (size_t i = 0; i < auth->host_count; i++)
    segue__free(auth->hosts[i]);
  segue__free(auth->clients);
  segue__free(auth->hosts);
  segue__free(auth->address);
  segue__free(auth);
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* The parameters that the reader of a credential file gets through its `data` pointer. */
typedef struct reading {
  segue__policy *policy;
  const segue__os *os;
  segue_error *err;
} reading;

static void auth_forget(segue__bytes *bytes) {
  if (bytes->data) explicit_bzero(bytes->data, bytes->len);
  segue__free(bytes->data);
}

static int read_input(void *data, const char *path, bool secret, segue__bytes *out,
                      segue_error *err) {
  const reading *r = data;
  return segue__policy_read_credential(r->policy, r->os, path, secret, out, err);
}

static int auth_make_tls(reading *r, const segue__http_spec *spec, segue__auth *auth) {
  segue__tls_paths paths = {spec->cert, spec->key, spec->client_ca, spec->client_optional};
  return segue__tls_context_load(&auth->tls, &paths, read_input, r, r->err);
}

/* The content of a token file is overwritten as soon as it is parsed: freed memory would keep the
 * tokens, where a core dump or a later bug shows them. */
static int make_tokens(reading *r, const segue__http_spec *spec, segue__auth *auth) {
  int rc = 0;
  for (size_t i = 0; i < spec->token_count && !rc; i++) {
    segue__bytes bytes;
    rc = read_input(r, spec->tokens[i].file, true, &bytes, r->err);
    if (!rc) rc = segue__tokens_add(&auth->tokens, &spec->tokens[i], bytes.data, bytes.len, r->err);
    auth_forget(&bytes);
  }
  return rc;
}

/* ---- Rules ----------------------------------------------------------------------------------- */

/* Returns the kinds of names that a rule of a client may match, as bits. A rule without a kind
 * means a host or a service: a common name or a DNS name. */
static unsigned kinds_of(const char *kind) {
  for (int i = 0; kind && i < SEGUE__NAME_KINDS; i++)
    if (strcmp(kind, segue__name_kind_text((segue__name_kind)i)) == 0) return 1u << i;
  return 1u << SEGUE__NAME_CN | 1u << SEGUE__NAME_DNS;
}

static int auth_copy_names(const segue__http_spec *spec, segue__auth *auth) {
  auth->clients = segue__calloc(spec->client_count, sizeof *auth->clients);
  auth->hosts = segue__calloc(spec->host_count, sizeof *auth->hosts);
  if ((spec->client_count && !auth->clients) || (spec->host_count && !auth->hosts))
    return UV_ENOMEM;
  for (size_t i = 0; i < spec->client_count; i++) {
    auth->clients[i].role = spec->clients[i].role;
    auth->clients[i].kinds = kinds_of(spec->clients[i].kind);
    auth->clients[i].name = segue__strdup(spec->clients[i].name);
    auth->client_count++;
    if (!auth->clients[i].name) return UV_ENOMEM;
  }
  for (size_t i = 0; i < spec->host_count; i++) {
    auth->hosts[i] = segue__strdup(spec->hosts[i]);
    auth->host_count++;
    if (!auth->hosts[i]) return UV_ENOMEM;
  }
  return 0;
}

/* Rejects a listener that other machines can reach without credentials: by default every client of
 * a listener may reload. A certificate that is only optional does not count, because a client
 * without one would be let in. */
static int check_lock(const segue__trigger_spec *trigger, const segue__address *address,
                      const segue__http_spec *spec, segue_error *err) {
  bool locked = spec->token_count || (spec->client_ca && !spec->client_optional);
  if (address->loopback || locked) return 0;
  segue__errorf(err, SEGUE_EPOLICY,
                "segue.http \"%s\": other machines can reach this address and could reload: "
                "give it tokens = { { file = \"ops.token\", role = \"operate\" } } or "
                "tls = { cert = ..., key = ..., client_ca = ... }, or listen on %s:%u",
                trigger->address, address->text[0] == '[' ? "[::1]" : "127.0.0.1", address->port);
  segue__error_set_place(err, spec->file, spec->line, 0);
  return SEGUE_EPOLICY;
}

/* An abstract name has no file, and so no mode that keeps other users out. */
static int check_kind(const segue__trigger_spec *trigger, const segue__address *address,
                      segue_error *err) {
  if (address->type == SEGUE__SOCKET_UDP)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "segue.http \"%s\": HTTP does not run over UDP: remove udp://",
                         trigger->address);
  if (address->is_abstract)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "segue.http \"%s\": every user of this machine can connect to an "
                         "abstract name: write the path of a file, unix:/run/name.sock",
                         trigger->address);
  return 0;
}

/* A listener without credentials has no default rate. A rate that the policy names without a burst
 * allows two seconds' worth of requests at once, at least 10. */
static void auth_set_rules(segue__auth *auth, const segue__http_spec *spec,
                           const segue__address *address) {
  auth->client_known = spec->client_ca != NULL;
  auth->client_required = spec->client_ca && !spec->client_optional;
  auth->locked = spec->token_count || spec->client_ca;
  auth->public_health = spec->public_pages & SEGUE__PUBLIC_HEALTH;
  auth->public_metrics = spec->public_pages & SEGUE__PUBLIC_METRICS;
  auth->loopback = address->loopback;
  auth->mode = spec->mode;
  auth->others = spec->others;
  auth->rate = spec->rate >= 0 ? spec->rate : auth->locked ? RATE : 0;
  auth->burst = spec->burst           ? (uint32_t)spec->burst
                : spec->rate < 0      ? BURST
                : spec->rate * 2 > 10 ? spec->rate * 2
                                      : 10;
}

int segue__auth_make(segue__policy *policy, segue__trigger_spec *trigger, const segue__os *os,
                     segue_error *err) {
  static const segue__http_spec defaults = {.rate = -1, .others = SEGUE__ROLE_READ};
  const segue__http_spec *spec = trigger->http ? trigger->http : &defaults;
  reading r = {policy, os, err};
  segue__address address;
  int rc = segue__address_parse(trigger->address, &address, err);
  if (!rc) rc = check_kind(trigger, &address, err);
  if (!rc) rc = check_lock(trigger, &address, spec, err);
  if (rc) {
    if (!err->file[0]) segue__error_set_place(err, spec->file, spec->line, 0);
    return rc;
  }
  segue__auth *auth = segue__calloc(1, sizeof *auth);
  if (!auth) return segue__errorf(err, UV_ENOMEM, "segue.http: out of memory");
  auth->refs = 1;
  auth_set_rules(auth, spec, &address);
  auth->address = segue__strdup(address.text);
  auth->salt = segue__hash_bytes(address.text, strlen(address.text), (segue__hash){0, 0}).lo;
  rc = !auth->address || auth_copy_names(spec, auth) < 0
           ? segue__errorf(err, UV_ENOMEM, "segue.http: out of memory")
           : 0;
  if (!rc && spec->cert) rc = auth_make_tls(&r, spec, auth);
  if (!rc) rc = make_tokens(&r, spec, auth);
  if (rc) {
    segue__auth_unref(auth);
    return rc;
  }
  trigger->auth = auth;
  trigger->free_auth = segue__auth_unref;
  return 0;
}

/* ---- Clients by certificate ------------------------------------------------------------------ */

static size_t auth_label(const char *s) {
  size_t n = 0;
  while (isalnum((unsigned char)s[n]) || s[n] == '-' || s[n] == '_')
    n++;
  return n;
}

/* "*" stands for exactly one label of a DNS name: not for a dot, and not for anything that no host
 * name has. So "*.mon.example" takes neither "a.b.mon.example" nor "x@a.mon.example", nor the
 * wildcard name of a server's certificate. The other bytes have to be the same; letters of DNS
 * names have no case. */
static bool auth_matches(const char *pattern, const char *name, bool dns) {
  for (; *pattern; pattern++) {
    if (*pattern == '*') {
      size_t n = auth_label(name);
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
static bool auth_is_of(const segue__auth_name *client, const segue__tls_name *name) {
  if (!(client->kinds & 1u << name->kind)) return false;
  bool labels = client->kinds & 1u << SEGUE__NAME_DNS;
  if (!labels) return strcmp(client->name, name->text) == 0;
  return auth_matches(client->name, name->text, name->kind == SEGUE__NAME_DNS);
}

/* A certificate has several names (subject and alternative names), and each may match a rule. The
 * best role counts; the name that gave it, or the first name if none did, is the one that the log
 * and the audit record show. */
segue__role segue__auth_client(const segue__auth *auth, const segue__tls_client *client,
                               segue__tls_name *name) {
  segue__role role = auth->client_count ? SEGUE__ROLE_NONE : SEGUE__ROLE_OPERATE;
  segue__tls_name at = {.text = NULL};
  *name = at;
  (void)segue__tls_name_next(client, name);
  while (segue__tls_name_next(client, &at))
    for (size_t i = 0; i < auth->client_count; i++)
      if (auth->clients[i].role > role && auth_is_of(&auth->clients[i], &at)) {
        role = auth->clients[i].role;
        *name = at;
      }
  return role;
}

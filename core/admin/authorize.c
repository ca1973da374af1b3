/* SPDX-License-Identifier: MIT
 *
 * Authorization: the rate, the identity and the role of a client, and the audit record. The row of
 * an endpoint names the role that it needs. The socket identifies users of this machine, a token or
 * a certificate identifies others; a plain loopback listener needs no credentials.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../config/printable.h"
#include "internal.h"

enum { HANDSHAKES_TOLD = 10 };  /* failed ones of one client; then one a second */
enum { CROWD_TOLD_MS = 10000 }; /* between two lines about too many connections */
#define PROBE_SALT UINT64_C(0x9e3779b97f4a7c15)
/* Number of refusals that the record takes at once, of one client and of all clients; after that
 * one in ten seconds, and one a second. Refusals in between are counted. */
enum { REFUSALS_TOLD = 5, REFUSALS_TOLD_ALL = 60, AUDIT_SALT = 0x61756469 };

/* The identity of a client. */
typedef struct identity {
  segue__role role;
  bool named;       /* by a token or a certificate */
  bool wrong_token; /* its token is unknown */
} identity;

bool segue__looks_only(const segue__http_request *request) {
  return segue__http_method_is(request, "GET") || segue__http_method_is(request, "HEAD");
}

static segue__probe probe_of(const segue__http_request *request, const segue__endpoint *endpoint) {
  return endpoint && segue__looks_only(request) ? endpoint->probe : SEGUE__NO_PROBE;
}

static bool is_public(segue__probe probe, const segue__auth *auth) {
  return probe == SEGUE__PROBE_METRICS ? auth->public_metrics
                                       : probe == SEGUE__PROBE_HEALTH && auth->public_health;
}

/* Where no endpoint takes the request the method decides, so that 404 and 405 reveal no more
 * than the role of the client allows. */
static segue__role needed_role(const segue__http_request *request,
                               const segue__endpoint *endpoint) {
  if (endpoint && segue__endpoint_takes(endpoint, request)) return endpoint->role;
  return segue__looks_only(request) ? SEGUE__ROLE_READ : SEGUE__ROLE_OPERATE;
}

/* ---- Identity -------------------------------------------------------------------------------- */

/* Finds the token of "Authorization: Bearer TOKEN". Returns false if the request has no credentials
 * of that scheme. The name of a scheme has no case (RFC 9110 11.1). */
static bool authorize_bearer(const segue__http_request *request, segue__http_text *out) {
  static const char scheme[] = "Bearer ";
  const segue__http_text *value = segue__http_header_get(request, "Authorization");
  size_t skip = sizeof scheme - 1;
  if (!value || value->len <= skip || strncasecmp(value->s, scheme, skip) != 0) return false;
  out->s = value->s + skip;
  out->len = value->len - skip;
  while (out->len && *out->s == ' ')
    out->s++, out->len--;
  return true;
}

static segue__role authorize_better(segue__role a, segue__role b) {
  return a > b ? a : b;
}

/* The server writes the user of a unix socket into the peer's name, from SO_PEERCRED, so
 * the kernel guarantees it. root and the daemon's own user could stop or replace the daemon in any
 * case, so they operate it. */
static segue__role role_of_user(const segue__http_request *request, const segue__auth *auth) {
  const char *uid = strstr(request->peer, "uid=");
  unsigned long n = uid ? strtoul(uid + 4, NULL, 10) : (unsigned long)-1;
  if (uid && (n == 0 || n == geteuid())) return SEGUE__ROLE_OPERATE;
  return auth ? auth->others : SEGUE__ROLE_READ;
}

/* The kind stands before every name but a common name, so that no other kind of name looks like
 * one in the log and the record: "client ops", "client mail:ops". */
static void name_client(segue__http_request *request, const segue__tls_name *name) {
  bool plain = name->kind == SEGUE__NAME_CN;
  snprintf(request->who, sizeof request->who, "client %s%s%s",
           plain ? "" : segue__name_kind_text(name->kind), plain ? "" : ":", name->text);
}

/* A client may be identified in several ways at once: by its user, a certificate and a token. The
 * best role counts, so that a token can only add rights. A wrong token is an error even where the
 * rest would do: a client that sends one expects its role, and would otherwise work with another
 * one unnoticed. */
static identity authorize_identify(segue__http_request *request, const segue__auth *auth) {
  identity who = {.role = SEGUE__ROLE_NONE};
  segue__http_text text;
  segue__tls_name name;
  if (request->local) who.role = role_of_user(request, auth);
  if (!request->local && (!auth || !auth->locked)) who.role = SEGUE__ROLE_OPERATE;
  if (auth && auth->client_known && request->client) {
    who.role = authorize_better(who.role, segue__auth_client(auth, request->client, &name));
    who.named = true;
    name_client(request, &name);
  }
  if (!auth || !auth->tokens.count || !authorize_bearer(request, &text)) return who;
  const segue__token *token = segue__tokens_find(&auth->tokens, text.s, text.len);
  who.wrong_token = !token;
  if (!token) return who;
  if (token->role >= who.role) snprintf(request->who, sizeof request->who, "token %s", token->name);
  who.role = authorize_better(who.role, token->role);
  who.named = true;
  return who;
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static bool within_rate(segue__admin *admin, segue__http_request *request, segue__probe probe) {
  const segue__auth *auth = request->auth;
  bool first;
  char header[48];
  if (!auth || auth->rate <= 0) return true;
  /* A load balancer often has the address of its clients' gateway. If these could use up the rate
   * of its probes, a scan from there would take the service out of rotation. So health and metrics
   * have an allowance each, as large as that for everything else. */
  uint64_t salt = auth->salt + (uint64_t)probe * PROBE_SALT;
  uint64_t key = segue__limiter_key(request->peer, salt);
  uint64_t wait = segue__limiter_take(&admin->limiter, key, auth->rate, auth->burst,
                                      segue__loop_now_ms(admin->loop), &first);
  if (!wait) return true;
  admin->refusals.rate++;
  if (first)
    SEGUE__LOG(admin->log, SEGUE_WARN, "audit", "a client sends too many requests and gets 429",
               SEGUE__FIELD("peer", request->peer), SEGUE__FIELD("path", request->path));
  snprintf(header, sizeof header, "Retry-After: %" PRIu64 "\r\n", (wait + 999) / 1000);
  segue__answer_error(request, 429, header, "too many requests: ask again in %" PRIu64 " s",
                      (wait + 999) / 1000);
  return false;
}

/* 401 must name a way to authenticate (RFC 9110 15.5.2), and there is none for certificates: TLS
 * requests those before the request. So a listener without tokens answers 403. */
static void unauthorized(segue__admin *admin, segue__http_request *request, const identity *who) {
  const segue__auth *auth = request->auth;
  const char *challenge = who->wrong_token
                              ? "WWW-Authenticate: Bearer realm=\"segue\", error=\"invalid_token\""
                                "\r\n"
                              : "WWW-Authenticate: Bearer realm=\"segue\"\r\n";
  admin->refusals.unauthorized++;
  if (who->wrong_token)
    segue__answer_error(request, 401, challenge, "this token is not known here");
  else if (auth->tokens.count)
    segue__answer_error(request, 401, challenge,
                        "a token is required: send Authorization: Bearer TOKEN%s",
                        auth->client_known ? ", or show a certificate" : "");
  else
    segue__answer_error(request, 403, NULL, "a client certificate is required");
}

static void authorize_forbidden(segue__admin *admin, segue__http_request *request,
                                const identity *who, segue__role needed) {
  admin->refusals.forbidden++;
  segue__answer_error(request, 403, NULL, "%s has the role %s: this takes the role %s",
                      request->who[0] ? request->who : "this user", segue__role_name(who->role),
                      segue__role_name(needed));
}

/* The order matters. The rate comes first, so that guessing tokens costs a client its rate. The
 * checks against foreign web pages come before the credentials, because a browser adds the
 * certificate of its user to such a request by itself. */
bool segue__access_check(segue__admin *admin, segue__http_request *request,
                         const segue__endpoint *endpoint) {
  const segue__auth *auth = request->auth;
  segue__role needed = needed_role(request, endpoint);
  segue__probe probe = probe_of(request, endpoint);
  char why[256];
  if (!within_rate(admin, request, probe)) return false;
  if (segue__guard_check(request, probe != SEGUE__NO_PROBE, why, sizeof why)) {
    admin->refusals.forbidden++;
    SEGUE__LOG(admin->log, SEGUE_WARN, "http", why, SEGUE__FIELD("peer", request->peer));
    segue__answer_error(request, 403, NULL, "%s", why);
    return false;
  }
  identity who = authorize_identify(request, auth);
  if (auth && is_public(probe, auth)) return true;
  if (who.wrong_token || (who.role < needed && !who.named && !request->local)) {
    unauthorized(admin, request, &who);
    return false;
  }
  if (who.role >= needed) return true;
  authorize_forbidden(admin, request, &who, needed);
  return false;
}

/* ---- The record ------------------------------------------------------------------------------ */

/* Limits the rows of refused requests: they must not fill the disk, nor push other rows out of the
 * bounded record. */
static bool has_room_for_refusal(segue__admin *admin, const char *peer) {
  segue__refusals *r = &admin->refusals;
  uint64_t now = segue__loop_now_ms(admin->loop);
  bool first;
  r->room += (double)(now - r->room_ms) / 1000;
  r->room_ms = now;
  if (r->room > REFUSALS_TOLD_ALL) r->room = REFUSALS_TOLD_ALL;
  uint64_t key = segue__limiter_key(peer, AUDIT_SALT);
  if (r->room < 1 || segue__limiter_take(&admin->limiter, key, 0.1, REFUSALS_TOLD, now, &first)) {
    r->folded++;
    return false;
  }
  r->room--;
  return true;
}

/* Writes text as one line. An audit row must be one line whatever the client sends: a decoded path
 * may contain a line break followed by text that looks like a second row. Text that does not fit is
 * cut; "?" stands for it if memory is short. */
static void put_line(char *to, size_t size, const char *text, size_t len) {
  segue__buf line;
  segue__buf_init(&line);
  segue__printable_add(&line, text, len);
  snprintf(to, size, "%s", line.failed || !line.data ? "?" : line.data);
  segue__buf_deinit(&line);
}

/* Adds a row to the audit list. The query of a refused request is left out: it may hold a token
 * that was sent in the wrong place. The row is queued; no request waits for the disk. */
static void authorize_keep(segue__admin *admin, const segue__http_request *request, int status,
                           bool refused, const char *method) {
  segue__record *record = admin->engine ? segue__engine_record(admin->engine) : NULL;
  if (!record || (refused && !has_room_for_refusal(admin, request->peer))) return;
  segue__audit audit = {.wall_ms = segue__loop_wall_ms(admin->loop),
                        .status = status,
                        .refused = refused,
                        .reload = request->about};
  if (refused) {
    audit.folded = admin->refusals.folded;
    admin->refusals.folded = 0;
  }
  put_line(audit.who, sizeof audit.who, request->who, strlen(request->who));
  snprintf(audit.peer, sizeof audit.peer, "%s", request->peer);
  put_line(audit.method, sizeof audit.method, method, strlen(method));
  size_t query = refused || request->query.len > 200 ? 0 : request->query.len;
  char target[sizeof audit.path];
  int len = snprintf(target, sizeof target, "%.100s%s%.*s", request->path, query ? "?" : "",
                     (int)query, query ? request->query.s : "");
  put_line(audit.path, sizeof audit.path, target,
           len < (int)sizeof target ? (size_t)len : sizeof target - 1);
  segue__record_audit(record, &audit);
}

static void authorize_on_answer(void *data, const segue__http_request *request, int status) {
  segue__admin *admin = data;
  char method[24], code[16];
  bool refused = status == 401 || status == 403 || status == 429;
  if (segue__looks_only(request) && !refused) return;
  snprintf(method, sizeof method, "%.*s",
           (int)(request->method.len < 20 ? request->method.len : 20), request->method.s);
  authorize_keep(admin, request, status, refused, method);
  if (status == 429) return; /* within_rate() logs it, once for many */
  snprintf(code, sizeof code, "%d", status);
  SEGUE__LOG(admin->log, refused ? SEGUE_WARN : SEGUE_INFO, "audit",
             refused  ? "refused"
             : status ? "answered"
                      : "client left before the answer",
             SEGUE__FIELD("method", method), SEGUE__FIELD("path", request->path),
             SEGUE__FIELD("status", code),
             SEGUE__FIELD("who", request->who[0] ? request->who : NULL),
             SEGUE__FIELD("peer", request->peer));
}

/* A handshake fails before the request exists, so no rate limit of requests covers it. A scanner
 * makes thousands: each client gets a few lines, then one a second. */
static void authorize_on_tls_failure(void *data, const char *peer, void *auth, const char *why) {
  segue__admin *admin = data;
  const segue__auth *d = auth;
  bool first;
  admin->refusals.handshakes++;
  uint64_t key = segue__limiter_key(peer, d ? ~d->salt : 0);
  if (segue__limiter_take(&admin->limiter, key, 1, HANDSHAKES_TOLD, segue__loop_now_ms(admin->loop),
                          &first))
    return;
  SEGUE__LOG(admin->log, SEGUE_WARN, "audit", "a TLS handshake failed", SEGUE__FIELD("peer", peer),
             SEGUE__FIELD("why", why), SEGUE__FIELD("address", d ? d->address : NULL));
}

static void authorize_on_crowd(void *data, const char *peer) {
  segue__admin *admin = data;
  segue__refusals *r = &admin->refusals;
  uint64_t now = segue__loop_now_ms(admin->loop);
  r->connections++;
  if (r->connections > 1 && now - r->crowd_reported_ms < CROWD_TOLD_MS) return;
  r->crowd_reported_ms = now;
  SEGUE__LOG(admin->log, SEGUE_WARN, "http", "there are too many connections: new ones get 503",
             SEGUE__FIELD("limit", admin->connections_max), SEGUE__FIELD("refused", r->connections),
             SEGUE__FIELD("peer", peer));
}

static void authorize_on_scarce(void *data) {
  segue__admin *admin = data;
  segue__refusals *r = &admin->refusals;
  uint64_t now = segue__loop_now_ms(admin->loop);
  if (r->scarce++ && now - r->scarce_reported_ms < CROWD_TOLD_MS) return;
  r->scarce_reported_ms = now;
  SEGUE__LOG(admin->log, SEGUE_WARN, "http",
             "too few file descriptors are left: new clients wait until others leave (raise "
             "LimitNOFILE=, ulimit -n)");
}

void segue__access_watch(segue__admin *admin) {
  const segue__http_events events = {.on_answer = authorize_on_answer,
                                     .on_tls_failure = authorize_on_tls_failure,
                                     .on_scarce = authorize_on_scarce,
                                     .on_crowd = authorize_on_crowd};
  segue__http_server_watch(admin->server, &events);
}

void segue__access_metrics(segue__buf *out, const segue__admin *admin) {
  const segue__refusals *r = &admin->refusals;
  segue__metrics_head(out, "segue_http_refused_total", "counter",
                      "Requests to the admin API that were refused, by reason.");
  segue__buf_addf(out, "segue_http_refused_total{reason=\"unauthorized\"} %" PRIu64 "\n",
                  r->unauthorized);
  segue__buf_addf(out, "segue_http_refused_total{reason=\"forbidden\"} %" PRIu64 "\n",
                  r->forbidden);
  segue__buf_addf(out, "segue_http_refused_total{reason=\"rate\"} %" PRIu64 "\n", r->rate);
  segue__buf_addf(out, "segue_http_refused_total{reason=\"connections\"} %" PRIu64 "\n",
                  r->connections);
  segue__metrics_head(out, "segue_tls_handshake_failures_total", "counter",
                      "TLS handshakes that failed.");
  segue__buf_addf(out, "segue_tls_handshake_failures_total %" PRIu64 "\n", r->handshakes);
}

/* SPDX-License-Identifier: MIT
 *
 * internal.h: what the files of the admin API share: its state, the signature of a handler, and how
 * answers are sent.
 */
#ifndef SEGUE_ADMIN_INTERNAL_H
#define SEGUE_ADMIN_INTERNAL_H

#include "../record/recorded_answers.h"
#include "../record/writer.h"
#include "admin.h"
#include "auth.h"
#include "limiter.h"
#include "metrics.h"
#include "render.h"

typedef struct segue__reload_call segue__reload_call;
typedef struct segue__large_response segue__large_response;
typedef struct segue__question segue__question;
typedef struct segue__file_question segue__file_question;
typedef struct segue__event_stream segue__event_stream;
typedef struct segue__admin_listener segue__admin_listener;

/* The request behind a reload, as its cause: "POST /-/reload by token ops from 10.0.0.7:5000". */
#define SEGUE__CAUSE_SIZE 384
/* Events that a client may ask for again after it lost its connection (Last-Event-ID). */
#define SEGUE__EVENTS_KEPT 128

typedef struct segue__events {
  segue__event_stream *streams;
  segue__timer heartbeat;
  uint64_t next_id;
  char *kept[SEGUE__EVENTS_KEPT]; /* by id modulo */
} segue__events;

struct segue__admin_listener {
  segue__http_listener *http_listener;
  segue__socket_lease lease;
  segue__admin_listener *next;
  char key[128]; /* the address as the policy normalises it: with port 0 the bound one differs */
  segue__auth *auth;      /* a reference on the live one, or of a new listener on the staged one */
  segue__auth *next_auth; /* a reference on the one that is staged; NULL: none */
  bool live;              /* named by the live policy */
  bool wanted;            /* named by the policy that is staged */
  segue__tls_notice notice;
};

/* Counts of rejected clients, by reason. */
typedef struct segue__refusals {
  uint64_t unauthorized, forbidden, rate, connections, handshakes;
  uint64_t crowd_reported_ms;          /* when the last line about connections was written */
  uint64_t scarce, scarce_reported_ms; /* how often descriptors ran short; its last log line */
  uint64_t folded; /* refusals without a row in the record since the last one with a row */
  double room;     /* number of further refusals that may be recorded, as of room_ms */
  uint64_t room_ms;
} segue__refusals;

/* incident.c: an incident as it is written down by a client. */
#define SEGUE__ENTRIES_KEPT 16
typedef struct segue__recording {
  bool on, starting;
  uint64_t count;                  /* entries so far; the last ones are kept, by number modulo */
  char *kept[SEGUE__ENTRIES_KEPT]; /* NULL: there was no memory for it */
  segue__files *files;             /* of the last entry */
  segue__http_request *waiter;
  uint64_t wanted; /* by it */
  segue__record_call call;
  segue__timer timer; /* until the waiter gets 204, or all entries are freed */
} segue__recording;

struct segue__admin {
  segue__loop *loop;
  const segue__logger *log;
  segue__engine *engine; /* NULL: not attached, or gone */
  segue__http_server *server;
  segue__sockets *sockets;
  segue__http_listener *control;
  segue__socket_lease control_lease;
  segue__admin_listener *listeners;
  segue__reload_call *calls; /* requests that wait for a reload */
  segue__large_response *page,
      *pages;                 /* the page that the worker writes; the queue of pages behind it */
  size_t unsent_bytes;        /* size of pages that are being sent in pieces */
  segue__question *questions; /* requests that wait for the record */
  segue__file_question *file_questions; /* requests that wait for a report about rendered files */
  segue__events events;
  segue__recording recording;
  segue__answers *answers; /* of the policy; kept while a recording is on */
  segue__metrics metrics;
  segue__observer observer;
  segue__limiter limiter;
  segue__refusals refusals;
  uint32_t connections_max; /* through ports, and as many through unix sockets */
  segue__timer certificate_timer;
  char *policy_path, *state;
  segue__admin_parts parts;
  int64_t started_wall_ms;
  uint64_t started_ms;
  void (*closed_cb)(void *data);
  void *closed_data;
};

/* rest: the part of the path behind the endpoint's path, where the endpoint has one. */
typedef void segue__handler(segue__admin *admin, segue__http_request *request, const char *rest);
segue__handler segue__handle_reload, segue__handle_plan, segue__handle_next, segue__handle_healthy,
    segue__handle_ready, segue__handle_metrics, segue__handle_status, segue__handle_modules,
    segue__handle_sources, segue__handle_config, segue__handle_reloads, segue__handle_one_reload,
    segue__handle_diff, segue__handle_events, segue__handle_index, segue__handle_why,
    segue__handle_rollback, segue__handle_confirm, segue__handle_freeze, segue__handle_unfreeze,
    segue__handle_recording, segue__handle_audit, segue__handle_files;

void segue__answer_json(segue__http_request *request, int status, segue__buf *body);
/* One sentence: JSON {"error": ...} where the client or the path wants JSON, else text. */
void segue__answer_error(segue__http_request *request, int status, const char *headers,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
bool segue__wants_json(const segue__http_request *request);

/* ---- Endpoints (endpoints.c) ---- */

/* The kind of a health, readiness or metrics request: machines send these all the time. */
typedef enum segue__probe {
  SEGUE__NO_PROBE,
  SEGUE__PROBE_HEALTH,
  SEGUE__PROBE_METRICS
} segue__probe;

enum { SEGUE__PARAMETERS_MAX = 3 };
typedef struct segue__parameter {
  const char *name; /* NULL: no more */
  size_t size;      /* of its handler's buffer; 0: the handler cuts a long value */
} segue__parameter;

typedef struct segue__endpoint {
  const char *method; /* "GET" (and HEAD), "POST", or "POST, PUT" */
  const char *path;
  segue__role role; /* the least role that a client needs */
  segue__parameter parameters[SEGUE__PARAMETERS_MAX];
  segue__handler *handler;
  const char *rest;   /* name of the part behind a path that ends with "/"; NULL: none */
  segue__probe probe; /* a listener can open it to the public: public = { "health", "metrics" } */
  bool always;        /* answered even while no engine is attached */
} segue__endpoint;

/* Returns the endpoint of a path, whatever the method is; NULL: there is none. */
const segue__endpoint *segue__endpoint_find(const char *path, const char **rest);
bool segue__endpoint_takes(const segue__endpoint *endpoint, const segue__http_request *request);
/* GET and HEAD only: unknown parameters are ignored. */
bool segue__endpoint_looks_only(const segue__endpoint *endpoint);
void segue__endpoint_not_found(segue__http_request *request);
void segue__endpoint_not_allowed(segue__http_request *request, const segue__endpoint *endpoint);

/* Returns false after it has answered 400: a parameter is malformed (a bad escape, a zero byte, too
 * long), is given twice, or is unknown and the endpoint changes something. So a handler finds each
 * of its parameters once and whole, or not at all. */
bool segue__query_check(segue__http_request *request, const segue__endpoint *endpoint);

bool segue__looks_only(const segue__http_request *request); /* GET or HEAD */
/* Returns false after it has answered with the reason: the client may not use the endpoint (NULL:
 * none has the path). */
bool segue__access_check(segue__admin *admin, segue__http_request *request,
                         const segue__endpoint *endpoint);
void segue__access_watch(segue__admin *admin); /* the server is there */
void segue__access_metrics(segue__buf *out, const segue__admin *admin);
/* Logs certificates that expire soon, and starts the timer for the next check. */
void segue__certificates_look(segue__admin *admin);
void segue__certificates_json(segue__buf *out, const segue__admin *admin);
void segue__certificates_metrics(segue__buf *out, const segue__admin *admin);

/* Returns 0, or 403 with the reason in why: a browser sent the request on behalf of another site.
 * probe: a health or metrics request, which needs no Host. */
int segue__guard_check(const segue__http_request *request, bool probe, char *why, size_t size);

/* Writes the client's identity in a few words, for the record. */
void segue__requester(const segue__http_request *request, char *out, size_t size);
bool segue__number_parse(const char *text, uint64_t *out); /* a whole number and nothing else */

/* history_query.c: false: there is no record, nothing was answered. */
bool segue__record_ask_reloads(segue__admin *admin, segue__http_request *request, uint64_t limit,
                               uint64_t before);
bool segue__record_ask_audit(segue__admin *admin, segue__http_request *request, uint64_t limit);
bool segue__record_ask_reload(segue__admin *admin, segue__http_request *request, uint64_t id);
/* Hides keys below a secret: a path into a secret becomes the path of the secret, in place. */
void segue__admin_cut(const segue_snapshot *live, char *path, size_t size);
/* Looks up the sides that are NULL by their numbers, then answers as segue__diff_answer. */
void segue__record_ask_diff(segue__admin *admin, segue__http_request *request, const char *names[2],
                            const segue_snapshot *sides[2]);
/* members: JSON that the answer has too, of the rendered files; freed here. */
void segue__diff_answer(segue__admin *admin, segue__http_request *request,
                        const segue_snapshot *from, const segue_snapshot *to, char *members);
void segue__questions_close(segue__admin *admin);
void segue__file_questions_close(segue__admin *admin); /* files.c */
/* endpoints that show them: the changes of files and processes that are not finished, of one module
 * or of all (NULL). */
void segue__open_changes_json(segue__buf *out, const segue__engine *engine, const char *module);

/* freeze.c: members "frozen", "unconfirmed" and "rolled_back_to", without braces; and metrics. */
void segue__operator_json(segue__buf *out, const segue__engine *engine);
void segue__operator_metrics(segue__buf *out, const segue__engine *engine);

void segue__recording_add(segue__admin *admin, const segue__result *result);
void segue__recording_close(segue__admin *admin);

void segue__calls_close(segue__admin *admin);
void segue__large_responses_close(segue__admin *admin);
void segue__events_init(segue__admin *admin);
void segue__events_close(segue__admin *admin);
void segue__events_phase(segue__admin *admin, const segue__result *result, segue__phase phase);
void segue__events_drift(segue__admin *admin, const segue__drift_report *report);
void segue__events_written(segue__admin *admin, const segue__written_report *report);
void segue__events_effect(segue__admin *admin, const segue__effect_report *report);
void segue__events_module(segue__admin *admin, const char *module, uint64_t generation,
                          segue__module_state state);
/* Every listener of the policy and the control socket; for status. */
void segue__listeners_json(segue__buf *out, const segue__admin *admin);
void segue__listeners_close(segue__admin *admin);

#endif

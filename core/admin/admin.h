/* SPDX-License-Identifier: MIT
 *
 * admin.h: the admin API of one instance, for operators, Prometheus, browsers and the command line,
 * over loopback TCP and over the control socket. It reads the engine and requests reloads of it; it
 * changes nothing itself. Control thread throughout. Start reading at admin.c (routes).
 */
#ifndef SEGUE_ADMIN_ADMIN_H
#define SEGUE_ADMIN_ADMIN_H

#include "../http/http.h"
#include "../record/file_report.h"
#include "../reload/engine.h"
#include "../socket/socket.h"

typedef struct segue__admin segue__admin;

/* Functions of other parts of the instance that the admin API calls. */
typedef struct segue__admin_parts {
  void *data; /* first argument of each */
  /* Adds metrics of other parts to /metrics; NULL: there are none. */
  void (*more_metrics)(void *data, segue__buf *out);
  /* Returns a listener of another part whose certificates are watched too, by its index; NULL past
   * the last one. */
  segue__tls_notice *(*more_certificates)(void *data, size_t index);
  /* Adds the addresses of a module as JSON strings, with commas between them. */
  void (*module_addresses)(void *data, const char *module, segue__buf *out);
  /* Requests a report about rendered files: done runs once, later, with NULL if there is none any
   * more; the report may not be kept. On failure it does not run. NULL: there are no files. */
  int (*file_report)(void *data, void (*done)(void *data, segue__file_report *report),
                     void *done_data);
  void (*file_totals)(void *data, size_t *modules, size_t *files);
} segue__admin_parts;

typedef struct segue__admin_options {
  size_t size;
  segue__loop *loop; /* on libuv */
  const segue__logger *log;
  segue__sockets *sockets;        /* outlives it */
  const char *policy_path;        /* shown in status; may be NULL */
  const char *state;              /* shown in status; may be NULL */
  struct segue__answers *answers; /* borrowed: what a recording takes */
  segue__admin_parts parts;
} segue__admin_options;

int segue__admin_new(segue__admin **out, const segue__admin_options *options);
/* Sets the engine, once, before the loop runs, and observes it. */
void segue__admin_attach(segue__admin *admin, segue__engine *engine);
/* In a child after fork: closes the descriptors of listeners and connections, and nothing else. */
void segue__admin_abandon(segue__admin *admin);
/* Closes event streams and listeners at once, and connections after the answer that they wait for
 * (at the latest after grace_ms); frees the admin API, then calls cb. */
void segue__admin_close(segue__admin *admin, uint64_t grace_ms, void (*cb)(void *data), void *data);

/* Opens the control socket, a listener that no policy owns. A second call replaces a listener whose
 * file is gone. */
int segue__admin_listen_control(segue__admin *admin, const char *path, segue_error *err);

/* Returns whether the file of the control socket exists and is the one that was bound. */
bool segue__admin_control_there(const segue__admin *admin);
/* Another process owns the path now: closing does not remove the file. */
void segue__admin_control_disown(segue__admin *admin);

/* Policy listeners, as segue__triggers_ops wants them. An address that both sets name keeps its
 * socket. */
int segue__admin_stage(segue__admin *admin, const segue__policy *next, segue__errors *errors);
void segue__admin_settle(segue__admin *admin);
void segue__admin_discard(segue__admin *admin);
/* Validates the listeners of a policy and loads their credentials: refuses a malformed address, an
 * address that other machines can reach without credentials, and invalid certificates and tokens.
 * The files are read through os and become inputs of the policy. Called once, before the policy is
 * used. */
int segue__admin_check(segue__policy *policy, const segue__os *os, segue__errors *errors);

/* Returns whether every module runs a good generation; if not, `why` gets one sentence. The first
 * generation is not good before it is confirmed; a later one that is being confirmed is, because
 * the last good generation is restored if it fails. */
bool segue__admin_ready(const segue__engine *engine, char *why, size_t size);

/* Writes every settled run to the log: one line, and one more for each error. */
void segue__announce(const segue__logger *log, const segue__result *result);

#endif

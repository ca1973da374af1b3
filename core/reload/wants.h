/* SPDX-License-Identifier: MIT
 *
 * wants.h: the names that templates request (service "x" requests "services/x"), and the sources
 * that get them: a source that can deliver on demand begins with a name when a template requests
 * it, and ends when no template has used it for three generations. Control thread.
 *
 * A module reports in its prepare which names it uses. A run whose templates lack something waits:
 * it ends without an outcome, and runs again when a source delivers or the pause is over, until
 * everything is there or the longest wait of the modules is over.
 */
#ifndef SEGUE_RELOAD_WANTS_H
#define SEGUE_RELOAD_WANTS_H

#include "policy.h"

typedef struct segue__wants segue__wants;
typedef struct segue__engine segue__engine;
typedef struct segue__queued_run segue__queued_run;

int segue__wants_new(segue__wants **out);
void segue__wants_free(segue__wants *wants); /* NULL allowed */

/* ---- For modules, in their prepare ---- */
/* The module reports all names that it uses; wait_ms: how long it lets a run wait. */
int segue__wants_begin(segue__wants *wants, const char *module, uint64_t wait_ms);
/* It uses this name. missing: it cannot be prepared without it. */
int segue__wants_use(segue__wants *wants, const char *module, const char *name, bool missing);
/* Appends the sources of the policy that is tried which deliver on demand: "source a, source b"; or
 * a sentence that there is none. */
void segue__wants_describe_sources(const segue__wants *wants, segue__buf *out);

/* ---- For the engine; each does nothing where it has no wants ---- */
/* A run of this policy begins. plan: nothing that its modules report counts. */
void segue__wants_try(segue__engine *engine, const segue__policy *policy, bool plan);
/* Passes the names to the sources of the policy that do not have them yet. */
void segue__wants_tell(segue__engine *engine, segue__policy *policy);
/* A generation is live: the names that its modules use count from now on. */
void segue__wants_settle(segue__engine *engine);
/* The run has failed because something is missing, a source has the names, and the time is not
 * over: plans its next try. */
bool segue__wants_wait(segue__engine *engine, segue__queued_run *run);

typedef struct segue__want_status {
  const char *name;    /* borrowed until the loop continues */
  const char *modules; /* that use it: "web, mail"; "": none any more */
  bool missing;        /* the last run that requested it did not find it */
  unsigned unused;     /* generations that have not used it */
} segue__want_status;
size_t segue__engine_want_count(const segue__engine *engine);
/* Sorted by name. text holds `modules`. */
void segue__engine_want(const segue__engine *engine, size_t index, segue__buf *text,
                        segue__want_status *out);

#endif

/* SPDX-License-Identifier: MIT
 *
 * ingress.h: the listeners of modules. Sockets belong to the ingress, not to modules: it accepts on
 * data threads of its own, lets every request through the gate of its module, and hands it to the
 * instance that the gate leads to. Which listeners there are is part of a transaction: new ones are
 * bound while staging, accept from the flip on, and close when it is undone; those that are gone
 * close when the reload is settled; the others are not touched. Control thread.
 */
#ifndef SEGUE_INGRESS_INGRESS_H
#define SEGUE_INGRESS_INGRESS_H

#include "../http/tls.h"
#include "../module/worker_threads.h"
#include "../reload/policy.h"
#include "../socket/socket.h"

typedef struct segue__ingress segue__ingress;

typedef struct segue__ingress_options {
  size_t size;
  segue__loop *loop; /* of the control thread */
  const segue__logger *log;
  segue__gates *gates;     /* outlive it */
  segue__sockets *sockets; /* likewise */
  /* The current log, for access logs without a file: called on a thread that may wait. */
  int (*write_log)(void *data, const segue_log_entry *entry);
  /* While it serves: this worker thread has not returned from the code of this module for so long.
   * Called once per such call. */
  void (*on_busy)(void *data, size_t worker_index, const char *module, uint64_t silent_ms);
  /* While it closes: this data thread is given up, because it has not come back for so long, from
   * the code of this module (NULL: nobody knows). Its memory is never freed. */
  void (*on_lost)(void *data, size_t worker_index, const char *module, uint64_t silent_ms);
  void *data;
} segue__ingress_options;

int segue__ingress_new(segue__ingress **out, const segue__ingress_options *options);
/* Are the addresses of a policy addresses, each of one module only, whose code serves requests?
 * Certificates are read through os, become inputs of the policy, and are made ready. Called once,
 * before the policy is used. */
int segue__ingress_check(segue__policy *policy, const segue__os *os, segue__errors *errors);

/* Binds what is new in `next`, and starts the data threads where there are none yet. */
int segue__ingress_stage(segue__ingress *ingress, const segue__policy *next, segue__errors *errors);
/* New listeners accept, all lead to where `next` says; back: to where they led before. */
/* For a plan: starts only the data threads, for modules that are prepared on them. These threads
 * stay. */
int segue__ingress_rehearse(segue__ingress *ingress, const segue__policy *next,
                            segue__errors *errors);
void segue__ingress_flip(segue__ingress *ingress, bool back);
void segue__ingress_settle(segue__ingress *ingress);
void segue__ingress_discard(segue__ingress *ingress);

/* Closes all listeners at once, connections after the answer they wait for, at the latest after
 * grace_ms; then cb. The data threads stay, for modules that have work to do on them; but from now
 * on those that do not come back are given up. NULL allowed: cb runs at once. */
void segue__ingress_close(segue__ingress *ingress, uint64_t grace_ms, void (*cb)(void *data),
                          void *data);
/* In a child after fork: closes the descriptors of all worker threads, and nothing else. */
void segue__ingress_abandon(segue__ingress *ingress);
/* Closed: ends the threads, then cb, and the ingress is freed. Requests that their modules have not
 * answered by then may still be answered, to nobody. NULL allowed: cb runs at once. */
void segue__ingress_free(segue__ingress *ingress, void (*cb)(void *data), void *data);

/* Its data threads, for modules that run on them. */
segue__worker_threads segue__ingress_worker_threads(segue__ingress *ingress);

/* Opens the files of access logs anew. NULL allowed. */
void segue__ingress_reopen(const segue__ingress *ingress);
/* The certificates of the live listeners, by index. NULL past the last one, or if ingress is
 * NULL. */
segue__tls_notice *segue__ingress_certificate(const segue__ingress *ingress, size_t index);
/* Adds the addresses that lead to a module, as JSON strings with commas between them. */
void segue__ingress_addresses(const segue__ingress *ingress, const char *module, segue__buf *out);
/* Adds the metrics of its listeners. */
void segue__ingress_metrics(const segue__ingress *ingress, segue__buf *out);

#endif

/* SPDX-License-Identifier: MIT
 *
 * ingress.h: the listeners of modules. The ingress accepts connections on worker threads of its
 * own, passes every request through the gate of its module, and gives it to the instance behind the
 * gate. Listeners are part of a transaction: staging binds new ones; they accept from the flip on,
 * and close if it is undone. Removed ones close when the reload settles; the others are not
 * touched. Control thread.
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
  segue__gates *gates;     /* must outlive the ingress */
  segue__sockets *sockets; /* likewise */
  /* The current log, for access logs without a file: called on a thread that may wait. */
  int (*write_log)(void *data, const segue_log_entry *entry);
  /* While it serves: this worker thread has not returned from the code of this module for so long.
   * Called once per such call. */
  void (*on_busy)(void *data, size_t worker_index, const char *module, uint64_t silent_ms);
  /* While it closes: this worker thread is abandoned, because it has not returned for so long from
   * the code of this module (NULL: unknown). Its memory is never freed. */
  void (*on_lost)(void *data, size_t worker_index, const char *module, uint64_t silent_ms);
  void *data;
} segue__ingress_options;

int segue__ingress_new(segue__ingress **out, const segue__ingress_options *options);
/* Validates the listeners of a policy: the addresses, that each belongs to one module only, and
 * that its code serves requests. Reads certificates through os, adds them to the inputs of the
 * policy, and prepares them. Called once, before the policy is used. */
int segue__ingress_check(segue__policy *policy, const segue__os *os, segue__errors *errors);

/* Binds the new listeners of `next`, and starts the worker threads if there are none. */
int segue__ingress_stage(segue__ingress *ingress, const segue__policy *next, segue__errors *errors);
/* New listeners accept, and all routes lead to the modules of `next`. back: restores the previous
 * routes. */
/* For a plan: starts only the worker threads, for modules that are prepared on them. The threads
 * stay. */
int segue__ingress_rehearse(segue__ingress *ingress, const segue__policy *next,
                            segue__errors *errors);
void segue__ingress_flip(segue__ingress *ingress, bool back);
void segue__ingress_settle(segue__ingress *ingress);
void segue__ingress_discard(segue__ingress *ingress);

/* Closes all listeners at once, and connections after their pending answer, at the latest after
 * grace_ms; then calls cb. The worker threads stay, because modules may still use them; those that
 * do not return from a module are abandoned from now on. ingress NULL: cb runs at once. */
void segue__ingress_close(segue__ingress *ingress, uint64_t grace_ms, void (*cb)(void *data),
                          void *data);
/* In a child after fork: closes the descriptors of all worker threads, and nothing else. */
void segue__ingress_abandon(segue__ingress *ingress);
/* Call it after close: ends the threads, calls cb, and frees the ingress. Modules may still answer
 * requests then; the answers are dropped. ingress NULL: cb runs at once. */
void segue__ingress_free(segue__ingress *ingress, void (*cb)(void *data), void *data);

/* The worker threads, for modules that run on them. */
segue__worker_threads segue__ingress_worker_threads(segue__ingress *ingress);

/* Opens the files of access logs again. NULL allowed. */
void segue__ingress_reopen(const segue__ingress *ingress);
/* The certificates of the live listeners, by index. NULL past the last one, or if ingress is
 * NULL. */
segue__tls_notice *segue__ingress_certificate(const segue__ingress *ingress, size_t index);
/* Appends the addresses of a module, as JSON strings with commas between them. */
void segue__ingress_addresses(const segue__ingress *ingress, const char *module, segue__buf *out);
/* Appends the metrics of the listeners. */
void segue__ingress_metrics(const segue__ingress *ingress, segue__buf *out);

#endif

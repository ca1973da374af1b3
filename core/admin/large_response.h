/* SPDX-License-Identifier: MIT
 *
 * large_response.h: answers that are written from snapshots and may be large.
 */
#ifndef SEGUE_ADMIN_LARGE_RESPONSE_H
#define SEGUE_ADMIN_LARGE_RESPONSE_H

#include "internal.h"

/* The longest page. A render function may stop once its output is longer. */
enum { SEGUE__PAGE_MAX = 64 << 20 };

typedef struct segue__large_response_request segue__large_response_request;
struct segue__large_response_request {
  const segue_snapshot *from, *to; /* from may be NULL */
  const segue_node *node;          /* the part of `to` that is requested; NULL: all of both */
  char path[512];                  /* where node is */
  char *members; /* JSON that render adds; NULL: none. Moves into the answer, which frees it */
  /* Worker or control thread. Reads what is in ask, nothing else. */
  void (*render)(segue__buf *out, const segue__large_response_request *ask);
};

/* Answers 200 with what render writes: at once if what is requested is small, else later from
 * the worker, which may have files to read first. Takes references for as long as that lasts. A
 * client that leaves is forgotten. */
void segue__large_response_answer(segue__admin *admin, segue__http_request *request,
                                  const segue__large_response_request *ask, const char *headers);

#endif

/* SPDX-License-Identifier: MIT
 *
 * scripted_source.h: an asynchronous source that a spec controls, and that records each call in the
 * world's journal: "net.fetch r1", "net.watch -", "net.cancel".
 */
#ifndef SPEC_SUPPORT_SCRIPTED_SOURCE_H
#define SPEC_SUPPORT_SCRIPTED_SOURCE_H

#include "scripted.h"

typedef struct scripted_source {
  scripted_world *world;
  char name[32];
  int fetch, watch;  /* behaviours: for watch, SCRIPTED_LATER runs until the spec ends it */
  bool deaf;         /* does not end when it is cancelled */
  bool unchanged;    /* fetch returns "not modified" */
  unsigned retry_ms; /* its failures ask for this pause */
  char text[8192];   /* of its one document; "" = no document */
  char revision[32]; /* "" = none */
  char base[32];     /* "" = none, else what it delivers are changes against this revision */
  segue_op *fetches[64];
  segue__emission *outs[64];
  int fetch_count;
  segue_op *watch_op;
  segue__emitter *emitter;
  int watching, watching_most; /* now, and at most at once */
} scripted_source;

scripted_source *scripted_source_new(scripted_world *world, const char *name);
void scripted_source_free(scripted_source *source);
const segue__source_kind *scripted_source_kind(void);
/* Ends the fetches that were kept. */
int scripted_source_finish(scripted_source *source, int status);
/* Pushes a change of one document, from `base` to `revision`: text NULL takes it away. */
void scripted_source_emit_delta(scripted_source *source, const char *base, const char *revision,
                                const char *name, const char *text);
/* Pushes its documents; ask: only reports that something changed. */
void scripted_source_emit(scripted_source *source, bool ask);
/* The watch ends, with 0 or an error. */
void scripted_source_end_watch(scripted_source *source, int status);

#endif

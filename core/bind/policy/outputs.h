/* SPDX-License-Identifier: MIT
 *
 * outputs.h: the last output of each template, with what it has read. As long as that is equal, the
 * template is not rendered again. Control thread.
 */
#ifndef SEGUE_BIND_OUTPUTS_H
#define SEGUE_BIND_OUTPUTS_H

#include "../../config/touched.h"

typedef struct segue__output {
  segue__hash key;
  segue__touched touched;
  char *text;
  size_t len;
  uint64_t used; /* the oldest goes first */
} segue__output;

typedef struct segue__outputs {
  segue__output **items;
  size_t count;
  size_t bytes; /* of all texts */
  uint64_t clock;
} segue__outputs;

/* NULL: there is none, or something that it has read is another one below these roots. Borrowed
 * until the next put. */
const segue__output *segue__outputs_find(segue__outputs *outputs, segue__hash key,
                                         const segue_node *part, const segue_node *whole);
/* Replaces what has this key; text is copied. Where memory ends nothing is kept. */
void segue__outputs_put(segue__outputs *outputs, segue__hash key, const segue__touched *touched,
                        const char *text, size_t len);
void segue__outputs_deinit(segue__outputs *outputs);

#endif

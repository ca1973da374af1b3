/* SPDX-License-Identifier: MIT
 *
 * quote.h: the only way of a configuration value into a message. Whoever makes an error message
 * about a value gives the value's path and the mask of the configuration; quote decides. A value
 * that is a secret, or that may be one because no mask is known yet, is shown as "***". make lint
 * refuses a message of core/config and core/source that takes the text of a value from elsewhere.
 * [any thread]
 */
#ifndef SEGUE_CONFIG_QUOTE_H
#define SEGUE_CONFIG_QUOTE_H

#include "mask.h"

/* Where a text stands that a message wants to show. */
typedef enum segue__quote_place {
  SEGUE__QUOTE_VALUE, /* it is the value at the path, or a part of it */
  SEGUE__QUOTE_KEY,   /* it is a key of the map at the path */
  SEGUE__QUOTE_STRAY  /* it stands somewhere in the container at the path: a broken document may
                         put a secret there that belongs to a member */
} segue__quote_place;

enum { SEGUE__QUOTED_SIZE = 96 };
typedef struct segue__quoted {
  char text[SEGUE__QUOTED_SIZE];
} segue__quoted;

/* May a message show what stands there? mask NULL: nothing is known about secrets yet, so no. Out
 * of memory: no. */
bool segue__quote_allows(const segue__mask *mask, const segue__path *path,
                         segue__quote_place place);
/* The first bytes of a text in whole characters, "..." behind them if there are more; or "***" if
 * it is not allowed. Returns out->text. */
const char *segue__quote_text(segue__quoted *out, bool allowed, const char *text, size_t len);
/* The same for a value, as JSON; of a list or map the size. */
const char *segue__quote_node(segue__quoted *out, bool allowed, const segue_node *node);

#endif

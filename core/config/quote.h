/* SPDX-License-Identifier: MIT
 *
 * quote.h: the only way of a configuration value into a message. Code that makes an error message
 * about a value passes the path of the value and the mask of the configuration, and quote decides.
 * A value that is a secret, or may be one because no mask is known yet, is shown as "***". make
 * lint rejects a message of core/config and core/source that takes the text of a value from
 * elsewhere. [any thread]
 */
#ifndef SEGUE_CONFIG_QUOTE_H
#define SEGUE_CONFIG_QUOTE_H

#include "mask.h"

/* Place of the text that a message shows. */
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

/* Returns whether a message may show the text at this place. False if mask is NULL, because then
 * secrets are not known yet, and if memory runs out. */
bool segue__quote_allows(const segue__mask *mask, const segue__path *path,
                         segue__quote_place place);
/* Writes the first bytes of a text in whole characters, with "..." if there are more; "***" if it
 * is not allowed. Returns out->text. */
const char *segue__quote_text(segue__quoted *out, bool allowed, const char *text, size_t len);
/* The same for a value, as JSON; for a list or map its size. */
const char *segue__quote_node(segue__quoted *out, bool allowed, const segue_node *node);

#endif

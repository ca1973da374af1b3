/* SPDX-License-Identifier: MIT
 *
 * Quotes: configuration values in messages. An error message leaves the process by the HTTP answer,
 * the log, the history and the event stream. None of these knows the path of a value in the middle
 * of a sentence, so the decision is made here, where the path is known.
 */
#include "quote.h"

#include <stdio.h>
#include <string.h>

#include "mask_internal.h"

enum { SHOWN_MAX = 80 };

bool segue__quote_allows(const segue__mask *mask, const segue__path *path,
                         segue__quote_place place) {
  segue__seen seen;
  if (!mask || segue__mask_look(mask, path, &seen) < 0) return false;
  return place == SEGUE__QUOTE_STRAY ? seen == SEGUE__SEEN_CLEAR : seen != SEGUE__SEEN_SECRET;
}

const char *segue__quote_text(segue__quoted *out, bool allowed, const char *text, size_t len) {
  size_t keep = len < SHOWN_MAX ? len : SHOWN_MAX;
  while (keep < len && keep && ((unsigned char)text[keep] & 0xc0) == 0x80)
    keep--; /* not in the middle of a character */
  if (allowed)
    snprintf(out->text, sizeof out->text, "%.*s%s", (int)keep, text, keep < len ? "..." : "");
  else
    snprintf(out->text, sizeof out->text, "%s", SEGUE__MASKED);
  return out->text;
}

const char *segue__quote_node(segue__quoted *out, bool allowed, const segue_node *node) {
  bool map = node->type == SEGUE_MAP;
  if (map || node->type == SEGUE_LIST) {
    snprintf(out->text, sizeof out->text, node->count ? "a %s of %u" : "an empty %s",
             map ? "map" : "list", node->count);
    return out->text;
  }
  if (!allowed) return segue__quote_text(out, false, "", 0);
  segue__buf text;
  segue__buf_init(&text);
  segue__json_write_start(&text, node, SHOWN_MAX + 8);
  bool whole = text.data && !text.failed;
  segue__quote_text(out, whole, whole ? text.data : "", whole ? text.len : 0);
  segue__buf_deinit(&text);
  return out->text;
}

/* SPDX-License-Identifier: MIT
 *
 * mask.h: which values of a config are secrets, and showing the rest. A mask is made of patterns
 * from the policy and of a schema (writeOnly); a value is a secret if either marks it. Immutable,
 * counted, [any thread]. All code that shows values outside of the process uses a mask; a NULL mask
 * hides nothing.
 *
 * Patterns are paths (path.h) in which a key may hold "*" for any part of it, a step may be "*" or
 * "[*]" (any key, any index) or "**" (any number of steps, also none): db.password, **.token,
 * users[*].*_key. Every value below a secret is a secret.
 */
#ifndef SEGUE_CONFIG_MASK_H
#define SEGUE_CONFIG_MASK_H

#include "config.h"
#include "path.h"

#define SEGUE__MASKED "***"

typedef struct segue__mask segue__mask;
typedef struct segue__schema segue__schema; /* core/schema, which is built on this folder */

/* SEGUE_EPOLICY: a pattern is malformed; err names it and the reason. At most 64 patterns of 60
 * steps. */
int segue__mask_new(segue__mask **out, const char *const *patterns, size_t count, segue_error *err);
/* Makes a mask that hides every value that a or b hides or that schema marks. Each may be NULL;
 * *out is NULL if a, b and schema are. Takes a reference to schema. Secret values that a or b
 * learned are not copied. */
int segue__mask_join(segue__mask **out, const segue__mask *a, const segue__mask *b,
                     segue__schema *schema);
/* Makes a mask that hides everything. */
int segue__mask_all(segue__mask **out);
/* Makes a mask that hides nothing, for a config that is known to have no secrets. (A missing mask
 * has another meaning: the secrets are not known, see segue__limits.) */
int segue__mask_none(segue__mask **out);
/* Returns data, which is a mask: for segue__limits, if the mask is known before the document is
 * read. */
const struct segue__mask *segue__mask_given(void *data);
segue__mask *segue__mask_ref(const segue__mask *mask); /* NULL -> NULL */
void segue__mask_unref(segue__mask *mask);             /* NULL allowed */

/* Returns whether the value at a path is a secret. Returns true if that cannot be found out (memory
 * runs out, path is malformed). */
bool segue__mask_hides(const segue__mask *mask, const char *path);
/* Writes the path of the topmost secret on the way to `path`, or path itself: keys below a secret
 * are not shown either. Returns 1 if the path is a secret or inside one, 0 if not, UV_ENOMEM (then
 * out must not be shown). out must be empty before. A text that is not a path becomes the path of
 * the root. */
int segue__mask_cut(const segue__mask *mask, const char *path, segue__buf *out);
/* Cuts the paths of all changes and marks the changes of secrets. All changes below one secret
 * become one row. On failure the list is empty. */
int segue__mask_changes(const segue__mask *mask, segue__changes *changes);
/* Writes the value at a path as JSON, with SEGUE__MASKED in place of secrets; as segue__json_write,
 * or with a limit as segue__json_write_start. path: where node is in the config, "" for the root.
 */
void segue__mask_write(segue__buf *out, const segue__mask *mask, const segue_node *node,
                       const char *path, unsigned indent, size_t limit);
/* Writes one side of a change in the same way: SEGUE__MASKED if the change is one of a secret. */
void segue__mask_write_change(segue__buf *out, const segue__mask *mask, const segue__change *change,
                              const segue_node *side, size_t limit);

/* ---- Secrets in sentences ---- */

/* Learns the secret values of a config, so that they can be found in texts: strings of at least 4
 * bytes (each line by itself, and as JSON and %q write it) and numbers of at least 4 digits. Call
 * it before the mask is shared between threads. */
int segue__mask_learn(segue__mask *mask, const segue_node *root);
/* The same for all documents of a config, also their values that a later document replaces: a
 * template may read one source by its name. */
int segue__mask_learn_config(segue__mask *mask, const segue__config *config);
/* Returns whether the mask has learned any value. */
bool segue__mask_knows(const segue__mask *mask);
/* Returns whether both masks know the same values: then one of them is enough to clean a text. */
bool segue__mask_knows_same(const segue__mask *a, const segue__mask *b);
/* Returns whether segue__mask_scrub would find a secret in the text. */
bool segue__mask_finds(const segue__mask *mask, const char *text);
/* Replaces every known secret value in the text by SEGUE__MASKED, also where a value of 6 bytes or
 * more stands as base64 (of a longer text too, in lines, for URLs), as hex digits, or with escapes
 * of URLs, JSON or HTML; for a long value also its first 8 bytes with any further matching ones;
 * its first 4 bytes where they stand as a word of their own, at the end of the text or before
 * "...", its first 4 bytes in one of those other forms at the same places, and its last 4 bytes
 * behind "...", because the value or the text may have been cut there.
 * Works in place: the text never gets longer. was_cut: the text is the beginning of a longer one,
 * so that its end contains no byte of a secret. Returns true if a secret was found.
 */
bool segue__mask_scrub(const segue__mask *mask, char *text, bool was_cut);
/* Appends a text with SEGUE__MASKED in place of every known secret value, as above, but keeps its
 * line breaks: each line of a secret is replaced by itself, so that the result has the lines of the
 * text. The text may contain zero bytes. Returns true if a secret was found. */
bool segue__mask_lines(const segue__mask *mask, const char *text, size_t len, segue__buf *out);
/* The same for a unified diff, with the names of its files: a secret of several lines is found in
 * both versions, although signs of the diff and lines of the other version stand between. */
void segue__mask_diff(const segue__mask *mask, const char *diff, size_t len, segue__buf *out);
/* The same for the texts of an error (message, file, source); also cuts keys below a secret from
 * its path. A text as long as its buffer counts as cut. */
void segue__mask_error(const segue__mask *mask, segue_error *error);

#endif

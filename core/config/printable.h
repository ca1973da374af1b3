/* SPDX-License-Identifier: MIT
 *
 * printable.h: makes foreign text safe for a terminal or a row of a table. A request path, a name
 * in a certificate, a reason or an error message may contain an escape sequence, or a line break
 * that turns one row into two. Escaped are control characters (C0, DEL, C1), characters that change
 * the direction of text (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), the line
 * separators U+2028 and U+2029, and bytes that are not UTF-8: \n, \t, \r, \x1b, \u202e. [any
 * thread]
 */
#ifndef SEGUE_CONFIG_PRINTABLE_H
#define SEGUE_CONFIG_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../os/mem.h"

/* Returns the number of bytes of the character at s if it must be escaped, else 0. Sets code to the
 * character, or to the byte if it is not UTF-8. len > 0. */
size_t segue__printable_odd(const char *s, size_t len, uint32_t *code);
/* Appends the text as a part of one line. */
void segue__printable_add(segue__buf *out, const char *s, size_t len);
/* The same for a sentence that may have several lines: each line after the first is indented, so
 * that none looks like a row of its own. */
void segue__printable_lines(segue__buf *out, const char *s, size_t len);
/* The same for a text that Segue laid out: line breaks and tabs stay as they are, and colours if
 * `colour` is set. */
void segue__printable_page(segue__buf *out, const char *s, size_t len, bool colour);

#endif

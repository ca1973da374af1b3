/* SPDX-License-Identifier: MIT
 *
 * glob.h: patterns of file names, for those who list a folder, watch it or replay a listing.
 * [any thread]
 */
#ifndef SEGUE_OS_GLOB_H
#define SEGUE_OS_GLOB_H

#include <stdbool.h>

/* The wildcards of glob(7) in one part of a path, and {a,b}: one of several alternatives, which may
 * hold wildcards and braces. Braces without a comma stand for themselves, as in a shell; so does a
 * character after a backslash. A name that begins with a dot matches only a pattern that does. */
bool segue__glob_match(const char *glob, const char *name);
/* Has the text a wildcard or a brace, so that it is a pattern and not a name? */
bool segue__glob_is_pattern(const char *text);
/* NULL, or what is wrong with the pattern: braces that are not closed, or too many alternatives. */
const char *segue__glob_problem(const char *glob);
/* Both are paths; the last part of the first one is a pattern, the folders are compared as text. */
bool segue__glob_match_path(const char *pattern, const char *path);

#endif

/* SPDX-License-Identifier: MIT
 *
 * glob.h: patterns of file names, for listing a folder, watching it, and replaying a listing. [any
 * thread]
 */
#ifndef SEGUE_OS_GLOB_H
#define SEGUE_OS_GLOB_H

#include <stdbool.h>

/* Matches the wildcards of glob(7) in one part of a path, and {a,b}: one of several
 * alternatives, which may contain wildcards and braces. Braces without a comma match themselves,
 * as in a shell; so does a character after a backslash. A name with a leading dot matches only a
 * pattern with one. */
bool segue__glob_match(const char *glob, const char *name);
/* Returns whether the text has a wildcard or a brace, so that it is a pattern and not a name. */
bool segue__glob_is_pattern(const char *text);
/* Returns NULL, or the error in a pattern: braces that are not closed, or too many alternatives. */
const char *segue__glob_problem(const char *glob);
/* Both are paths. The last part of the first one is a pattern; the folders are compared as text. */
bool segue__glob_match_path(const char *pattern, const char *path);

#endif

/* SPDX-License-Identifier: MIT
 *
 * check.h: the words of a check command that sees a staged set. Where the command names staged
 * files ("{staged:PATH}", "{{.src}}"), their paths are put in: into an argument as they are, into a
 * line for the shell as variables of its environment, so that no path is read as shell text. Else
 * it runs in a private mount namespace, in which each folder shows the staged files in place of the
 * live ones: a server that reads all of its configuration reads the new one.
 */
#ifndef SEGUE_FILES_CHECK_H
#define SEGUE_FILES_CHECK_H

#include "effect.h"
#include "set.h"

typedef struct segue__check_words {
  segue__effect effect;
  char
      folder[64]; /* an empty folder, which the caller removes when the command is gone; "": none */
  bool names_staged; /* false: it sees the staged files in the place of the live ones */
} segue__check_words;

/* check: with its folder and time limit. On failure *out needs no clear. err names the word that
 * cannot be used. */
/* Whether the command names staged files, instead of seeing them in their places. */
bool segue__check_names_files(const segue__effect *check);
int segue__check_words_make(segue__check_words *out, const segue__file_set *set,
                            const segue__effect *check, segue_error *err);
/* The same for a command that does nothing, in the folder of the first file of the set, which is
 * there: it fails where this system has no private mount namespaces. The set has a file. */
int segue__check_words_try(segue__check_words *out, const segue__file_set *set,
                           const segue__effect *check, segue_error *err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * own_words.h: error messages of sources written in Lua, without values. fetch and watch read
 * documents before it is known which values in them are secrets, and an error may quote any part of
 * them: unchanged, decoded, cut or joined. A search for the bytes of the document would miss most
 * of these. So the rule is the reverse: a message shows only words whose origin is known.
 */
#ifndef SEGUE_BIND_OWN_WORDS_H
#define SEGUE_BIND_OWN_WORDS_H

#include "../runtime/library.h"
#include "../runtime/state.h"

/* Replaces each word of the message by SEGUE__MASKED, except words that occur in the policy's files
 * or in the files of plugins in Lua, words of the messages of Lua and of Segue's functions, and
 * numbers of at most three digits between two words that are shown. A word is a text between white
 * space; quotes, brackets and punctuation around it do not count. Removes a file that is not one of
 * these, and the path. */
void segue__own_words_keep(const segue__program *program, const segue__library *library,
                           segue_error *error);

#endif

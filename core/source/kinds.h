/* SPDX-License-Identifier: MIT
 *
 * kinds.h: the kinds of sources that this folder has; segue__lua_topics lists all kinds that a
 * policy may name.
 */
#ifndef SEGUE_SOURCE_KINDS_H
#define SEGUE_SOURCE_KINDS_H

#include "source.h"

extern const segue__source_kind segue__source_file;
extern const segue__source_kind segue__source_dir;
extern const segue__source_kind segue__source_env;
extern const segue__source_kind segue__source_value;

#endif

/* SPDX-License-Identifier: MIT
 *
 * bind_eval.h: runs a text in a fresh state as policies get it, and takes what it returns: what the
 * sandbox's own functions answer can be compared with Lua's.
 */
#ifndef SEGUE_SPEC_BIND_EVAL_H
#define SEGUE_SPEC_BIND_EVAL_H

#include "core/os/error.h"
#include "core/os/mem.h"

/* The text returns one string. No signal: the time is kept by the count hook. */
int bind_eval(const char *text, size_t len, uint64_t cpu_ms, segue__buf *out, segue_error *err);

#endif

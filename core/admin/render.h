/* SPDX-License-Identifier: MIT
 *
 * render.h: one reload, an error, an instant: as text for people and as JSON for programs. The
 * admin API and the command line print the same.
 */
#ifndef SEGUE_ADMIN_RENDER_H
#define SEGUE_ADMIN_RENDER_H

#include "../reload/engine.h"

/* Returns the HTTP status of an outcome. */
int segue__render_status(segue__outcome outcome);

/* "applied: generation 3 is live (reload 7, 1.2 ms)" and a line for each error. */
void segue__render_result_text(segue__buf *out, const segue__result *result);
/* "would be rejected", "would fail" ... */
const char *segue__render_would(segue__outcome outcome);
/* Of a plan: the lines of untested steps ("not tried: start front; confirm by the probe"); nothing
 * if there are none. */
void segue__render_untried_text(segue__buf *out, const segue__result *result);
/* The files that a run changes, or would change: a line for each, then the differences. Nothing if
 * there are none. */
void segue__render_files_text(segue__buf *out, const segue__file_changes *files);
void segue__render_files_json(segue__buf *out, const segue__file_changes *files); /* ,"files":[] */
/* Of a plan: its steps, changes and files. */
void segue__render_plan_text(segue__buf *out, const segue__result *result);
/* detail: with steps, changes and the rendered files. */
void segue__render_result_json(segue__buf *out, const segue__result *result, bool detail);

/* A text as a part of one line, without characters that a terminal obeys. */
void segue__render_line(segue__buf *out, const char *text);
void segue__render_error_text(segue__buf *out, const segue_error *error); /* one line, no newline */
void segue__render_error_json(segue__buf *out, const segue_error *error); /* NULL: null */

/* `"key":"value"` with value escaped; NULL is null. */
void segue__render_member(segue__buf *out, const char *key, const char *value);
/* The same for a text that a policy or a source chose, without secrets; *** if memory ran out. */
void segue__render_clean(segue__buf *out, const segue__engine *engine, const char *key,
                         const char *value);
/* 2026-11-22T15:51:33.120Z, for people; "?" for 0. */
void segue__render_clock(segue__buf *out, int64_t wall_ms);
/* The same as JSON, in quotes; null for 0. */
void segue__render_time(segue__buf *out, int64_t wall_ms);
/* A node as JSON; one of more than 4 KiB as a JSON string of its beginning. path: where it is in a
 * config, whose secrets mask knows (NULL: none). */
void segue__render_value(segue__buf *out, const segue_node *node, const char *path,
                         const segue__mask *mask);
/* One side of a change, in the same way. */
void segue__render_side(segue__buf *out, const segue__change *change, const segue_node *side,
                        const segue__mask *mask);
/* "1.2 ms", "15 s" */
void segue__render_duration(segue__buf *out, uint64_t microseconds);
uint64_t segue__render_total_us(const segue__result *result);

#endif

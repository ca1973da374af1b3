/* SPDX-License-Identifier: MIT
 *
 * table.h: shared by the files that print tables: reads the JSON of the API.
 */
#ifndef SEGUE_DAEMON_TABLE_H
#define SEGUE_DAEMON_TABLE_H

#include "../config/config.h"
#include "cli.h"

/* A JSON object; *out is freed with segue__document_unref. */
int segue__table_parse(const char *body, size_t len, segue__document **out);
/* A JSON array, as the member `name` of an object, because the reader needs a map at the root. */
int segue__table_parse_list(const char *body, size_t len, const char *name, segue__document **out);
const char *segue__table_text(const segue_node *node, const char *path); /* "-": none */
int64_t segue__table_number(const segue_node *node, const char *path);   /* 0: none */
bool segue__table_given(const segue_node *node, const char *path);       /* there, and not null */
/* The number of a generation as text in buf; "-" where there is none (0). */
const char *segue__table_generation(const segue_node *node, const char *path, char buf[24]);
/* How wide a column with this title must be for its texts, at most 60. */
int segue__table_width(const segue_node *list, const char *path, const char *title);
/* "file:line:column", without what is 0: a value of the policy has no column. */
void segue__table_place(segue__buf *out, const segue_node *node);
const char *segue__table_paint(bool colour, const char *code);
/* Appends a text of which parts are unified diffs, with these in colour. */
void segue__table_paint_diffs(segue__buf *out, const char *text, size_t len, bool colour);
/* Appends a list of changed files with their diffs, as the API answers it. */
void segue__table_files(segue__buf *out, const segue_node *answer, bool colour);
void segue__table_errors(segue__buf *out, const segue_node *list, const char *indent);

#endif

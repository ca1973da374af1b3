/* SPDX-License-Identifier: MIT
 *
 * table.h: what the files that draw tables share: reading the API's JSON.
 */
#ifndef SEGUE_DAEMON_TABLE_H
#define SEGUE_DAEMON_TABLE_H

#include "../config/config.h"
#include "cli.h"

/* A JSON object; *out is freed with segue__document_unref. */
int segue__table_parse(const char *body, size_t len, segue__document **out);
const char *segue__table_text(const segue_node *node, const char *path); /* "-": none */
int64_t segue__table_number(const segue_node *node, const char *path);   /* 0: none */
bool segue__table_given(const segue_node *node, const char *path);       /* there, and not null */
const char *segue__table_paint(bool colour, const char *code);
void segue__table_errors(segue__buf *out, const segue_node *list, const char *indent);

#endif

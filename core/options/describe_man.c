/* SPDX-License-Identifier: MIT
 *
 * The options of a topic as a list of mdoc(7).
 */
#include <string.h>

#include "describe_internal.h"

/* Text in a line of its own: mdoc takes a period or an apostrophe at the start for a request, and
 * a line break is wanted after each sentence. */
static void man_text(segue__buf *out, const char *text) {
  bool start = true;
  for (; *text; text++) {
    if (start && (*text == '.' || *text == '\'')) segue__buf_adds(out, "\\&");
    if (*text == '\\')
      segue__buf_adds(out, "\\e");
    else if (*text == '.' && text[1] == ' ')
      segue__buf_adds(out, ".\n");
    else
      segue__buf_addc(out, *text);
    start = *text == '.' && text[1] == ' ';
    if (start) text++;
  }
}

/* One argument of a macro. */
static void man_argument(segue__buf *out, const char *text) {
  segue__buf_addc(out, '"');
  for (; *text; text++) {
    if (*text == '"')
      segue__buf_adds(out, "\\(dq");
    else
      segue__buf_addc(out, *text);
  }
  segue__buf_addc(out, '"');
}

static void man_table(const segue__topics *topics, const segue_option_table *table,
                      segue__buf *out);

static void man_row(const segue__topics *topics, const segue_option *row, segue__buf *out) {
  segue__buf word, facts;
  segue__buf_init(&word);
  segue__buf_init(&facts);
  segue__option_word(row, &word);
  segue__option_facts(row, &facts);
  out->failed |= word.failed || facts.failed;
  segue__buf_addf(out, ".It Ic %s No = Ar ", row->name);
  man_argument(out, word.data ? word.data : "");
  segue__buf_addc(out, '\n');
  char first = row->doc && *row->doc ? row->doc[0] : 0;
  if (first >= 'a' && first <= 'z') first = (char)(first - 'a' + 'A');
  if (first) {
    segue__buf_addc(out, first);
    man_text(out, row->doc + 1);
    segue__buf_adds(out, ".\n");
  }
  if (facts.len) {
    man_text(out, facts.data);
    segue__buf_addc(out, '\n');
  }
  segue__buf_deinit(&word);
  segue__buf_deinit(&facts);
  if (row->table && !segue__topic_of(topics, row->table)) man_table(topics, row->table, out);
}

static void man_table(const segue__topics *topics, const segue_option_table *table,
                      segue__buf *out) {
  const segue_option *row;
  segue__buf_adds(out, ".Bl -tag -width Ds\n");
  for (size_t i = 0; (row = segue__options_row(table, i)); i++)
    if (!(row->flags & SEGUE_OPTION_HIDDEN)) man_row(topics, row, out);
  segue__buf_adds(out, ".El\n");
}

void segue__describe_man(const segue__topics *topics, const segue__option_kind *topic,
                         segue__buf *out) {
  if (topic->table && topic->table->count) man_table(topics, topic->table, out);
}

/* SPDX-License-Identifier: MIT
 *
 * The options of a topic as a list of mdoc(7).
 */
#include <string.h>

#include "describe_internal.h"

enum { LINE_MAX_LEN = 78 };

/* Text in lines of its own. A sentence begins a line, as mdoc wants it, and a period or apostrophe
 * at the start of one is no request. */
static void man_text(segue__buf *out, const char *text) {
  size_t column = 0;
  while (*text) {
    size_t len = strcspn(text, " ");
    bool ends = len && text[len - 1] == '.';
    if (column && column + 1 + len > LINE_MAX_LEN) {
      segue__buf_addc(out, '\n');
      column = 0;
    } else if (column) {
      segue__buf_addc(out, ' ');
    }
    if (!column && (*text == '.' || *text == '\'')) segue__buf_adds(out, "\\&");
    for (size_t i = 0; i < len; i++)
      segue__buf_adds(out, text[i] == '\\' ? "\\e" : (char[]){text[i], 0});
    column += len + 1;
    text += len + strspn(text + len, " ");
    if (ends && *text) {
      segue__buf_addc(out, '\n');
      column = 0;
    }
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
  segue__buf sentence;
  segue__buf_init(&sentence);
  if (row->doc && *row->doc) {
    segue__buf_addf(&sentence, "%s.", row->doc);
    if (!sentence.failed && *row->doc >= 'a' && *row->doc <= 'z')
      sentence.data[0] = (char)(*row->doc - 'a' + 'A');
    man_text(out, sentence.failed ? "" : sentence.data);
    segue__buf_addc(out, '\n');
  }
  out->failed |= sentence.failed;
  segue__buf_deinit(&sentence);
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
  size_t shown = 0;
  for (size_t i = 0; (row = segue__options_row(table, i)); i++)
    shown += !(row->flags & SEGUE_OPTION_HIDDEN);
  if (!shown) return;
  segue__buf_adds(out, ".Bl -tag -width Ds\n");
  for (size_t i = 0; (row = segue__options_row(table, i)); i++)
    if (!(row->flags & SEGUE_OPTION_HIDDEN)) man_row(topics, row, out);
  segue__buf_adds(out, ".El\n");
}

void segue__describe_man(const segue__topics *topics, const segue__option_kind *topic,
                         segue__buf *out) {
  if (topic->table && topic->table->count) man_table(topics, topic->table, out);
}

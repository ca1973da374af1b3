/* SPDX-License-Identifier: MIT
 *
 * fill.h: one validation, for the files of this folder.
 */
#ifndef SEGUE_OPTIONS_FILL_H
#define SEGUE_OPTIONS_FILL_H

#include "options.h"

typedef struct segue__fill {
  const segue__options_env *env;
  segue__errors *errors;
  segue__buf path; /* of the value that is validated */
  int rc;          /* code of the first error */
  size_t count;    /* of errors so far */
  /* While the value of a shorthand is validated: the row of the table that it stands for. */
  const segue_option *outer;
} segue__fill;

/* fill.c */

/* Adds an error at node, about the path that is validated. The sentence continues after the path.
 */
void segue__fill_wrong(segue__fill *j, const segue_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void segue__fill_wrong_at(segue__fill *j, uint32_t document, uint32_t line, uint32_t column,
                          const char *format, va_list args) __attribute__((format(printf, 5, 0)));
/* "must be EXPECTED, not FOUND". type: of the row, or of its items. */
void segue__fill_wrong_type(segue__fill *j, const segue_option *row, segue_option_type type,
                            const segue_node *node);
void segue__fill_no_memory(segue__fill *j);
/* `not "x"`, " a function": the end of a sentence; "" if the value is hidden. */
const char *segue__fill_found(const segue__fill *j, const segue_option *row, const segue_node *node,
                              char *buf, size_t size);
/* Append to the path; the result is for segue__fill_leave. */
size_t segue__fill_enter_key(segue__fill *j, const char *key, size_t len);
size_t segue__fill_enter_item(segue__fill *j, size_t index);
void segue__fill_leave(segue__fill *j, size_t path_len);

/* options.c: the bytes that the value of a row takes in the struct. */
size_t segue__option_row_bytes(const segue_option *row);

/* scalar.c: values that are no tables, lists or maps. */

size_t segue__option_scalar_size(segue_option_type type);
bool segue__option_is_scalar(segue_option_type type);
/* Validates node, and stores it at `at`. */
void segue__option_scalar(segue__fill *j, const segue_option *row, segue_option_type type,
                          const segue_node *node, void *at);
/* Stores the default of a row. */
void segue__option_fallback(segue__fill *j, const segue_option *row, void *at);
void segue__option_scalar_free(segue_option_type type, void *at);

/* Calls fn for each of "a|b|c"; stops if it returns true, and returns the index; -1: none did. */
int segue__choices_find(const char *choices, const char *text, size_t len);
/* The choice at an index; *len is its length; NULL past the end. */
const char *segue__choices_at(const char *choices, size_t index, size_t *len);

#endif

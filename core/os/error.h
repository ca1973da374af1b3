/* SPDX-License-Identifier: MIT
 *
 * error.h: filling segue_error, and the list of errors that one reload can produce. [any thread]
 */
#ifndef SEGUE_OS_ERROR_H
#define SEGUE_OS_ERROR_H

#include <stdarg.h>

#include "../segue.h"

/* Sets code and message, clears position and names. Returns code, so that callers can
 * `return segue__errorf(err, SEGUE_ESYNTAX, "...")`. err may be NULL. */
int segue__errorf(segue_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void segue__error_vset(segue_error *err, int code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* Adds the place to an error that is set; NULL or 0 leaves the field unchanged. */
void segue__error_set_place(segue_error *err, const char *file, uint32_t line, uint32_t column);
void segue__error_path(segue_error *err, const char *path);
void segue__error_source(segue_error *err, const char *source);

/* Returns the code of a name that segue_error_name returns ("ENOENT", "SEGUE_ETIMEOUT"); 0 if there
 * is none. */
int segue__error_find(const char *name);

/* Up to SEGUE__ERRORS_MAX errors are kept, all are counted. */
#define SEGUE__ERRORS_MAX 100
typedef struct segue__errors {
  segue_error *items;
  size_t count, capacity, total;
} segue__errors;

void segue__errors_init(segue__errors *list);
void segue__errors_deinit(segue__errors *list);
void segue__errors_add(segue__errors *list,
                       const segue_error *err); /* out of memory: counted only */

#endif

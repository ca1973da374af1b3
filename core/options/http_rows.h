/* SPDX-License-Identifier: MIT
 *
 * http_rows.h: rows and checks that all options of HTTP requests share: of segue.fetch, of sources
 * by URL, and of the requests that apply files.
 */
#ifndef SEGUE_OPTIONS_HTTP_ROWS_H
#define SEGUE_OPTIONS_HTTP_ROWS_H

#include "options.h"

/* The files of TLS. type_: of their paths; at_: a macro for the place of a field; when_: added
 * to the description of ca. */
#define SEGUE__TLS_FILE_ROWS(type_, at_, when_)                                                    \
  {.name = "ca",                                                                                   \
   .type = type_,                                                                                  \
   at_(ca),                                                                                        \
   .absent = "those of the system",                                                                \
   .doc = "PEM file of the authorities that are trusted" when_},                                   \
      {.name = "cert", .type = type_, at_(cert), .doc = "PEM file of our certificate"}, {          \
    .name = "key", .type = type_, at_(key), .doc = "PEM file of its key"                           \
  }

#define SEGUE__TLS_VERIFY_ROW(at_)                                                                 \
  {                                                                                                \
    .name = "verify", .type = SEGUE_OPTION_BOOLEAN, at_(verify), .fallback = "true",               \
    .doc = "whether the certificate of the server is verified"                                     \
  }

/* The check of a table with those rows: cert and key belong together. */
void segue__options_check_tls(void *options, segue_option_report *report);
/* Names of headers, and texts of one line. */
void segue__options_check_headers(const segue_option_pair *headers, size_t count,
                                  segue_option_report *report);
/* A method, in capital letters; NULL allowed. */
void segue__options_check_method(const char *method, segue_option_report *report);

#endif

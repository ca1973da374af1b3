/* SPDX-License-Identifier: MIT
 *
 * Checks that all options of HTTP requests share.
 */
#include "http_rows.h"
#include "../os/text.h"

#include <ctype.h>
#include <string.h>

void segue__options_check_tls(void *options, segue_option_report *report) {
  (void)options;
  if (segue_option_given(report, "cert") != segue_option_given(report, "key"))
    segue_option_wrong(report, NULL, "must have cert and key together");
}

/* A token of RFC 9110: with any other byte a server would read another header, or none. */
static bool is_token(const char *s) {
  for (const char *c = s; *c; c++)
    if (!isalnum((unsigned char)*c) && !segue__is_one_of(*c, "!#$%&'*+.^_`|~-")) return false;
  return *s != 0;
}

void segue__options_check_headers(const segue_option_pair *headers, size_t count,
                                  segue_option_report *report) {
  for (size_t i = 0; i < count; i++) {
    if (!is_token(headers[i].key))
      segue_option_wrong(report, "headers", "must have names of headers as keys, not \"%s\"",
                         headers[i].key);
    else if (strpbrk(headers[i].value, "\r\n"))
      segue_option_wrong(report, "headers", "must have texts of one line, also %s", headers[i].key);
  }
}

void segue__options_check_method(const char *method, segue_option_report *report) {
  for (const char *c = method; c && *c; c++)
    if (!isupper((unsigned char)*c)) {
      segue_option_wrong(report, "method", "must be a method such as \"POST\", not \"%s\"", method);
      return;
    }
}

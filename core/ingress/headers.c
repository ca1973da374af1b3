/* SPDX-License-Identifier: MIT
 *
 * Checks the head of a module's answer. Names and values are checked, so that text from a request
 * or a configuration cannot split an answer in two; a module must not set headers that frame the
 * answer.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "../os/text.h"
#include "ingress_internal.h"

static bool is_token(segue_text text) {
  static const char others[] = "!#$%&'*+-.^_`|~";
  for (size_t i = 0; i < text.len; i++) {
    char c = text.s[i];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && !segue__is_one_of(c, others)) return false;
  }
  return text.len > 0;
}

static bool is_value(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)s[i];
    if ((c < ' ' && c != '\t') || c == 127) return false;
  }
  return true;
}

static bool headers_is_ours(segue_text name) {
  static const char *const ours[] = {"Content-Length", "Transfer-Encoding", "Connection", "Date",
                                     "Content-Type"};
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
    if (strlen(ours[i]) == name.len && strncasecmp(ours[i], name.s, name.len) == 0) return true;
  return false;
}

int segue__answer_check(const segue_answer *answer) {
  if (answer->status < 200 || answer->status > 599) return SEGUE_EUSAGE;
  if (answer->content_type && !is_value(answer->content_type, strlen(answer->content_type)))
    return SEGUE_EUSAGE;
  for (size_t i = 0; i < answer->header_count; i++) {
    const segue_header *header = &answer->headers[i];
    if (!is_token(header->name) || headers_is_ours(header->name) ||
        !is_value(header->value.s, header->value.len))
      return SEGUE_EUSAGE;
  }
  return 0;
}

int segue__answer_lines(const segue_answer *answer, uint64_t generation, segue__buf *lines) {
  lines->len = 0;
  lines->failed = 0;
  if (generation) segue__buf_addf(lines, "Segue-Generation: %" PRIu64 "\r\n", generation);
  for (size_t i = 0; i < answer->header_count; i++) {
    const segue_header *header = &answer->headers[i];
    segue__buf_add(lines, header->name.s, header->name.len);
    segue__buf_add(lines, ": ", 2);
    segue__buf_add(lines, header->value.s, header->value.len);
    segue__buf_add(lines, "\r\n", 2);
  }
  return lines->failed ? UV_ENOMEM : 0;
}

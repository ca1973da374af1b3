/* SPDX-License-Identifier: MIT
 *
 * Runs patterns: PCRE2 with the allocator of segue, and with limits of backtracking and heap. The
 * patterns are not compiled to machine code, because a hardened service may not have memory that is
 * both writable and executable.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <uv.h>

#include "schema_internal.h"

enum { MATCH_LIMIT = 500000, HEAP_KIB = 8192 };

struct segue__regex {
  pcre2_code *code;
};

static void *match_allocate(size_t size, void *data) {
  (void)data;
  return segue__malloc(size);
}

static void match_release(void *p, void *data) {
  (void)data;
  segue__free(p);
}

/* The flags give ECMA-262 its meaning: "$" matches only at the end (not before a last line feed),
 * and a reference to a group without a match matches the empty text. \C is off, because it could
 * end a match inside of a character. The texts were checked as UTF-8 when they were read. */
static int match_compile(segue__regex *regex, const segue__buf *text, segue_error *err) {
  pcre2_general_context *memory = pcre2_general_context_create(match_allocate, match_release, NULL);
  pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
  int code = PCRE2_ERROR_NOMEMORY;
  size_t offset;
  if (context)
    regex->code = pcre2_compile((PCRE2_SPTR)(text->data ? text->data : ""), text->len,
                                PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_MATCH_UNSET_BACKREF |
                                    PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C,
                                &code, &offset, context);
  pcre2_compile_context_free(context);
  pcre2_general_context_free(memory);
  if (regex->code) return 0;
  if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
    return segue__errorf(err, UV_ENOMEM, "out of memory");
  char why[160] = "";
  pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
  return segue__errorf(err, UV_ENOTSUP, "PCRE2 cannot run it: %s", why);
}

int segue__regex_new(segue__regex **out, const char *pattern, size_t len, segue_error *err) {
  *out = NULL;
  segue__regex *regex = segue__calloc(1, sizeof *regex);
  if (!regex) return segue__errorf(err, UV_ENOMEM, "out of memory");
  segue__buf text;
  segue__buf_init(&text);
  int rc = segue__regex_translate(pattern, len, &text, err);
  if (!rc) rc = match_compile(regex, &text, err);
  segue__buf_deinit(&text);
  if (rc) {
    segue__regex_free(regex);
    return rc;
  }
  *out = regex;
  return 0;
}

void segue__regex_free(segue__regex *regex) {
  if (!regex) return;
  pcre2_code_free(regex->code);
  segue__free(regex);
}

static int match_prepare(segue__matcher *m) {
  if (m->data) return 0;
  if (!m->memory) m->memory = pcre2_general_context_create(match_allocate, match_release, NULL);
  if (m->memory && !m->context) m->context = pcre2_match_context_create(m->memory);
  if (m->context) m->data = pcre2_match_data_create(1, m->memory);
  if (!m->data) return UV_ENOMEM;
  pcre2_set_match_limit(m->context, MATCH_LIMIT);
  pcre2_set_heap_limit(m->context, HEAP_KIB);
  return 0;
}

void segue__matcher_deinit(segue__matcher *m) {
  pcre2_match_data_free(m->data);
  pcre2_match_context_free(m->context);
  pcre2_general_context_free(m->memory);
  *m = (segue__matcher){0};
}

int segue__regex_match(const segue__regex *regex, segue__matcher *m, const char *text, size_t len) {
  if (match_prepare(m)) return UV_ENOMEM;
  int rc =
      pcre2_match(regex->code, (PCRE2_SPTR)text, len, 0, PCRE2_NO_UTF_CHECK, m->data, m->context);
  if (rc >= 0) return 1;
  if (rc == PCRE2_ERROR_NOMATCH) return 0;
  return rc == PCRE2_ERROR_NOMEMORY ? UV_ENOMEM : SEGUE_ELIMIT;
}

/* SPDX-License-Identifier: MIT
 *
 * Which words of an error message may be shown. See own_words.h for the rule.
 */
#include "own_words.h"
#include "../../os/text.h"

#include <ctype.h>
#include <string.h>

#include "../../config/mask.h"

/* The words of the messages of Lua, of the kernel, and of the functions of Segue for tasks. Such a
 * message is readable; an address, path or command in it is shown if the policy contains it. The
 * list has no nouns that a user may choose as a password, and no words of documents. */
static const char common_words[] =
    "source a an the of for to in on at as by is are was were be it its this that and or not no "
    "with without from into within than which has have had must can cannot could will may "
    "attempt index call perform arithmetic concatenate compare get length nil value field local "
    "global upvalue method number string table boolean function userdata thread two bad argument "
    "expected got invalid option format malformed pattern ends stack overflow loop yield across "
    "C-call boundary out memory string.rep "
    "server answers answer answered running? connect connection refused reset timed host known "
    "found down unreachable network address use name resolution temporary failure try again "
    "gave complete larger bytes raise max_bytes headers read broke off middle trusted does HTTP "
    "request requests earlier look-ups come back looked up after done ms s seconds not done still "
    "happen took longer stopped ended signal exited code exit status run user such who "
    "commands already wait some them "
    "cannot open write look list file folder link symbolic exist exists create correct path "
    "missing permission denied mode belongs uid root directory operation permitted input/output "
    "error system full make room disk quota used mounted read-only remount another place process "
    "too many open files limit raise long larger max jobs hang busy resource temporarily "
    "unavailable broken pipe returned reason values #1 #2 #3 delivered document documents map list "
    "either text both keys "
    "key return need needs wanted given empty";

enum { WORDS_MAX = 256, SMALL_LEN = 3 };

typedef enum origin {
  ORIGIN_VALUE, /* not known, so it may be a value */
  ORIGIN_SMALL, /* a small number */
  ORIGIN_MARK,  /* at most three bytes of punctuation */
  ORIGIN_OWN
} origin;

typedef struct own_word {
  const char *at; /* in the message, with quotes and punctuation */
  size_t len;
  origin origin;
} own_word;

typedef struct own_texts {
  const segue__program *program;
  const segue__library *library;
} own_texts;

static bool is_inside_word(char c) {
  return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Returns whether the text contains the word as a whole: "password" does not contain "pass". The
 * letter of an escape sequence (\n) in a Lua text does not belong to the word behind it. */
static bool stands_in(const char *text, size_t len, const char *word, size_t n) {
  const char *end = text + len;
  for (const char *at = text; at && at < end; at++) {
    at = memmem(at, (size_t)(end - at), word, n);
    if (!at) return false;
    bool begins = at == text || !is_inside_word(at[-1]) || (at - text > 1 && at[-2] == '\\');
    if (begins && (at + n == end || !is_inside_word(at[n]))) return true;
  }
  return false;
}

static bool is_own(const own_texts *own, const char *word, size_t n) {
  if (stands_in(common_words, sizeof common_words - 1, word, n)) return true;
  for (size_t i = 0; i < own->program->count; i++) {
    const segue__chunk *chunk = &own->program->chunks[i];
    if (chunk->text && stands_in(chunk->text, chunk->len, word, n)) return true;
  }
  size_t len;
  const char *text;
  for (size_t i = 0; (text = segue__library_plugin(own->library, i, &len)); i++)
    if (stands_in(text, len, word, n)) return true;
  return false;
}

static origin origin_of(const own_texts *own, const char *word, size_t n) {
  size_t digits = 0, whole = n;
  while (n && segue__is_one_of(*word, "'\"([{<`"))
    word++, n--;
  while (n && segue__is_one_of(word[n - 1], "'\")]}>`.,:;!?"))
    n--;
  while (digits < n && isdigit((unsigned char)word[digits]))
    digits++;
  if (!n) return whole <= SMALL_LEN ? ORIGIN_MARK : ORIGIN_VALUE;
  if (digits == n && n <= SMALL_LEN) return ORIGIN_SMALL;
  return is_own(own, word, n) ? ORIGIN_OWN : ORIGIN_VALUE;
}

static size_t split_words(const own_texts *own, const char *message, own_word *words) {
  size_t count = 0;
  for (const char *at = message; *at && count < WORDS_MAX;) {
    while (isspace((unsigned char)*at))
      at++;
    size_t len = 0;
    while (at[len] && !isspace((unsigned char)at[len]))
      len++;
    if (len) words[count++] = (own_word){at, len, origin_of(own, at, len)};
    at += len;
  }
  return count;
}

/* A small number counts as a part of a value unless the sentence continues around it: "vault
 * answered 503" is shown, "horse battery 12" is not. */
static bool is_shown(const own_word *words, size_t count, size_t i) {
  if (words[i].origin == ORIGIN_OWN || words[i].origin == ORIGIN_VALUE)
    return words[i].origin == ORIGIN_OWN;
  size_t before = i, after = i + 1;
  while (before && words[before - 1].origin == ORIGIN_MARK)
    before--;
  while (after < count && words[after].origin == ORIGIN_MARK)
    after++;
  return (!before || words[before - 1].origin == ORIGIN_OWN) &&
         (after == count || words[after].origin == ORIGIN_OWN);
}

static bool is_own_file(const own_texts *own, const char *file) {
  size_t len;
  for (size_t i = 0; i < own->program->count; i++)
    if (!strcmp(own->program->chunks[i].path, file)) return true;
  return segue__library_find(own->library, file, &len);
}

void segue__own_words_keep(const segue__program *program, const segue__library *library,
                           segue_error *error) {
  const own_texts own = {program, library};
  own_word words[WORDS_MAX];
  segue_error kept = *error;
  size_t count = split_words(&own, error->message, words), len = 0;
  /* The message may have been cut in its last word, so that a value may look like another word. */
  if (count && strlen(error->message) + 4 >= sizeof error->message)
    words[count - 1].origin = ORIGIN_VALUE;
  kept.message[0] = 0;
  for (size_t i = 0; i < count; i++) {
    bool shown = is_shown(words, count, i);
    if (!shown && i && !is_shown(words, count, i - 1)) continue; /* one mask for them all */
    const char *text = shown ? words[i].at : SEGUE__MASKED;
    size_t n = shown ? words[i].len : sizeof SEGUE__MASKED - 1;
    if (len + 1 + n >= sizeof kept.message) break;
    if (len) kept.message[len++] = ' ';
    memcpy(kept.message + len, text, n);
    kept.message[len += n] = 0;
  }
  if (!is_own_file(&own, error->file)) {
    kept.file[0] = 0;
    kept.line = kept.column = 0;
  }
  kept.path[0] = 0;
  *error = kept;
}

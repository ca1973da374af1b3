/* SPDX-License-Identifier: MIT
 *
 * Checks the values on a command line before a request is sent, so that a message names the option
 * or argument as the help does (GENERATION), not the parameter of the HTTP request behind it.
 */
#include <string.h>

#include "../config/tree.h"
#include "../os/units.h"
#include "cli.h"

static bool arguments_is_number(const char *text) {
  size_t len = strlen(text);
  return len && len < 20 && strspn(text, "0123456789") == len;
}

static bool is_positive(const char *text) {
  return arguments_is_number(text) && text[strspn(text, "0")];
}

static bool is_hash(const char *text) {
  segue__hash hash;
  return segue__hash_parse(text, &hash);
}

static int arguments_usage(const char *name, const char *must, const char *text) {
  return segue__cli_fail(SEGUE__EXIT_USAGE, "%s must be %s, not \"%.60s\"", name, must, text);
}

int segue__cli_check_options(const segue__cli *cli) {
  uint64_t ms;
  if (cli->wait && !segue__duration_of(cli->wait, &ms))
    return arguments_usage("--wait TIME", "a time such as 5s or 200ms", cli->wait);
  if (cli->duration && (!segue__duration_of(cli->duration, &ms) || !ms))
    return arguments_usage("--for TIME", "a time such as 10m", cli->duration);
  if (cli->limit && !is_positive(cli->limit))
    return arguments_usage("--limit N", "a number, at least 1", cli->limit);
  if (cli->if_match && !arguments_is_number(cli->if_match) && !is_hash(cli->if_match) &&
      strcmp(cli->if_match, "*") != 0)
    return arguments_usage("--if-match GENERATION",
                           "the number or the hash of a generation (segue status)", cli->if_match);
  return 0;
}

int segue__cli_check_reload_id(const char *text) {
  return is_positive(text) ? 0
                           : arguments_usage("ID", "the number of a reload (segue history)", text);
}

int segue__cli_check_generation(const char *text) {
  return is_positive(text)
             ? 0
             : arguments_usage("GENERATION", "the number of a generation (segue history)", text);
}

int segue__cli_check_side(const char *name, const char *text, bool next) {
  if (is_positive(text) || !strcmp(text, "live") || !strcmp(text, "previous") ||
      (next && !strcmp(text, "next")))
    return 0;
  return arguments_usage(name,
                         next ? "the number of a generation, live, previous or next"
                              : "the number of a generation, live or previous",
                         text);
}

/* SPDX-License-Identifier: MIT
 *
 * Log entries as lines on standard error: text for people, JSON for machines. A line is one write,
 * so that threads and other processes on the same pipe do not cut it. Control characters never
 * reach the terminal: messages may quote what a stranger sent.
 */
#include "sink.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../config/config.h"
#include "../os/log.h"

int segue__sink_init(segue__sink *sink, const segue__cli *cli) {
  segue__level level = SEGUE__INFO;
  *sink = (segue__sink){.colour = segue__cli_colour(2)};
  if (cli->log_level && segue__level_parse(cli->log_level, &level) < 0)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--log-level is error, warn, info or debug, not \"%s\"", cli->log_level);
  sink->level = (segue_level)level;
  sink->json = cli->log_format && strcmp(cli->log_format, "json") == 0;
  if (cli->log_format && !sink->json && strcmp(cli->log_format, "text") != 0)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "--log-format is text or json, not \"%s\"",
                           cli->log_format);
  return 0;
}

static void add_time(segue__buf *out) {
  struct timespec now;
  struct tm tm;
  char text[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
  segue__buf_addf(out, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

static void add_clean(segue__buf *out, const char *s, bool quoted) {
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '\n')
      segue__buf_adds(out, "\\n");
    else if (c < 32 || c == 127)
      segue__buf_addf(out, "\\x%02x", c);
    else if (quoted && (c == '"' || c == '\\'))
      segue__buf_addf(out, "\\%c", c);
    else
      segue__buf_addc(out, (char)c);
  }
}

static void add_text_value(segue__buf *out, const segue_log_field *field) {
  if (!field->text) {
    segue__buf_addf(out, "%" PRId64, field->number);
  } else if (field->text[0] && !strpbrk(field->text, " \"=\\\t\r\n")) {
    add_clean(out, field->text, false);
  } else {
    segue__buf_addc(out, '"');
    add_clean(out, field->text, true);
    segue__buf_addc(out, '"');
  }
}

static void add_text(segue__buf *out, const segue__sink *sink, const segue_log_entry *entry) {
  static const char *const colours[] = {"\033[31m", "\033[33m", "\033[32m", "\033[2m"};
  add_time(out);
  segue__buf_addf(out, " %s%-5s%s %s: ", sink->colour ? colours[entry->level] : "",
                  segue__level_name((segue__level)entry->level), sink->colour ? "\033[0m" : "",
                  entry->group);
  add_clean(out, entry->message, false);
  for (size_t i = 0; i < entry->field_count; i++) {
    segue__buf_addf(out, " %s=", entry->fields[i].key);
    add_text_value(out, &entry->fields[i]);
  }
  segue__buf_addc(out, '\n');
}

static void add_json(segue__buf *out, const segue_log_entry *entry) {
  segue__buf_adds(out, "{\"time\":\"");
  add_time(out);
  segue__buf_addf(out, "\",\"level\":\"%s\",\"group\":\"%s\",\"message\":",
                  segue__level_name((segue__level)entry->level), entry->group);
  segue__json_string(out, entry->message, strlen(entry->message));
  for (size_t i = 0; i < entry->field_count; i++) {
    const segue_log_field *field = &entry->fields[i];
    segue__buf_addf(out, ",\"%s\":", field->key);
    if (field->text)
      segue__json_string(out, field->text, strlen(field->text));
    else
      segue__buf_addf(out, "%" PRId64, field->number);
  }
  segue__buf_adds(out, "}\n");
}

static void write_all(const char *data, size_t len) {
  while (len) {
    ssize_t n = write(2, data, len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    data += n;
    len -= (size_t)n;
  }
}

void segue__sink_write(const segue__sink *sink, const segue_log_entry *entry) {
  segue__buf line;
  segue__buf_init(&line);
  if (sink->json)
    add_json(&line, entry);
  else
    add_text(&line, sink, entry);
  if (!line.failed) write_all(line.data, line.len);
  segue__buf_deinit(&line);
}

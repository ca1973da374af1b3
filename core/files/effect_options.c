/* SPDX-License-Identifier: MIT
 *
 * The options of effects, and effects as JSON. An intent has the same names and forms as a policy,
 * so the rows of the options read both.
 */
#include <stddef.h>
#include <string.h>
#include <uv.h>

#include "../config/config.h"
#include "../config/utf8.h"
#include "../options/command_rows.h"
#include "../options/http_rows.h"
#include "../os/error.h"
#include "../os/signal_names.h"
#include "effect_internal.h"

enum { EFFECT_WORDS = 100 };

/* ---- Rows ---- */

#define AT(field) .offset = offsetof(segue__effect, field)
static const segue_option command_rows[] = {
    {.name = "argv",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     AT(argv),
     .example = "{ \"nginx\", \"-s\", \"reload\" }",
     .doc = "the program and its arguments"},
    SEGUE__COMMAND_ROWS(AT),
    {.name = "group",
     .type = SEGUE_OPTION_TEXT,
     AT(group),
     .absent = "the main group of the user",
     .doc = "its main group, a name or number"},
    {.name = "folder",
     .type = SEGUE_OPTION_PATH,
     AT(folder),
     .absent = "the policy's folder",
     .doc = "the folder in which it runs"},
    {.name = "kill_after",
     .type = SEGUE_OPTION_DURATION,
     AT(kill_ms),
     .min = 1,
     .fallback = "5s",
     .doc = "past the time limit its process group gets TERM, and after this time KILL"},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(timeout_ms),
     .min = 1,
     .absent = "the timeout of the module",
     .doc = "time limit"},
};
static const segue_option tls_rows[] = {
    SEGUE__TLS_FILE_ROWS(SEGUE_OPTION_PATH, AT, ""),
    SEGUE__TLS_VERIFY_ROW(AT),
};
static const segue_option_table tls_options = {.size = sizeof(segue_option_table),
                                               .row_size = sizeof(segue_option),
                                               .name = "apply tls",
                                               .doc = "TLS of a request of apply.",
                                               .rows = tls_rows,
                                               .count = sizeof tls_rows / sizeof *tls_rows,
                                               .key_offset = SEGUE_OPTION_NOT_STORED,
                                               .kind_offset = SEGUE_OPTION_NOT_STORED,
                                               .check = segue__options_check_tls};
static const segue_option apply_rows[] = {
    {.name = "pidfile",
     .type = SEGUE_OPTION_PATH,
     AT(pidfile),
     .example = "\"/run/nginx.pid\"",
     .doc = "send a signal to the process of this pid file; made by segue.hup and "
            "segue.send_signal"},
    {.name = "signal",
     .type = SEGUE_OPTION_CHOICE,
     AT(signal),
     .choices = SEGUE__SIGNAL_CHOICES,
     .fallback = "HUP",
     .doc = "the signal"},
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     AT(name),
     .absent = "any, unless it started after the pid file was written",
     .doc = "the name that the process or its program must have"},
    {.name = "url",
     .type = SEGUE_OPTION_TEXT,
     AT(url),
     .example = "\"http://127.0.0.1:9090/-/reload\"",
     .doc = "send an HTTP request, which must be answered with a status of 200 to 299; made by "
            "segue.post"},
    {.name = "method",
     .type = SEGUE_OPTION_TEXT,
     AT(method),
     .fallback = "POST",
     .doc = "the method of the request, in capital letters"},
    {.name = "headers",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_NUMBERS,
     AT(headers),
     .doc = "headers of the request: texts of one line by name"},
    {.name = "body", .type = SEGUE_OPTION_TEXT, AT(body), .doc = "the body of the request"},
    {.name = "unix_socket",
     .type = SEGUE_OPTION_PATH,
     AT(unix_socket),
     .doc = "connect to this instead of the host of the URL"},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &tls_options,
     .offset = 0,
     .doc = "files of the request, and whether the server is verified"},
};
static const segue_option undo_rows[] = {
    {.name = "call",
     .type = SEGUE_OPTION_FUNCTION,
     AT(call),
     .given = 1 + offsetof(segue__effect, has_call),
     .signature = "fun(): boolean?, string?",
     .doc =
         "a function that returns true, or nil and the reason why not. After a crash it does not "
         "run: apply runs again then"},
};
#undef AT

/* ---- Checks ---- */

/* Intents are JSON, which has no other texts. */
static void check_utf8(const char *text, const char *option, segue_option_report *report) {
  if (text && segue__utf8_check(text, strlen(text)) < strlen(text))
    segue_option_wrong(report, option, "must be UTF-8");
}

static void check_pairs(const segue__effect_pairs *pairs, const char *option,
                        segue_option_report *report) {
  for (size_t i = 0; i < pairs->count; i++) {
    check_utf8(pairs->items[i].key, option, report);
    check_utf8(pairs->items[i].value, option, report);
  }
}

static void command_check(void *options, segue_option_report *report) {
  const segue__effect *effect = options;
  if (segue_option_given(report, "argv") && effect->shell)
    segue_option_wrong(report, "shell", "cannot stand beside argv: remove one of them");
  if (effect->group && !effect->user)
    segue_option_wrong(report, "group", "has an effect only with user");
  for (size_t i = 0; i < effect->argv.count; i++)
    check_utf8(effect->argv.items[i], "argv", report);
  check_utf8(effect->shell, "shell", report);
  check_utf8(effect->folder, "folder", report);
  check_pairs(&effect->env, "env", report);
  segue__options_check_variables(effect->env.items, effect->env.count, "env", report);
}

static void check_check(void *options, segue_option_report *report) {
  const segue__effect *effect = options;
  if (!effect->argv.count && !effect->shell)
    segue_option_wrong(report, NULL, "must have a command such as { \"nginx\", \"-t\" }");
}

static void request_check(const segue__effect *effect, segue_option_report *report) {
  if (strncmp(effect->url, "http://", 7) != 0 && strncmp(effect->url, "https://", 8) != 0)
    segue_option_wrong(report, "url", "must be a URL such as \"http://127.0.0.1:9090/-/reload\"");
  segue__options_check_method(effect->method, report);
  segue__options_check_headers(effect->headers.items, effect->headers.count, report);
}

/* An option that belongs to another kind of effect would be without effect. */
static void check_strangers(const char *kind, const char *const *allowed,
                            segue_option_report *report) {
  static const char *const all[] = {"env",  "user",   "group",   "folder", "kill_after",  "signal",
                                    "name", "method", "headers", "body",   "unix_socket", "tls"};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    bool mine = false;
    for (size_t n = 0; allowed[n]; n++)
      mine |= !strcmp(allowed[n], all[i]);
    if (!mine && segue_option_given(report, all[i]))
      segue_option_wrong(report, all[i], "has no effect with %s", kind);
  }
}

static void apply_check(void *options, segue_option_report *report) {
  static const char *const of_command[] = {"env", "user", "group", "folder", "kill_after", NULL};
  static const char *const of_signal[] = {"signal", "name", NULL};
  static const char *const of_request[] = {"method", "headers", "body", "unix_socket", "tls", NULL};
  static const char *const of_call[] = {NULL};
  const segue__effect *effect = options;
  bool command = effect->argv.count || effect->shell;
  int ways = command + !!effect->pidfile + !!effect->url + effect->has_call;
  check_utf8(effect->pidfile, "pidfile", report);
  check_utf8(effect->url, "url", report);
  check_utf8(effect->body, "body", report);
  check_utf8(effect->unix_socket, "unix_socket", report);
  check_pairs(&effect->headers, "headers", report);
  if (ways != 1)
    segue_option_wrong(report, NULL,
                       "must be one of a command such as { \"nginx\", \"-s\", \"reload\" }, "
                       "segue.hup, segue.send_signal and segue.post");
  else if (command)
    check_strangers("a command", of_command, report);
  else if (effect->pidfile)
    check_strangers("a signal", of_signal, report);
  else if (effect->url)
    check_strangers("a request", of_request, report);
  else
    check_strangers("a function", of_call, report);
  if (ways == 1 && effect->url) request_check(effect, report);
}

/* ---- Tables ---- */

static const segue_option_table command_options = {SEGUE_OPTION_ROWS(segue__effect, command_rows),
                                                   .name = "command", .positional = "argv",
                                                   .check = command_check, .doc = "A command."};
#define EFFECT_TABLE(array, base)                                                                  \
  SEGUE_OPTION_ROWS(segue__effect, array), .include = (base), .positional = "argv"
const segue_option_table segue__check_options = {
    .size = sizeof(segue_option_table),
    .row_size = sizeof(segue_option),
    .struct_size = sizeof(segue__effect),
    .key_offset = SEGUE_OPTION_NOT_STORED,
    .kind_offset = SEGUE_OPTION_NOT_STORED,
    .include = &command_options,
    .positional = "argv",
    .check = check_check,
    .name = "files check",
    .doc = "A command that must succeed before files are replaced."};
const segue_option_table segue__apply_options = {
    EFFECT_TABLE(apply_rows, &command_options), .check = apply_check, .name = "files apply",
    .doc = "A command, a signal or a request that makes a server use its new files."};
const segue_option_table segue__undo_options = {
    EFFECT_TABLE(undo_rows, &segue__apply_options), .name = "files undo",
    .doc = "A command, a signal, a request or a function for what apply cannot undo by running "
           "again."};

/* ---- Copies ---- */

static int copy_pairs(const segue__effect_pairs *from, segue__effect_pairs *out) {
  out->items = from->count ? segue__calloc(from->count, sizeof *out->items) : NULL;
  if (from->count && !out->items) return UV_ENOMEM;
  for (out->count = 0; out->count < from->count; out->count++) {
    const segue_option_pair *pair = &from->items[out->count];
    segue_option_pair copy = {segue__strdup(pair->key), segue__strdup(pair->value)};
    out->items[out->count] = copy;
    if (!copy.key || (pair->value && !copy.value)) return (out->count++, UV_ENOMEM);
  }
  return 0;
}

static int copy_texts(const segue__effect_texts *from, segue__effect_texts *out) {
  out->items = from->count ? segue__calloc(from->count, sizeof *out->items) : NULL;
  if (from->count && !out->items) return UV_ENOMEM;
  for (out->count = 0; out->count < from->count; out->count++)
    if (!(out->items[out->count] = segue__strdup(from->items[out->count]))) return UV_ENOMEM;
  return 0;
}

int segue__effect_copy(const segue__effect *effect, const char *folder, uint64_t timeout_ms,
                       segue__effect *out, segue_error *err) {
  *out = *effect;
  out->argv = (segue__effect_texts){0};
  out->env = out->headers = (segue__effect_pairs){0};
  char **const texts[] = {&out->shell,       &out->user,   &out->group, &out->pidfile, &out->name,
                          &out->url,         &out->method, &out->body,  &out->ca,      &out->cert,
                          &out->unix_socket, &out->key,    &out->folder};
  if (!out->folder) out->folder = (char *)folder;
  if (!out->timeout_ms) out->timeout_ms = timeout_ms;
  bool failed = false;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    const char *from = *texts[i];
    *texts[i] = segue__strdup(from);
    failed |= from && !*texts[i];
  }
  failed |= copy_texts(&effect->argv, &out->argv) || copy_pairs(&effect->env, &out->env) ||
            copy_pairs(&effect->headers, &out->headers);
  if (!failed) return 0;
  segue__effect_clear(out);
  return segue__errorf(err, UV_ENOMEM, "out of memory");
}

/* ---- As JSON ---- */

bool segue__effect_any(const segue__effect *effect) {
  return effect->argv.count || effect->shell || effect->pidfile || effect->url;
}

static void write_text(segue__buf *json, const char *name, const char *text) {
  if (!text || json->failed) return;
  segue__buf_addf(json, "%s\"%s\":", json->data[json->len - 1] == '{' ? "" : ",", name);
  segue__json_string(json, text, strlen(text));
}

static void write_pairs(segue__buf *json, const char *name, const segue__effect_pairs *pairs) {
  if (!pairs->count) return;
  segue__buf_addf(json, ",\"%s\":{", name);
  for (size_t i = 0; i < pairs->count; i++) {
    if (i) segue__buf_addc(json, ',');
    segue__json_string(json, pairs->items[i].key, strlen(pairs->items[i].key));
    segue__buf_addc(json, ':');
    if (pairs->items[i].value)
      segue__json_string(json, pairs->items[i].value, strlen(pairs->items[i].value));
    else
      segue__buf_adds(json, "false");
  }
  segue__buf_addc(json, '}');
}

static void write_command(const segue__effect *effect, segue__buf *json) {
  if (effect->argv.count) segue__buf_adds(json, "\"argv\":[");
  for (size_t i = 0; i < effect->argv.count; i++) {
    if (i) segue__buf_addc(json, ',');
    segue__json_string(json, effect->argv.items[i], strlen(effect->argv.items[i]));
  }
  if (effect->argv.count) segue__buf_addc(json, ']');
  write_text(json, "shell", effect->shell);
  write_pairs(json, "env", &effect->env);
  write_text(json, "user", effect->user);
  write_text(json, "group", effect->group);
  write_text(json, "folder", effect->folder);
  segue__buf_addf(json, ",\"kill_after\":\"%llums\"", (unsigned long long)effect->kill_ms);
}

static void write_request(const segue__effect *effect, segue__buf *json) {
  write_text(json, "url", effect->url);
  write_text(json, "method", effect->method);
  write_pairs(json, "headers", &effect->headers);
  write_text(json, "body", effect->body);
  write_text(json, "unix_socket", effect->unix_socket);
  segue__buf_addf(json, ",\"tls\":{\"verify\":%s", effect->verify ? "true" : "false");
  write_text(json, "ca", effect->ca);
  write_text(json, "cert", effect->cert);
  write_text(json, "key", effect->key);
  segue__buf_addc(json, '}');
}

void segue__effect_write(const segue__effect *effect, segue__buf *json) {
  segue__buf_addc(json, '{');
  if (json->failed) return;
  if (effect->url) {
    write_request(effect, json);
  } else if (effect->pidfile) {
    size_t len;
    const char *choice = segue__choices_at(SEGUE__SIGNAL_CHOICES, (size_t)effect->signal, &len);
    write_text(json, "pidfile", effect->pidfile);
    write_text(json, "name", effect->name);
    segue__buf_addf(json, ",\"signal\":\"%.*s\"", (int)len, choice);
  } else if (segue__effect_any(effect)) {
    write_command(effect, json);
  }
  if (segue__effect_any(effect) && effect->timeout_ms)
    segue__buf_addf(json, ",\"timeout\":\"%llums\"", (unsigned long long)effect->timeout_ms);
  segue__buf_addc(json, '}');
}

static int effect_fill(const segue__document *doc, segue__effect *out, segue_error *err) {
  const segue__options_env env = {.code = UV_EINVAL};
  segue__errors errors;
  segue__errors_init(&errors);
  int rc = segue__options_fill(&segue__apply_options, &doc->root, out, &env, &errors);
  if (rc && errors.count) *err = errors.items[0];
  if (rc && !errors.count) segue__errorf(err, rc, "out of memory");
  segue__errors_deinit(&errors);
  return rc;
}

int segue__effect_read(const char *json, segue__effect *out, segue_error *err) {
  segue__document *doc = NULL;
  memset(out, 0, sizeof *out);
  if (!json || !strcmp(json, "{}")) return 0;
  char *copy = segue__strdup(json);
  int rc = copy ? segue__document_new(&doc, 1, "intent", "apply", SEGUE__JSON, copy, strlen(copy))
                : UV_ENOMEM;
  if (!rc) rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (rc)
    segue__errorf(err, rc, "the intent of a command cannot be read: %s", segue_strerror(rc));
  else
    rc = effect_fill(doc, out, err);
  segue__document_unref(doc);
  return rc;
}

void segue__effect_clear(segue__effect *effect) {
  segue__options_clear(&segue__apply_options, effect);
}

/* ---- In messages ---- */

/* Without user and password, query and fragment, which may contain secrets. */
static void show_url(const char *url, segue__buf *out) {
  const char *rest = strstr(url, "://"), *host = rest ? rest + 3 : url;
  const char *end = host + strcspn(host, "/?#"), *at = memrchr(host, '@', (size_t)(end - host));
  segue__buf_add(out, url, (size_t)(host - url));
  if (at) host = at + 1;
  segue__buf_addf(out, "%.*s", (int)strcspn(host, "?#"), host);
}

static void show_command(const segue__effect *effect, segue__buf *out) {
  size_t before = out->len;
  if (effect->shell) segue__buf_addf(out, "%.*s", EFFECT_WORDS, effect->shell);
  for (size_t i = 0; i < effect->argv.count && out->len - before < EFFECT_WORDS; i++)
    segue__buf_addf(out, "%s%.*s", i ? " " : "", EFFECT_WORDS, effect->argv.items[i]);
}

void segue__effect_shown(const segue__effect *effect, segue__buf *out) {
  size_t len;
  if (effect->pidfile) {
    const char *choice = segue__choices_at(SEGUE__SIGNAL_CHOICES, (size_t)effect->signal, &len);
    segue__buf_addf(out, "%.*s to the process of %.200s", (int)len, choice, effect->pidfile);
  } else if (effect->url) {
    segue__buf_addf(out, "%.20s ", effect->method);
    show_url(effect->url, out);
    if (effect->unix_socket) segue__buf_addf(out, " on %.108s", effect->unix_socket);
  } else {
    show_command(effect, out);
  }
}

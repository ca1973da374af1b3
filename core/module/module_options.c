/* SPDX-License-Identifier: MIT
 *
 * The options that modules of all kinds have.
 */
#include "module_options.h"

#include <ctype.h>

#define AT(field) .offset = offsetof(segue__module_spec, field)
#define LISTEN(field) .offset = offsetof(segue__listen_spec, field)

/* ---- Drain ----------------------------------------------------------------------------------- */

static const segue_option drain_rows[] = {
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     .offset = offsetof(segue__drain, within_ms),
     .fallback = "10s",
     .doc = "time for requests that are inside to leave"},
    {.name = "over",
     .type = SEGUE_OPTION_CHOICE,
     .offset = offsetof(segue__drain, over),
     .choices = "cut|wait|undo",
     .fallback = "cut",
     .doc = "the action if some are still inside: stop the module, and count them; wait as long "
            "again; undo the reload"},
    {.name = "again",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(segue__drain, again),
     .max = 1000,
     .fallback = "3",
     .doc = "how often \"wait\" waits again, with a warning each time, before it cuts"},
};

static void check_drain(void *options, segue_option_report *report) {
  segue__drain *drain = options;
  if (!drain->within_ms) drain->within_ms = 1; /* 0 would be the default */
  if (segue_option_given(report, "again") && drain->over != SEGUE__OVER_WAIT)
    segue_option_wrong(report, "again", "has an effect only with over = \"wait\"");
}

const segue_option_table segue__drain_options = {SEGUE_OPTION_ROWS(segue__drain, drain_rows),
                                                 .name = "drain", .check = check_drain,
                                                 .doc = "How a module is drained."};

/* ---- Buffer ---------------------------------------------------------------------------------- */

static const segue_option buffer_rows[] = {
    {.name = "items",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(segue__gate_limits, items),
     .fallback = "10000",
     .doc = "how many requests may wait at the shut gate"},
    {.name = "bytes",
     .type = SEGUE_OPTION_SIZE,
     .offset = offsetof(segue__gate_limits, bytes),
     .fallback = "64MiB",
     .doc = "memory that they may hold"},
    {.name = "age",
     .type = SEGUE_OPTION_DURATION,
     .offset = offsetof(segue__gate_limits, age_ms),
     .fallback = "30s",
     .doc = "how long one may wait"},
};
static const segue_option_table buffer_options = {
    SEGUE_OPTION_ROWS(segue__gate_limits, buffer_rows), .name = "buffer",
    .doc = "Requests that wait while a module restarts."};

/* ---- Listeners ------------------------------------------------------------------------------- */

static const segue_option limit_rows[] = {
    {.name = "head",
     .type = SEGUE_OPTION_SIZE,
     LISTEN(head_bytes),
     .absent = "16KiB",
     .doc = "size of the head of a request"},
    {.name = "body",
     .type = SEGUE_OPTION_SIZE,
     LISTEN(body_bytes),
     .absent = "1MiB",
     .doc = "size of its body"},
    {.name = "connections",
     .type = SEGUE_OPTION_COUNT,
     LISTEN(connections),
     .absent = "10000",
     .doc = "connections at the same time, of all threads together"},
    {.name = "head_time",
     .type = SEGUE_OPTION_DURATION,
     LISTEN(head_ms),
     .absent = "10s",
     .doc = "time for the head to arrive"},
    {.name = "body_time",
     .type = SEGUE_OPTION_DURATION,
     LISTEN(body_ms),
     .absent = "30s",
     .doc = "time for the body to arrive"},
    {.name = "idle",
     .type = SEGUE_OPTION_DURATION,
     LISTEN(idle_ms),
     .absent = "75s",
     .doc = "how long a connection may wait for its next request"},
    {.name = "write",
     .type = SEGUE_OPTION_DURATION,
     LISTEN(write_ms),
     .absent = "30s",
     .doc = "how long a client may take nothing of an answer"},
};
static const segue_option_table limit_options = {SEGUE_OPTION_ROWS(segue__listen_spec, limit_rows),
                                                 .name = "limits",
                                                 .doc = "Limits of the listeners of a module."};

void segue__tls_options_check(const segue_option_report *given, segue_option_report *report) {
  if (segue_option_given(given, "client") && !segue_option_given(given, "client_ca"))
    segue_option_wrong(report, "client",
                       "has an effect only with client_ca, the CA that signs clients");
}

static void check_tls(void *options, segue_option_report *report) {
  (void)options;
  segue__tls_options_check(report, report);
}

static const segue_option tls_rows[] = {SEGUE__TLS_ROWS(segue__listen_spec)};
static const segue_option_table tls_options = {SEGUE_OPTION_ROWS(segue__listen_spec, tls_rows),
                                               .name = "module tls", .check = check_tls,
                                               .doc = "TLS of the listeners of a module."};

static const segue_option access_rows[] = {
    {.name = "file",
     .type = SEGUE_OPTION_PATH,
     .offset = offsetof(segue__access_spec, path),
     .absent = "the log module of the policy",
     .doc = "the file of the lines"},
    {.name = "format",
     .type = SEGUE_OPTION_SWITCH,
     .offset = offsetof(segue__access_spec, json),
     .choices = "combined|json",
     .fallback = "combined",
     .doc = "form of a line"},
    {.name = "query",
     .type = SEGUE_OPTION_BOOLEAN,
     .offset = offsetof(segue__access_spec, query),
     .fallback = "true",
     .doc = "lines contain the part of the URL after \"?\""},
};
static const segue_option_table access_options = {
    SEGUE_OPTION_ROWS(segue__access_spec, access_rows), .name = "access log",
    .doc = "A line for each request."};

/* ---- Modules --------------------------------------------------------------------------------- */

static const segue_option module_rows[] = {
    {.name = "replace",
     .type = SEGUE_OPTION_CHOICE,
     AT(replace),
     .given = 1 + offsetof(segue__module_spec, replace_given),
     .choices = "swap|handover|restart",
     .absent = "\"handover\"; \"swap\" for a log or metrics",
     .doc = "how the next instance takes the place of the old one"},
    {.name = "config",
     .type = SEGUE_OPTION_TEXT,
     AT(config),
     .absent = "all of it, secrets included",
     .doc = "path of its part of the configuration"},
    {.name = "needs",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     AT(needs),
     .doc = "names of modules that start before it and stop after it"},
    {.name = "prepare",
     .type = SEGUE_OPTION_DURATION,
     AT(prepare_ms),
     .fallback = "30s",
     .doc = "time limit of building the next instance"},
    {.name = "start",
     .type = SEGUE_OPTION_DURATION,
     AT(start_ms),
     .fallback = "30s",
     .doc = "time limit of its start"},
    {.name = "drain",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__drain_options,
     AT(drain),
     .shorthand = "within",
     .doc = "how it is drained; a duration alone: cut after it"},
    {.name = "stop",
     .type = SEGUE_OPTION_DURATION,
     AT(stop_ms),
     .fallback = "10s",
     .doc = "time limit of its stop"},
    {.name = "buffer",
     .type = SEGUE_OPTION_TABLE,
     .table = &buffer_options,
     AT(buffer),
     .doc = "requests that wait while it restarts"},
    {.name = "on_failure",
     .type = SEGUE_OPTION_SWITCH,
     AT(failed_waits),
     .choices = "refuse|wait",
     .fallback = "refuse",
     .doc = "calls while it has failed: they are refused, or wait in its buffer"},
    {.name = "listen",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_ONE,
     .min = 1,
     AT(listen.urls),
     .example = "listen = \"http://HOST:PORT\"",
     .doc = "its listeners: \"http://HOST:PORT\" or \"https://HOST:PORT\""},
    {.name = "limits",
     .type = SEGUE_OPTION_TABLE,
     .table = &limit_options,
     AT(listen),
     .doc = "limits of its listeners"},
    {.name = "generation_header",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(listen.generation_header),
     .fallback = "false",
     .doc = "answers name the generation that served them"},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &tls_options,
     AT(listen),
     .doc = "TLS of its addresses that begin with https://"},
    {.name = "access_log",
     .type = SEGUE_OPTION_TABLE,
     .table = &access_options,
     AT(listen.access),
     .given = 1 + offsetof(segue__module_spec, listen.access.on),
     .flags = SEGUE_OPTION_TRUE,
     .shorthand = "file",
     .absent = "none",
     .doc = "a line for each request; true: in the log module of the policy"},
};

static bool is_name(const char *name) {
  for (const char *s = name; *s; s++)
    if (!isalnum((unsigned char)*s) && *s != '_' && *s != '-') return false;
  return *name != 0;
}

static void check_module(void *options, segue_option_report *report) {
  static const char *const of_listeners[] = {"limits", "generation_header", "tls", "access_log"};
  const segue__module_spec *module = options;
  if (module->name && !is_name(module->name))
    segue_option_wrong(report, NULL, "is not a name of a module: use letters, digits, _ and -");
  for (size_t i = 0; i < sizeof of_listeners / sizeof *of_listeners; i++)
    if (!module->listen.url_count && segue_option_given(report, of_listeners[i]))
      segue_option_wrong(report, of_listeners[i],
                         "is for modules that listen: give it listen = \"http://HOST:PORT\"");
  if (module->drain.over == SEGUE__OVER_UNDO &&
      !(module->replace_given && module->replace == SEGUE__RESTART))
    segue_option_wrong(report, "drain.over",
                       "\"undo\" is for replace = \"restart\": otherwise the old instance drains "
                       "when the reload has succeeded, and nothing is undone any more");
}

const segue_option_table segue__module_options = {
    .size = sizeof(segue_option_table),
    .row_size = sizeof(segue_option),
    .name = "module",
    .doc = "A part of the server that a reload replaces.",
    .rows = module_rows,
    .count = sizeof module_rows / sizeof *module_rows,
    .struct_size = sizeof(segue__module_spec),
    .check = check_module,
    .key_offset = offsetof(segue__module_spec, name),
    .family = true,
    .kind_offset = offsetof(segue__module_spec, made),
};

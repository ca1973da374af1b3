/* SPDX-License-Identifier: MIT
 *
 * The options of a module of the kind "process".
 */
#include "kind_options.h"

#include <stddef.h>
#include <string.h>

#include "../options/command_rows.h"
#include "../os/child.h"
#include "../os/signal_names.h"
#include "../socket/address.h"
#include "limits.h"

/* ---- Ready ---- */

#define READY(field) .offset = offsetof(segue__ready_options, field)
static const segue_option ready_rows[] = {
    {.name = "by",
     .type = SEGUE_OPTION_CHOICE,
     READY(by),
     .choices = "exec|notify|fd",
     .fallback = "exec",
     .doc =
         "exec: its program runs. notify: it sends READY=1 to $NOTIFY_SOCKET (sd_notify). fd: it "
         "writes a line to the descriptor {fd:ready}"},
    {.name = "line",
     .type = SEGUE_OPTION_TEXT,
     READY(line),
     .doc = "a line of its output has this text in it"},
    {.name = "port",
     .type = SEGUE_OPTION_TEXT,
     READY(port),
     .example = "port = \"127.0.0.1:8080\"",
     .doc = "this address takes TCP connections"},
    {.name = "http",
     .type = SEGUE_OPTION_TEXT,
     READY(http),
     .example = "http = \"http://127.0.0.1:8080/health\"",
     .doc = "a GET of this URL is answered with a status of 200 to 299"},
    {.name = "command",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__check_options,
     READY(command),
     .doc = "this command succeeds"},
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     READY(within_ms),
     .min = 1,
     .fallback = "30s",
     .doc = "time limit; a child that is late is stopped, and the reload fails. By notify a child "
            "may request more with EXTEND_TIMEOUT_USEC, ten times the limit at most"},
    {.name = "from",
     .type = SEGUE_OPTION_SWITCH,
     READY(from_all),
     .choices = "main|all",
     .fallback = "main",
     .doc = "whose messages to $NOTIFY_SOCKET count: those of the child alone, or of its session, "
            "for a shell script that calls systemd-notify"},
};
#undef READY

/* Counts the options of a list that are given. */
static int kind_count_given(const segue_option_report *report, const char *const *names) {
  int count = 0;
  for (size_t i = 0; names[i]; i++)
    count += segue_option_given(report, names[i]);
  return count;
}

static void kind_check_url(const char *url, segue_option_report *report) {
  if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
    segue_option_wrong(report, "http", "must be a URL such as \"http://127.0.0.1:8080/health\"");
}

static void ready_check(void *options, segue_option_report *report) {
  static const char *const ways[] = {"by", "line", "port", "http", "command", NULL};
  const segue__ready_options *ready = options;
  segue__address address;
  segue_error error;
  if (kind_count_given(report, ways) > 1)
    segue_option_wrong(report, NULL, "must have one of by, line, port, http and command");
  kind_check_url(ready->http, report);
  if (!ready->port) return;
  if (segue__address_parse(ready->port, &address, &error) < 0)
    segue_option_wrong(report, "port", "%s", error.message);
  else if (address.type != SEGUE__SOCKET_TCP)
    segue_option_wrong(report, "port", "must be a TCP address such as \"127.0.0.1:8080\"");
}

static const segue_option_table ready_options = {
    SEGUE_OPTION_ROWS(segue__ready_options, ready_rows), .name = "process ready",
    .check = ready_check, .doc = "How it is known that a child is ready."};

/* ---- Reload ---- */

#define RELOAD(field) .offset = offsetof(segue__child_reload_options, field)
static const segue_option reload_rows[] = {
    {.name = "signal",
     .type = SEGUE_OPTION_CHOICE,
     RELOAD(signal),
     .choices = "restart|none|HUP|INT|QUIT|USR1|USR2|WINCH",
     .fallback = "restart",
     .doc =
         "restart: the child is replaced. none: it notices the change by itself. Else the signal "
         "that it reloads by"},
    {.name = "notify",
     .type = SEGUE_OPTION_BOOLEAN,
     RELOAD(notify),
     .fallback = "false",
     .doc =
         "the child confirms the signal by RELOADING=1, and READY=1 when it is done (sd_notify)"},
    {.name = "http",
     .type = SEGUE_OPTION_TEXT,
     RELOAD(http),
     .example = "http = \"http://127.0.0.1:9090/-/reload\"",
     .doc = "a POST to this URL reloads the child"},
    {.name = "command",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__check_options,
     RELOAD(command),
     .doc = "this command reloads the child"},
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     RELOAD(within_ms),
     .min = 1,
     .fallback = "10s",
     .doc = "time limit"},
};
#undef RELOAD

static void reload_check(void *options, segue_option_report *report) {
  static const char *const ways[] = {"signal", "http", "command", NULL};
  const segue__child_reload_options *reload = options;
  if (kind_count_given(report, ways) > 1)
    segue_option_wrong(report, NULL, "must have one of signal, http and command");
  kind_check_url(reload->http, report);
  if (reload->notify && reload->signal < SEGUE__RELOAD_SIGNALS)
    segue_option_wrong(report, "notify", "has an effect only with a signal");
}

static const segue_option_table reload_options = {
    SEGUE_OPTION_ROWS(segue__child_reload_options, reload_rows), .name = "process reload",
    .check = reload_check,
    .doc = "How a child reloads where only its part of the configuration has changed."};

/* ---- Supervision ---- */

#define AT(field) .offset = offsetof(segue__process_kind_options, field)
#define GIVEN(field) .given = 1 + offsetof(segue__process_kind_options, field)
static const segue_option budget_rows[] = {
    {.name = "restarts",
     .type = SEGUE_OPTION_COUNT,
     AT(budget_count),
     .min = 0,
     .max = 1000,
     .fallback = "5",
     .doc = "how many restarts there may be"},
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     AT(budget_ms),
     .min = 1,
     .fallback = "1m",
     .doc = "in this time"},
};
static const segue_option_table budget_options = {
    .size = sizeof(segue_option_table),
    .row_size = sizeof(segue_option),
    .name = "process budget",
    .doc = "Restarts of a child that ends by itself, before its module counts as failed.",
    .rows = budget_rows,
    .count = sizeof budget_rows / sizeof *budget_rows,
    .key_offset = SEGUE_OPTION_NOT_STORED,
    .kind_offset = SEGUE_OPTION_NOT_STORED};

/* ---- All of it ---- */

static const segue_option process_rows[] = {
    {.name = "argv",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .flags = SEGUE_OPTION_REQUIRED,
     .min = 1,
     AT(argv),
     .example = "argv = { \"/usr/sbin/server\", \"-c\", \"{slice}\" }",
     .doc =
         "the program and its arguments; no shell reads them. {slice}, {generation} and {fd:NAME} "
         "are replaced"},
    {.name = "env",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_FALSE | SEGUE_OPTION_NUMBERS,
     AT(env),
     .doc = "added to the daemon's environment; false removes a variable"},
    {.name = "cwd",
     .type = SEGUE_OPTION_PATH,
     AT(cwd),
     .absent = "the policy's folder",
     .doc = "the folder in which it runs"},
    {.name = "user",
     .type = SEGUE_OPTION_TEXT,
     AT(user),
     .absent = "the daemon's",
     .doc = "the user that it runs as, a name or number; needs a daemon that runs as root"},
    {.name = "user_group",
     .type = SEGUE_OPTION_TEXT,
     AT(group_name),
     .absent = "the main group of the user",
     .doc = "its main group, a name or number"},
    {.name = "umask",
     .type = SEGUE_OPTION_MODE,
     AT(umask),
     GIVEN(has_umask),
     .absent = "the daemon's",
     .doc = "permissions that files it creates do not get"},
    {.name = "rlimits",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_NUMBERS,
     AT(limits),
     .example = "rlimits = { nofile = \"1024:4096\", core = 0 }",
     .doc = "resource limits by their names in prlimit(1): a number or \"unlimited\" for both, or "
            "\"SOFT:HARD\""},
    {.name = "nice",
     .type = SEGUE_OPTION_INTEGER,
     AT(nice),
     GIVEN(has_nice),
     .min = -20,
     .max = 19,
     .absent = "the daemon's",
     .doc = "its nice value"},
    {.name = "oom",
     .type = SEGUE_OPTION_INTEGER,
     AT(oom),
     GIVEN(has_oom),
     .min = -1000,
     .max = 1000,
     .absent = "the daemon's",
     .doc = "its oom_score_adj: a higher one is killed earlier when memory runs out"},
    {.name = "sockets",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     AT(sockets),
     .example = "sockets = { web = \"127.0.0.1:8080\" }",
     .doc = "listening sockets by name, which outlive the child: it gets them by LISTEN_FDS and "
            "LISTEN_FDNAMES, and as {fd:NAME}. \"HOST:PORT\", \"udp://HOST:PORT\", \"unix:PATH\""},
    {.name = "slice",
     .type = SEGUE_OPTION_CHOICE,
     AT(slice),
     .choices = "none|file|stdin|env",
     .fallback = "none",
     .doc = "how the child gets its part of the configuration, as JSON: in a file, whose path is "
            "{slice} and $SEGUE_SLICE_FILE; as its standard input; in $SEGUE_SLICE"},
    {.name = "stdout",
     .type = SEGUE_OPTION_SWITCH,
     AT(out_dropped),
     .choices = "log|none",
     .fallback = "log",
     .doc = "where the lines of its standard output go"},
    {.name = "stderr",
     .type = SEGUE_OPTION_SWITCH,
     AT(err_dropped),
     .choices = "log|none",
     .fallback = "log",
     .doc = "where the lines of its standard error go"},
    {.name = "lines",
     .type = SEGUE_OPTION_RATE,
     AT(lines_per_s),
     .fallback = "500/s",
     .doc = "how many lines of it the log takes; further ones are counted"},
    {.name = "line_size",
     .type = SEGUE_OPTION_SIZE,
     AT(line_bytes),
     .min = 16,
     .max = 65536,
     .fallback = "4KiB",
     .doc = "longer lines are cut"},
    {.name = "kill_signal",
     .type = SEGUE_OPTION_CHOICE,
     AT(kill_signal),
     .choices = SEGUE__SIGNAL_CHOICES,
     .fallback = "TERM",
     .doc = "the signal that stops the child"},
    {.name = "kill_after",
     .type = SEGUE_OPTION_DURATION,
     AT(kill_ms),
     .min = 1,
     .fallback = "10s",
     .doc = "how long the child may take to stop, before its process group gets KILL"},
    {.name = "group",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(group),
     .fallback = "false",
     .doc = "signals go to the whole process group, for a shell that does not pass them on"},
    {.name = "ready",
     .type = SEGUE_OPTION_TABLE,
     .table = &ready_options,
     AT(ready),
     .shorthand = "by",
     .doc = "how it is known that the child is ready"},
    {.name = "reload",
     .type = SEGUE_OPTION_TABLE,
     .table = &reload_options,
     AT(reload),
     .shorthand = "signal",
     .doc = "how the child reloads where only its part of the configuration has changed"},
    {.name = "restart",
     .type = SEGUE_OPTION_CHOICE,
     AT(restart),
     .choices = "always|on-failure|never",
     .fallback = "always",
     .doc = "when a child that has ended by itself is started again"},
    {.name = "success",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_INTEGER,
     .flags = SEGUE_OPTION_ONE,
     AT(success),
     .absent = "0",
     .doc = "exit codes that are no failure"},
    {.name = "budget",
     .type = SEGUE_OPTION_TABLE,
     .table = &budget_options,
     .offset = 0,
     .doc = "restarts of a child that ends by itself, before its module counts as failed"},
    {.name = "backoff",
     .type = SEGUE_OPTION_DURATION,
     AT(backoff_min_ms),
     .min = 1,
     .fallback = "100ms",
     .doc = "the pause before its second restart in a row; it doubles, and has a random part"},
    {.name = "backoff_max",
     .type = SEGUE_OPTION_DURATION,
     AT(backoff_max_ms),
     .min = 1,
     .fallback = "30s",
     .doc = "the longest pause"},
    {.name = "stable",
     .type = SEGUE_OPTION_DURATION,
     AT(stable_ms),
     .min = 1,
     .fallback = "1m",
     .doc = "a child that has run that long loses its back-off"},
    {.name = "watchdog",
     .type = SEGUE_OPTION_DURATION,
     AT(watchdog_ms),
     .absent = "none",
     .doc = "a child that is ready sends WATCHDOG=1 to $NOTIFY_SOCKET more often than this, or its "
            "process group gets KILL and it counts as failed"},
};
#undef GIVEN
#undef AT

static void process_check(void *options, segue_option_report *report) {
  const segue__process_kind_options *process = options;
  segue_error error;
  segue__options_check_variables(process->env.items, process->env.count, "env", report);
  for (size_t i = 0; i < process->sockets.count; i++)
    if (!*process->sockets.items[i].key || strpbrk(process->sockets.items[i].key, ": {}"))
      segue_option_wrong(report, "sockets", "must have names without \":\", braces and spaces");
  if (process->sockets.count > SEGUE__CHILD_SOCKETS)
    segue_option_wrong(report, "sockets", "has more than %d", SEGUE__CHILD_SOCKETS);
  for (size_t i = 0; i < process->limits.count; i++) {
    segue__child_limit limit;
    if (segue__limit_parse(process->limits.items[i].key, process->limits.items[i].value, &limit,
                           &error) < 0)
      segue_option_wrong(report, "rlimits", "%s", error.message);
  }
  if (process->group_name && !process->user)
    segue_option_wrong(report, "user_group", "has an effect only with user");
  if (process->ready.line && process->out_dropped && process->err_dropped)
    segue_option_wrong(report, "ready.line", "needs stdout or stderr = \"log\"");
  if (process->backoff_max_ms < process->backoff_min_ms)
    segue_option_wrong(report, "backoff_max", "must not be shorter than backoff");
  const segue__child_reload_options *reload = &process->reload;
  const bool beside = reload->http || reload->command.argv.count || reload->command.shell ||
                      reload->signal >= SEGUE__RELOAD_SIGNALS;
  if (beside && (process->slice == SEGUE__SLICE_STDIN || process->slice == SEGUE__SLICE_ENV))
    segue_option_wrong(report, "reload",
                       "must be \"restart\" or \"none\": a running child gets no other standard "
                       "input or environment; use slice = \"file\"");
}

const segue_option_table segue__process_kind_table = {
    SEGUE_OPTION_ROWS(segue__process_kind_options, process_rows), .name = "process",
    .check = process_check, .doc = "A program that runs beside the daemon, and is supervised."};

/* SPDX-License-Identifier: MIT
 *
 * The options of a policy, and of its triggers and probes.
 */
#include "policy_options.h"

#include <signal.h>
#include <string.h>
#include <uv.h>

#include "../module/module_options.h"
#include "../os/units.h"
#include "../source/source_options.h"
#include "http_options.h"

/* ---- Triggers -------------------------------------------------------------------------------- */

#define AT(field) .offset = offsetof(segue__trigger_spec, field)
static const segue_option signal_rows[] = {
    {.name = "signal",
     .type = SEGUE_OPTION_CHOICE,
     AT(signum),
     .choices = "HUP|USR1|USR2|WINCH",
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"HUP\"",
     .doc = "name of the signal"},
    {.name = "action",
     .type = SEGUE_OPTION_SWITCH,
     AT(reopen),
     .choices = "reload|reopen",
     .fallback = "reload",
     .doc = "reopen: modules and access logs open their files again, and nothing is reloaded"},
};
static const segue_option watch_rows[] = {
    {.name = "rescan",
     .type = SEGUE_OPTION_DURATION,
     AT(interval_ms),
     .absent = "30s",
     .doc = "how often files are looked at where the kernel reports no changes"},
};
static const segue_option poll_rows[] = {
    {.name = "interval",
     .type = SEGUE_OPTION_DURATION,
     AT(interval_ms),
     .min = 100,
     .flags = SEGUE_OPTION_REQUIRED,
     .doc = "time between two requests, such as \"30s\""},
};
static const segue_option task_rows[] = {
    {.name = "call",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .flags = SEGUE_OPTION_REQUIRED,
     .signature = "fun(fire: fun(cause?: string))",
     .doc = "a task that lives with the policy and calls fire when a reload is due"},
};
#undef AT

static void check_signal(void *options, segue_option_report *report) {
  static const int numbers[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
  segue__trigger_spec *trigger = options;
  (void)report;
  trigger->signum = numbers[trigger->signum]; /* the number of the choice */
}

#define KIND(array)                                                                                \
  .size = sizeof(segue_option_table), .row_size = sizeof(segue_option), .rows = (array),           \
  .count = sizeof(array) / sizeof *(array), .key_offset = SEGUE_OPTION_NOT_STORED,                 \
  .kind_offset = SEGUE_OPTION_NOT_STORED
static const segue_option_table signal_options = {KIND(signal_rows), .name = "signal",
                                                  .positional = "signal", .check = check_signal,
                                                  .doc = "A signal to the daemon."};
static const segue_option_table watch_options = {
    KIND(watch_rows), .name = "watch",
    .doc = "Changes of the files that the policy names, and of the policy."};
static const segue_option_table poll_options = {KIND(poll_rows), .name = "poll",
                                                .positional = "interval",
                                                .doc = "Asks the sources again and again."};
static const segue_option_table task_options = {KIND(task_rows), .name = "task",
                                                .positional = "call",
                                                .doc = "A custom trigger, made by segue.trigger."};

const segue_option_table segue__trigger_options = {.size = sizeof(segue_option_table),
                                                   .row_size = sizeof(segue_option),
                                                   .name = "trigger",
                                                   .doc = "A cause of reloads.",
                                                   .struct_size = sizeof(segue__trigger_spec),
                                                   .key_offset = SEGUE_OPTION_NOT_STORED,
                                                   .family = true,
                                                   .kind_offset =
                                                       offsetof(segue__trigger_spec, made),
                                                   .tag = "segue.signal \"HUP\""};

/* ---- Probes ---------------------------------------------------------------------------------- */

/* A probe is a function in the end; its constructor keeps the options that it was given. */
static const segue_option probe_rows[] = {
    {.name = "call",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .flags = SEGUE_OPTION_HIDDEN,
     .signature = "fun(): boolean?, string?",
     .doc = "true: all is well; nil and a text: the reason why not"},
    {.name = "before",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .flags = SEGUE_OPTION_HIDDEN,
     .signature = "fun(): any",
     .doc = "of verify: looks at the server before it is changed; call gets what it returns"},
};
/* Kept as text only to look at it: the constructor makes a function of it. */
typedef struct probe_options {
  char *url, *address;
} probe_options;

static const segue_option probe_http_rows[] = {
    {.name = "url",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(probe_options, url),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"http://127.0.0.1:8080/healthz\"",
     .doc = "the URL"},
    {.name = "status",
     .type = SEGUE_OPTION_COUNT,
     .offset = SEGUE_OPTION_NOT_STORED,
     .min = 100,
     .max = 599,
     .fallback = "200",
     .doc = "the status that the answer must have"},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .fallback = "2s",
     .doc = "time limit"},
};
static const segue_option probe_tcp_rows[] = {
    {.name = "address",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(probe_options, address),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"127.0.0.1:80\"",
     .doc = "\"127.0.0.1:80\", \"[::1]:80\" or \"unix:/run/app.sock\""},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .fallback = "2s",
     .doc = "time limit"},
};
static void check_probe_url(void *options, segue_option_report *report) {
  const probe_options *probe = options;
  bool http = !strncmp(probe->url, "http://", 7) && probe->url[7];
  if (!http && (strncmp(probe->url, "https://", 8) != 0 || !probe->url[8]))
    segue_option_wrong(report, "url", "must be a URL such as \"http://127.0.0.1:8080/healthz\"");
}

static void check_probe_address(void *options, segue_option_report *report) {
  const probe_options *probe = options;
  const char *colon = strrchr(probe->address, ':');
  bool port = colon && colon > probe->address && colon[1] &&
              strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
              !strpbrk(probe->address, "/ ");
  if (!port && (strncmp(probe->address, "unix:", 5) != 0 || !probe->address[5]))
    segue_option_wrong(report, "address",
                       "must be \"127.0.0.1:80\", \"[::1]:80\" or \"unix:/run/app.sock\", not "
                       "\"%s\"",
                       probe->address);
}

static const segue_option_table probe_http_options = {
    SEGUE_OPTION_ROWS(probe_options, probe_http_rows), .name = "http", .positional = "url",
    .check = check_probe_url, .doc = "A URL must answer with a status."};
static const segue_option_table probe_tcp_options = {
    SEGUE_OPTION_ROWS(probe_options, probe_tcp_rows), .name = "tcp", .positional = "address",
    .check = check_probe_address, .doc = "Something must accept connections at an address."};
static const segue_option_table probe_call_options = {.size = sizeof(segue_option_table),
                                                      .row_size = sizeof(segue_option),
                                                      .name = "call",
                                                      .positional = "call",
                                                      .key_offset = SEGUE_OPTION_NOT_STORED,
                                                      .kind_offset = SEGUE_OPTION_NOT_STORED,
                                                      .doc = "A function that returns true."};

const segue_option_table segue__probe_options = {
    KIND(probe_rows), .name = "probe", .doc = "A check of the new generation.", .family = true,
    .tag = "segue.probe.http \"http://...\""};

/* ---- Parts of a policy ----------------------------------------------------------------------- */

/* Their rows lie in the struct of the policy. */
#define AT(field) .offset = offsetof(segue__policy, field)
static const segue_option debounce_rows[] = {
    {.name = "min",
     .type = SEGUE_OPTION_DURATION,
     AT(debounce_min_ms),
     .fallback = "50ms",
     .doc = "a reload begins when nothing has arrived for this time"},
    {.name = "max",
     .type = SEGUE_OPTION_DURATION,
     AT(debounce_max_ms),
     .fallback = "1s",
     .doc = "it begins at the latest after this time"},
};
static const segue_option timeout_rows[] = {
    {.name = "collect",
     .type = SEGUE_OPTION_DURATION,
     AT(collect_ms),
     .min = 1,
     .fallback = "30s",
     .doc = "reading the sources"},
    {.name = "check",
     .type = SEGUE_OPTION_DURATION,
     AT(check_ms),
     .min = 1,
     .fallback = "5s",
     .doc = "the function check"},
    {.name = "reload",
     .type = SEGUE_OPTION_DURATION,
     AT(reload_ms),
     .min = 1,
     .fallback = "10m",
     .doc = "the function reload"},
};
static const segue_option schema_rows[] = {
    {.name = "path",
     .type = SEGUE_OPTION_PATH,
     AT(schema),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "path = \"config.schema.json\"",
     .doc = "the file"},
    {.name = "formats",
     .type = SEGUE_OPTION_SWITCH,
     AT(formats_ignored),
     .choices = "assert|ignore",
     .fallback = "assert",
     .doc = "whether the keyword format must hold, or is only a remark"},
    {.name = "with",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_PATH,
     .flags = SEGUE_OPTION_KEYLESS,
     .max = 64,
     .unit = "files",
     AT(schema_with),
     .doc = "files that it refers to; with a URI as the key, known by that URI"},
    {.name = "defaults",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(schema_defaults),
     .fallback = "false",
     .doc = "fill in the defaults of the schema before any check"},
};
static const segue_option confirm_rows[] = {
    {.name = "probe",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__probe_options,
     .offset = 0,
     .given = 1 + offsetof(segue__policy, has_probe),
     .shorthand = "call",
     .signature = "fun(): boolean?, string?",
     .doc = "a function, or one of segue.probe, that must succeed"},
    {.name = "by",
     .type = SEGUE_OPTION_SWITCH,
     AT(confirm_by_operator),
     .choices = "probe|operator",
     .fallback = "probe",
     .doc = "operator: the command segue confirm confirms"},
    {.name = "hold",
     .type = SEGUE_OPTION_DURATION,
     AT(confirm_hold_ms),
     .fallback = "0s",
     .doc = "how long the probe must stay good"},
    {.name = "within",
     .type = SEGUE_OPTION_DURATION,
     AT(confirm_within_ms),
     .absent = "10s; 10m by an operator",
     .doc = "time limit, after which the reload is undone"},
    {.name = "failures",
     .type = SEGUE_OPTION_COUNT,
     AT(confirm_failures),
     .absent = "any number",
     .doc = "failures of the probe in a row after which the reload is undone at once"},
};
static const segue_option history_rows[] = {
    {.name = "reloads",
     .type = SEGUE_OPTION_COUNT,
     AT(history_reloads),
     .absent = "100000",
     .doc = "how many reloads are kept"},
    {.name = "generations",
     .type = SEGUE_OPTION_COUNT,
     AT(history_generations),
     .absent = "1000",
     .doc = "how many generations are kept"},
    {.name = "age",
     .type = SEGUE_OPTION_DURATION,
     AT(history_age_ms),
     .absent = "365d",
     .doc = "greatest age of an entry"},
    {.name = "max_bytes",
     .type = SEGUE_OPTION_SIZE,
     AT(history_bytes),
     .absent = "256MiB",
     .doc = "size on disk"},
};
static const segue_option last_good_rows[] = {
    {.name = "max_age",
     .type = SEGUE_OPTION_DURATION,
     AT(last_good_age_ms),
     .min = 1,
     .absent = "any age",
     .doc = "greatest age of a generation that a start may serve when the sources deliver nothing "
            "good"},
};

static void check_debounce(void *options, segue_option_report *report) {
  const segue__policy *policy = options;
  char text[SEGUE__UNITS_SIZE];
  if (policy->debounce_min_ms <= policy->debounce_max_ms) return;
  if (segue_option_given(report, "min"))
    segue_option_wrong(report, "min", "must not be longer than max, which is %s",
                       segue__duration_text((double)policy->debounce_max_ms, text));
  else
    segue_option_wrong(report, "max", "must not be shorter than min, which is %s",
                       segue__duration_text((double)policy->debounce_min_ms, text));
}

static void check_confirm(void *options, segue_option_report *report) {
  static const char *const of_probes[] = {"probe", "hold", "failures"};
  enum { WITHIN_MS = 10000, OPERATOR_MS = 600000 };
  segue__policy *policy = options;
  policy->confirm = true;
  if (!segue_option_given(report, "within"))
    policy->confirm_within_ms = policy->confirm_by_operator ? OPERATOR_MS : WITHIN_MS;
  for (size_t i = 0; i < 3; i++)
    if (policy->confirm_by_operator && segue_option_given(report, of_probes[i]))
      segue_option_wrong(
          report, of_probes[i],
          "has no effect with by = \"operator\", where no probe is asked: leave it out");
  if (!policy->confirm_by_operator && !policy->has_probe)
    segue_option_wrong(report, "probe",
                       "is missing: give a function that returns whether all is "
                       "well, or by = \"operator\"");
  else if (policy->confirm_hold_ms >= policy->confirm_within_ms)
    segue_option_wrong(report, "hold", "must be shorter than within");
}

#define PART(array) SEGUE_OPTION_ROWS(segue__policy, array)
static const segue_option_table debounce_options = {
    PART(debounce_rows), .name = "debounce", .check = check_debounce,
    .doc = "Pauses before a reload by changes of files, polls and pushes."};
static const segue_option_table timeout_options = {PART(timeout_rows), .name = "timeouts",
                                                   .doc = "Time limits of the phases."};
static const segue_option_table schema_options = {
    PART(schema_rows), .name = "schema", .doc = "A JSON Schema for the merged configuration."};
static const segue_option_table confirm_options = {
    PART(confirm_rows), .name = "confirm", .check = check_confirm,
    .doc = "A new generation is undone unless it is confirmed."};
static const segue_option_table history_options = {PART(history_rows), .name = "history",
                                                   .doc = "Limits of the history."};
static const segue_option_table last_good_options = {
    PART(last_good_rows), .name = "last good",
    .doc = "The generation that a start serves when the sources deliver nothing good."};

/* ---- The policy ------------------------------------------------------------------------------ */

static const segue_option policy_rows[] = {
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     AT(name),
     .fallback = "segue",
     .doc = "name of the daemon in status and log"},
    {.name = "sources",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &segue__source_options,
     .flags = SEGUE_OPTION_REQUIRED,
     .min = 1,
     AT(sources),
     .example = "sources = { segue.file \"config.yaml\" }",
     .doc = "where configuration comes from; later ones override earlier ones"},
    {.name = "triggers",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &segue__trigger_options,
     AT(triggers),
     .given = 1 + offsetof(segue__policy, triggers_given),
     .absent = "segue.signal \"HUP\" and segue.watch()",
     .doc = "the causes of reloads"},
    {.name = "schema",
     .type = SEGUE_OPTION_TABLE,
     .table = &schema_options,
     .offset = 0,
     .shorthand = "path",
     .doc = "JSON Schema (draft 2020-12) for the merged configuration"},
    {.name = "secrets",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     .max = 64,
     .unit = "patterns",
     AT(secrets),
     .doc = "paths whose values are never shown, such as \"db.password\" and \"**.token\""},
    {.name = "check",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .given = 1 + offsetof(segue__policy, has_check),
     .signature = "fun(next: segue.Config, prev?: segue.Config): boolean?, (string|table)?",
     .doc = "the last check of a configuration"},
    {.name = "reload",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .given = 1 + offsetof(segue__policy, has_reload),
     .signature = "fun(txn: segue.Transaction)",
     .absent = "prepare, commit, confirm",
     .doc = "takes a transaction through its steps"},
    {.name = "strategy",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .given = 1 + offsetof(segue__policy, has_strategy),
     .signature = "fun(source: segue.SourceHealth): \"pull\"|\"push\"",
     .doc = "returns \"pull\" or \"push\" for a source"},
    {.name = "modules",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_TABLE,
     .table = &segue__module_options,
     AT(modules),
     .doc = "modules by name"},
    {.name = "exec",
     .type = SEGUE_OPTION_TABLE,
     .table = &segue__exec_table,
     AT(exec),
     .doc = "how the child of segue exec follows the configuration"},
    {.name = "plugins",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_PATH,
     .flags = SEGUE_OPTION_ONE,
     AT(plugins),
     .doc = "folders that are searched for plugins first"},
    {.name = "threads",
     .type = SEGUE_OPTION_COUNT,
     .max = 256,
     AT(threads),
     .absent = "one less than the number of cores",
     .doc = "threads that serve requests; a change takes effect at the next start"},
    {.name = "confirm",
     .type = SEGUE_OPTION_TABLE,
     .table = &confirm_options,
     .offset = 0,
     .doc = "how a new generation is confirmed, and its time limit"},
    {.name = "ready",
     .type = SEGUE_OPTION_SWITCH,
     .choices = "serving|strict",
     .fallback = "serving",
     AT(ready_strict),
     .doc = "strict: a stale generation is not ready"},
    {.name = "last_good",
     .type = SEGUE_OPTION_TABLE,
     .table = &last_good_options,
     .offset = 0,
     .doc = "the generation that a start may serve when the sources deliver nothing good"},
    {.name = "history",
     .type = SEGUE_OPTION_TABLE,
     .table = &history_options,
     .offset = 0,
     .doc = "limits of the history"},
    {.name = "debounce",
     .type = SEGUE_OPTION_TABLE,
     .table = &debounce_options,
     .offset = 0,
     .doc = "pauses before a reload by changes of files, polls and pushes"},
    {.name = "min_interval",
     .type = SEGUE_OPTION_DURATION,
     AT(min_interval_ms),
     .fallback = "0s",
     .doc = "least time between the starts of two reloads; triggers in between are postponed"},
    {.name = "timeouts",
     .type = SEGUE_OPTION_TABLE,
     .table = &timeout_options,
     .offset = 0,
     .doc = "time limits of the phases"},
};
#undef AT

const segue_option_table segue__policy_options = {PART(policy_rows), .name = "policy",
                                                  .doc = "The table that reload.lua returns."};

/* ---- Topics ---------------------------------------------------------------------------------- */

static const segue__trigger_type types[] = {SEGUE__TRIGGER_SIGNAL, SEGUE__TRIGGER_WATCH,
                                            SEGUE__TRIGGER_HTTP, SEGUE__TRIGGER_POLL,
                                            SEGUE__TRIGGER_TASK};
static const segue__option_kind topics[] = {
    {"policy", NULL, &segue__policy_options, NULL},
    {"guard", NULL, &segue__guard_options, NULL},
    {"drain", NULL, &segue__drain_options, NULL},
    {"module", NULL, &segue__module_options, NULL},
    {"trigger", "signal", &signal_options, &types[0]},
    {"trigger", "watch", &watch_options, &types[1]},
    {"trigger", "http", &segue__http_options, &types[2]},
    {"trigger", "poll", &poll_options, &types[3]},
    {"trigger", "task", &task_options, &types[4]},
    {"probe", "call", &probe_call_options, NULL},
    {"probe", "http", &probe_http_options, NULL},
    {"probe", "tcp", &probe_tcp_options, NULL},
};
const segue__topics segue__policy_topics = {topics, sizeof topics / sizeof *topics};

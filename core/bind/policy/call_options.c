/* SPDX-License-Identifier: MIT
 *
 * Options of what is written in Lua: the arguments of library functions, and the options of the
 * sources and probes that the library builds from them.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "../../files/effect.h"
#include "../../http/outbound.h"
#include "../../options/command_rows.h"
#include "../../options/http_rows.h"
#include "../../os/text.h"
#include "../../reload/policy_options.h"
#include "../../source/kinds.h"
#include "../../source/source_options.h"
#include "lua_config.h"
#include "lua_options.h"
#include "policy.h"

#define ROW_TIMEOUT(owner, text)                                                                   \
  {                                                                                                \
    .name = "timeout", .type = SEGUE_OPTION_DURATION, .offset = offsetof(owner, timeout_ms),       \
    .fallback = text, .doc = "time limit"                                                          \
  }

/* ---- Files and names ------------------------------------------------------------------------- */

typedef struct call_file {
  char *path;
  segue_option_string text;
  uint64_t max_bytes, timeout_ms;
  unsigned mode;
} call_file;

#define ROW_PATH(text) ROW_FIRST("path", "\"config.yaml\"", text)
#define ROW_FIRST(first, sample, text)                                                             \
  {                                                                                                \
    .name = first, .type = SEGUE_OPTION_TEXT, .offset = offsetof(call_file, path),                 \
    .flags = SEGUE_OPTION_REQUIRED, .example = sample, .doc = text                                 \
  }
static const segue_option read_rows[] = {
    ROW_PATH("the file; relative to the policy's folder"),
    {.name = "max",
     .type = SEGUE_OPTION_SIZE,
     .offset = offsetof(call_file, max_bytes),
     .fallback = "16MiB",
     .doc = "a larger file is an error"},
    ROW_TIMEOUT(call_file, "10s"),
};
static const segue_option write_rows[] = {
    ROW_PATH("the file; relative to the policy's folder"),
    {.name = "text",
     .type = SEGUE_OPTION_STRING,
     .offset = offsetof(call_file, text),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "a text",
     .doc = "its new content"},
    {.name = "mode",
     .type = SEGUE_OPTION_MODE,
     .offset = offsetof(call_file, mode),
     .absent = "that of the file; 0600 for a new one",
     .doc = "permissions"},
    ROW_TIMEOUT(call_file, "10s"),
};
static const segue_option stat_rows[] = {ROW_PATH("the path"), ROW_TIMEOUT(call_file, "10s")};
static const segue_option list_rows[] = {
    ROW_FIRST("pattern", "\"conf.d/*.conf\"", "a pattern such as \"conf.d/*.conf\""),
    ROW_TIMEOUT(call_file, "10s")};

typedef struct call_resolve {
  char *host, *server;
  uint64_t timeout_ms;
  int type;
} call_resolve;

static const segue_option resolve_rows[] = {
    {.name = "host",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(call_resolve, host),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"localhost\"",
     .doc = "its name"},
    {.name = "type",
     .type = SEGUE_OPTION_CHOICE,
     .offset = offsetof(call_resolve, type),
     .choices = "address|SRV|TXT",
     .fallback = "address",
     .doc = "what is looked up: addresses of a host, or records of a name"},
    {.name = "server",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(call_resolve, server),
     .absent = "those of the system",
     .doc = "name server for SRV and TXT: an IPv4 address and a port"},
    ROW_TIMEOUT(call_resolve, "10s")};

#define FILE_CALL(array, first) SEGUE_OPTION_ROWS(call_file, array), .positional = first
static const segue_option_table read_options = {FILE_CALL(read_rows, "path"), .name = "read",
                                                .doc = "segue.read: the bytes of a file."};
static const segue_option_table write_options = {FILE_CALL(write_rows, "path"), .name = "write",
                                                 .doc =
                                                     "segue.write: replaces a file with a text."};
static const segue_option_table stat_options = {FILE_CALL(stat_rows, "path"), .name = "stat",
                                                .doc = "segue.stat: what a path leads to."};
static const segue_option_table list_options = {FILE_CALL(list_rows, "pattern"), .name = "list",
                                                .doc =
                                                    "segue.list: the files that match a pattern."};

static void check_resolve(void *options, segue_option_report *report) {
  const call_resolve *o = options;
  segue__outbound_address address;
  struct in_addr ip;
  if (!o->server) return;
  if (!o->type)
    segue_option_wrong(report, "server", "has an effect with the types SRV and TXT only");
  if (segue__outbound_parse(o->server, &address, NULL) ||
      inet_pton(AF_INET, address.host, &ip) != 1)
    segue_option_wrong(report, "server", "must be an IPv4 address and a port: \"127.0.0.1:53\"");
}

static const segue_option_table resolve_options = {
    SEGUE_OPTION_ROWS(call_resolve, resolve_rows), .positional = "host", .name = "resolve",
    .check = check_resolve,
    .doc = "segue.resolve: the addresses of a host, or the records of a name."};

/* ---- Formats --------------------------------------------------------------------------------- */

typedef struct call_codec {
  char *name;
  bool positions;
  uint64_t indent;
} call_codec;

static const segue_option decode_rows[] = {
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(call_codec, name),
     .absent = "\"JSON\" or \"YAML\"",
     .doc = "name of the text in messages"},
    {.name = "positions",
     .type = SEGUE_OPTION_BOOLEAN,
     .offset = offsetof(call_codec, positions),
     .fallback = "false",
     .doc = "return also a function that finds the place of a value"},
};
static const segue_option encode_rows[] = {
    {.name = "indent",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(call_codec, indent),
     .max = 16,
     .absent = "one line",
     .doc = "spaces for each level"},
};
static const segue_option_table decode_options = {
    SEGUE_OPTION_ROWS(call_codec, decode_rows), .name = "decode",
    .doc = "segue.json.decode and segue.yaml.decode: a value from a text."};
static const segue_option_table encode_json_options = {
    SEGUE_OPTION_ROWS(call_codec, encode_rows), .name = "encode json",
    .doc = "segue.json.encode: JSON of a value."};
static const segue_option_table encode_yaml_options = {.size = sizeof(segue_option_table),
                                                       .row_size = sizeof(segue_option),
                                                       .name = "encode yaml",
                                                       .struct_size = sizeof(call_codec),
                                                       .key_offset = SEGUE_OPTION_NOT_STORED,
                                                       .kind_offset = SEGUE_OPTION_NOT_STORED};

/* ---- Commands -------------------------------------------------------------------------------- */

typedef struct call_run {
  struct {
    segue_option_string *items;
    size_t count;
  } argv;
  char *shell, *cwd, *user;
  struct {
    segue_option_pair *items;
    size_t count;
  } env;
  segue_option_string stdin_text;
  uint64_t timeout_ms, kill_ms, max_output;
} call_run;

#define AT(field) .offset = offsetof(call_run, field)
static const segue_option run_rows[] = {
    {.name = "argv",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_NUMBERS,
     AT(argv),
     .doc = "the program and its arguments"},
    SEGUE__COMMAND_ROWS(AT),
    {.name = "cwd",
     .type = SEGUE_OPTION_TEXT,
     AT(cwd),
     .absent = "the policy's folder",
     .doc = "its folder; relative to the policy's"},
    {.name = "stdin",
     .type = SEGUE_OPTION_STRING,
     AT(stdin_text),
     .doc = "the standard input of the command"},
    ROW_TIMEOUT(call_run, "30s"),
    {.name = "kill_after",
     .type = SEGUE_OPTION_DURATION,
     AT(kill_ms),
     .fallback = "5s",
     .doc = "time from TERM to KILL"},
    {.name = "max_output",
     .type = SEGUE_OPTION_SIZE,
     AT(max_output),
     .fallback = "1MiB",
     .doc = "bytes kept of each of its two outputs"},
    {.name = "on_output",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .signature = "fun(stream: \"stdout\"|\"stderr\", chunk: string)",
     .doc = "gets the output as it comes"},
};
#undef AT

static void check_run(void *options, segue_option_report *report) {
  const call_run *run = options;
  int ways = segue_option_given(report, "argv") + segue_option_given(report, "shell");
  if (ways != 1)
    segue_option_wrong(report, NULL,
                       "must have one of a list, argv and shell, such as { \"nginx\", \"-t\" }");
  else if (!run->shell && (!run->argv.count || !run->argv.items[0].len))
    segue_option_wrong(report, "argv", "must begin with the name of a program");
  for (size_t i = 0; i < run->argv.count; i++)
    if (memchr(run->argv.items[i].data, 0, run->argv.items[i].len))
      segue_option_wrong(report, "argv", "must not contain a zero byte");
  segue__options_check_variables(run->env.items, run->env.count, "env", report);
}

static const segue_option_table run_options = {
    SEGUE_OPTION_ROWS(call_run, run_rows), .name = "run", .positional = "argv", .check = check_run,
    .doc = "segue.run: a command, through a shell only on request."};

/* ---- HTTP ------------------------------------------------------------------------------------ */

typedef struct call_fetch {
  char *url, *method, *unix_socket;
  struct {
    segue_option_pair *items;
    size_t count;
  } headers;
  segue_option_string body;
  uint64_t timeout_ms, connect_ms, idle_ms, max_bytes, redirects;
  char *ca, *cert, *key, *server_name;
  bool verify, stream;
} call_fetch;

#define AT(field) .offset = offsetof(call_fetch, field)
static const segue_option fetch_tls_rows[] = {
    SEGUE__TLS_FILE_ROWS(SEGUE_OPTION_TEXT, AT, "; read for each connection"),
    SEGUE__TLS_VERIFY_ROW(AT),
    {.name = "server_name",
     .type = SEGUE_OPTION_TEXT,
     AT(server_name),
     .absent = "the host of the URL",
     .doc = "the name that the certificate of the server must have"},
};

static void check_server_name(const char *name, segue_option_report *report) {
  if (!name) name = "x";
  for (const char *c = name; *c; c++)
    if (!isalnum((unsigned char)*c) && !segue__is_one_of(*c, ".-_")) name = "";
  if (!*name) segue_option_wrong(report, "server_name", "is not the name of a host");
}

static void check_fetch_tls(void *options, segue_option_report *report) {
  segue__options_check_tls(options, report);
  check_server_name(((const call_fetch *)options)->server_name, report);
}

static const segue_option_table fetch_tls_options = {SEGUE_OPTION_ROWS(call_fetch, fetch_tls_rows),
                                                     .name = "fetch tls", .check = check_fetch_tls,
                                                     .doc = "TLS of segue.fetch."};

static const segue_option fetch_rows[] = {
    {.name = "url",
     .type = SEGUE_OPTION_TEXT,
     AT(url),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"http://127.0.0.1:8080/\"",
     .doc = "http:// or https://"},
    {.name = "method",
     .type = SEGUE_OPTION_TEXT,
     AT(method),
     .absent = "\"GET\", or \"POST\" with a body",
     .doc = "the method, in capital letters"},
    {.name = "headers",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     .flags = SEGUE_OPTION_ONE | SEGUE_OPTION_NUMBERS,
     AT(headers),
     .doc = "texts of one line by name"},
    {.name = "body", .type = SEGUE_OPTION_STRING, AT(body), .doc = "the body of the request"},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(timeout_ms),
     .fallback = "30s",
     .doc = "time limit of all of it; 0: none"},
    {.name = "connect_timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(connect_ms),
     .fallback = "5s",
     .doc = "time limit of the connection"},
    {.name = "idle",
     .type = SEGUE_OPTION_DURATION,
     AT(idle_ms),
     .absent = "none",
     .doc = "longest time in which the server sends nothing"},
    {.name = "max_bytes",
     .type = SEGUE_OPTION_SIZE,
     AT(max_bytes),
     .absent = "16MiB; with on_chunk or stream none",
     .doc = "greatest size of the body"},
    {.name = "redirects",
     .type = SEGUE_OPTION_COUNT,
     AT(redirects),
     .absent = "none is followed",
     .doc = "how many are followed"},
    {.name = "unix_socket",
     .type = SEGUE_OPTION_TEXT,
     AT(unix_socket),
     .doc = "connect to this instead of the host of the URL"},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &fetch_tls_options,
     .offset = 0,
     .doc = "files, and whether the server is verified"},
    {.name = "on_chunk",
     .type = SEGUE_OPTION_FUNCTION,
     .offset = SEGUE_OPTION_NOT_STORED,
     .signature = "fun(chunk: string)",
     .doc = "gets the body as it comes"},
    {.name = "stream",
     .type = SEGUE_OPTION_BOOLEAN,
     AT(stream),
     .fallback = "false",
     .doc = "returns when the headers are there; the answer has read, lines and close instead of a "
            "body"},
};
#undef AT

static void check_fetch(void *options, segue_option_report *report) {
  const call_fetch *fetch = options;
  segue__options_check_headers(fetch->headers.items, fetch->headers.count, report);
  segue__options_check_method(fetch->method, report);
  if (fetch->stream && segue_option_given(report, "on_chunk"))
    segue_option_wrong(report, "on_chunk", "has no effect with stream: use one of both");
}

static const segue_option_table fetch_options = {
    SEGUE_OPTION_ROWS(call_fetch, fetch_rows), .name = "fetch", .positional = "url",
    .check = check_fetch, .doc = "segue.fetch: a request to an HTTP server."};

/* ---- Connections ----------------------------------------------------------------------------- */

typedef struct call_connect {
  char *address, *ca, *cert, *key, *server_name;
  uint64_t timeout_ms, connect_ms, max_bytes;
  bool verify;
} call_connect;

#define AT(field) .offset = offsetof(call_connect, field)
static const segue_option connect_tls_rows[] = {
    SEGUE__TLS_FILE_ROWS(SEGUE_OPTION_TEXT, AT, "; read for each connection"),
    SEGUE__TLS_VERIFY_ROW(AT),
    {.name = "server_name",
     .type = SEGUE_OPTION_TEXT,
     AT(server_name),
     .absent = "the host of the address",
     .doc = "the name that the certificate of the server must have"},
};

static void check_connect_tls(void *options, segue_option_report *report) {
  segue__options_check_tls(options, report);
  check_server_name(((const call_connect *)options)->server_name, report);
}

static const segue_option_table connect_tls_options = {
    SEGUE_OPTION_ROWS(call_connect, connect_tls_rows), .name = "connect tls",
    .check = check_connect_tls, .doc = "TLS of segue.connect."};

static const segue_option connect_rows[] = {
    {.name = "address",
     .type = SEGUE_OPTION_TEXT,
     AT(address),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "\"127.0.0.1:6379\"",
     .doc = "\"host:port\", \"[::1]:port\", \"unix:/path\" or \"unix:@name\""},
    {.name = "timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(timeout_ms),
     .fallback = "30s",
     .doc = "time limit of each read and write; 0: none"},
    {.name = "connect_timeout",
     .type = SEGUE_OPTION_DURATION,
     AT(connect_ms),
     .fallback = "5s",
     .doc = "time limit of the look-up of the host, the connection and TLS"},
    {.name = "max_bytes",
     .type = SEGUE_OPTION_SIZE,
     AT(max_bytes),
     .fallback = "16MiB",
     .doc = "greatest size of one read"},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &connect_tls_options,
     .offset = 0,
     .absent = "no TLS",
     .doc = "use TLS: files, and whether the server is verified"},
};
#undef AT

static void check_connect(void *options, segue_option_report *report) {
  const call_connect *o = options;
  segue__outbound_address address;
  segue_error err;
  if (o->address && segue__outbound_parse(o->address, &address, &err))
    segue_option_wrong(report, "address", "is none: %s", err.message);
  if (!o->connect_ms) segue_option_wrong(report, "connect_timeout", "must be longer than 0");
}

static const segue_option_table connect_options = {
    SEGUE_OPTION_ROWS(call_connect, connect_rows), .name = "connect", .positional = "address",
    .check = check_connect, .doc = "segue.connect: a connection to a server."};

/* ---- Sources written in Lua ------------------------------------------------------------------ */

#define KIND(array)                                                                                \
  .size = sizeof(segue_option_table), .row_size = sizeof(segue_option), .rows = (array),           \
  .count = sizeof(array) / sizeof *(array), .key_offset = SEGUE_OPTION_NOT_STORED,                 \
  .kind_offset = SEGUE_OPTION_NOT_STORED
#define AT(field) SEGUE__SOURCE_AT(field)
#define NOWHERE .offset = SEGUE_OPTION_NOT_STORED
#define ROW_NAME                                                                                   \
  {                                                                                                \
    .name = "name", .type = SEGUE_OPTION_TEXT, AT(name), .flags = SEGUE_OPTION_REQUIRED,           \
    .example = "name = \"kv\"", .doc = "its name in status and metrics"                            \
  }
#define ROWS_OF_PULLS                                                                              \
  {.name = "interval",                                                                             \
   .type = SEGUE_OPTION_DURATION,                                                                  \
   AT(interval_ms),                                                                                \
   .min = 100,                                                                                     \
   .absent = "only requested reloads and polls fetch",                                             \
   .doc = "time between two fetches"},                                                             \
  {                                                                                                \
    .name = "safety", .type = SEGUE_OPTION_DURATION, AT(safety_ms), .fallback = "5m",              \
    .doc = "time between two fetches beside a watch that runs"                                     \
  }
#define ROWS_OF_PUSHES                                                                             \
  {.name = "debounce",                                                                             \
   .type = SEGUE_OPTION_DURATION,                                                                  \
   AT(debounce_ms),                                                                                \
   .given = 1 + offsetof(segue__source, debounce_given),                                           \
   .absent = "the min of the policy's debounce",                                                   \
   .doc = "pause between the last push and the reload; 0 where each push "                         \
          "is complete"},                                                                          \
      {.name = "idle",                                                                             \
       .type = SEGUE_OPTION_DURATION,                                                              \
       AT(idle_ms),                                                                                \
       .min = 1000,                                                                                \
       .absent = "a watch may be silent for any time",                                             \
       .doc = "a watch that emits nothing for so long is started again"},                          \
  {                                                                                                \
    .name = "resumes", .type = SEGUE_OPTION_BOOLEAN, AT(resumes), .fallback = "false",             \
    .doc = "a watch that begins with a revision emits all that has changed since: no fetch "       \
           "beside it"                                                                             \
  }

static const segue_option script_rows[] = {
    ROW_NAME,
    {.name = "fetch",
     .type = SEGUE_OPTION_FUNCTION,
     NOWHERE,
     .signature = "fun(self: table): (segue.Document[]|table|true)?, string?, string?",
     .doc = "returns the content and its revision, and the base if it is a list of changes; or "
            "nil, a message, a code and a pause; required without plugin"},
    {.name = "watch",
     .type = SEGUE_OPTION_FUNCTION,
     NOWHERE,
     .given = 1 + offsetof(segue__source, pushes),
     .signature = "fun(self: table, emit: fun(documents?: any, revision?: string, base?: string))",
     .doc = "runs as long as it can, and calls emit with the content, or with changes against "
            "the revision base, when it changes"},
    {.name = "want",
     .type = SEGUE_OPTION_FUNCTION,
     NOWHERE,
     .signature = "fun(self: table, names: string[])",
     .doc =
         "is called with the names that templates request, such as services/api; a fetch follows"},
    {.name = "outcome",
     .type = SEGUE_OPTION_FUNCTION,
     NOWHERE,
     .signature = "fun(self: table, outcome: segue.SourceOutcome)",
     .doc = "is called when a reload that used a delivery has ended; of several that wait only "
            "with the last"},
    {.name = "plugin",
     .type = SEGUE_OPTION_TEXT,
     NOWHERE,
     .doc = "instead of fetch and watch: the name of a plugin that has them, in Lua or in C"},
    {.name = "options",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_ANY,
     NOWHERE,
     .doc = "plain data for the functions: self.options"},
    SEGUE__SOURCE_ROW_FORMAT,
    ROWS_OF_PULLS,
    ROWS_OF_PUSHES,
};

/* A plugin in Lua has its functions in the table when the policy is validated. */
static void check_script(void *options, segue_option_report *report) {
  segue__source_fix_format(options, report);
  if (!segue_option_given(report, "fetch") && !segue_option_given(report, "plugin"))
    segue_option_wrong(report, "fetch", "is missing: fetch = function(self) ... end");
}

const segue_option_table segue__source_script_options = {
    KIND(script_rows), .name = "source", .include = &segue__remote_options, .check = check_script,
    .doc = "A source of your own, in Lua, or of a plugin."};

/* The descriptor of the plugin validates the options: segue__c_source_open. */
static const segue_option plugin_rows[] = {
    ROW_NAME,
    {.name = "plugin",
     .type = SEGUE_OPTION_TEXT,
     NOWHERE,
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "plugin = \"./kv.so\"",
     .doc = "a source that the host program registered, or a shared object; with a slash its "
            "path"},
    {.name = "options",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_ANY,
     NOWHERE,
     .doc = "plain data for the plugin"},
    ROWS_OF_PULLS,
    ROWS_OF_PUSHES,
};
const segue_option_table segue__source_plugin_options = {KIND(plugin_rows), .name = "plugin",
                                                         .include = &segue__remote_options,
                                                         .doc = "A source of a plugin in C."};

#define NOWHERE_FOR(field) NOWHERE
static const segue_option url_tls_rows[] = {
    SEGUE__TLS_FILE_ROWS(SEGUE_OPTION_TEXT, NOWHERE_FOR, "; read for each connection"),
    {.name = "insecure",
     .type = SEGUE_OPTION_BOOLEAN,
     NOWHERE,
     .fallback = "false",
     .doc = "the certificate of the server is not verified"},
};
#undef NOWHERE_FOR
static const segue_option_table url_tls_options = {KIND(url_tls_rows), .name = "url tls",
                                                   .check = segue__options_check_tls,
                                                   .doc = "TLS of segue.url."};

static const segue_option url_rows[] = {
    {.name = "url",
     .type = SEGUE_OPTION_TEXT,
     NOWHERE,
     .flags = SEGUE_OPTION_REQUIRED | SEGUE_OPTION_SECRET,
     .example = "\"https://host/config.yaml\"",
     .doc = "http:// or https://"},
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     AT(name),
     .absent = "the URL without user, password and query",
     .doc = "its name in status and metrics"},
    {.name = "headers",
     .type = SEGUE_OPTION_MAP,
     .of = SEGUE_OPTION_STRING,
     NOWHERE,
     .flags = SEGUE_OPTION_SECRET,
     .doc = "texts of one line by name"},
    {.name = "token_file",
     .type = SEGUE_OPTION_TEXT,
     NOWHERE,
     .doc = "a file with a bearer token, read for each request"},
    {.name = "max_bytes",
     .type = SEGUE_OPTION_SIZE,
     NOWHERE,
     .fallback = "16MiB",
     .doc = "greatest size of the decoded document"},
    {.name = "redirects",
     .type = SEGUE_OPTION_BOOLEAN,
     NOWHERE,
     .fallback = "false",
     .doc = "follow redirects"},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &url_tls_options,
     NOWHERE,
     .doc = "files, and whether the server is verified"},
    SEGUE__SOURCE_ROW_FORMAT,
    {.name = "interval",
     .type = SEGUE_OPTION_DURATION,
     AT(interval_ms),
     .min = 100,
     .fallback = "30s",
     .doc = "time between two fetches"},
    {.name = "fetch",
     .type = SEGUE_OPTION_FUNCTION,
     NOWHERE,
     .flags = SEGUE_OPTION_HIDDEN,
     .doc = "made by the constructor"},
};

static void check_url(void *options, segue_option_report *report) {
  enum { TOKEN_MS = 10000 };
  segue__source *source = options;
  segue__source_fix_format(source, report);
  source->timeout_ms += TOKEN_MS; /* the file with the token is read before */
}

const segue_option_table segue__source_url_options = {
    KIND(url_rows),      .name = "url",
    .positional = "url", .include = &segue__remote_options,
    .check = check_url,  .doc = "A document that an HTTP server gives."};
#undef AT

/* The identity covers the options that decide the content of a source. The held delivery stays in
 * use while they are the same. Times, conditions and functions are left out: they do not change the
 * content, and a function has a new identity in every load of a policy. */
segue__hash segue__source_identity(const segue_node *node) {
  segue__hash hash = {0, 0};
  for (uint32_t i = 0; node->type == SEGUE_MAP && i < node->count; i++) {
    const segue__member *m = &node->v.members[i];
    static const char *const times[] = {"interval", "safety", "debounce", "idle", "resumes"};
    bool skip = segue__options_find(&segue__remote_options, m->key, m->key_len) != NULL ||
                m->value.flags & SEGUE__NODE_OPAQUE;
    for (size_t t = 0; t < sizeof times / sizeof *times; t++)
      skip |= strlen(times[t]) == m->key_len && !memcmp(times[t], m->key, m->key_len);
    if (skip) continue;
    hash = segue__hash_bytes(m->key, m->key_len, hash);
    segue__hash value = segue__node_hash(&m->value);
    hash = segue__hash_bytes(&value, sizeof value, hash);
  }
  return hash;
}

/* ---- Topics ---------------------------------------------------------------------------------- */

/* All kinds of sources that a policy may name: the one list for the validation, the loader and the
 * help.
 */
static const segue__source_kind *const source_kinds[] = {
    &segue__source_file,  &segue__source_dir, &segue__source_lua,    &segue__source_env,
    &segue__source_value, &segue__source_url, &segue__source_script, &segue__source_plugin};

static const segue__option_kind call_kinds[] = {
    {"probe", "command", &run_options, NULL},
    {"call", "run", &run_options, NULL},
    {"call", "fetch", &fetch_options, NULL},
    {"call", "read", &read_options, NULL},
    {"call", "write", &write_options, NULL},
    {"call", "stat", &stat_options, NULL},
    {"call", "list", &list_options, NULL},
    {"call", "resolve", &resolve_options, NULL},
    {"call", "connect", &connect_options, NULL},
    {"call", "keys", &segue__keys_options, NULL},
    {"call", "answer", &segue__answer_options, NULL},
    {"call", "decode", &decode_options, NULL},
    {"call", "encode json", &encode_json_options, NULL},
    {"call", "encode yaml", &encode_yaml_options, NULL},
    {"files apply", NULL, &segue__apply_options, NULL},
};

static void topics_add(segue__topics *topics, segue__option_kind *out,
                       const segue__option_kind *kind) {
  if (topics->count < SEGUE__LUA_TOPICS_MAX) out[topics->count++] = *kind;
}

segue__topics segue__lua_topics(const segue__module_kind *module_kinds, size_t kind_count,
                                segue__option_kind out[SEGUE__LUA_TOPICS_MAX]) {
  segue__topics topics = {out, 0};
  for (size_t i = 0; i < segue__policy_topics.count; i++)
    topics_add(&topics, out, &segue__policy_topics.items[i]);
  for (size_t i = 0; i < sizeof source_kinds / sizeof *source_kinds; i++) {
    const segue__source_kind *kind = source_kinds[i];
    topics_add(&topics, out, &(segue__option_kind){"source", kind->name, kind->options, kind});
  }
  for (size_t i = 0; i < sizeof call_kinds / sizeof *call_kinds; i++)
    topics_add(&topics, out, &call_kinds[i]);
  for (size_t i = 0; i < kind_count; i++) {
    const segue__module_kind *kind = &module_kinds[i];
    topics_add(&topics, out, &(segue__option_kind){"module", kind->name, kind->options, kind});
  }
  return topics;
}

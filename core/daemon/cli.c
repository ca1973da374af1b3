/* SPDX-License-Identifier: MIT
 *
 * The command line: one table of commands, one of options, and the parser and the help that read
 * them. An unknown command or option is an error that suggests the nearest known one.
 */
#include "cli.h"
#include "cli_table.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../admin/admin.h"
#include "../config/printable.h"
#include "../config/tree.h"
#include "../os/suggest.h"

/* The options of a command. */
enum {
  POLICY = 1,
  STATE = 2,
  SOCKET = 4,
  LUA_DIR = 8,
  LOG = 16,
  JSON = 32,
  WAIT = 64,
  FORCE = 128,
  IF_MATCH = 256,
  SCHEMA = 512,
  REPLAY = 1024,
  LIMIT = 2048,
  ACCEPT_SHRINK = 4096,
  DURATION = 8192,
  URL = 16384,
  AUDIT = 32768,
  RENDER = 65536,
  EXEC = 131072,
  REMOTE = POLICY | STATE | SOCKET | URL
};

typedef segue__command command;
typedef segue__cli_option_spec option;

static int cli_version(const segue__cli *cli);
static int cli_help(const segue__cli *cli);

static const command commands[] = {
    {"run", "", "run the daemon in the foreground",
     "Loads the policy and its configuration, then serves until SIGTERM or SIGINT.\n"
     "Exit codes: 0 stopped, 3 the first load was rejected, 4 it failed (a port or the state\n"
     "folder is in use, a module does not start), 6 it was held by a guard.",
     segue__cli_run, POLICY | STATE | SOCKET | LUA_DIR | LOG, 0},
    {"exec", "-- COMMAND [ARG]...", "run the daemon, and a child that follows its configuration",
     "Starts COMMAND when the first generation is live. After a change that concerns it, COMMAND "
     "gets\n"
     "the signal of --reload-signal, or is restarted. It has standard input, output and error and\n"
     "the terminal. TERM and INT stop it and segue; a signal that is no trigger of the policy is\n"
     "passed to it. When it ends, segue ends with its exit code.\n"
     "Exit codes: that of COMMAND (128 and the number of the signal that ended it), 127 COMMAND "
     "is\n"
     "not found, 126 it cannot be run; 3, 4 and 6 as segue run, before COMMAND has started.",
     segue__cli_exec, POLICY | STATE | SOCKET | LUA_DIR | LOG | WAIT | EXEC, 0},
    {"check", "[FILE]", "check the policy with its configuration, without a daemon",
     "Reads the sources as a start does and runs the checks of the policy. The policy is code:\n"
     "its functions may run commands and send requests here too.\n"
     "Exit codes: 0 good, 3 rejected, 4 a file cannot be read, 6 held by a guard.\n"
     "With --schema SCHEMA: validates one FILE against a JSON Schema (draft 2020-12) instead. "
     "Both\n"
     "may be YAML or JSON, and one of them \"-\" for standard input. Exit codes: 0 valid, 3 not\n"
     "valid, 4 a file cannot be read or the schema is wrong.",
     segue__cli_check, POLICY | STATE | LUA_DIR | JSON | LOG | SCHEMA, 1},
    {"plan", "", "show what a reload would do, without doing it",
     "Asks the daemon. If no daemon runs, shows the plan of a first start.\n"
     "Exit codes: as reload; 0 also if nothing would change.",
     segue__cli_plan, REMOTE | LUA_DIR | JSON | LOG, 0},
    {"reload", "", "reload now, wait, and print the outcome",
     "Exit codes: 0 applied or unchanged, 3 rejected, 4 failed or reverted, 5 the daemon is not\n"
     "reachable, 6 refused (held, frozen, postponed, another generation than --if-match), 1 any\n"
     "other failure, such as the end of --wait.",
     segue__cli_reload, REMOTE | JSON | WAIT | FORCE | IF_MATCH | ACCEPT_SHRINK, 0},
    {"status", "", "show the generation, modules, sources and the last reload",
     "Exit codes: 0 ready, 4 running but not ready, 5 the daemon is not reachable.",
     segue__cli_status, REMOTE | JSON, 0},
    {"files", "", "show the rendered files: state, generation, and how they were applied",
     "Exit codes: 0 all are in place and applied, 4 one is not, 5 the daemon is not reachable.",
     segue__cli_files, REMOTE | JSON, 0},
    {"diff", "[FROM [TO]]", "show what changed between two generations",
     "FROM and TO are numbers of generations, live or previous; TO may be next, the generation\n"
     "that a reload would create. Default: previous live. Rendered files that differ are shown\n"
     "too, from FROM to TO (of next: segue plan).",
     segue__cli_diff, REMOTE | JSON, 2},
    {"history", "[ID]", "list the last reloads, or show one",
     "Lists the newest first: time, outcome, the generation that was live afterwards, cause. The\n"
     "history survives the daemon. With --audit: lists requests to the admin API instead.",
     segue__cli_history, REMOTE | JSON | LIMIT | AUDIT, 1},
    {"why", "PATH", "show where a value was written and which reload set it",
     "PATH is like listen.port or upstreams[0].weight.", segue__cli_why, REMOTE | JSON, 1},
    {"rollback", "[GENERATION]", "make an earlier generation live again, with its policy",
     "Without GENERATION: the one before the live one. It is checked, prepared and confirmed as\n"
     "in any reload. It stays live until the sources change or a reload is forced.\n"
     "Exit codes: as reload.",
     segue__cli_rollback, REMOTE | JSON | WAIT, 1},
    {"confirm", "", "confirm the generation that waits for it",
     "Exit codes: as reload; 6 if no generation waits.", segue__cli_confirm, REMOTE | JSON | WAIT,
     0},
    {"freeze", "WHY", "let no new generation go live until unfreeze, also after a restart",
     "Triggers are remembered; explicit reloads are refused with WHY as the reason.\n"
     "Exit codes: 0 done, 5 the daemon is not reachable, 6 reloads are frozen already.",
     segue__cli_freeze, REMOTE | JSON, 1},
    {"unfreeze", "", "allow reloads again, and run those that were triggered meanwhile",
     "Exit codes: 0 done, 5 the daemon is not reachable, 6 reloads were not frozen.",
     segue__cli_unfreeze, REMOTE | JSON, 0},
    {"init", "[FOLDER]", "write a commented reload.lua and config.yaml to start from",
     "Never overwrites a file.", segue__cli_init, 0, 1},
    {"test", "[DIR|FILE]", "run the specs of a policy with a simulated clock",
     "Runs the files that end in _spec.lua with busted (the Debian package lua-busted). They use\n"
     "segue.testing, by default with the policy of -c.\n"
     "With --replay: replays a recorded incident with the policy instead, and reports each reload\n"
     "that ends differently.\n"
     "Exit codes: 0 all passed (no difference), 3 not, 4 the specs cannot be run.",
     segue__cli_test, POLICY | LUA_DIR | JSON | REPLAY, 1},
    {"record", "[FILE]", "record an incident for segue test --replay",
     "Records what each reload reads and its outcome until it is interrupted. FILE must not exist\n"
     "yet; without it the recording is printed. It contains whole files, with their secrets.",
     segue__cli_record, REMOTE | DURATION, 1},
    {"render", "", "render a template, or the files of a policy, without a daemon",
     "Prints the template of --template with the data of --data, or nothing if it has an error.\n"
     "The language is that of Go's text/template, or etlua. With --batch: reads cases, one JSON "
     "object in\n"
     "each line, from standard input, and prints one in each line: {\"id\", \"ok\", \"output\"} "
     "or\n"
     "{\"id\", \"ok\", \"error\"}. Keys of a case: id, template, data, name, dialect, missingkey,\n"
     "left, right, language, helpers (the text of the file); and mocks: services, nodes, env, "
     "files, now.\n"
     "With -c: renders the files of a policy; one of --dry-run, --out and --once; --json prints\n"
     "the result of the first two as plan does.\n"
     "Exit codes: 0 rendered, whether a file would change or not (with --batch: all cases were "
     "answered), 3 the template or its data\n"
     "has an error, or a check refuses the files, 4 a file cannot be read or written, or the "
     "files\n"
     "could not be applied.",
     segue__cli_render, RENDER | POLICY | STATE | SOCKET | JSON | LOG | LUA_DIR, 0},
    {"import", "PROGRAM PATH [FOLDER]", "write a policy from a configuration of another program",
     "PROGRAM is confd (PATH: its folder, /etc/confd) or consul-template (PATH: a file, or a "
     "folder\n"
     "of them). Writes reload.lua, the templates, and a file for the data into FOLDER (default: "
     "the\n"
     "current one), and reports each setting that is not carried over, or that differs. Never\n"
     "overwrites a file.\n"
     "Exit codes: 0 written, 3 the configuration has an error, 4 a file cannot be read or exists.",
     segue__cli_import, LUA_DIR | JSON, 3},
    {"completion", "SHELL", "print the completion for a shell: bash or zsh",
     "It is installed with the program. Manually: source <(segue completion bash), or write the\n"
     "output of segue completion zsh into a file _segue in a folder of $fpath.",
     segue__cli_completion, 0, 1},
    {"version", "", "print the version", NULL, cli_version, JSON, 0},
    {"help", "[COMMAND]", "print this help, or that of a command",
     "segue help options [TOPIC] describes the options of a policy, segue help options PLUGIN "
     "those of a plugin (-c names the policy whose folders of plugins are searched); with --json "
     "as a JSON Schema.",
     cli_help, JSON | POLICY | LUA_DIR, 3},
};
enum { WITH_MAX = sizeof((segue__cli *)0)->with / sizeof(char *) };
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

#define FIELD(name) offsetof(segue__cli, name)
static const option options[] = {
    {"policy", 'c', "FILE", "the policy, or the folder of a reload.lua (default: ./reload.lua)",
     POLICY, FIELD(policy)},
    {"state", 0, "FOLDER",
     "state folder (default: $STATE_DIRECTORY, else .segue beside the policy)", STATE,
     FIELD(state)},
    {"socket", 0, "PATH",
     "control socket (default: in the state folder; commands: $SEGUE_SOCKET first)", SOCKET,
     FIELD(socket)},
    {"url", 0, "URL", "ask a listener, such as https://host:9443, instead of the socket", URL,
     FIELD(url)},
    {"token-file", 0, "FILE", "with --url: a file with the token to send", URL, FIELD(token_file)},
    {"cacert", 0, "FILE", "with --url: trust this CA (default: those of the system)", URL,
     FIELD(cacert)},
    {"cert", 0, "FILE", "with --url: the client certificate to send", URL, FIELD(cert)},
    {"key", 0, "FILE", "with --url: the key of the client certificate", URL, FIELD(key)},
    {"json", 0, NULL, "print JSON, also for errors", JSON, FIELD(json)},
    {"wait", 0, "TIME", "wait at most this long, such as 5s; 0 does not wait", WAIT, FIELD(wait)},
    {"force", 0, NULL, "reload even if nothing changed", FORCE, FIELD(force)},
    {"accept-shrink", 0, NULL, "accept once what a guard holds: too little, or too old",
     ACCEPT_SHRINK, FIELD(accept_shrink)},
    {"if-match", 0, "GENERATION", "only if this generation (number or hash) is live", IF_MATCH,
     FIELD(if_match)},
    {"schema", 0, "SCHEMA", "validate FILE against this schema", SCHEMA, FIELD(schema)},
    {"with", 0, "[URI=]FILE",
     "with --schema: a document that the schema refers to; may be repeated", SCHEMA, FIELD(with)},
    {"replay", 0, "FILE", "replay a recording of segue record with the policy of -c", REPLAY,
     FIELD(replay)},
    {"for", 0, "TIME", "record for so long, such as 10m", DURATION, FIELD(duration)},
    {"formats", 0, NULL, "with --schema: \"format\" is a rule, not only a note", SCHEMA,
     FIELD(formats)},
    {"audit", 0, NULL, "list requests to the admin API instead of reloads", AUDIT, FIELD(audit)},
    {"limit", 0, "N", "list at most so many (default: 20)", LIMIT, FIELD(limit)},
    {"template", 0, "FILE", "the template; \"-\" is standard input", RENDER, FIELD(template)},
    {"data", 0, "FILE", "its data, YAML or JSON; \"-\" is standard input", RENDER, FIELD(data)},
    {"functions", 0, "DIALECT", "the set of functions (default: segue)", RENDER, FIELD(functions)},
    {"language", 0, "NAME", "the language of the template: go (default) or etlua", RENDER,
     FIELD(language)},
    {"helpers", 0, "FILE", "a Lua file that returns more functions", RENDER, FIELD(helpers)},
    {"missingkey", 0, "MODE", "what a missing key is: default, zero or error", RENDER,
     FIELD(missingkey)},
    {"left-delimiter", 0, "TEXT", "where an action begins (default: {{)", RENDER, FIELD(left)},
    {"right-delimiter", 0, "TEXT", "where an action ends (default: }})", RENDER, FIELD(right)},
    {"batch", 0, NULL, "render the cases of standard input", RENDER, FIELD(batch)},
    {"out", 0, "DIR", "with -c: write the files of the policy below this folder", RENDER,
     FIELD(out)},
    {"dry-run", 0, NULL, "with -c: show what would change in the files in place", RENDER,
     FIELD(dry_run)},
    {"once", 0, NULL, "with -c: render, check, replace and apply once, then end", RENDER,
     FIELD(once)},
    {"reload-signal", 0, "SIGNAL", "send it after a change, such as HUP; none: do nothing", EXEC,
     FIELD(reload_signal)},
    {"kill-signal", 0, "SIGNAL", "the signal that stops the child (default: TERM)", EXEC,
     FIELD(kill_signal)},
    {"kill-timeout", 0, "TIME", "KILL if it has not stopped by then (default: 10s)", EXEC,
     FIELD(kill_timeout)},
    {"splay", 0, "TIME", "wait a random part of it before a reload or restart", EXEC, FIELD(splay)},
    {"log-format", 0, "FORMAT", "text or json", LOG, FIELD(log_format)},
    {"log-level", 0, "LEVEL", "error, warn, info or debug", LOG, FIELD(log_level)},
    {"lua-dir", 0, "FOLDER", "Lua files of segue (default: beside the program, or as installed)",
     LUA_DIR, FIELD(lua_dir)},
    {"help", 'h', NULL, "print this help", 0, FIELD(help)},
};
enum { OPTION_COUNT = sizeof options / sizeof *options };

const segue__command *segue__cli_command(size_t index) {
  return index < COMMAND_COUNT ? &commands[index] : NULL;
}

const segue__cli_option_spec *segue__cli_option(size_t index) {
  return index < OPTION_COUNT ? &options[index] : NULL;
}

bool segue__cli_accepts(const segue__command *c, const segue__cli_option_spec *o) {
  return !o->mask || (o->mask & c->options);
}

/* ---- Output ---------------------------------------------------------------------------------- */

/* Set once, from --json, before any command runs. A script that parses the output must find JSON
 * there for every outcome. */
static bool failures_as_json;

static void print_failure_json(int code, const char *sentence) {
  segue__buf out;
  segue__buf_init(&out);
  segue__buf_adds(&out, "{\"error\":");
  segue__json_string(&out, sentence, strlen(sentence));
  segue__buf_addf(&out, ",\"exit_code\":%d}\n", code);
  segue__cli_print(code, &out);
}

/* The name of a field in segue_options and its option differ in these characters only: lua_dir,
 * --lua-dir. */
void segue__cli_words(char *sentence) {
  static const char theirs[] = "(option ", ours[] = "(--";
  for (char *at = sentence; (at = strstr(at, theirs));) {
    char *name = at + strlen(theirs);
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz_");
    memcpy(at, ours, strlen(ours));
    at += strlen(ours);
    for (size_t i = 0; i < len; i++)
      at[i] = name[i] == '_' ? '-' : name[i];
    memmove(at + len, name + len, strlen(name + len) + 1);
  }
}

int segue__cli_fail(int code, const char *format, ...) {
  char sentence[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(sentence, sizeof sentence, format, args);
  va_end(args);
  segue__cli_words(sentence);
  if (failures_as_json) {
    print_failure_json(code, sentence);
    return code;
  }
  segue__buf out;
  segue__buf_init(&out);
  segue__printable_lines(&out, sentence, strlen(sentence));
  fprintf(stderr, "segue: %s\n", out.failed ? segue_strerror(UV_ENOMEM) : out.data);
  segue__buf_deinit(&out);
  return code;
}

/* Text from a daemon may contain the input of an untrusted client: no control sequence except our
 * own colours may reach the terminal. The rows of tables are cleaned before. */
int segue__cli_print(int code, segue__buf *text) {
  segue__buf page;
  segue__buf_init(&page);
  if (text->len) segue__printable_page(&page, text->data, text->len, segue__cli_colour(1));
  bool failed = text->failed || page.failed;
  if (!failed && page.len)
    failed = fwrite(page.data, 1, page.len, stdout) != page.len || fflush(stdout) != 0;
  segue__buf_deinit(&page);
  segue__buf_deinit(text);
  return failed ? SEGUE__EXIT_UNEXPECTED : code;
}

bool segue__cli_colour(int fd) {
  const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
  return isatty(fd) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static int cli_version(const segue__cli *cli) {
  printf(cli->json ? "{\"version\":\"%s\"}\n" : "segue %s\n", segue_version());
  return SEGUE__EXIT_OK;
}

static void help_options(unsigned mask) {
  puts("\nOptions:");
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option *o = &options[i];
    char left[48];
    if (o->mask && !(o->mask & mask)) continue;
    snprintf(left, sizeof left, "%s%c%s--%s %s", o->letter ? "-" : "", o->letter ? o->letter : ' ',
             o->letter ? ", " : "   ", o->name, o->value ? o->value : "");
    printf("  %-24s %s\n", left, o->summary);
  }
}

static void help_command(const command *c) {
  printf("segue %s%s%s [OPTIONS]: %s\n", c->name, c->arguments[0] ? " " : "", c->arguments,
         c->summary);
  if (c->detail) printf("\n%s\n", c->detail);
  help_options(c->options);
}

static void help_all(void) {
  puts("segue: reloads configuration and modules of running servers, as one transaction\n"
       "\nUsage: segue COMMAND [OPTIONS]\n\nCommands:");
  for (size_t i = 0; i < COMMAND_COUNT; i++)
    printf("  %-10s %-12s %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
  puts("\nsegue help COMMAND describes one of them, segue help options the options of a policy.");
}

/* ---- Parsing --------------------------------------------------------------------------------- */

static const command *find_command(const char *name) {
  for (size_t i = 0; i < COMMAND_COUNT; i++)
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  return NULL;
}

static int unknown_command(const char *name) {
  const char *names[COMMAND_COUNT];
  for (size_t i = 0; i < COMMAND_COUNT; i++)
    names[i] = commands[i].name;
  const char *meant = segue__suggest(name, names, COMMAND_COUNT);
  return segue__cli_fail(SEGUE__EXIT_USAGE, "there is no command \"%.60s\"%s%s%s", name,
                         meant ? ": did you mean \"" : ": segue help lists them",
                         meant ? meant : "", meant ? "\"?" : "");
}

static int cli_help(const segue__cli *cli) {
  if (cli->arg_count && !strcmp(cli->args[0], "options")) return segue__cli_help_options(cli);
  if (cli->json) return segue__cli_fail(SEGUE__EXIT_USAGE, "--json is for segue help options");
  if (!cli->arg_count) {
    help_all();
    return SEGUE__EXIT_OK;
  }
  const command *c = find_command(cli->args[0]);
  if (!c) return unknown_command(cli->args[0]);
  help_command(c);
  return SEGUE__EXIT_OK;
}

/* Finds an option. len is the length of its name as written, without "=" and what follows. */
static const option *find_option(const char *arg, size_t len) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option *o = &options[i];
    if (arg[1] == '-' ? strlen(o->name) == len - 2 && strncmp(arg + 2, o->name, len - 2) == 0
                      : len == 2 && o->letter == arg[1])
      return o;
  }
  return NULL;
}

static int unknown_option(const command *c, const char *arg, size_t len) {
  const char *names[OPTION_COUNT];
  char word[64];
  size_t count = 0;
  for (size_t i = 0; i < OPTION_COUNT; i++)
    if (segue__cli_accepts(c, &options[i])) names[count++] = options[i].name;
  snprintf(word, sizeof word, "%.*s", (int)(len < 60 ? len : 60), arg);
  const char *meant = arg[1] == '-' ? segue__suggest(word + 2, names, count) : NULL;
  return segue__cli_fail(SEGUE__EXIT_USAGE, "segue %s has no option %s%s%s%s", c->name, word,
                         meant ? ": did you mean --" : ", see segue help ", meant ? meant : c->name,
                         meant ? "?" : "");
}

static void set_option(segue__cli *cli, const option *o, const char *value) {
  void *field = (char *)cli + o->offset;
  if (o->offset == FIELD(with)) /* may be repeated */
    cli->with[cli->with_count++] = value;
  else if (o->value)
    *(const char **)field = value;
  else
    *(bool *)field = true;
}

/* Parses one option at argv[*i]; moves *i over its value. */
static int parse_option(segue__cli *cli, const command *c, char **argv, int argc, int *i) {
  const char *arg = argv[*i];
  size_t len = arg[1] == '-' ? strcspn(arg, "=") : strlen(arg);
  const option *o = find_option(arg, len);
  if (!o || !segue__cli_accepts(c, o)) return unknown_option(c, arg, len);
  const char *value = arg[len] == '=' ? arg + len + 1 : NULL;
  if (value && !o->value) return segue__cli_fail(SEGUE__EXIT_USAGE, "--%s takes no value", o->name);
  if (o->value && !value) {
    if (*i + 1 >= argc)
      return segue__cli_fail(SEGUE__EXIT_USAGE, "--%s needs a value: --%s %s", o->name, o->name,
                             o->value);
    value = argv[++*i];
  }
  if (o->offset == FIELD(with) && cli->with_count == WITH_MAX)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "--%s may be given %d times", o->name, WITH_MAX);
  set_option(cli, o, value);
  return 0;
}

static int cli_parse(segue__cli *cli, const command *c, char **argv, int argc) {
  bool only_args = false;
  for (int i = 2; i < argc; i++) {
    bool ends = !only_args && strcmp(argv[i], "--") == 0;
    if (c->options & EXEC && (ends || argv[i][0] != '-')) {
      cli->command = (const char *const *)&argv[i + ends];
      return 0;
    }
    if (ends) {
      only_args = true;
    } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
      int rc = parse_option(cli, c, argv, argc, &i);
      if (rc) return rc;
    } else if (cli->arg_count >= c->max_args) {
      return segue__cli_fail(SEGUE__EXIT_USAGE, "segue %s does not take \"%s\": see segue help %s",
                             c->name, argv[i], c->name);
    } else {
      cli->args[cli->arg_count++] = argv[i];
    }
  }
  return 0;
}

/* Errors of the arguments themselves are JSON too, also if --json is behind the wrong one. */
static bool asks_for_json(int argc, char **argv) {
  for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strcmp(argv[i], "--json") == 0) return true;
  return false;
}

static const char *command_name(int argc, char **argv) {
  if (argc < 2) return NULL;
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return "help";
  if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) return "version";
  return argv[1];
}

/* -c FOLDER means FOLDER/reload.lua. */
static int find_policy(segue__cli *cli) {
  struct stat st;
  cli->policy_given = cli->policy != NULL;
  if (!cli->policy) {
    cli->policy = "reload.lua";
    return 0;
  }
  if (stat(cli->policy, &st) < 0 || !S_ISDIR(st.st_mode)) return 0;
  size_t len = strlen(cli->policy), size = sizeof cli->policy_path;
  while (len > 1 && cli->policy[len - 1] == '/')
    len--;
  if ((size_t)snprintf(cli->policy_path, size, "%.*s%sreload.lua", (int)len, cli->policy,
                       cli->policy[len - 1] == '/' ? "" : "/") >= size)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "-c FILE must be shorter than %zu bytes", size - 11);
  cli->policy = cli->policy_path;
  return 0;
}

int segue__cli_main(int argc, char **argv) {
  segue__cli cli = {0};
  const char *name = command_name(argc, argv);
  /* A pipe without a reader and a file past `ulimit -f` are errors of write(2), EPIPE and EFBIG,
   * and must not end the daemon. */
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  if (!name) {
    help_all();
    return SEGUE__EXIT_USAGE;
  }
  const command *c = find_command(name);
  if (!c && name[0] == '-')
    return segue__cli_fail(SEGUE__EXIT_USAGE, "the command comes first: segue COMMAND %s", name);
  if (!c) return unknown_command(name);
  failures_as_json = asks_for_json(argc, argv);
  int rc = cli_parse(&cli, c, argv, argc);
  if (rc) return rc;
  if (cli.help) {
    help_command(c);
    return SEGUE__EXIT_OK;
  }
  rc = find_policy(&cli);
  if (rc == 0) rc = segue__cli_check_options(&cli);
  return rc ? rc : c->run(&cli);
}

/* SPDX-License-Identifier: MIT
 *
 * The commands that ask a running daemon: each sends one request over the control socket or to a
 * URL, prints the answer, and ends with the exit code of its status.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/text.h"
#include "connect.h"
#include "remote.h"
#include "table.h"

typedef struct question {
  const char *method, *path;
  bool json;            /* the wanted form of the answer */
  const char *if_match; /* or NULL */
} question;

/* Sends one request with these headers. The list has room for one more, the token. */
static int remote_call(const segue__cli *cli, const question *q, const char **headers, size_t count,
                       uint64_t timeout_ms, segue__http_answer *out, segue_error *err) {
  segue__http_call_options options;
  segue__reach reach;
  int rc = segue__reach_init(&reach, cli, q->path, err);
  if (reach.authorization[0]) headers[count] = reach.authorization;
  segue__http_call_options_init(&options);
  segue__reach_set(&reach, cli, &options);
  options.method = q->method;
  options.headers = headers;
  options.timeout_ms = timeout_ms;
  if (rc == 0) {
    rc = segue__http_call(&options, out, err);
    if ((rc == UV_ECONNREFUSED || rc == UV_EACCES) && reach.socket[0])
      rc = segue__reach_explain(&reach, cli, err);
  }
  segue__reach_deinit(&reach);
  headers[count] = NULL; /* it pointed into reach */
  return rc;
}

static int remote_ask(const segue__cli *cli, const question *q, segue__http_answer *out,
                      segue_error *err) {
  char if_match[128];
  const char *headers[4] = {q->json ? "Accept: application/json" : "Accept: text/plain"};
  size_t count = 1;
  if (q->if_match) {
    snprintf(if_match, sizeof if_match, "If-Match: %s", q->if_match);
    headers[count++] = if_match;
  }
  return remote_call(cli, q, headers, count, 0, out, err);
}

int segue__cli_call(const segue__cli *cli, const char *method, const char *path,
                    uint64_t timeout_ms, segue__http_answer *out, segue_error *err) {
  const char *headers[2] = {NULL};
  question q = {.method = method, .path = path};
  return remote_call(cli, &q, headers, 0, timeout_ms, out, err);
}

/* Requests the path in a buffer, and frees the buffer. */
static int ask_at(const segue__cli *cli, question q, segue__buf *path, segue__http_answer *out,
                  segue_error *err) {
  int rc = UV_ENOMEM;
  q.path = path->data;
  if (path->failed || !path->data)
    segue__errorf(err, rc, "out of memory");
  else
    rc = remote_ask(cli, &q, out, err);
  segue__buf_deinit(path);
  return rc;
}

static int exit_code(int status) {
  switch (status) {
  case 200:
    return SEGUE__EXIT_OK;
  case 422:
    return SEGUE__EXIT_REJECTED;
  case 500:
    return SEGUE__EXIT_FAILED;
  case 202:
  case 401:
  case 403:
  case 409:
  case 412:
  case 423:
  case 429:
    return SEGUE__EXIT_REFUSED;
  case 503:
    return SEGUE__EXIT_UNREACHABLE;
  default:
    return SEGUE__EXIT_UNEXPECTED;
  }
}

/* Prints a good answer and any JSON on standard output, and everything else as an error. */
static int remote_show(const segue__cli *cli, const segue__http_answer *answer, int code) {
  bool result = answer->status == 200 || answer->status == 422 || answer->status == 409 ||
                answer->status == 500 || code == SEGUE__EXIT_OK;
  if (!cli->json && !result) {
    char text[1024];
    segue__table_error(answer->body, answer->len, text, sizeof text);
    return segue__cli_fail(code, "%s", text);
  }
  segue__buf out;
  segue__buf_init(&out);
  segue__table_paint_diffs(&out, answer->body, answer->len, !cli->json && segue__cli_colour(1));
  return segue__cli_print(code, &out);
}

static int refused_with(const segue__http_answer *answer, int code) {
  char text[1024];
  segue__table_error(answer->body, answer->len, text, sizeof text);
  return segue__cli_fail(code, "%s", text);
}

int segue__cli_refused(const segue__http_answer *answer) {
  return refused_with(answer, exit_code(answer->status));
}

static int unreachable(const segue_error *err) {
  return segue__cli_fail(err->code == SEGUE_EUSAGE ? SEGUE__EXIT_USAGE : SEGUE__EXIT_UNREACHABLE,
                         "%s", err->message);
}

/* Appends a value for a query: escapes everything but letters, digits, "-", "." and "_". */
static void remote_add_escaped(segue__buf *out, const char *s) {
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        segue__is_one_of((char)c, "-._"))
      segue__buf_addc(out, (char)c);
    else
      segue__buf_addf(out, "%%%02X", c);
  }
}

int segue__cli_reload(const segue__cli *cli) {
  segue_error err;
  segue__http_answer answer = {0};
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_adds(&path, "/-/reload?");
  if (cli->force) segue__buf_adds(&path, "force=1&");
  if (cli->accept_shrink) segue__buf_adds(&path, "accept-shrink=1&");
  if (cli->wait) {
    segue__buf_adds(&path, "wait=");
    remote_add_escaped(&path, cli->wait);
  }
  int rc = ask_at(cli, (question){"POST", NULL, cli->json, cli->if_match}, &path, &answer, &err);
  if (rc < 0) return unreachable(&err);
  bool asked_not_to_wait = answer.status == 202 && cli->wait;
  int code = asked_not_to_wait ? SEGUE__EXIT_OK : exit_code(answer.status);
  if (answer.status == 400) code = SEGUE__EXIT_USAGE;
  rc = remote_show(cli, &answer, code);
  segue__http_answer_deinit(&answer);
  return rc;
}

int segue__cli_plan(const segue__cli *cli) {
  segue_error err;
  segue__http_answer answer = {0};
  question q = {"POST", "/api/v1/plan", cli->json, NULL};
  int rc = remote_ask(cli, &q, &answer, &err);
  /* A command that names its daemon must not get the plan of a first start instead. */
  if (rc == UV_ECONNREFUSED && !segue__reach_is_named(cli)) return segue__cli_plan_offline(cli);
  if (rc < 0) return unreachable(&err);
  rc = remote_show(cli, &answer, exit_code(answer.status));
  segue__http_answer_deinit(&answer);
  return rc;
}

typedef int table(segue__buf *out, const char *body, size_t len, bool colour);

/* Prints a JSON answer unchanged, or as a table. map holds the exit codes for the results of draw.
 */
static int show_table(const segue__cli *cli, const segue__http_answer *answer, table *draw,
                      const int map[2]) {
  segue__buf out;
  segue__buf_init(&out);
  int rc = draw(&out, answer->body, answer->len, segue__cli_colour(1));
  if (rc < 0) {
    segue__buf_deinit(&out);
    return segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "the daemon's answer cannot be read: %s",
                           segue_strerror(rc));
  }
  if (cli->json) {
    out.len = 0;
    segue__buf_add(&out, answer->body, answer->len);
  }
  return segue__cli_print(map[rc > 0], &out);
}

int segue__cli_status(const segue__cli *cli) {
  static const int map[2] = {SEGUE__EXIT_FAILED, SEGUE__EXIT_OK}; /* not ready, ready */
  segue_error err;
  segue__http_answer answer = {0};
  question q = {"GET", "/api/v1/status", true, NULL};
  int rc = remote_ask(cli, &q, &answer, &err);
  if (rc < 0) return unreachable(&err);
  rc = answer.status == 200 ? show_table(cli, &answer, segue__table_status, map)
                            : remote_show(cli, &answer, exit_code(answer.status));
  segue__http_answer_deinit(&answer);
  return rc;
}

int segue__cli_files(const segue__cli *cli) {
  static const int map[2] = {SEGUE__EXIT_FAILED, SEGUE__EXIT_OK};
  segue_error err;
  segue__http_answer answer = {0};
  question q = {"GET", "/api/v1/files", true, NULL};
  int rc = remote_ask(cli, &q, &answer, &err);
  if (rc < 0) return unreachable(&err);
  rc = answer.status == 200 ? show_table(cli, &answer, segue__table_file_list, map)
                            : remote_show(cli, &answer, exit_code(answer.status));
  segue__http_answer_deinit(&answer);
  return rc;
}

/* ---- Operators' decisions ---- */

/* Sends one POST and prints its answer. */
static int remote_decide(const segue__cli *cli, segue__buf *path, bool is_run) {
  segue_error err;
  segue__http_answer answer = {0};
  int rc = ask_at(cli, (question){"POST", NULL, cli->json, NULL}, path, &answer, &err);
  if (rc < 0) return unreachable(&err);
  bool asked_not_to_wait = answer.status == 202 && cli->wait;
  int code = asked_not_to_wait ? SEGUE__EXIT_OK : exit_code(answer.status);
  if (answer.status == 400) code = SEGUE__EXIT_USAGE;
  if (answer.status == 404) code = SEGUE__EXIT_REFUSED;
  bool outcome = is_run && (answer.status == 422 || answer.status == 500);
  bool shown = cli->json || outcome || code == SEGUE__EXIT_OK;
  rc = shown ? remote_show(cli, &answer, code) : refused_with(&answer, code);
  segue__http_answer_deinit(&answer);
  return rc;
}

static void add_wait(segue__buf *path, const segue__cli *cli) {
  if (!cli->wait) return;
  segue__buf_adds(path, "&wait=");
  remote_add_escaped(path, cli->wait);
}

int segue__cli_rollback(const segue__cli *cli) {
  segue__buf path;
  int rc = cli->arg_count ? segue__cli_check_generation(cli->args[0]) : 0;
  if (rc) return rc;
  segue__buf_init(&path);
  segue__buf_adds(&path, "/api/v1/rollback?");
  if (cli->arg_count) segue__buf_addf(&path, "to=%s", cli->args[0]);
  add_wait(&path, cli);
  return remote_decide(cli, &path, true);
}

int segue__cli_confirm(const segue__cli *cli) {
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_adds(&path, "/api/v1/confirm?");
  add_wait(&path, cli);
  return remote_decide(cli, &path, true);
}

int segue__cli_freeze(const segue__cli *cli) {
  segue__buf path;
  if (!cli->arg_count || !cli->args[0][0])
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue freeze needs WHY, the reason that others will see, such as "
                           "\"release weekend\"");
  segue__buf_init(&path);
  segue__buf_adds(&path, "/api/v1/freeze?why=");
  remote_add_escaped(&path, cli->args[0]);
  return remote_decide(cli, &path, false);
}

int segue__cli_unfreeze(const segue__cli *cli) {
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_adds(&path, "/api/v1/unfreeze");
  return remote_decide(cli, &path, false);
}

/* ---- The past ---- */

/* Returns the exit code for a question about an earlier reload or generation. One that is not in
 * the history is a refusal; a number that cannot exist is a wrong argument. */
static int kept_code(int status) {
  if (status == 400) return SEGUE__EXIT_USAGE;
  return status == 404 ? SEGUE__EXIT_REFUSED : exit_code(status);
}

/* For why a path without a value is a wrong argument. */
static int why_code(int status) {
  return status == 404 ? SEGUE__EXIT_USAGE : kept_code(status);
}

/* Sends one GET and prints its answer as a table. */
static int remote_look(const segue__cli *cli, segue__buf *path, table *draw,
                       int (*code)(int status)) {
  static const int map[2] = {SEGUE__EXIT_OK, SEGUE__EXIT_OK};
  segue_error err;
  segue__http_answer answer = {0};
  int rc = ask_at(cli, (question){"GET", NULL, true, NULL}, path, &answer, &err);
  if (rc < 0) return unreachable(&err);
  rc = answer.status == 200 ? show_table(cli, &answer, draw, map)
                            : remote_show(cli, &answer, code(answer.status));
  segue__http_answer_deinit(&answer);
  return rc;
}

int segue__cli_history(const segue__cli *cli) {
  segue__buf path;
  if (cli->audit && cli->arg_count)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "segue history takes ID or --audit, not both");
  int rc = cli->arg_count ? segue__cli_check_reload_id(cli->args[0]) : 0;
  if (rc) return rc;
  segue__buf_init(&path);
  segue__buf_adds(&path, cli->audit ? "/api/v1/audit" : "/api/v1/reloads");
  if (cli->arg_count) {
    segue__buf_addc(&path, '/');
    remote_add_escaped(&path, cli->args[0]);
    return remote_look(cli, &path, segue__table_reload, kept_code);
  }
  segue__buf_adds(&path, "?limit=");
  remote_add_escaped(&path, cli->limit ? cli->limit : "20");
  return remote_look(cli, &path, cli->audit ? segue__table_audit : segue__table_history, kept_code);
}

int segue__cli_why(const segue__cli *cli) {
  segue__buf path;
  if (!cli->arg_count)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "segue why needs PATH, such as listen.port");
  segue__buf_init(&path);
  segue__buf_adds(&path, "/api/v1/why?path=");
  remote_add_escaped(&path, cli->args[0]);
  return remote_look(cli, &path, segue__table_why, why_code);
}

/* Makes the path of a diff. "next" as the only argument compares the live generation with the next
 * one. */
static void diff_path(segue__buf *out, const segue__cli *cli) {
  bool only_next = cli->arg_count == 1 && strcmp(cli->args[0], "next") == 0;
  segue__buf_adds(out, "/api/v1/diff?");
  if (only_next) {
    segue__buf_adds(out, "to=next");
    return;
  }
  if (cli->arg_count > 0) {
    segue__buf_adds(out, "from=");
    remote_add_escaped(out, cli->args[0]);
  }
  if (cli->arg_count > 1) {
    segue__buf_adds(out, "&to=");
    remote_add_escaped(out, cli->args[1]);
  }
}

static int check_sides(const segue__cli *cli) {
  if (cli->arg_count == 1) return segue__cli_check_side("FROM", cli->args[0], true);
  if (!cli->arg_count) return 0;
  int rc = segue__cli_check_side("FROM", cli->args[0], false);
  if (rc == 0) rc = segue__cli_check_side("TO", cli->args[1], true);
  if (rc == 0 && !strcmp(cli->args[1], "next") && strcmp(cli->args[0], "live") != 0)
    rc = segue__cli_fail(SEGUE__EXIT_USAGE, "FROM must be live where TO is next, not \"%.60s\"",
                         cli->args[0]);
  return rc;
}

int segue__cli_diff(const segue__cli *cli) {
  static const int map[2] = {SEGUE__EXIT_OK, SEGUE__EXIT_OK};
  segue_error err;
  segue__http_answer answer = {0};
  segue__buf path;
  int rc = check_sides(cli);
  if (rc) return rc;
  segue__buf_init(&path);
  diff_path(&path, cli);
  bool next = cli->arg_count && strcmp(cli->args[cli->arg_count - 1], "next") == 0;
  rc = ask_at(cli, (question){"GET", NULL, cli->json || !next, NULL}, &path, &answer, &err);
  if (rc < 0) return unreachable(&err);
  if (answer.status == 200 && !next)
    rc = show_table(cli, &answer, segue__table_diff, map);
  else
    rc = remote_show(cli, &answer, kept_code(answer.status));
  segue__http_answer_deinit(&answer);
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * `segue render`: one template, or a batch of them, without a policy and without a daemon. The
 * output is the template's, byte for byte: nothing is cleaned for a terminal.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../bind/template/template.h"
#include "../config/printable.h"
#include "../instance/lua_paths.h"
#include "cli.h"

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static int write_output(const char *data, size_t len) {
  if (len && fwrite(data, 1, len, stdout) != len) return -1;
  return fflush(stdout) == 0 ? 0 : -1;
}

static int fail_output(void) {
  return segue__cli_fail(SEGUE__EXIT_UNEXPECTED, "cannot write standard output: %s",
                         strerror(errno));
}

/* The message as Go has it, and where the value stands; it may hold bytes of the template. */
static int fail_template(int rc, const segue__template_failure *failure, const segue_error *err) {
  segue__buf out;
  segue__buf_init(&out);
  const char *text = failure->message ? failure->message : err->message;
  if (rc == SEGUE_EUSAGE && failure->message) return segue__cli_fail(SEGUE__EXIT_USAGE, "%s", text);
  if (rc != SEGUE_ECONFIG) return segue__cli_fail(SEGUE__EXIT_FAILED, "%s", text);
  segue__printable_lines(&out, text, strlen(text));
  if (failure->path) {
    segue__buf_adds(&out, "\n  ");
    const char *path = *failure->path ? failure->path : "the data";
    segue__printable_lines(&out, path, strlen(path));
  }
  if (failure->origin) {
    segue__buf_adds(&out, " (");
    segue__printable_lines(&out, failure->origin, strlen(failure->origin));
    segue__buf_adds(&out, ")");
  }
  fprintf(stderr, "%s\n", out.failed ? segue_strerror(UV_ENOMEM) : out.data);
  segue__buf_deinit(&out);
  return SEGUE__EXIT_REJECTED;
}

static int render_one(segue__template *t, const segue__cli *cli) {
  segue_error err = {0};
  segue__bytes text = {0}, data = {0}, helpers = {0};
  segue__buf out;
  segue__template_failure failure = {0};
  segue__buf_init(&out);
  int code = SEGUE__EXIT_FAILED;
  int rc = segue__cli_read_file(cli->template, &text, &err);
  if (rc == 0 && cli->data) rc = segue__cli_read_file(cli->data, &data, &err);
  if (rc == 0 && cli->helpers) rc = segue__cli_read_file(cli->helpers, &helpers, &err);
  if (rc < 0) {
    code = segue__cli_fail(code, "%s", err.message);
    goto done;
  }
  segue__template_job job = {.name = base_name(cli->template),
                             .text = text.data,
                             .len = text.len,
                             .data_name = cli->data,
                             .data = data.data,
                             .data_len = data.len,
                             .dialect = cli->functions,
                             .missingkey = cli->missingkey,
                             .language = cli->language,
                             .helpers_name = cli->helpers,
                             .helpers = helpers.data,
                             .helpers_len = helpers.len,
                             .left = cli->left,
                             .right = cli->right};
  rc = segue__template_render(t, &job, &out, &failure, NULL, &err);
  if (rc < 0)
    code = fail_template(rc, &failure, &err);
  else
    code = write_output(out.data, out.len) < 0 ? fail_output() : SEGUE__EXIT_OK;
done:
  segue__template_failure_clear(&failure);
  segue__buf_deinit(&out);
  segue__free((char *)text.data);
  segue__free((char *)data.data);
  segue__free((char *)helpers.data);
  return code;
}

/* Answers in the order of the cases. An answer is written at once only if the next case has not
 * arrived yet: a program may wait for it. */
static int render_batch(segue__template *t) {
  segue_error err = {0};
  segue__buf out;
  char *line = NULL;
  size_t size = 0;
  int code = SEGUE__EXIT_OK;
  segue__buf_init(&out);
  for (ssize_t len; code == SEGUE__EXIT_OK && (len = getline(&line, &size, stdin)) > 0;) {
    if (line[len - 1] == '\n') len--;
    if (strspn(line, " \t\r\n") >= (size_t)len) continue;
    out.len = 0;
    int rc = segue__template_case(t, line, (size_t)len, &out, &err);
    if (rc < 0) {
      code = segue__cli_fail(SEGUE__EXIT_FAILED, "%s", err.message);
      break;
    }
    segue__buf_addc(&out, '\n');
    if (write_output(out.data, out.len) < 0) code = fail_output();
  }
  free(line);
  segue__buf_deinit(&out);
  return code;
}

int segue__cli_render(const segue__cli *cli) {
  segue_error err = {0};
  segue__template *t = NULL;
  char *lua_dir;
  bool of_policy = cli->out || cli->dry_run || cli->once;
  if (of_policy || (cli->policy_given && !cli->template && !cli->batch))
    return segue__cli_render_policy(cli);
  if (cli->json)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--json is for the files of a policy, with -c: a template is printed as "
                           "it is, and --batch prints JSON in any case");
  if (!cli->batch && !cli->template)
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue render needs --template FILE, or --batch for cases from "
                           "standard input");
  if (cli->batch && (cli->template || cli->data || cli->helpers || cli->language))
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "--batch reads templates and data from standard input: leave out %s",
                           cli->template  ? "--template"
                           : cli->data    ? "--data"
                           : cli->helpers ? "--helpers"
                                          : "--language");
  int rc = segue__lua_paths_find(cli->lua_dir, &lua_dir, &err);
  if (rc == 0) rc = segue__template_new(&t, lua_dir, &err);
  segue__free(lua_dir);
  if (rc < 0) return segue__cli_fail(SEGUE__EXIT_FAILED, "%s", err.message);
  rc = cli->batch ? render_batch(t) : render_one(t, cli);
  segue__template_free(t);
  return rc;
}

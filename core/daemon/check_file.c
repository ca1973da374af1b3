/* SPDX-License-Identifier: MIT
 *
 * `segue check --schema SCHEMA FILE`: validates one file, without a policy. All files may be
 * YAML or JSON and any JSON value, and pipes; "-" is standard input.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include "../admin/render.h"
#include "../config/mask.h"
#include "../os/os.h"
#include "../schema/schema.h"
#include "cli.h"

enum { FILE_BYTES = 64 << 20, ID_SCHEMA = 1, ID_FILE = 2, ID_WITH = 3 };
enum { WITH_MAX = sizeof((segue__cli *)0)->with / sizeof(char *) };

typedef struct verdict {
  const segue__cli *cli;
  segue__document *schema_doc, *doc, *with[WITH_MAX];
  char *uris[WITH_MAX];
  segue__schema *schema;
  segue__errors errors, warnings; /* of the schema, or of reading */
  segue__findings findings;
  int code;
} verdict;

static bool is_input(const char *path) {
  return strcmp(path, "-") == 0;
}

/* Reads a pipe, which has no size and can be read only once. */
static int read_stream(FILE *in, const char *name, segue__bytes *out, segue_error *err) {
  segue__buf text;
  char piece[16384];
  segue__buf_init(&text);
  segue__buf_add(&text, "", 0);
  for (size_t n; (n = fread(piece, 1, sizeof piece, in)) > 0 && text.len <= FILE_BYTES;)
    segue__buf_add(&text, piece, n);
  int rc = ferror(in) ? -errno : text.failed ? UV_ENOMEM : text.len > FILE_BYTES ? UV_EFBIG : 0;
  char *data = rc ? NULL : segue__strndup(text.data ? text.data : "", text.len);
  if (!rc && !data) rc = UV_ENOMEM;
  *out = (segue__bytes){.data = data, .len = data ? text.len : 0};
  segue__buf_deinit(&text);
  return rc ? segue__errorf(err, rc, "cannot read %s: %s", name, segue_strerror(rc)) : 0;
}

int segue__cli_read_file(const char *path, segue__bytes *out, segue_error *err) {
  const segue__os *os = segue__os_default();
  struct stat st;
  if (is_input(path)) return read_stream(stdin, "standard input", out, err);
  if (stat(path, &st) < 0 || !S_ISFIFO(st.st_mode))
    return os->read_file(os->data, path, FILE_BYTES, out, err);
  FILE *in = fopen(path, "re");
  if (!in) return segue__errorf(err, -errno, "cannot read %s: %s", path, segue_strerror(-errno));
  int rc = read_stream(in, path, out, err);
  fclose(in);
  return rc;
}

/* Returns 0, or stores the error in v; v->code distinguishes a file that could not be read. mask:
 * hides values in the error; NULL: hides all. */
static int check_load(verdict *v, const char *path, uint32_t id, segue__document **out, int broken,
                      segue__mask *mask) {
  segue__limits limits = {.mask = segue__mask_given, .mask_data = mask};
  segue__bytes bytes = {0};
  segue_error err = {0};
  bool guessed;
  segue__format format = segue__format_of(path, &guessed);
  int rc = segue__cli_read_file(path, &bytes, &err);
  v->code = SEGUE__EXIT_FAILED;
  if (rc == 0) {
    rc = segue__document_new(out, id, "", is_input(path) ? "standard input" : path, format,
                             bytes.data, bytes.len);
    if (rc < 0) segue__errorf(&err, rc, "%s: out of memory", path);
  }
  if (rc == 0) {
    v->code = broken;
    (*out)->foreign = true;
    (*out)->guessed = guessed;
    rc = segue__document_parse(*out, &limits, NULL, NULL, &err);
    /* A file that contains only null is a JSON value, but as a configuration it is empty. */
    if (rc == 0 && (*out)->root.type == SEGUE_NULL) rc = segue__document_fail_empty(*out, &err);
  }
  if (rc < 0) segue__errors_add(&v->errors, &err);
  return rc;
}

/* Loads the files of --with [URI=]FILE. The last "=" separates, because a URI may contain "=". */
static int load_with(verdict *v) {
  for (int i = 0; i < v->cli->with_count; i++) {
    const char *arg = v->cli->with[i], *equals = strrchr(arg, '=');
    if (check_load(v, equals ? equals + 1 : arg, ID_WITH + (uint32_t)i, &v->with[i],
                   SEGUE__EXIT_FAILED, NULL))
      return UV_EIO;
    if (equals && !(v->uris[i] = segue__strndup(arg, (size_t)(equals - arg)))) return UV_ENOMEM;
  }
  return 0;
}

/* Standard input can be only one of the files. */
static bool twice_input(verdict *v) {
  int count = is_input(v->cli->schema) + is_input(v->cli->args[0]);
  segue_error err = {0};
  if (count < 2) return false;
  v->code = SEGUE__EXIT_FAILED;
  segue__errorf(&err, SEGUE_EUSAGE, "standard input must be the schema or the file, not both");
  segue__errors_add(&v->errors, &err);
  return true;
}

/* The texts of a schema are shown (errorMessage, the description beside a pattern), but not a
 * secret of the file that its author copied into one. */
static void clean_findings(verdict *v, segue__mask *mask) {
  bool known = mask && segue__mask_learn(mask, &v->doc->root) == 0;
  for (size_t i = 0; i < v->findings.count; i++) {
    segue_error *error = &v->findings.items[i].error;
    segue__mask_error(mask, error);
    if (!known) snprintf(error->message, sizeof error->message, "%s", SEGUE__MASKED);
  }
}

static void check_validate(verdict *v) {
  const segue__cli *cli = v->cli;
  segue__schema_options options = {.size = sizeof options,
                                   .formats = cli->formats,
                                   .warnings = &v->warnings,
                                   .bundle = v->with,
                                   .bundle_uris = (const char *const *)v->uris,
                                   .bundle_count = (size_t)cli->with_count};
  if (twice_input(v)) return;
  if (check_load(v, cli->schema, ID_SCHEMA, &v->schema_doc, SEGUE__EXIT_FAILED, NULL)) return;
  if (load_with(v)) return;
  if (segue__schema_new(&v->schema, v->schema_doc, &options, &v->errors)) return;
  segue__mask *mask = NULL; /* stays NULL where there is no memory: no value is shown */
  segue__mask_join(&mask, NULL, NULL, v->schema);
  int rc = check_load(v, cli->args[0], ID_FILE, &v->doc, SEGUE__EXIT_REJECTED, mask);
  if (rc) {
    segue__mask_unref(mask);
    return;
  }
  if (v->doc->wide) {
    segue_error wide;
    segue__document_report_wide(v->doc, &wide);
    segue__errors_add(&v->warnings, &wide);
  }
  segue__validate_options where = {.size = sizeof where, .document = v->doc};
  rc = segue__schema_validate(v->schema, &v->doc->root, &v->findings, &where);
  clean_findings(v, mask);
  segue__mask_unref(mask);
  v->code = rc == 0               ? SEGUE__EXIT_OK
            : rc == SEGUE_ESCHEMA ? SEGUE__EXIT_REJECTED
                                  : SEGUE__EXIT_FAILED;
}

/* ---- As JSON --------------------------------------------------------------------------------- */

static void check_add_json(segue__buf *out, const segue_error *e, const segue__finding *f) {
  assert(e);
  segue__buf_addc(out, '{');
  segue__render_member(out, "path", e->path);
  segue__buf_addc(out, ',');
  segue__render_member(out, "pointer", f ? f->pointer : NULL);
  segue__buf_addc(out, ',');
  segue__render_member(out, "file", e->file);
  segue__buf_addf(out, ",\"line\":%u,\"column\":%u,", e->line, e->column);
  segue__render_member(out, "keyword", f ? f->keyword : NULL);
  segue__buf_addc(out, ',');
  segue__render_member(out, "schema_path", f ? f->schema_path : NULL);
  segue__buf_addc(out, ',');
  segue__render_member(out, "message", e->message);
  segue__buf_addc(out, '}');
}

/* "valid" is null if there is no verdict: the schema is refused, or a file cannot be read. */
static void as_json(segue__buf *out, const verdict *v) {
  segue__buf_addf(out, "{\"valid\":%s,\"errors\":[",
                  v->code == SEGUE__EXIT_OK         ? "true"
                  : v->code == SEGUE__EXIT_REJECTED ? "false"
                                                    : "null");
  for (size_t i = 0; i < v->errors.count; i++) {
    if (i) segue__buf_addc(out, ',');
    check_add_json(out, &v->errors.items[i], NULL);
  }
  for (size_t i = 0; i < v->findings.count; i++) {
    if (i) segue__buf_addc(out, ',');
    check_add_json(out, &v->findings.items[i].error, &v->findings.items[i]);
  }
  segue__buf_addf(out, "],\"error_count\":%zu,\"warnings\":[", v->errors.total + v->findings.total);
  for (size_t i = 0; i < v->warnings.count; i++) {
    if (i) segue__buf_addc(out, ',');
    check_add_json(out, &v->warnings.items[i], NULL);
  }
  segue__buf_adds(out, "]}\n");
}

/* ---- As text --------------------------------------------------------------------------------- */

static void as_text(segue__buf *out, const verdict *v) {
  for (size_t i = 0; i < v->warnings.count; i++) {
    segue__buf_adds(out, "warning: ");
    segue__render_error_text(out, &v->warnings.items[i]);
    segue__buf_addc(out, '\n');
  }
  if (v->code == SEGUE__EXIT_OK)
    segue__buf_addf(out, "good: %s fits %s\n", v->cli->args[0], v->cli->schema);
  for (size_t i = 0; i < v->errors.count; i++) {
    segue__render_error_text(out, &v->errors.items[i]);
    segue__buf_addc(out, '\n');
  }
  for (size_t i = 0; i < v->findings.count; i++) {
    const segue__finding *f = &v->findings.items[i];
    segue__render_error_text(out, &f->error);
    if (f->schema_path)
      segue__buf_addf(out, "\n    rule: %s:%u:%u %s", f->schema_file, f->schema_line,
                      f->schema_column, f->schema_path);
    segue__buf_addc(out, '\n');
  }
  size_t more = v->errors.total - v->errors.count + v->findings.total - v->findings.count;
  if (more) segue__buf_addf(out, "... and %zu more\n", more);
}

int segue__cli_check_file(const segue__cli *cli) {
  verdict v = {.cli = cli};
  segue__buf out;
  segue__buf_init(&out);
  segue__errors_init(&v.errors);
  segue__errors_init(&v.warnings);
  check_validate(&v);
  if (cli->json)
    as_json(&out, &v);
  else
    as_text(&out, &v);
  segue__findings_deinit(&v.findings);
  segue__errors_deinit(&v.errors);
  segue__errors_deinit(&v.warnings);
  segue__schema_unref(v.schema);
  for (int i = 0; i < cli->with_count; i++) {
    segue__document_unref(v.with[i]);
    segue__free(v.uris[i]);
  }
  segue__document_unref(v.schema_doc);
  segue__document_unref(v.doc);
  return segue__cli_print(v.code, &out);
}

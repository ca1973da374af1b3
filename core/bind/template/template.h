/* SPDX-License-Identifier: MIT
 *
 * template.h: renders templates (lua/segue/template) in a Lua state of its own. That state runs
 * no code of a policy, only code that the template compiler generates, so its JIT compiler is on
 * and its limits are kept by that code: time, output, depth. Memory is limited by the allocator.
 * Lua code of a policy that a template uses runs in another state (script.h).
 */
#ifndef SEGUE_BIND_TEMPLATE_H
#define SEGUE_BIND_TEMPLATE_H

#include "../../config/config.h"
#include "../../config/touched.h"
#include "../../os/error.h"
#include "../../os/mem.h"

typedef struct segue__template segue__template;

/* The state is created with the first template. lua_dir: the folder of the Lua half; copied. */
int segue__template_new(segue__template **out, const char *lua_dir, segue_error *err);
void segue__template_free(segue__template *t); /* NULL allowed */

/* One template and its data. A text with a length need not be terminated; NULL selects the default.
 */
typedef struct segue__template_job {
  const char *name; /* for messages */
  const char *text;
  size_t len;
  const char *data_name; /* the end decides between JSON and YAML */
  const char *data;      /* NULL: no data */
  size_t data_len;
  /* Instead of data: a value of a configuration, or NULL where it has no such value. Functions read
   * what is below keys. */
  bool given;
  const segue_node *node, *keys;
  const segue__config *config;
  const char *dialect, *missingkey, *left, *right;
  const char *language;               /* "go" or "etlua"; NULL: "go" */
  const char *helpers_name, *helpers; /* a file of functions in Lua; NULL: none */
  size_t helpers_len;
} segue__template_job;

/* An error of a template. Strings are owned; each may be NULL. */
typedef struct segue__template_failure {
  char *message; /* complete, as Go has it */
  char *path;    /* of the value that did not fit, in the data */
  char *origin;  /* its place: "config.yaml:9:13" */
  uint32_t line, column;
} segue__template_failure;
void segue__template_failure_clear(segue__template_failure *failure);

/* The values that a run has read, also one that failed. Owned. */
typedef struct segue__template_read {
  segue__touched touched;
  bool changing; /* also something that is no part of the configuration: the time, a file */
} segue__template_read;
void segue__template_read_clear(segue__template_read *read);

/* Appends the output, all or nothing. SEGUE_EUSAGE: dialect or missingkey is unknown.
 * SEGUE_ECONFIG: the template or its data has an error. failure is zeroed before, and cleared by
 * the caller. read, which may be NULL, is filled for a job that is given; zeroed before, and
 * cleared by the caller. */
int segue__template_render(segue__template *t, const segue__template_job *job, segue__buf *out,
                           segue__template_failure *failure, segue__template_read *read,
                           segue_error *err);

/* Renders a case of a batch: one line of JSON. Appends the line of its answer, without a newline.
 * Fails only if no Lua state can be had. */
int segue__template_case(segue__template *t, const char *line, size_t len, segue__buf *answer,
                         segue_error *err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * import.h: `segue import`: a configuration of confd or consul-template as a policy. The readers
 * and writers are in lua/segue/import; this folder runs them, and gives them the file system.
 */
#ifndef SEGUE_BIND_IMPORT_H
#define SEGUE_BIND_IMPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "../../os/error.h"
#include "../../os/mem.h"

typedef struct segue__import_job {
  const char *lua_dir;
  const char *program; /* one of segue__import_programs */
  const char *from;    /* its file or folder */
  const char *folder;  /* where the policy is written; created if it is missing */
  bool json;           /* the report is JSON */
} segue__import_job;

typedef enum segue__import_verdict {
  SEGUE__IMPORT_DONE,
  SEGUE__IMPORT_REJECTED, /* the configuration has an error */
  SEGUE__IMPORT_FAILED    /* a file cannot be read or written, or exists already */
} segue__import_verdict;

/* The programs whose configuration can be read; ends with NULL. */
extern const char *const segue__import_programs[];

/* Appends the report to out, or the message of an error. Nothing is written unless the verdict is
 * DONE. Returns a negative code, and sets err, if the Lua files cannot be run. Blocks. */
int segue__import(const segue__import_job *job, segue__import_verdict *verdict, segue__buf *out,
                  segue_error *err);

#endif

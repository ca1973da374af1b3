/* SPDX-License-Identifier: MIT
 *
 * Rendered files in a rehearsal: the store of core/files/simulation.h is the files in memory, and
 * the commands, signals and requests that check and apply them get the author's results.
 */
#include <string.h>

#include "rehearsal.h"

/* ---- The store ------------------------------------------------------------------------------- */

/* The disk is not looked at: a destination exists only if the spec or the policy has put it there.
 */
static bool store_get(void *data, const char *path, segue__simulated_file *out) {
  const segue__fake_file *file = segue__fakes_find(data, path);
  if (!file || file->code == UV_ENOENT) return false;
  *out = (segue__simulated_file){.data = file->data,
                                 .len = file->len,
                                 .mode = file->mode,
                                 .owner = file->owner,
                                 .code = file->code,
                                 .message = file->message};
  return true;
}

static int store_put(void *data, const char *path, const segue__simulated_file *file) {
  int rc = segue__fakes_put(data, path, file->data, file->len, 0, file->mode, NULL);
  if (rc) return rc;
  segue__fake_file *put = (segue__fake_file *)segue__fakes_find(data, path);
  char *owner = segue__strdup(file->owner);
  if (file->owner && !owner) return UV_ENOMEM;
  segue__free(put->owner);
  put->owner = owner;
  put->mode = file->mode;
  return 0;
}

/* The file of the disk does not become visible. */
static void store_remove(void *data, const char *path) {
  const segue__rehearsal *r = data;
  bool of_the_set = strstr(path, ".segue-") != NULL;
  if (of_the_set)
    segue__fakes_remove(data, path);
  else if (segue__fakes_find(r, path))
    (void)segue__fakes_put(data, path, NULL, 0, UV_ENOENT, 0, "no such file");
}

static void store_show(void *data, const segue__file_set *set) {
  segue__rehearsal *r = data;
  r->shown = set;
}

bool segue__fake_files_look(const segue__rehearsal *r, const char *path,
                            segue__simulated_file *out) {
  segue__file_status status;
  for (size_t i = 0; r->shown && i < segue__file_set_count(r->shown); i++) {
    segue__file_set_get(r->shown, i, &status);
    if (!strcmp(status.path, path)) return store_get((void *)r, status.source, out);
  }
  return store_get((void *)r, path, out) && out->data;
}

/* ---- Effects --------------------------------------------------------------------------------- */

static int outside_spawn(void *data, const segue__effect_asked *asked,
                         const segue__spawn_options *options, segue__spawn **out,
                         segue_error *err) {
  return segue__fakes_spawn(data, asked, options, out, err);
}

static int outside_fetch(void *data, const segue__effect_asked *asked,
                         const segue__fetch_options *options, segue_error *err) {
  return segue__fakes_fetch(data, asked, options, err);
}

static void outside_forget(void *data, const void *whose) {
  segue__fakes_forget(data, whose);
}

static int outside_signal(void *data, const segue__effect_asked *asked,
                          void (*done)(void *done_data, int status, const segue_error *error),
                          void *done_data, segue_error *err) {
  return segue__fakes_signal(data, asked, done, done_data, err);
}

int segue__fake_files_open(segue__rehearsal *r) {
  const segue__file_store store = {
      .get = store_get, .put = store_put, .remove = store_remove, .show = store_show, .data = r};
  r->outside = (segue__effect_outside){.spawn = outside_spawn,
                                       .fetch = outside_fetch,
                                       .forget = outside_forget,
                                       .signal = outside_signal,
                                       .data = r};
  int rc = segue__file_world_new(&r->file_world, r->loop, &r->log, &r->os, NULL);
  return rc ? rc : segue__file_world_simulate(r->file_world, &store, &r->outside);
}

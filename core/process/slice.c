/* SPDX-License-Identifier: MIT
 *
 * The files in which children get their part of the configuration. Each child has a file of its
 * own, which a reload rewrites: so the next child of a module, which runs beside the old one for a
 * while, has its file, and an undo finds the old one with its file. The folder is this process's
 * alone, and no child outlives the process, so a start may empty it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/mem.h"
#include "kind_internal.h"

struct segue__slice_write {
  segue__job job;
  segue__process_world *world;
  char *path, *text;
  size_t len;
  bool has_user, forgotten;
  unsigned uid, gid;
  int status;
  segue_error error;
  void (*cb)(void *data, int status, const segue_error *error);
  void *data;
};

char *segue__slice_new_path(segue__process_world *world, const char *module) {
  segue__buf path;
  segue__buf_init(&path);
  segue__buf_addf(&path, "%s/%s-%llu.json", world->folder, module,
                  (unsigned long long)++world->files);
  return path.failed ? (segue__buf_deinit(&path), NULL) : path.data;
}

/* A file that the child cannot reach would look like a mistake of the child. */
static int slice_check_way(const segue__slice_write *write, segue_error *err) {
  char folder[4096];
  struct stat st;
  size_t len = strlen(write->path);
  if (len >= sizeof folder) return 0;
  memcpy(folder, write->path, len + 1);
  for (char *slash; (slash = strrchr(folder, '/')) && slash != folder;) {
    *slash = 0;
    if (stat(folder, &st)) continue;
    const unsigned bit = st.st_uid == write->uid ? 0100 : st.st_gid == write->gid ? 010 : 01;
    if (!(st.st_mode & bit))
      return segue__errorf(err, UV_EACCES,
                           "the user of the child (uid %u) cannot enter the folder %.200s: use "
                           "slice = \"stdin\" or \"env\", or let it enter",
                           write->uid, folder);
  }
  return 0;
}

static int slice_write_file(const segue__slice_write *write, segue_error *err) {
  const segue__os *os = write->world->os;
  const segue__write file = {
      .path = write->path, .data = write->text, .len = write->len, .keep_owner = true};
  int rc = SEGUE_FAULT("process.slice");
  if (rc) return segue__errorf(err, rc, "%s: %s", write->path, segue_strerror(rc));
  if (mkdir(write->world->folder, 0711) && errno != EEXIST)
    return segue__errorf(err, -errno, "cannot make the folder %.200s: %s", write->world->folder,
                         segue_strerror(-errno));
  rc = os->write_file(os->data, &file, err);
  if (rc || !write->has_user || !write->uid) return rc;
  if (chown(write->path, write->uid, write->gid))
    return segue__errorf(err, -errno, "cannot give %.200s to uid %u: %s", write->path, write->uid,
                         segue_strerror(-errno));
  return slice_check_way(write, err);
}

static void slice_run(segue__job *job) {
  segue__slice_write *write = (segue__slice_write *)job;
  write->status = slice_write_file(write, &write->error);
}

static void slice_free(segue__slice_write *write) {
  if (write->world) segue__process_world_unref(write->world);
  segue__free(write->path);
  segue__free(write->text);
  segue__free(write);
}

static void slice_done(segue__job *job) {
  segue__slice_write *write = (segue__slice_write *)job;
  if (!write->forgotten)
    write->cb(write->data, write->status, write->status ? &write->error : NULL);
  else
    (void)unlink(write->path);
  slice_free(write);
}

static void slice_abandoned(segue__job *job) {
  segue__slice_write *write = (segue__slice_write *)job;
  write->status = segue__errorf(&write->error, SEGUE_ECANCELLED, "segue stops");
  slice_done(job);
}

int segue__slice_write_start(segue__slice_write **out, segue__process_world *world,
                             const char *path, const char *text, size_t len,
                             const segue__user *user,
                             void (*cb)(void *data, int status, const segue_error *error),
                             void *data) {
  segue__slice_write *write = *out = segue__calloc(1, sizeof *write);
  if (!write) return UV_ENOMEM;
  write->job = (segue__job){.run = slice_run, .done = slice_done, .abandoned = slice_abandoned};
  write->path = segue__strdup(path);
  write->text = segue__calloc(1, len + 1);
  write->len = len;
  write->cb = cb;
  write->data = data;
  if (user) {
    write->has_user = true;
    write->uid = user->uid;
    write->gid = user->gid;
  }
  int rc = write->path && write->text ? 0 : UV_ENOMEM;
  if (!rc) {
    memcpy(write->text, text, len);
    write->world = world;
    world->refs++;
    rc = segue__job_submit(world->loop, SEGUE__QUEUE_FILES, &write->job);
  }
  if (rc) {
    slice_free(write);
    *out = NULL;
  }
  return rc;
}

void segue__slice_write_forget(segue__slice_write *write) {
  if (write) write->forgotten = true;
}

void segue__process_world_clean(const segue__process_world *world) {
  segue__names names = {0};
  segue__buf pattern;
  segue_error ignored;
  if (!world->folder) return;
  segue__buf_init(&pattern);
  segue__buf_addf(&pattern, "%s/*.json", world->folder);
  if (!pattern.failed && !world->os->list_files(world->os->data, pattern.data, &names, &ignored))
    for (size_t i = 0; i < names.count; i++)
      (void)unlink(names.items[i]);
  segue__names_deinit(&names);
  segue__buf_deinit(&pattern);
}

/* SPDX-License-Identifier: MIT
 *
 * segue.read, write, stat and list: jobs on a worker thread, because a file system may hang. A job
 * that exceeds its time limit is abandoned; its memory is freed if it returns. An abandoned write
 * does not replace the file later, unless it was about to do that already.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../../os/explain.h"
#include "async_io.h"

typedef enum operation { READ, WRITE, STAT, LIST } operation;

typedef struct file {
  segue__io io; /* first */
  operation operation;
  char *path, *text;
  size_t len, max;
  bool credential;
  unsigned mode;
  uint64_t limit_ms;
  const segue__os *os;
  const segue__fake_io *fake_io;
  segue__job job;
  segue__claim claim; /* of a write */
  segue__timer limit;
  int status;
  segue_error failure; /* written by the worker; io.error belongs to the control thread */
  segue__bytes bytes;
  segue__names names;
  struct stat stat;
} file;

static const char *const verbs[] = {"read", "write", "look at", "list"};

static file *files_of(segue__io *io) {
  return (file *)io; /* its first member */
}

static file *of_job(segue__job *job) {
  return (file *)((char *)job - offsetof(file, job));
}

/* ---- The job --------------------------------------------------------------------------------- */

/* Worker thread. */
static void files_work(segue__job *job) {
  file *f = of_job(job);
  segue__write w = {.path = f->path,
                    .data = f->text ? f->text : "",
                    .len = f->len,
                    .mode = f->mode,
                    .keep_owner = true,
                    .claim = &f->claim};
  switch (f->operation) {
  case READ:
    f->status = f->credential
                    ? segue__read_credential(f->os, f->path, f->max, &f->bytes, &f->failure)
                    : f->os->read_file(f->os->data, f->path, f->max, &f->bytes, &f->failure);
    break;
  case WRITE:
    f->status = f->os->write_file(f->os->data, &w, &f->failure);
    break;
  case LIST:
    f->status = f->os->list_files(f->os->data, f->path, &f->names, &f->failure);
    break;
  case STAT:
    if (f->fake_io)
      f->status = f->fake_io->stat(f->fake_io->data, f->path, &f->stat);
    else
      f->status = stat(f->path, &f->stat) ? -errno : 0;
    if (f->status) segue__explain(&f->failure, f->status, "look at", f->path);
  }
}

static void files_worked(segue__job *job) {
  file *f = of_job(job);
  char shown[SEGUE__SHOWN_MAX];
  segue__timer_stop(f->io.async_io->loop, &f->limit);
  if (f->status) f->io.error = f->failure;
  if (f->status == SEGUE_ELIMIT)
    segue__errorf(&f->io.error, SEGUE_ELIMIT,
                  "%s is larger than %zu bytes: raise max, the limit of this segue.read",
                  segue__shown(f->path, shown), f->max);
  if (!f->status) segue__io_charge(&f->io, f->bytes.len);
  segue__io_finish(&f->io);
}

static void files_abandoned(segue__job *job) {
  segue__io_end(&of_job(job)->io);
}

/* The job cannot be interrupted. The task gets its error now; the io stays alive until the thread
 * returns, because the job writes to its memory. */
static void files_late(segue__timer *timer) {
  file *f = timer->data;
  char shown[SEGUE__SHOWN_MAX];
  bool never = segue__claim_cancel(&f->claim) || f->operation != WRITE;
  segue__errorf(&f->io.error, SEGUE_ETIMEOUT, "cannot %s %s: not done after %llu ms%s",
                verbs[f->operation], segue__shown(f->path, shown), (unsigned long long)f->limit_ms,
                never ? "" : "; the new file may be in place, and may not be on disk yet");
  segue__job_abandon(f->io.async_io->loop, &f->job);
  f->io.stopped = f->io.over = true; /* it is alive until the job returns */
  segue__io_ready(&f->io);
}

/* ---- The kind -------------------------------------------------------------------------------- */

static void files_start(segue__io *io) {
  file *f = files_of(io);
  segue__loop *loop = io->async_io->loop;
  char shown[SEGUE__SHOWN_MAX];
  f->job = (segue__job){.run = files_work, .done = files_worked, .abandoned = files_abandoned};
  f->limit.data = f;
  int rc = f->limit_ms ? segue__timer_start(loop, &f->limit, f->limit_ms, files_late) : 0;
  if (!rc) rc = segue__job_submit(loop, SEGUE__QUEUE_POLICY, &f->job);
  if (!rc) {
    segue__io_begin(io, false);
    return;
  }
  segue__timer_stop(loop, &f->limit);
  segue__errorf(&io->error, rc, "cannot %s %s: %s", verbs[f->operation],
                segue__shown(f->path, shown),
                rc == UV_EAGAIN ? "earlier jobs on files hang" : segue_strerror(rc));
  segue__io_finish(io);
}

static void files_stop(segue__io *io) {
  segue__timer_stop(io->async_io->loop, &files_of(io)->limit);
  (void)segue__claim_cancel(&files_of(io)->claim);
  segue__job_abandon(io->async_io->loop, &files_of(io)->job);
}

static const char *files_type_name(mode_t mode) {
  return S_ISREG(mode)    ? "file"
         : S_ISDIR(mode)  ? "folder"
         : S_ISSOCK(mode) ? "socket"
         : S_ISFIFO(mode) ? "pipe"
                          : "device";
}

static void files_set_number(lua_State *co, const char *key, lua_Number value) {
  lua_pushnumber(co, value);
  lua_setfield(co, -2, key);
}

static void push_stat(lua_State *co, const struct stat *st) {
  char mode[8];
  snprintf(mode, sizeof mode, "%04o", (unsigned)st->st_mode & 07777);
  lua_createtable(co, 0, 6);
  lua_pushstring(co, files_type_name(st->st_mode));
  lua_setfield(co, -2, "type");
  lua_pushstring(co, mode);
  lua_setfield(co, -2, "mode");
  files_set_number(co, "size", (lua_Number)st->st_size);
  files_set_number(co, "mtime",
                   (lua_Number)st->st_mtim.tv_sec + (lua_Number)st->st_mtim.tv_nsec / 1e9);
  files_set_number(co, "uid", st->st_uid);
  files_set_number(co, "gid", st->st_gid);
}

static int files_push(lua_State *co, segue__io *io) {
  file *f = files_of(io);
  if (io->error.code) return segue__io_push_error(co, io);
  switch (f->operation) {
  case READ:
    lua_pushlstring(co, f->bytes.data, f->bytes.len);
    break;
  case WRITE:
    lua_pushboolean(co, 1);
    break;
  case STAT:
    push_stat(co, &f->stat);
    break;
  case LIST:
    lua_createtable(co, (int)f->names.count, 0);
    for (size_t i = 0; i < f->names.count; i++) {
      lua_pushstring(co, f->names.items[i]);
      lua_rawseti(co, -2, (int)i + 1);
    }
  }
  return 1;
}

static void files_release(segue__io *io) {
  file *f = files_of(io);
  segue__free(f->path);
  segue__free(f->text);
  segue__free(f->bytes.data);
  segue__names_deinit(&f->names);
}

/* Credentials are not recorded: a replay must not make a revoked one valid again. */
static bool files_key(const segue__io *io, segue__buf *out) {
  const file *f = (const file *)io;
  segue__buf_adds(out, f->path);
  return !f->credential;
}

static const segue__io_kind kinds[] = {
    {"segue.read", sizeof(file), files_start, files_push, files_stop, files_release, files_key},
    {"segue.write", sizeof(file), files_start, files_push, files_stop, files_release, files_key},
    {"segue.stat", sizeof(file), files_start, files_push, files_stop, files_release, files_key},
    {"segue.list", sizeof(file), files_start, files_push, files_stop, files_release, files_key},
};

static file *new_file(lua_State *L, operation operation) {
  lua_settop(L, 4);
  luaL_checkstring(L, 1);
  file *f = segue__io_new(L, &kinds[operation]); /* index 5; an error below frees it */
  f->operation = operation;
  f->os = f->io.lua->os;
  f->fake_io = f->io.async_io->fake_io;
  f->path = segue__arg_path(&f->io, L, 1);
  f->limit_ms = segue__arg_number(L, 2);
  return f;
}

/* read(path, limit ms, most bytes, credential?), write(path, limit ms, text, mode), stat(path,
 * limit ms), list(pattern, limit ms) -> io. One event: the result; or nil, message, code. */
static int new_read(lua_State *L) {
  file *f = new_file(L, READ);
  f->max = (size_t)segue__arg_number(L, 3);
  f->credential = lua_toboolean(L, 4);
  return 1;
}

static int new_write(lua_State *L) {
  file *f = new_file(L, WRITE);
  f->text = segue__arg_bytes(&f->io, L, 3, &f->len);
  f->mode = (unsigned)segue__arg_number(L, 4);
  return 1;
}

static int new_stat(lua_State *L) {
  new_file(L, STAT);
  return 1;
}

static int new_list(lua_State *L) {
  new_file(L, LIST);
  return 1;
}

void segue__files_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"read", new_read},
                                       {"write", new_write},
                                       {"stat", new_stat},
                                       {"list", new_list},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}

/* SPDX-License-Identifier: MIT
 *
 * A Lua state of its own for one import, and the functions with which its Lua code reads and writes
 * files. The code is Segue's own: it has all libraries and no limits.
 */
#include "import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../../config/config.h"
#include "../../os/os.h"
#include "../../os/write.h"

#define FILE_BYTES ((size_t)16 << 20)

const char *const segue__import_programs[] = {"confd", "consul-template", NULL};

typedef struct import_call {
  const segue__import_job *job;
  segue__import_verdict verdict;
  segue__buf *out;
} import_call;

/* ---- The file system ------------------------------------------------------------------------- */

/* nil, message */
static int import_failed(lua_State *L, int code) {
  lua_pushnil(L);
  lua_pushstring(L, segue_strerror(code));
  return 2;
}

/* read(path) -> text; nil, message */
static int import_read(lua_State *L) {
  const segue__os *os = segue__os_default();
  segue__bytes bytes = {0};
  segue_error err = {0};
  int rc = os->read_file(os->data, luaL_checkstring(L, 1), FILE_BYTES, &bytes, &err);
  if (rc) return import_failed(L, rc);
  lua_pushlstring(L, bytes.data, bytes.len);
  segue__free((char *)bytes.data);
  return 1;
}

/* list(folder) -> names in any order, without names that begin with a dot; nil, message */
static int import_list(lua_State *L) {
  DIR *dir = opendir(luaL_checkstring(L, 1));
  if (!dir) return import_failed(L, -errno);
  lua_newtable(L);
  int count = 0;
  for (const struct dirent *entry; (entry = readdir(dir));) {
    if (entry->d_name[0] == '.') continue;
    lua_pushstring(L, entry->d_name);
    lua_rawseti(L, -2, ++count);
  }
  closedir(dir);
  return 1;
}

/* kind(path) -> "folder", "file" (anything else); nil if the path does not exist */
static int import_kind(lua_State *L) {
  struct stat st;
  if (stat(luaL_checkstring(L, 1), &st) < 0 && lstat(lua_tostring(L, 1), &st) < 0) return 0;
  lua_pushstring(L, S_ISDIR(st.st_mode) ? "folder" : "file");
  return 1;
}

/* Creates the folders above a path. Returns 0 or a negative code. */
static int import_make_folders(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    int rc = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    *slash = '/';
    if (rc) return rc;
  }
  return 0;
}

static int import_write_new(const char *path, const char *text, size_t len) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  int rc = segue__write_all(fd, text, len, NULL);
  if (close(fd) < 0 && !rc) rc = -errno;
  if (rc) unlink(path);
  return rc;
}

/* write(path, text) -> true; nil, message. The file must not exist; missing folders are created. */
static int import_write(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  char *path = segue__strdup(luaL_checkstring(L, 1));
  int rc = path ? import_make_folders(path) : UV_ENOMEM;
  if (!rc) rc = import_write_new(path, text, len);
  segue__free(path);
  if (rc) return import_failed(L, rc);
  lua_pushboolean(L, true);
  return 1;
}

static int import_remove(lua_State *L) {
  unlink(luaL_checkstring(L, 1));
  return 0;
}

/* quote(text) -> a JSON string */
static int import_quote(lua_State *L) {
  segue__buf out;
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  segue__buf_init(&out);
  segue__json_string(&out, text, len);
  bool failed = out.failed;
  if (!failed) lua_pushlstring(L, out.data, out.len);
  segue__buf_deinit(&out);
  return failed ? luaL_error(L, "out of memory") : 1;
}

static const luaL_Reg host[] = {{"read", import_read},
                                {"list", import_list},
                                {"kind", import_kind},
                                {"write", import_write},
                                {"remove", import_remove},
                                {"quote", import_quote},
                                {NULL, NULL}};

/* ---- The call -------------------------------------------------------------------------------- */

static int import_protected(lua_State *L) {
  import_call *call = lua_touserdata(L, 1);
  const segue__import_job *job = call->job;
  size_t len;
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", job->lua_dir, job->lua_dir);
  lua_setfield(L, -2, "path");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "segue.import.main");
  lua_call(L, 1, 1);
  lua_newtable(L);
  luaL_setfuncs(L, host, 0);
  lua_pushstring(L, job->program);
  lua_pushstring(L, job->from);
  lua_pushstring(L, job->folder);
  lua_pushboolean(L, job->json);
  lua_call(L, 5, 2);
  call->verdict = (segue__import_verdict)lua_tointeger(L, -2);
  const char *text = luaL_checklstring(L, -1, &len);
  segue__buf_add(call->out, text, len);
  return 0;
}

int segue__import(const segue__import_job *job, segue__import_verdict *verdict, segue__buf *out,
                  segue_error *err) {
  import_call call = {job, SEGUE__IMPORT_FAILED, out};
  lua_State *L = luaL_newstate();
  if (!L) return segue__errorf(err, UV_ENOMEM, "import: %s", segue_strerror(UV_ENOMEM));
  int status = lua_cpcall(L, import_protected, &call);
  int rc = status == LUA_ERRMEM || out->failed ? UV_ENOMEM : status ? SEGUE_EUSAGE : 0;
  if (rc == SEGUE_EUSAGE)
    segue__errorf(err, rc, "import: %s",
                  lua_tostring(L, -1) ? lua_tostring(L, -1) : "unknown error");
  else if (rc)
    segue__errorf(err, rc, "import: %s", segue_strerror(rc));
  lua_close(L);
  *verdict = call.verdict;
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * Finds the daemon that a command asks: its control socket, or a listener by its URL.
 */
#include "connect.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/os.h"

enum { TOKEN_FILE_BYTES = 65536, TOKEN_MAX = 256 };

/* Where the installed units (core/dist/segue.service) have their policies, sockets and states. */
#define UNIT_POLICIES "/etc/segue/"
#define UNIT_SOCKETS "/run/segue/"
#define UNIT_STATES "/var/lib/segue/"

/* Specs cannot write into /etc and /run. */
static const char *root_folder(void) {
#ifdef SEGUE_TEST
  const char *root = getenv("SEGUE_SPEC_ROOT");
  return root ? root : "";
#else
  return "";
#endif
}

/* Fills in a path of the installed unit that runs this policy: where /etc/segue/reload.lua has
 * /run/segue/control.sock, /etc/segue/NAME/reload.lua has /run/segue/NAME/control.sock. A command
 * without a policy, in a folder without one, means the first one.
 *
 * Returns false for any other policy: `segue reload` in the folder of a policy whose daemon is
 * stopped must not reload the daemon of the machine. */
static bool find_unit_path(const segue__cli *cli, const char *folder, const char *end, char *path,
                           size_t size) {
  char real[PATH_MAX], policies[PATH_MAX];
  const char *root = root_folder(), *name = "";
  size_t len = (size_t)snprintf(policies, sizeof policies, "%s" UNIT_POLICIES, root), name_len = 0;
  bool exists = realpath(cli->policy, real) != NULL;
  if (!exists && cli->policy_given) snprintf(real, sizeof real, "%s", cli->policy);
  if (exists || cli->policy_given) {
    if (strncmp(real, policies, len) != 0) return false;
    const char *file = strrchr(real, '/') + 1;
    if (strcmp(file, "reload.lua") != 0) return false;
    name = real + len;
    name_len = file > name ? (size_t)(file - name) : 0;
  }
  return (size_t)snprintf(path, size, "%s%s%.*s%s", root, folder, (int)name_len, name, end) < size;
}

static bool find_unit_socket(const segue__cli *cli, char path[SEGUE__SOCKET_MAX + 1]) {
  return find_unit_path(cli, UNIT_SOCKETS, "control.sock", path, SEGUE__SOCKET_MAX + 1);
}

int segue__cli_state_folder(const segue__cli *cli, char **out, segue_error *err) {
  const char *env = getenv("STATE_DIRECTORY");
  char unit[PATH_MAX];
  int rc = segue__state_find(cli->state, cli->policy, out, err);
  if (rc < 0 || cli->state || (env && *env) || access(*out, F_OK) == 0) return rc;
  if (!find_unit_path(cli, UNIT_STATES, "", unit, sizeof unit) || access(unit, F_OK)) return 0;
  segue__free(*out);
  *out = segue__strdup(unit);
  return *out ? 0 : segue__errorf(err, UV_ENOMEM, "out of memory");
}

static int set_socket(segue__reach *reach, const char *path, const char *name, segue_error *err) {
  reach->named = name;
  if ((size_t)snprintf(reach->socket, sizeof reach->socket, "%s", path) < sizeof reach->socket)
    return 0;
  return segue__errorf(err, SEGUE_EUSAGE, "%s must be at most %d bytes long", name,
                       SEGUE__SOCKET_MAX);
}

/* The order is that of segue(1): --socket, --state, SEGUE_SOCKET, the state folder of the policy,
 * the installed unit. */
static int find_socket(segue__reach *reach, const segue__cli *cli, segue_error *err) {
  const char *env = getenv("SEGUE_SOCKET");
  char *folder, unit[SEGUE__SOCKET_MAX + 1];
  if (cli->socket) return set_socket(reach, cli->socket, "--socket PATH", err);
  if (!cli->state && env && *env) return set_socket(reach, env, "SEGUE_SOCKET", err);
  if (cli->state) reach->named = "--state FOLDER";
  int rc = segue__state_find(cli->state, cli->policy, &folder, err);
  if (rc < 0) return rc;
  rc = segue__state_socket(folder, false, reach->socket, err);
  segue__free(folder);
  memcpy(reach->state_socket, reach->socket, sizeof reach->socket);
  if (rc < 0 || reach->named || access(reach->socket, F_OK) == 0) return rc;
  if (find_unit_socket(cli, unit) && access(unit, F_OK) == 0)
    memcpy(reach->socket, unit, sizeof unit);
  return 0;
}

static const char *state_of(const char *path) {
  if (access(path, F_OK) != 0) return "does not exist";
  return access(path, R_OK | W_OK) != 0 ? "may not be used by this user" : "refuses connections";
}

int segue__reach_explain(const segue__reach *reach, const segue__cli *cli, segue_error *err) {
  char unit[SEGUE__SOCKET_MAX + 1], unit_text[SEGUE__SOCKET_MAX + 64];
  if (reach->named)
    return segue__errorf(err, err->code, "no daemon answers on %s (%s): the socket %s",
                         reach->socket, reach->named, state_of(reach->socket));
  if (find_unit_socket(cli, unit))
    snprintf(unit_text, sizeof unit_text, "%s %s", unit, state_of(unit));
  else
    snprintf(unit_text, sizeof unit_text, UNIT_SOCKETS "control.sock belongs to another policy");
  return segue__errorf(err, err->code,
                       "no daemon answers: SEGUE_SOCKET is not set, %s %s, and %s; start it with "
                       "segue run, or name its socket with --socket PATH",
                       reach->state_socket, state_of(reach->state_socket), unit_text);
}

/* Finds the first line that is neither empty nor a comment. A file may have several tokens, and
 * each of them is valid. */
static size_t first_token(const char *text, const char **out) {
  while (*text) {
    size_t len = strcspn(text, "\r\n"), skip = strspn(text, " \t");
    if (skip < len && text[skip] != '#') {
      while (len > skip && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
      *out = text + skip;
      return len - skip;
    }
    text += len;
    text += strspn(text, "\r\n");
  }
  return 0;
}

static int read_token(segue__reach *reach, const char *path, segue_error *err) {
  const segue__os *os = segue__os_default();
  segue__bytes bytes = {0};
  const char *token = NULL;
  int rc = os->read_file(os->data, path, TOKEN_FILE_BYTES, &bytes, err);
  if (rc < 0) return rc;
  size_t len = first_token(bytes.data, &token);
  if (!len || len > TOKEN_MAX)
    rc = segue__errorf(err, SEGUE_EUSAGE,
                       "%s must hold a token, one in a line, of at most %d bytes", path, TOKEN_MAX);
  else
    snprintf(reach->authorization, sizeof reach->authorization, "Authorization: Bearer %.*s",
             (int)len, token);
  explicit_bzero(bytes.data, bytes.len);
  segue__free(bytes.data);
  return rc;
}

static int connect_set_url(segue__reach *reach, const segue__cli *cli, const char *path,
                           segue_error *err) {
  if (cli->socket)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "--url and --socket exclude each other: each names a daemon");
  bool tls = strncmp(cli->url, "https://", 8) == 0;
  if (!tls && strncmp(cli->url, "http://", 7) != 0)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "--url URL must be the address of a segue.http listener, such as "
                         "https://host:9443, not \"%.100s\"",
                         cli->url);
  size_t len = strlen(cli->url);
  while (len && cli->url[len - 1] == '/')
    len--;
  segue__buf_add(&reach->url, cli->url, len);
  segue__buf_adds(&reach->url, path);
  return reach->url.failed ? segue__errorf(err, UV_ENOMEM, "out of memory") : 0;
}

int segue__reach_init(segue__reach *reach, const segue__cli *cli, const char *path,
                      segue_error *err) {
  memset(reach, 0, sizeof *reach);
  segue__buf_init(&reach->url);
  bool only_with_url = cli->token_file || cli->cacert || cli->cert || cli->key;
  if (!cli->url && only_with_url)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "--token-file, --cacert, --cert and --key need --url: the control socket "
                         "identifies the user by itself");
  if (!cli->url) {
    segue__buf_adds(&reach->url, path);
    return reach->url.failed ? segue__errorf(err, UV_ENOMEM, "out of memory")
                             : find_socket(reach, cli, err);
  }
  int rc = connect_set_url(reach, cli, path, err);
  return rc || !cli->token_file ? rc : read_token(reach, cli->token_file, err);
}

bool segue__reach_is_named(const segue__cli *cli) {
  const char *env = getenv("SEGUE_SOCKET");
  return cli->url || cli->socket || cli->state || (env && *env);
}

void segue__reach_deinit(segue__reach *reach) {
  explicit_bzero(reach->authorization, sizeof reach->authorization);
  segue__buf_deinit(&reach->url);
}

void segue__reach_set(const segue__reach *reach, const segue__cli *cli,
                      segue__http_call_options *options) {
  options->url = reach->url.data;
  options->socket_path = reach->socket[0] ? reach->socket : NULL;
  options->ca = cli->cacert;
  options->cert = cli->cert;
  options->key = cli->key;
}

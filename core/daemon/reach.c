/* SPDX-License-Identifier: MIT
 *
 * Which daemon a command asks, and how.
 */
#include "reach.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/os.h"

enum { TOKEN_FILE_BYTES = 65536, TOKEN_MAX = 256 };

static int find_socket(const segue__cli *cli, char path[SEGUE__SOCKET_MAX + 1], segue_error *err) {
  char *folder;
  if (cli->socket) {
    if ((size_t)snprintf(path, SEGUE__SOCKET_MAX + 1, "%s", cli->socket) > SEGUE__SOCKET_MAX)
      return segue__error_set(err, UV_ENAMETOOLONG, "--socket is longer than %d bytes",
                              SEGUE__SOCKET_MAX);
    return 0;
  }
  int rc = segue__state_find(cli->state, cli->policy, &folder, err);
  if (rc == 0) {
    rc = segue__state_socket(folder, false, path, err);
    segue__free(folder);
  }
  return rc;
}

/* The first line that is neither empty nor a comment: where a file has several, any will do. */
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
    rc = segue__error_set(err, SEGUE_EUSAGE, "there is no token in %s: it holds one in a line",
                          path);
  else
    snprintf(reach->authorization, sizeof reach->authorization, "Authorization: Bearer %.*s",
             (int)len, token);
  explicit_bzero(bytes.data, bytes.len);
  segue__free(bytes.data);
  return rc;
}

static int set_url(segue__reach *reach, const segue__cli *cli, const char *path, segue_error *err) {
  if (cli->socket)
    return segue__error_set(err, SEGUE_EUSAGE, "--url and --socket name two daemons: give one");
  bool tls = strncmp(cli->url, "https://", 8) == 0;
  if (!tls && strncmp(cli->url, "http://", 7) != 0)
    return segue__error_set(err, SEGUE_EUSAGE,
                            "--url is \"%.100s\": write https://host:port, where a segue.http of "
                            "its policy listens",
                            cli->url);
  size_t len = strlen(cli->url);
  while (len && cli->url[len - 1] == '/')
    len--;
  segue__buf_add(&reach->url, cli->url, len);
  segue__buf_adds(&reach->url, path);
  return reach->url.failed ? segue__error_set(err, UV_ENOMEM, "out of memory") : 0;
}

int segue__reach_init(segue__reach *reach, const segue__cli *cli, const char *path,
                      segue_error *err) {
  memset(reach, 0, sizeof *reach);
  segue__buf_init(&reach->url);
  bool only_with_url = cli->token_file || cli->cacert || cli->cert || cli->key;
  if (!cli->url && only_with_url)
    return segue__error_set(err, SEGUE_EUSAGE,
                            "tokens and certificates are for --url: the socket knows who asks");
  if (!cli->url) {
    segue__buf_adds(&reach->url, path);
    return reach->url.failed ? segue__error_set(err, UV_ENOMEM, "out of memory")
                             : find_socket(cli, reach->socket, err);
  }
  int rc = set_url(reach, cli, path, err);
  return rc || !cli->token_file ? rc : read_token(reach, cli->token_file, err);
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

/* SPDX-License-Identifier: MIT
 *
 * The blocking client of the command line, on libcurl's easy interface.
 */
#include "client.h"

#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "../os/mem.h"
#include "libcurl.h"

enum { ANSWER_BYTES = 64 << 20 };

/* One call under way. */
typedef struct call {
  const segue__curl *curl;
  const segue__http_call_options *options;
  CURL *easy;
  struct curl_slist *lines;
  segue__buf body, headers;
  size_t most;
  bool stopped; /* on_data accepts no further bytes */
  bool too_large;
  bool connected; /* a line of an answer has arrived */
  char detail[CURL_ERROR_SIZE];
} call;

/* A return value other than count makes libcurl end the transfer with an error; `stopped` and
 * `too_large` record the cause. */
static size_t client_on_body(char *bytes, size_t size, size_t count, void *data) {
  call *c = data;
  long status = 0;
  (void)size; /* always 1 */
  c->curl->getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
  if (c->options->on_data && status >= 200 && status < 300) {
    c->stopped = c->options->on_data(c->options->data, bytes, count) != 0;
    return c->stopped ? 0 : count;
  }
  c->too_large = c->body.len + count > c->most;
  if (c->too_large) return 0;
  segue__buf_add(&c->body, bytes, count);
  return c->body.failed ? 0 : count;
}

/* Each answer begins with its status line. The headers before it belong to an interim answer (100
 * Continue) and are dropped. */
static size_t client_on_header(char *bytes, size_t size, size_t count, void *data) {
  call *c = data;
  (void)size;
  if (count > 5 && memcmp(bytes, "HTTP/", 5) == 0) c->headers.len = 0;
  c->connected = true;
  c->too_large = c->headers.len + count > c->most;
  if (c->too_large) return 0;
  segue__buf_add(&c->headers, bytes, count);
  return c->headers.failed ? 0 : count;
}

static bool client_add_line(call *c, const char *line) {
  struct curl_slist *lines = c->curl->append(c->lines, line);
  if (lines) c->lines = lines;
  return lines != NULL;
}

static int client_set_url(call *c, segue__buf *url) {
  const segue__http_call_options *o = c->options;
  if (o->url[0] == '/') segue__buf_adds(url, "http://localhost");
  segue__buf_adds(url, o->url);
  if (url->failed) return UV_ENOMEM;
  c->curl->setopt(c->easy, CURLOPT_URL, url->data);
  if (o->socket_path) c->curl->setopt(c->easy, CURLOPT_UNIX_SOCKET_PATH, o->socket_path);
  return 0;
}

/* "Expect:" without a value removes libcurl's own header: waiting for 100 Continue only costs time
 * here. */
static int set_request(call *c) {
  const segue__http_call_options *o = c->options;
  bool ok = client_add_line(c, "Expect:");
  for (size_t i = 0; ok && o->headers && o->headers[i]; i++)
    ok = client_add_line(c, o->headers[i]);
  if (o->body) {
    c->curl->setopt(c->easy, CURLOPT_POST, 1L);
    c->curl->setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body_len);
    c->curl->setopt(c->easy, CURLOPT_POSTFIELDS, o->body);
  } else if (o->method && strcmp(o->method, "HEAD") == 0) {
    c->curl->setopt(c->easy, CURLOPT_NOBODY, 1L);
  } else if (o->method && strcmp(o->method, "GET") != 0) {
    c->curl->setopt(c->easy, CURLOPT_POST, 1L);
    c->curl->setopt(c->easy, CURLOPT_POSTFIELDSIZE, 0L);
    c->curl->setopt(c->easy, CURLOPT_POSTFIELDS, "");
  }
  if (o->method && strcmp(o->method, "HEAD") != 0)
    c->curl->setopt(c->easy, CURLOPT_CUSTOMREQUEST, o->method);
  c->curl->setopt(c->easy, CURLOPT_HTTPHEADER, c->lines);
  return ok ? 0 : UV_ENOMEM;
}

/* NOSIGNAL, because libcurl would use SIGALRM for its time limits. Redirects are not followed, and
 * proxies of the environment are not used. */
static void set_rest(call *c) {
  c->curl->setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
  c->curl->setopt(c->easy, CURLOPT_ERRORBUFFER, c->detail);
  c->curl->setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  c->curl->setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
  if (c->options->ca) c->curl->setopt(c->easy, CURLOPT_CAINFO, c->options->ca);
  if (c->options->cert) c->curl->setopt(c->easy, CURLOPT_SSLCERT, c->options->cert);
  if (c->options->key) c->curl->setopt(c->easy, CURLOPT_SSLKEY, c->options->key);
  c->curl->setopt(c->easy, CURLOPT_FOLLOWLOCATION, 0L);
  c->curl->setopt(c->easy, CURLOPT_PROXY, "");
  c->curl->setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)c->options->timeout_ms);
  c->curl->setopt(c->easy, CURLOPT_WRITEFUNCTION, client_on_body);
  c->curl->setopt(c->easy, CURLOPT_WRITEDATA, c);
  c->curl->setopt(c->easy, CURLOPT_HEADERFUNCTION, client_on_header);
  c->curl->setopt(c->easy, CURLOPT_HEADERDATA, c);
}

static int client_report_connect(const call *c, segue_error *err) {
  const char *path = c->options->socket_path;
  if (!path)
    return segue__errorf(err, UV_ECONNREFUSED,
                         "no daemon answers on %s: start it with segue run and this listener",
                         c->options->url);
  if (access(path, F_OK) == 0 && access(path, R_OK | W_OK) != 0)
    return segue__errorf(err, UV_EACCES, "this user may not use %s: run as the user of the daemon",
                         path);
  return segue__errorf(err, UV_ECONNREFUSED, "no daemon answers on %s: start it with segue run",
                       path);
}

static int client_report(const call *c, CURLcode code, segue_error *err) {
  const char *who = c->options->socket_path ? c->options->socket_path : c->options->url;
  if (c->body.failed || c->headers.failed || code == CURLE_OUT_OF_MEMORY)
    return segue__errorf(err, UV_ENOMEM, "the call to %s ran out of memory", who);
  if (c->too_large)
    return segue__errorf(err, SEGUE_ELIMIT, "the answer of %s is larger than %zu bytes", who,
                         c->most);
  switch (code) {
  case CURLE_COULDNT_CONNECT:
  case CURLE_COULDNT_RESOLVE_HOST:
    return client_report_connect(c, err);
  case CURLE_OPERATION_TIMEDOUT:
    return segue__errorf(err, SEGUE_ETIMEOUT, "%s gave no complete answer within %llu ms", who,
                         (unsigned long long)c->options->timeout_ms);
  case CURLE_URL_MALFORMAT:
  case CURLE_UNSUPPORTED_PROTOCOL:
    return segue__errorf(err, SEGUE_EUSAGE,
                         "the URL must be like http://127.0.0.1:7377/path, not \"%s\"",
                         c->options->url);
  case CURLE_PEER_FAILED_VERIFICATION:
    return segue__errorf(err, UV_EPROTO,
                         "the certificate of %s is not trusted (%s): name the CA that signed it, "
                         "and use a host name that is in the certificate",
                         who, c->detail[0] ? c->detail : c->curl->strerror(code));
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CONNECT_ERROR:
    return segue__errorf(err, UV_EPROTO, "TLS with %s failed: %s", who,
                         c->detail[0] ? c->detail : c->curl->strerror(code));
  default:
    return segue__errorf(err, UV_ECONNRESET, "the connection to %s ended %s: %s", who,
                         c->connected ? "in the middle of the answer" : "without an answer",
                         c->curl->strerror(code));
  }
}

static int client_finish(call *c, CURLcode code, segue__http_answer *out, segue_error *err) {
  long status = 0;
  if (code != CURLE_OK && !c->stopped) return client_report(c, code, err);
  c->curl->getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
  segue__buf_add(&c->body, "", 0);
  segue__buf_add(&c->headers, "", 0);
  if (c->body.failed || c->headers.failed) return client_report(c, CURLE_OUT_OF_MEMORY, err);
  out->status = (int)status;
  out->len = c->body.len;
  out->body = c->body.data;
  out->headers = c->headers.data;
  segue__buf_init(&c->body);
  segue__buf_init(&c->headers);
  return 0;
}

static int client_check(const segue__http_call_options *o, segue_error *err) {
  struct sockaddr_un un;
  if (!o->url || (o->url[0] == '/' && !o->socket_path))
    return segue__errorf(err, SEGUE_EUSAGE, "a call needs a URL or a socket");
  if (o->socket_path && strlen(o->socket_path) >= sizeof un.sun_path)
    return segue__errorf(err, SEGUE_EUSAGE, "%.200s is too long for a unix socket", o->socket_path);
  return 0;
}

int segue__http_call(const segue__http_call_options *options, segue__http_answer *out,
                     segue_error *err) {
  memset(out, 0, sizeof *out);
  int r = client_check(options, err);
  if (r) return r;
  const segue__curl *curl = segue__curl_load(err);
  if (!curl) return UV_ENOSYS;
  call c = {.curl = curl,
            .options = options,
            .most = options->answer_bytes ? options->answer_bytes : ANSWER_BYTES};
  segue__buf url;
  segue__buf_init(&url);
  c.easy = c.curl->easy_init();
  r = c.easy ? client_set_url(&c, &url) : UV_ENOMEM;
  if (r == 0) r = set_request(&c);
  if (r) {
    segue__errorf(err, r, "the call to %s ran out of memory", options->url);
  } else {
    set_rest(&c);
    r = client_finish(&c, c.curl->perform(c.easy), out, err);
  }
  if (c.easy) c.curl->cleanup(c.easy);
  c.curl->free_all(c.lines);
  segue__buf_deinit(&url);
  segue__buf_deinit(&c.body);
  segue__buf_deinit(&c.headers);
  return r;
}

void segue__http_call_options_init(segue__http_call_options *options) {
  memset(options, 0, sizeof *options);
  options->size = sizeof *options;
}

void segue__http_answer_deinit(segue__http_answer *answer) {
  segue__free(answer->body);
  segue__free(answer->headers);
  memset(answer, 0, sizeof *answer);
}

bool segue__http_answer_header(const segue__http_answer *answer, const char *name, char *buf,
                               size_t size) {
  size_t len = strlen(name);
  for (const char *line = answer->headers; line && *line;) {
    const char *end = line + strcspn(line, "\r\n");
    if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
      const char *value = line + len + 1;
      value += strspn(value, " \t");
      size_t n = (size_t)(end - value);
      if (value > end || n >= size) return false;
      memcpy(buf, value, n);
      buf[n] = 0;
      return true;
    }
    line = end + strspn(end, "\r\n");
  }
  return false;
}

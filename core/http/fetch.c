/* SPDX-License-Identifier: MIT
 *
 * One request: translates its options to libcurl's, keeps what the callbacks of libcurl receive,
 * and reports errors in one sentence. The callbacks run within libcurl, where no request may be
 * added or removed, so they only store.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../os/os.h"
#include "fetch_internal.h"

enum { HEAD_BYTES = 256 << 10, CHUNK_BYTES = 64 << 10, TLS_FILE_BYTES = 4 << 20 };

/* ---- Bytes ----------------------------------------------------------------------------------- */

static size_t fetch_on_body(char *bytes, size_t size, size_t count, void *data) {
  segue__fetch *f = data;
  (void)size; /* always 1 */
  segue__fetch_restart_idle(f);
  if (f->on_data && f->content.len >= CHUNK_BYTES) {
    f->held = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  f->too_large = f->max_bytes && f->total + count > f->max_bytes;
  f->unaffordable = !f->too_large && f->reserve && !f->on_data && !f->reserve(f->data, count);
  if (f->too_large || f->unaffordable) return 0;
  segue__buf_add(&f->content, bytes, count);
  f->total += count;
  if (f->on_data) segue__fetch_queue(f);
  return f->content.failed ? 0 : count;
}

/* Finds the last header of a name, which ends with ':'. Returns its value, borrowed, or NULL. */
static const char *find_header(const segue__fetch *f, const char *name, size_t *len) {
  size_t name_len = strlen(name);
  const char *found = NULL, *line = f->headers.data, *end = line + f->headers.len;
  while (line && line < end) {
    const char *next = memchr(line, '\n', (size_t)(end - line));
    size_t line_len = (size_t)((next ? next : end) - line);
    if (line_len > name_len && !strncasecmp(line, name, name_len)) {
      found = line + name_len;
      *len = line_len - name_len;
    }
    line = next ? next + 1 : NULL;
  }
  return found;
}

/* Whether the answer, whose head is complete, is the one that the caller gets. */
static bool is_last(const segue__fetch *f) {
  long status = 0;
  size_t len;
  f->fetcher->curl->getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
  if (status < 200) return false;
  return !f->follows || status < 300 || status > 399 || !find_header(f, "location:", &len);
}

/* Each answer starts with its status line; the one before it was an interim one or a redirect. */
static size_t fetch_on_header(char *bytes, size_t size, size_t count, void *data) {
  segue__fetch *f = data;
  (void)size;
  segue__fetch_restart_idle(f);
  if (count > 5 && memcmp(bytes, "HTTP/", 5) == 0) f->headers.len = 0;
  f->answered = true;
  f->head_too_large = f->headers.len + count > HEAD_BYTES;
  if (f->head_too_large) return 0;
  segue__buf_add(&f->headers, bytes, count);
  if (f->on_head && count <= 2 && (bytes[0] == '\r' || bytes[0] == '\n') && is_last(f)) {
    f->head_due = true;
    segue__fetch_queue(f);
  }
  return f->headers.failed ? 0 : count;
}

/* ---- Options --------------------------------------------------------------------------------- */

/* Returns the URL for messages: without user and password, query and fragment, which may contain
 * secrets. */
static char *fetch_show(const char *url, const char *socket_path) {
  segue__buf b;
  const char *rest = strstr(url, "://");
  size_t scheme = rest ? (size_t)(rest - url) + 3 : 0;
  const char *host = url + scheme, *at = NULL;
  size_t authority = strcspn(host, "/?#");
  for (size_t i = 0; i < authority; i++) {
    if (host[i] == '@') at = host + i;
  }
  segue__buf_init(&b);
  segue__buf_add(&b, url, scheme);
  if (at) host = at + 1;
  size_t len = strcspn(host, "?#");
  segue__buf_add(&b, host, len < 200 ? len : 200);
  if (len > 200) segue__buf_adds(&b, "...");
  if (socket_path) segue__buf_addf(&b, " on %.108s", socket_path);
  if (!b.failed) return b.data;
  segue__buf_deinit(&b);
  return NULL;
}

static bool fetch_add_line(segue__fetch *f, const char *line) {
  struct curl_slist *lines = f->fetcher->curl->append(f->lines, line);
  if (lines) f->lines = lines;
  return lines != NULL;
}

static bool has_header(const segue__fetch_options *o, const char *name) {
  size_t len = strlen(name);
  for (const char *const *line = o->headers; line && *line; line++) {
    if (!strncasecmp(*line, name, len) && (*line)[len] == ':') return true;
  }
  return false;
}

/* A line with a name alone removes libcurl's own header: waiting for 100 Continue costs time here,
 * and only the caller knows the type of the body. */
static bool add_headers(segue__fetch *f, const segue__fetch_options *o) {
  bool ok = fetch_add_line(f, "Expect:");
  if (ok && !has_header(o, "Content-Type")) ok = fetch_add_line(f, "Content-Type:");
  if (ok && !has_header(o, "User-Agent"))
    ok = fetch_add_line(f, "User-Agent: segue/" SEGUE_VERSION);
  for (const char *const *line = o->headers; ok && line && *line; line++) {
    size_t name = strcspn(*line, ":");
    const char *value = *line + name + ((*line)[name] == ':');
    bool empty = value[strspn(value, " \t")] == 0;
    char *copy = segue__strdup(*line);
    if (copy && empty) copy[name] = ';'; /* libcurl's way to send a header without a value */
    if (copy && empty) copy[name + 1] = 0;
    ok = copy && fetch_add_line(f, copy);
    segue__free(copy);
  }
  return ok;
}

static void set_method(segue__fetch *f) {
  const segue__curl *curl = f->fetcher->curl;
  const char *method = f->method;
  bool post = f->body || (method && !strcmp(method, "POST"));
  if (post) {
    curl->setopt(f->easy, CURLOPT_POST, 1L);
    curl->setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)f->body_len);
    curl->setopt(f->easy, CURLOPT_POSTFIELDS, f->body ? f->body : "");
  } else if (method && !strcmp(method, "HEAD")) {
    curl->setopt(f->easy, CURLOPT_NOBODY, 1L);
  }
  if (!method || !strcmp(method, "HEAD")) return;
  /* Named only where libcurl would choose another, so that redirects keep their rules. */
  if (strcmp(method, post ? "POST" : "GET") != 0)
    curl->setopt(f->easy, CURLOPT_CUSTOMREQUEST, method);
}

static void set_protocols(segue__fetch *f) {
  const segue__curl *curl = f->fetcher->curl;
  /* A request for https must not be redirected to http. */
  const char *next = f->secure ? "https" : "http,https";
  long next_bits = f->secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS;
  curl->setopt(f->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  if (!curl->setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https")) {
    curl->setopt(f->easy, CURLOPT_REDIR_PROTOCOLS_STR, next);
    return;
  }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  curl->setopt(f->easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
  curl->setopt(f->easy, CURLOPT_REDIR_PROTOCOLS, next_bits);
#pragma GCC diagnostic pop
}

/* A file of TLS is read for each request and given to libcurl as bytes: libcurl compares them with
 * those of its open connections. With a path it compares the paths, so that a file which was
 * replaced, perhaps because its key was stolen, had no effect on requests that find a connection.
 */
static int set_tls_file(segue__fetch *f, const char *path, CURLoption as_bytes, CURLoption as_path,
                        segue_error *err) {
  const segue__curl *curl = f->fetcher->curl;
  const segue__os *os = segue__os_default();
  segue__bytes bytes = {0};
  segue_error why;
  if (!path) return 0;
  int rc = os->read_file(os->data, path, TLS_FILE_BYTES, &bytes, &why);
  if (rc) return segue__errorf(err, rc, "no trusted connection to %s: %s", f->shown, why.message);
  struct curl_blob blob = {bytes.data, bytes.len, CURL_BLOB_COPY};
  CURLcode code = curl->setopt(f->easy, as_bytes, &blob);
  explicit_bzero(bytes.data, bytes.len);
  segue__free(bytes.data);
  if (code == CURLE_UNKNOWN_OPTION) code = curl->setopt(f->easy, as_path, path); /* before 7.77 */
  return code == CURLE_OK ? 0 : segue__errorf(err, UV_ENOMEM, "%s: out of memory", f->shown);
}

/* tls.ca replaces the trust of the system. libcurl has two stores and asks both: CAINFO (a file)
 * and CAPATH (a folder, /etc/ssl/certs on Debian), so the folder must go where a file is named, or
 * every public authority is trusted beside it. A session that is resumed is not verified again, so
 * none is resumed. */
static int set_tls(segue__fetch *f, const segue__fetch_options *o, segue_error *err) {
  const segue__curl *curl = f->fetcher->curl;
  if (o->ca) curl->setopt(f->easy, CURLOPT_CAPATH, NULL);
  curl->setopt(f->easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
  curl->setopt(f->easy, CURLOPT_SSL_VERIFYPEER, o->insecure ? 0L : 1L);
  curl->setopt(f->easy, CURLOPT_SSL_VERIFYHOST, o->insecure ? 0L : 2L);
  int rc = set_tls_file(f, o->ca, CURLOPT_CAINFO_BLOB, CURLOPT_CAINFO, err);
  if (!rc) rc = set_tls_file(f, o->cert, CURLOPT_SSLCERT_BLOB, CURLOPT_SSLCERT, err);
  return rc ? rc : set_tls_file(f, o->key, CURLOPT_SSLKEY_BLOB, CURLOPT_SSLKEY, err);
}

static void fetch_set_limits(segue__fetch *f, const segue__fetch_options *o) {
  const segue__curl *curl = f->fetcher->curl;
  curl->setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
  curl->setopt(f->easy, CURLOPT_PROXY, "");
  curl->setopt(f->easy, CURLOPT_FOLLOWLOCATION, o->redirects ? 1L : 0L);
  curl->setopt(f->easy, CURLOPT_MAXREDIRS, (long)o->redirects);
  curl->setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)f->timeout_ms);
  curl->setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)f->connect_ms);
  /* "": libcurl offers every coding that it can decode, and decodes it. The limits of size hold for
   * the decoded bytes, because on_body counts these; a bomb ends there. */
  if (!f->connect_only) curl->setopt(f->easy, CURLOPT_ACCEPT_ENCODING, "");
  if (f->max_bytes) curl->setopt(f->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)f->max_bytes);
  if (f->connect_only) curl->setopt(f->easy, CURLOPT_CONNECT_ONLY, 1L);
  if (f->connect_only) curl->setopt(f->easy, CURLOPT_FORBID_REUSE, 1L);
  /* Removing a request must not wait for its look-up; libraries older than this option do. */
  (void)curl->setopt(f->easy, CURLOPT_QUICK_EXIT, 1L);
}

/* A connection that a firewall forgot sends no packet any more, so that a held request would wait
 * for ever: the kernel asks the other side after 30 s of silence, and again each 10 s. */
static void set_keep_alive(segue__fetch *f) {
  const segue__curl *curl = f->fetcher->curl;
  curl->setopt(f->easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl->setopt(f->easy, CURLOPT_TCP_KEEPIDLE, 30L);
  curl->setopt(f->easy, CURLOPT_TCP_KEEPINTVL, 10L);
}

/* libcurl takes the name for SNI and for the verification from the URL. So the URL gets
 * server_name, CONNECT_TO leads the connection to the host that was given, and that host stays in
 * the header Host. */
static bool set_server_name(segue__fetch *f, const segue__fetch_options *o) {
  const char *host = strstr(o->url, "://") + 3, *at = host, *rest = host + strcspn(host, "/?#");
  for (const char *c = host; c < rest; c++)
    if (*c == '@') at = c + 1;
  const char *port = *at == '[' ? memchr(at, ']', (size_t)(rest - at)) : at;
  port = port ? memchr(port, ':', (size_t)(rest - port)) : NULL;
  int host_len = (int)((port ? port : rest) - at), port_len = port ? (int)(rest - port - 1) : 0;
  const char *number = port_len ? port + 1 : f->secure ? "443" : "80";
  if (!port_len) port_len = (int)strlen(number);
  segue__buf url, to, header;
  segue__buf_init(&url);
  segue__buf_init(&to);
  segue__buf_init(&header);
  segue__buf_addf(&url, "%.*s%s:%.*s%s", (int)(at - o->url), o->url, o->server_name, port_len,
                  number, rest);
  segue__buf_addf(&to, "%s:%.*s:%.*s:%.*s", o->server_name, port_len, number, host_len, at,
                  port_len, number);
  segue__buf_addf(&header, "Host: %.*s", (int)(rest - at), at);
  bool ok = !url.failed && !to.failed && !header.failed;
  if (ok && !has_header(o, "Host")) ok = fetch_add_line(f, header.data);
  if (ok) f->connect_to = f->fetcher->curl->append(NULL, to.data);
  ok = ok && f->connect_to;
  if (ok) {
    f->fetcher->curl->setopt(f->easy, CURLOPT_URL, url.data); /* copied */
    f->fetcher->curl->setopt(f->easy, CURLOPT_CONNECT_TO, f->connect_to);
  }
  segue__buf_deinit(&url);
  segue__buf_deinit(&to);
  segue__buf_deinit(&header);
  return ok;
}

/* Opens the socket as libcurl would, and stores errno: libcurl reports only "could not connect",
 * and the error message needs the reason (no descriptors left). */
static curl_socket_t fetch_open_socket(void *data, curlsocktype purpose,
                                       struct curl_sockaddr *address) {
  segue__fetch *f = data;
  (void)purpose;
  int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  f->socket_errno = fd < 0 ? errno : 0;
  return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static void set_callbacks(segue__fetch *f) {
  const segue__curl *curl = f->fetcher->curl;
  curl->setopt(f->easy, CURLOPT_WRITEFUNCTION, fetch_on_body);
  curl->setopt(f->easy, CURLOPT_WRITEDATA, f);
  curl->setopt(f->easy, CURLOPT_HEADERFUNCTION, fetch_on_header);
  curl->setopt(f->easy, CURLOPT_HEADERDATA, f);
  curl->setopt(f->easy, CURLOPT_ERRORBUFFER, f->problem);
  curl->setopt(f->easy, CURLOPT_PRIVATE, f);
  curl->setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, fetch_open_socket);
  curl->setopt(f->easy, CURLOPT_OPENSOCKETDATA, f);
  curl->setopt(f->easy, CURLOPT_CLOSESOCKETFUNCTION, segue__fetcher_close_socket);
  curl->setopt(f->easy, CURLOPT_CLOSESOCKETDATA, f->fetcher);
}

static int copy_options(segue__fetch *f, const segue__fetch_options *o) {
  f->url = segue__strdup(o->url);
  f->shown = fetch_show(o->url, o->socket_path);
  f->method = segue__strdup(o->method);
  f->body = o->body ? segue__strndup(o->body, o->body_len) : NULL;
  f->body_len = o->body_len;
  f->timeout_ms = o->timeout_ms;
  f->connect_ms = o->connect_ms ? o->connect_ms : SEGUE__FETCH_CONNECT_MS;
  f->max_bytes = o->max_bytes || o->on_data ? o->max_bytes : SEGUE__FETCH_BYTES;
  f->idle_ms = o->idle_ms;
  f->secure = !strncasecmp(o->url, "https:", 6);
  f->follows = o->redirects > 0;
  f->connect_only = o->connect_only;
  f->on_head = o->on_head;
  f->on_data = o->on_data;
  f->reserve = o->reserve;
  f->on_done = o->on_done;
  f->data = o->data;
  return f->url && f->shown && (f->method || !o->method) && (f->body || !o->body) ? 0 : UV_ENOMEM;
}

static int fetch_check(const segue__fetch_options *o, segue_error *err) {
  struct sockaddr_un un;
  if (strncasecmp(o->url, "http://", 7) != 0 && strncasecmp(o->url, "https://", 8) != 0)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "\"%.200s\" cannot be fetched: a URL begins with http:// or https://",
                         o->url);
  if (o->socket_path && strlen(o->socket_path) >= sizeof un.sun_path)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "%.200s is too long for the path of a unix socket: at most %zu bytes",
                         o->socket_path, sizeof un.sun_path - 1);
  return 0;
}

int segue__fetch_set(segue__fetch *f, const segue__fetch_options *o, segue_error *err) {
  int rc = fetch_check(o, err);
  if (rc) return rc;
  f->easy = f->fetcher->curl->easy_init();
  if (!f->easy || copy_options(f, o) || !add_headers(f, o))
    return segue__errorf(err, UV_ENOMEM, "out of memory for a request to %.200s", o->url);
  f->fetcher->curl->setopt(f->easy, CURLOPT_URL, f->url);
  if (o->server_name && !set_server_name(f, o))
    return segue__errorf(err, UV_ENOMEM, "out of memory for a request to %.200s", o->url);
  f->fetcher->curl->setopt(f->easy, CURLOPT_HTTPHEADER, f->lines);
  if (o->socket_path) f->fetcher->curl->setopt(f->easy, CURLOPT_UNIX_SOCKET_PATH, o->socket_path);
  set_method(f);
  set_protocols(f);
  rc = f->secure || o->redirects ? set_tls(f, o, err) : 0;
  if (rc) return rc;
  fetch_set_limits(f, o);
  set_keep_alive(f);
  set_callbacks(f);
  return 0;
}

void segue__fetch_free(segue__fetch *f) {
  if (f->easy) f->fetcher->curl->cleanup(f->easy);
  f->fetcher->curl->free_all(f->lines);
  f->fetcher->curl->free_all(f->connect_to);
  segue__free(f->url);
  segue__free(f->shown);
  segue__free(f->method);
  segue__free(f->body);
  segue__buf_deinit(&f->headers);
  segue__buf_deinit(&f->content);
  segue__free(f);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static int fetch_report_connect(const segue__fetch *f, segue_error *err) {
  long number = 0;
  f->fetcher->curl->getinfo(f->easy, CURLINFO_OS_ERRNO, &number);
  if (f->socket_errno) number = f->socket_errno;
  int code = number ? -(int)number : UV_ECONNREFUSED;
  if (code == UV_ECONNREFUSED)
    return segue__errorf(err, code, "no server answers on %s: is it running?", f->shown);
  return segue__errorf(err, code, "cannot connect to %s: %s", f->shown, segue_strerror(code));
}

static int report_timeout(const segue__fetch *f, segue_error *err) {
  if (f->silent)
    return segue__errorf(err, SEGUE_ETIMEOUT, "%s sent nothing for %llu ms", f->shown,
                         (unsigned long long)f->idle_ms);
  curl_off_t connected = 0;
  f->fetcher->curl->getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
  uint64_t ms = segue__loop_now_ms(f->fetcher->loop) - f->started_ms;
  bool connecting = !connected && (!f->timeout_ms || ms < f->timeout_ms);
  if (connecting || !connected)
    return segue__errorf(err, SEGUE_ETIMEOUT, "no connection to %s within %llu ms", f->shown,
                         (unsigned long long)(connecting ? f->connect_ms : f->timeout_ms));
  return segue__errorf(err, SEGUE_ETIMEOUT, "%s gave no complete answer within %llu ms", f->shown,
                       (unsigned long long)f->timeout_ms);
}

static int report_limit(const segue__fetch *f, segue_error *err) {
  if (f->head_too_large)
    return segue__errorf(err, SEGUE_ELIMIT,
                         "the headers of %s are larger than %d bytes; they are not read", f->shown,
                         HEAD_BYTES);
  if (f->unaffordable)
    return segue__errorf(err, SEGUE_ELIMIT,
                         "the answer of %s does not fit into the memory that is left for it",
                         f->shown);
  return segue__errorf(err, SEGUE_ELIMIT,
                       "the answer of %s is larger than %llu bytes: raise max_bytes", f->shown,
                       (unsigned long long)f->max_bytes);
}

static const char *fetch_detail(const segue__fetch *f) {
  return f->problem[0] ? f->problem : f->fetcher->curl->strerror(f->code);
}

/* Copies the value of the last Content-Encoding header: at most `size` - 1 bytes, printable ASCII
 * only, because the server chose them and they go into a message. */
static void find_coding(const segue__fetch *f, char *out, size_t size) {
  size_t n = 0, len = 0;
  const char *value = find_header(f, "content-encoding:", &len);
  for (size_t i = 0; i < len && n + 1 < size; i++)
    if (value[i] > ' ' && value[i] < 127) out[n++] = value[i];
  out[n] = 0;
}

static int report_coding(const segue__fetch *f, segue_error *err) {
  char coding[64];
  find_coding(f, coding, sizeof coding);
  return segue__errorf(err, UV_EPROTO,
                       "the answer of %s cannot be decoded (Content-Encoding: %s): %s", f->shown,
                       coding, fetch_detail(f));
}

int segue__fetch_report(const segue__fetch *f, segue_error *err) {
  if (f->too_large || f->unaffordable || f->head_too_large) return report_limit(f, err);
  if (f->headers.failed || f->content.failed)
    return segue__errorf(err, UV_ENOMEM, "out of memory for the answer of %s", f->shown);
  switch (f->code) {
  case CURLE_COULDNT_CONNECT:
    return fetch_report_connect(f, err);
  case CURLE_COULDNT_RESOLVE_HOST:
    return segue__errorf(err, UV_EAI_NONAME, "the host of %s is not known: %s", f->shown,
                         fetch_detail(f));
  case CURLE_OPERATION_TIMEDOUT:
    return report_timeout(f, err);
  case CURLE_FILESIZE_EXCEEDED:
    return report_limit(f, err);
  case CURLE_OUT_OF_MEMORY:
    return segue__errorf(err, UV_ENOMEM, "out of memory for a request to %s", f->shown);
  case CURLE_UNSUPPORTED_PROTOCOL: /* of a redirect; or what came is no HTTP/1 */
    if (!f->answered)
      return segue__errorf(err, UV_EPROTO, "%s does not answer in HTTP: %s", f->shown,
                           fetch_detail(f));
    return segue__errorf(err, SEGUE_EUSAGE, "%s leads where nothing can be fetched: %s", f->shown,
                         fetch_detail(f));
  case CURLE_URL_MALFORMAT:
    return segue__errorf(err, SEGUE_EUSAGE, "%s cannot be fetched: %s", f->shown, fetch_detail(f));
  case CURLE_TOO_MANY_REDIRECTS:
    return segue__errorf(err, SEGUE_ELIMIT, "%s leads from one redirect to the next: %s", f->shown,
                         fetch_detail(f));
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CONNECT_ERROR:
    return segue__errorf(err, UV_EPROTO, "no trusted connection to %s: %s", f->shown,
                         fetch_detail(f));
  case CURLE_BAD_CONTENT_ENCODING:
    return report_coding(f, err);
  case CURLE_WEIRD_SERVER_REPLY:
    return segue__errorf(err, UV_EPROTO, "%s does not answer in HTTP: %s", f->shown,
                         fetch_detail(f));
  default:
    return segue__errorf(err, UV_ECONNRESET, "%s broke off %s: %s", f->shown,
                         f->answered ? "in the middle of its answer" : "without an answer",
                         fetch_detail(f));
  }
}

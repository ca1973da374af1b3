/* SPDX-License-Identifier: MIT
 *
 * The options of a listener of the admin API.
 */
#include "http_options.h"
#include "../os/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "../module/module_options.h"

/* ---- Clients by certificate ------------------------------------------------------------------ */

#define NAME_ROW(field, text)                                                                      \
  {                                                                                                \
    .name = #field, .type = SEGUE_OPTION_TEXT, .offset = offsetof(segue__client_spec, field),      \
    .doc = text                                                                                    \
  }
static const segue_option client_rows[] = {
    NAME_ROW(name, "common name or DNS name; \"*\" stands for one label"),
    NAME_ROW(dns, "DNS name; \"*\" stands for one label"),
    NAME_ROW(cn, "common name"),
    NAME_ROW(mail, "mail address"),
    NAME_ROW(uri, "URI"),
    NAME_ROW(subject, "the whole subject of a certificate without a common name"),
    {.name = "role",
     .type = SEGUE_OPTION_CHOICE,
     .offset = offsetof(segue__client_spec, role),
     .choices = "read|operate",
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "role = \"read\"",
     .doc = "the rights of the client"},
};
#undef NAME_ROW

/* "*" stands for exactly one label, so it is refused wherever it would be compared as a character.
 */
static bool has_part_star(const char *name) {
  for (const char *star = strchr(name, '*'); star; star = strchr(star + 1, '*'))
    if ((star > name && star[-1] != '.') || (star[1] && star[1] != '.')) return true;
  return false;
}

static void check_name(segue_option_report *report, const char *key, const char *name) {
  bool labels = !strcmp(key, "name") || !strcmp(key, "dns");
  if (!strcmp(key, "name") && strstr(name, "://"))
    segue_option_wrong(report, key, "is a URI: write uri = \"%s\"", name);
  else if (labels && strchr(name, '@'))
    segue_option_wrong(report, key, "is a mail address: write mail = \"%s\"", name);
  else if (labels && has_part_star(name))
    segue_option_wrong(report, key,
                       "must have \"*\" for one whole label, as in \"*.mon.example\", "
                       "not \"%s\"",
                       name);
  else if (!labels && strchr(name, '*'))
    segue_option_wrong(report, key,
                       "is compared as it is: \"*\" stands for a label in name and dns "
                       "only");
}

static void check_client(void *options, segue_option_report *report) {
  segue__client_spec *client = options;
  const struct {
    const char *key;
    char **name;
  } kinds[] = {{"name", &client->name}, {"cn", &client->cn},   {"dns", &client->dns},
               {"mail", &client->mail}, {"uri", &client->uri}, {"subject", &client->subject}};
  const char *found = NULL;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (!*kinds[i].name) continue;
    if (found)
      segue_option_wrong(report, kinds[i].key, "is a second name beside %s: give one", found);
    if (found) return;
    found = kinds[i].key;
    check_name(report, found, *kinds[i].name);
    if (!i) continue;
    client->kind = found;
    client->name = *kinds[i].name;
    *kinds[i].name = NULL;
  }
  if (!found)
    segue_option_wrong(report, NULL, "has no name: give one of name, cn, dns, mail, uri, subject");
  client->role = client->role ? SEGUE__ROLE_OPERATE : SEGUE__ROLE_READ; /* number of the choice */
}

static const segue_option_table client_options = {
    SEGUE_OPTION_ROWS(segue__client_spec, client_rows), .name = "client", .check = check_client,
    .doc = "A client by a name in its certificate."};

static const segue_option tls_rows[] = {
    SEGUE__TLS_ROWS(segue__http_spec),
    {.name = "clients",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &client_options,
     .min = 1,
     .offset = offsetof(segue__http_spec, clients),
     .absent = "every client that the CA signs operates",
     .doc = "roles of clients; all others have none"},
};

static void check_tls(void *options, segue_option_report *report) {
  (void)options;
  segue__tls_options_check(report, report);
  if (segue_option_given(report, "clients") && !segue_option_given(report, "client_ca"))
    segue_option_wrong(report, "clients",
                       "has an effect only with client_ca, the CA that signs clients");
}

static const segue_option_table tls_options = {SEGUE_OPTION_ROWS(segue__http_spec, tls_rows),
                                               .name = "tls", .check = check_tls,
                                               .doc = "TLS of a listener of the admin API."};

/* ---- Tokens ---------------------------------------------------------------------------------- */

static const segue_option token_rows[] = {
    {.name = "file",
     .type = SEGUE_OPTION_PATH,
     .offset = offsetof(segue__token_spec, file),
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "file = \"ops.token\"",
     .doc = "one token per line, 16 to 256 characters; \"#\" begins a comment"},
    {.name = "role",
     .type = SEGUE_OPTION_CHOICE,
     .offset = offsetof(segue__token_spec, role),
     .choices = "read|operate",
     .flags = SEGUE_OPTION_REQUIRED,
     .example = "role = \"read\"",
     .doc = "the rights of the client"},
    {.name = "name",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(segue__token_spec, name),
     .absent = "the file's name without its ending",
     .doc = "name of the client in log and history"},
};

/* "etc/ops.token" -> "ops" */
static char *token_name(const char *file) {
  const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
  const char *dot = strrchr(base, '.');
  return segue__strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
}

static void check_token(void *options, segue_option_report *report) {
  segue__token_spec *token = options;
  if (!token->name) token->name = token_name(token->file);
  if (!token->name) segue_option_wrong(report, NULL, "needs more memory than there is");
  token->role = token->role ? SEGUE__ROLE_OPERATE : SEGUE__ROLE_READ;
}

static const segue_option_table token_options = {
    SEGUE_OPTION_ROWS(segue__token_spec, token_rows), .name = "token", .check = check_token,
    .doc = "A file with tokens, and the role that they give."};

/* ---- The listener ---------------------------------------------------------------------------- */

#define AT(field) .offset = offsetof(segue__http_spec, field)
static const segue_option http_rows[] = {
    {.name = "address",
     .type = SEGUE_OPTION_TEXT,
     AT(address),
     .flags = SEGUE_OPTION_REQUIRED,
     .doc = "\"127.0.0.1:7377\", \"[::1]:7377\" or \"unix:/run/app.sock\""},
    {.name = "tls",
     .type = SEGUE_OPTION_TABLE,
     .table = &tls_options,
     .offset = 0,
     .doc = "TLS 1.2 and 1.3, and the certificates of clients"},
    {.name = "tokens",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TABLE,
     .table = &token_options,
     .min = 1,
     AT(tokens),
     .example = "tokens = { { file = \"ops.token\", role = \"operate\" } }",
     .doc = "tokens for the header Authorization: Bearer"},
    {.name = "public",
     .type = SEGUE_OPTION_FLAGS,
     .choices = "health|metrics",
     AT(public_pages),
     .doc = "pages that need no credentials: /-/healthy and /-/ready; /metrics"},
    {.name = "hosts",
     .type = SEGUE_OPTION_LIST,
     .of = SEGUE_OPTION_TEXT,
     AT(hosts),
     .absent = "any; on a loopback address its own names",
     .doc = "names that the header Host may have"},
    {.name = "rate",
     .type = SEGUE_OPTION_RATE,
     AT(rate),
     .absent = "50/s with tokens or client certificates, else none",
     .doc = "requests of one client; more get 429"},
    {.name = "burst",
     .type = SEGUE_OPTION_COUNT,
     AT(burst),
     .absent = "twice the rate of a second, at least 10",
     .doc = "requests of one client that may come at once"},
    {.name = "mode",
     .type = SEGUE_OPTION_MODE,
     AT(mode),
     .absent = "0600",
     .doc = "permissions of a unix socket"},
    {.name = "others",
     .type = SEGUE_OPTION_CHOICE,
     .choices = "none|read|operate",
     .fallback = "read",
     AT(others),
     .doc = "role of other users than root and the daemon's on a unix socket"},
};
#undef AT

static bool is_address(const char *address) {
  const char *colon = strrchr(address, ':');
  if (!strncmp(address, "unix:", 5)) return address[5] != 0;
  if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1)) return false;
  return strlen(colon + 1) <= 5 && strtoul(colon + 1, NULL, 10) <= 65535;
}

static bool is_host(const char *host) {
  for (const char *s = host; *s; s++)
    if (!isalnum((unsigned char)*s) && !segue__is_one_of(*s, "._%-")) return false;
  return *host != 0;
}

static void check_unix(segue_option_report *report, const segue__http_spec *spec) {
  bool is_unix = !strncmp(spec->address, "unix:", 5);
  if (is_unix && segue_option_given(report, "tls"))
    segue_option_wrong(report, "tls", "is for TCP: %s is a unix socket", spec->address);
  if (!is_unix && segue_option_given(report, "mode"))
    segue_option_wrong(report, "mode", "is for unix sockets: %s is none", spec->address);
  if (!is_unix && segue_option_given(report, "others"))
    segue_option_wrong(report, "others", "is for unix sockets: %s is none", spec->address);
}

static void check_http(void *options, segue_option_report *report) {
  segue__http_spec *spec = options;
  if (!is_address(spec->address))
    segue_option_wrong(report, "address",
                       "must be \"127.0.0.1:7377\", \"[::1]:7377\" or "
                       "\"unix:/run/app.sock\", not \"%s\"",
                       spec->address);
  for (size_t i = 0; i < spec->host_count; i++)
    if (!is_host(spec->hosts[i]))
      segue_option_wrong(report, "hosts",
                         "must be host names without scheme, port and slashes, "
                         "not \"%s\"",
                         spec->hosts[i]);
  if (!segue_option_given(report, "rate")) spec->rate = -1;
  if (segue_option_given(report, "burst") && !segue_option_given(report, "rate"))
    segue_option_wrong(report, "burst", "has an effect only with rate");
  check_unix(report, spec);
}

const segue_option_table segue__http_options = {
    SEGUE_OPTION_ROWS(segue__http_spec, http_rows), .name = "http", .positional = "address",
    .check = check_http, .doc = "A listener of the admin API."};

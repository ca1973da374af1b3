/* SPDX-License-Identifier: MIT
 *
 * Validates the listeners of a policy before anything changes: their addresses, that each belongs
 * to one module that serves requests, and their certificates.
 */
#include <string.h>

#include "ingress_internal.h"

static int not_http(const char *url, segue_error *err) {
  return segue__errorf(err, SEGUE_EPOLICY,
                       "listen = \"%s\" is not of the form \"http://HOST:PORT\" or "
                       "\"https://HOST:PORT\"",
                       url);
}

int segue__listen_parse(const char *url, segue__address *out, bool *tls, segue_error *err) {
  static const char scheme[] = "http://", secure[] = "https://";
  char text[128];
  *tls = strncmp(url, secure, sizeof secure - 1) == 0;
  size_t len = strlen(url), skip = (*tls ? sizeof secure : sizeof scheme) - 1;
  if (!*tls && strncmp(url, scheme, skip) != 0) return not_http(url, err);
  if (len > skip && url[len - 1] == '/') len--;
  if (len - skip >= sizeof text)
    return segue__errorf(err, SEGUE_EPOLICY, "listen = \"%s\" is too long", url);
  memcpy(text, url + skip, len - skip);
  text[len - skip] = 0;
  if (strstr(text, "://")) return not_http(url, err);
  int rc = segue__address_parse(text, out, err);
  return rc == 0 && out->type != SEGUE__SOCKET_TCP ? not_http(url, err) : rc;
}

/* Returns the module before this one that has the same address; NULL: none. Port 0 is a new port
 * each time. */
static const segue__module_spec *validate_taken(const segue__policy *policy, size_t module,
                                                size_t url, const segue__address *address) {
  segue__address other;
  bool tls;
  for (size_t i = 0; address->port && i <= module; i++) {
    const segue__listen_spec *listen = &policy->modules[i].listen;
    for (size_t k = 0; k < (i < module ? listen->url_count : url); k++)
      if (segue__listen_parse(listen->urls[k], &other, &tls, NULL) == 0 &&
          strcmp(other.text, address->text) == 0)
        return &policy->modules[i];
  }
  return NULL;
}

static int check_one(const segue__policy *policy, size_t module, size_t url, segue_error *err) {
  const segue__module_spec *spec = &policy->modules[module];
  const char *text = spec->listen.urls[url];
  segue__address address = {0};
  bool tls;
  int rc = segue__listen_parse(text, &address, &tls, err);
  if (rc < 0) return rc;
  const segue__module_spec *other = validate_taken(policy, module, url, &address);
  if (other == spec)
    return segue__errorf(err, SEGUE_EPOLICY, "module '%s' listens twice at %s: remove one",
                         spec->name, address.text);
  if (other)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "modules '%s' and '%s' both listen at %s: each address leads to one "
                         "module",
                         other->name, spec->name, address.text);
  if (tls && !spec->listen.cert)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "listen = \"%s\" needs a certificate: tls = { cert = \"server.pem\", "
                         "key = \"server.key\" }",
                         text);
  if (spec->ops->size < offsetof(segue_module_ops, handle) + sizeof spec->ops->handle ||
      !spec->ops->handle)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "module '%s' has listen, but its code serves no requests: it has no "
                         "handle operation",
                         spec->name);
  return 0;
}

typedef struct reading {
  segue__policy *policy;
  const segue__os *os;
} reading;

static int validate_read_file(void *data, const char *path, bool secret, segue__bytes *out,
                              segue_error *err) {
  const reading *r = data;
  return segue__policy_read_credential(r->policy, r->os, path, secret, out, err);
}

static void free_tls(void *tls) {
  segue__tls_context_unref(tls);
}

/* The certificate is loaded once, when the policy is checked, and shared by all worker threads: a
 * file that cannot be used rejects the policy, and no thread reads files. */
static int validate_make_tls(segue__policy *policy, segue__module_spec *spec, const segue__os *os,
                             segue_error *err) {
  segue__listen_spec *listen = &spec->listen;
  segue__tls_paths paths = {listen->cert, listen->key, listen->client_ca, listen->client_optional};
  reading r = {policy, os};
  segue__address address;
  bool tls, any = false;
  for (size_t i = 0; i < listen->url_count && !any; i++)
    any = segue__listen_parse(listen->urls[i], &address, &tls, NULL) == 0 && tls;
  if (!any)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "tls of module '%s' has an effect only for listen = "
                         "\"https://HOST:PORT\"",
                         spec->name);
  segue__tls_context *context;
  int rc = segue__tls_context_load(&context, &paths, validate_read_file, &r, err);
  listen->tls = context;
  listen->free_tls = free_tls;
  return rc;
}

static bool validate_is_log(const segue_module_ops *ops) {
  return ops && ops->size > offsetof(segue_module_ops, log) && ops->log;
}

static int check_log(const segue__policy *policy, const segue__module_spec *spec,
                     segue_error *err) {
  if (!spec->listen.access.on || spec->listen.access.path) return 0;
  for (size_t i = 0; i < policy->module_count; i++)
    if (validate_is_log(policy->modules[i].ops)) return 0;
  return segue__errorf(err, SEGUE_EPOLICY,
                       "access_log = true of module '%s' writes to the module that is the log, "
                       "and there is none: name a file, or add log = { kind = \"c\", plugin = "
                       "\"log\" } to modules",
                       spec->name);
}

static void validate_complain(const segue__module_spec *spec, segue_error *err,
                              segue__errors *errors) {
  segue__error_source(err, spec->name);
  if (spec->listen.file && !err->file[0])
    segue__error_set_place(err, spec->listen.file, spec->listen.line, 0);
  segue__errors_add(errors, err);
}

int segue__ingress_check(segue__policy *policy, const segue__os *os, segue__errors *errors) {
  int status = 0;
  for (size_t i = 0; i < policy->module_count; i++) {
    segue__module_spec *spec = &policy->modules[i];
    bool good = spec->ops != NULL;
    for (size_t k = 0; spec->ops && k < spec->listen.url_count; k++) {
      segue_error err = {0};
      if (check_one(policy, i, k, &err) == 0) continue;
      validate_complain(spec, &err, errors);
      good = false;
    }
    segue_error err = {0};
    if (good && check_log(policy, spec, &err) < 0) {
      validate_complain(spec, &err, errors);
      good = false;
    }
    if (good && spec->listen.cert && validate_make_tls(policy, spec, os, &err) < 0) {
      validate_complain(spec, &err, errors);
      good = false;
    }
    if (spec->ops && !good) status = SEGUE_EPOLICY;
  }
  return status;
}

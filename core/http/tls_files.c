/* SPDX-License-Identifier: MIT
 *
 * Makes a TLS context from the files that a policy names. The caller decides about further
 * conditions.
 */
#include <string.h>

#include "../os/mem.h"
#include "tls.h"

static void tls_files_forget(segue__bytes *bytes) {
  if (bytes->data) explicit_bzero(bytes->data, bytes->len);
  segue__free(bytes->data);
}

static segue__tls_file file_of(const char *name, const segue__bytes *bytes) {
  return (segue__tls_file){name, bytes->data, bytes->len};
}

int segue__tls_context_load(segue__tls_context **out, const segue__tls_paths *paths,
                            segue__tls_read_file *read, void *data, segue_error *err) {
  segue__bytes cert = {0}, key = {0}, ca = {0};
  *out = NULL;
  int rc = read(data, paths->cert, false, &cert, err);
  if (!rc) rc = read(data, paths->key, true, &key, err);
  if (!rc && paths->client_ca) rc = read(data, paths->client_ca, false, &ca, err);
  if (!rc && paths->client_ca && !ca.len) {
    rc = segue__errorf(err, SEGUE_EPOLICY, "%s is empty: it must hold the CA of clients",
                       paths->client_ca);
    segue__error_set_place(err, paths->client_ca, 0, 0);
  }
  segue__tls_options options = {.size = sizeof options,
                                .cert = file_of(paths->cert, &cert),
                                .key = file_of(paths->key, &key),
                                .client_ca = file_of(paths->client_ca, &ca),
                                .client_optional = paths->client_optional};
  if (!rc) rc = segue__tls_context_new(out, &options, err);
  tls_files_forget(&key);
  segue__free(cert.data);
  segue__free(ca.data);
  return rc;
}

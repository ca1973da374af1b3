/* SPDX-License-Identifier: MIT
 *
 * The options of a policy's listener, as data.
 */
#include "listener_options.h"

#include "../os/mem.h"

const char *segue__role_name(segue__role role) {
  static const char *const names[] = {"none", "read", "operate"};
  return names[role];
}

void segue__http_spec_free(segue__http_spec *spec) {
  if (!spec) return;
  for (size_t i = 0; i < spec->client_count; i++) {
    segue__free(spec->clients[i].name);
    segue__free(spec->clients[i].cn);
    segue__free(spec->clients[i].dns);
    segue__free(spec->clients[i].mail);
    segue__free(spec->clients[i].uri);
    segue__free(spec->clients[i].subject);
  }
  for (size_t i = 0; i < spec->token_count; i++) {
    segue__free(spec->tokens[i].file);
    segue__free(spec->tokens[i].name);
  }
  for (size_t i = 0; i < spec->host_count; i++)
    segue__free(spec->hosts[i]);
  segue__free(spec->clients);
  segue__free(spec->tokens);
  segue__free(spec->hosts);
  segue__free(spec->address);
  segue__free(spec->file);
  segue__free(spec->cert);
  segue__free(spec->key);
  segue__free(spec->client_ca);
  segue__free(spec);
}

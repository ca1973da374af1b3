/* SPDX-License-Identifier: MIT
 *
 * listener_options.h: the options of one HTTP listener beside its address: TLS, access, and rate
 * limits. Plain data; core/admin/auth.c builds the checks of requests from it.
 */
#ifndef SEGUE_RELOAD_LISTENER_OPTIONS_H
#define SEGUE_RELOAD_LISTENER_OPTIONS_H

#include "../os/error.h"

/* The rights of a client: none, reading, or changing. */
typedef enum segue__role { SEGUE__ROLE_NONE, SEGUE__ROLE_READ, SEGUE__ROLE_OPERATE } segue__role;
const char *segue__role_name(segue__role role);

/* Clients by a name in their certificate. A name of kind DNS, and one without a kind (common name
 * or DNS name), may have "*" for one label. */
typedef struct segue__client_spec {
  char *name;
  const char *kind; /* "cn", "dns", "mail", "uri", "subject"; NULL: common name or DNS name */
  char *cn, *dns, *mail, *uri, *subject; /* as options name them; NULL once name and kind are set */
  segue__role role;
} segue__client_spec;

typedef struct segue__token_spec {
  char *file, *name;
  segue__role role;
} segue__token_spec;

typedef struct segue__http_spec {
  char *address;
  char *file; /* where it is written, or NULL */
  uint32_t line;
  char *cert, *key, *client_ca; /* paths; NULL: none */
  bool client_optional;
  segue__client_spec *clients;
  size_t client_count;
  segue__token_spec *tokens;
  size_t token_count;
  char **hosts;
  size_t host_count;
  unsigned public_pages; /* SEGUE__PUBLIC_... */
  double rate;           /* requests per second; 0: no limit; negative: the default */
  uint64_t burst;
  unsigned mode;      /* of a unix socket; 0: 0600 */
  segue__role others; /* of users other than our own and root on a unix socket */
} segue__http_spec;

enum { SEGUE__PUBLIC_HEALTH = 1, SEGUE__PUBLIC_METRICS = 2 };

void segue__http_spec_free(segue__http_spec *spec); /* NULL allowed */

#endif

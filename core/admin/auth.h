/* SPDX-License-Identifier: MIT
 *
 * auth.h: the authorization rules of one listener, made from the policy and the files that it
 * names, validated as a whole before anything listens, and immutable: a reload makes another one.
 * Counted; control thread.
 */
#ifndef SEGUE_ADMIN_AUTH_H
#define SEGUE_ADMIN_AUTH_H

#include "../http/http.h"
#include "../reload/policy.h"
#include "../socket/address.h"
#include "tokens.h"

/* Clients with one of these names have this role. */
typedef struct segue__auth_name {
  char *name;
  unsigned kinds; /* a bit for each segue__name_kind that the name may be of */
  segue__role role;
} segue__auth_name;

typedef struct segue__auth {
  int refs;
  char *address; /* as the policy has it */
  segue__tls_context *tls;
  bool client_required, client_known; /* a certificate must, or may, be shown */
  bool locked;                        /* a client without credentials has no role */
  bool public_health, public_metrics;
  bool loopback;      /* names of this machine only, unless others are given */
  double rate, burst; /* rate 0: no limit */
  uint64_t salt;      /* of the address: keeps the limits of listeners apart */
  unsigned mode;
  segue__role others;
  segue__tokens tokens;
  segue__auth_name *clients;
  size_t client_count;
  char **hosts;
  size_t host_count;
} segue__auth;

/* Reads the files that the trigger names, adds them to the policy's inputs, and stores the
 * result in trigger->auth. */
int segue__auth_make(segue__policy *policy, segue__trigger_spec *trigger, const segue__os *os,
                     segue_error *err);
segue__auth *segue__auth_ref(segue__auth *auth);
void segue__auth_unref(void *auth); /* NULL allowed */

/* Returns the role that a client's certificate has, and in name the name that gives it: the first
 * one of the certificate if none does. */
segue__role segue__auth_client(const segue__auth *auth, const segue__tls_client *client,
                               segue__tls_name *name);

#endif

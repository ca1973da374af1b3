/* SPDX-License-Identifier: MIT
 *
 * module_options.h: the options of modules. A kind of module adds its own rows in a table.
 */
#ifndef SEGUE_MODULE_OPTIONS_H
#define SEGUE_MODULE_OPTIONS_H

#include "../options/options.h"
#include "module.h"

/* The family "module": an element is filled into a segue__module_spec. */
extern const segue_option_table segue__module_options;
/* drain = "5s" or { within =, over =, again = }: of a module, and of txn.module.NAME:drain. */
extern const segue_option_table segue__drain_options;

/* cert, key, client_ca and client for a struct with these fields; for each user a table. */
#define SEGUE__TLS_ROWS(owner)                                                                     \
  {.name = "cert",                                                                                 \
   .type = SEGUE_OPTION_PATH,                                                                      \
   .offset = offsetof(owner, cert),                                                                \
   .flags = SEGUE_OPTION_REQUIRED,                                                                 \
   .example = "cert = \"server.pem\"",                                                             \
   .doc = "PEM file: the certificate, then those that lead to its CA"},                            \
      {.name = "key",                                                                              \
       .type = SEGUE_OPTION_PATH,                                                                  \
       .offset = offsetof(owner, key),                                                             \
       .flags = SEGUE_OPTION_REQUIRED,                                                             \
       .example = "key = \"server.key\"",                                                          \
       .doc = "PEM file that only this user can read"},                                            \
      {.name = "client_ca",                                                                        \
       .type = SEGUE_OPTION_PATH,                                                                  \
       .offset = offsetof(owner, client_ca),                                                       \
       .doc = "PEM file: the CA that signs the certificates of clients"},                          \
  {                                                                                                \
    .name = "client", .type = SEGUE_OPTION_SWITCH, .offset = offsetof(owner, client_optional),     \
    .choices = "required|optional", .fallback = "required",                                        \
    .doc = "whether a client must have a certificate"                                              \
  }
/* For the check of such a table. */
void segue__tls_options_check(const segue_option_report *given, segue_option_report *report);

#endif

/* SPDX-License-Identifier: MIT
 *
 * libcurl.h: libcurl, loaded by dlopen: linking it would make every start of the daemon load some
 * thirty libraries. The first caller loads it, for the life of the process.
 */
#ifndef SEGUE_HTTP_CURL_H
#define SEGUE_HTTP_CURL_H

#include <curl/curl.h>

#include "../os/error.h"

/* curl.h wraps some of these in type-checking macros; here they are called through pointers. */
#define SEGUE__CURL_FUNCTIONS(X)                                                                   \
  X(global_init, curl_global_init)                                                                 \
  X(easy_init, curl_easy_init)                                                                     \
  X(setopt, (curl_easy_setopt))                                                                    \
  X(perform, curl_easy_perform)                                                                    \
  X(getinfo, (curl_easy_getinfo))                                                                  \
  X(pause, curl_easy_pause)                                                                        \
  X(cleanup, curl_easy_cleanup)                                                                    \
  X(strerror, curl_easy_strerror)                                                                  \
  X(append, curl_slist_append)                                                                     \
  X(free_all, curl_slist_free_all)                                                                 \
  X(multi_init, curl_multi_init)                                                                   \
  X(multi_setopt, (curl_multi_setopt))                                                             \
  X(multi_add, curl_multi_add_handle)                                                              \
  X(multi_remove, curl_multi_remove_handle)                                                        \
  X(multi_action, curl_multi_socket_action)                                                        \
  X(multi_assign, curl_multi_assign)                                                               \
  X(multi_read, curl_multi_info_read)                                                              \
  X(multi_cleanup, curl_multi_cleanup)

typedef struct segue__curl {
#define X(name, function) __typeof__(&function) name;
  SEGUE__CURL_FUNCTIONS(X)
#undef X
} segue__curl;

/* Returns NULL, and the reason in err, if libcurl is not installed. [any thread] */
const segue__curl *segue__curl_load(segue_error *err);

#endif

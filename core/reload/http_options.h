/* SPDX-License-Identifier: MIT
 *
 * http_options.h: the options of segue.http.
 */
#ifndef SEGUE_RELOAD_HTTP_OPTIONS_H
#define SEGUE_RELOAD_HTTP_OPTIONS_H

#include "../options/options.h"
#include "listener_options.h"

/* The kind "http" of the family "trigger"; its struct is a segue__http_spec. */
extern const segue_option_table segue__http_options;

#endif

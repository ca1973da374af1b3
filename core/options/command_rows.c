/* SPDX-License-Identifier: MIT
 *
 * Checks that all options of commands share.
 */
#include "command_rows.h"

#include <string.h>

void segue__options_check_variables(const segue_option_pair *variables, size_t count,
                                    const char *option, segue_option_report *report) {
  for (size_t i = 0; i < count; i++)
    if (!*variables[i].key || strchr(variables[i].key, '='))
      segue_option_wrong(report, option, "must have names of variables as keys, not \"%s\"",
                         variables[i].key);
}

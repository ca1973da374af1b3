/* SPDX-License-Identifier: MIT
 *
 * segue.source { plugin = ... } for a source in C: its table validates the options, and its open
 * makes the source. A check of a policy comes here too, so nothing is connected yet.
 */
#include <uv.h>

#include "../../source/c_source.h"
#include "policy.h"

const segue__source_kind segue__source_plugin = {.name = "plugin",
                                                 .options = &segue__source_plugin_options};

int segue__plugin_source_open(const segue__lua_options *options, const segue__kind_place *place,
                              const segue_node *node, segue__source *source, segue_error *err) {
  const segue_source_descriptor *descriptor = NULL;
  const segue_node *plugin = segue_node_member(node, "plugin");
  segue__option_values *values = NULL;
  int rc = segue__source_resolve(options, place, plugin->v.s, source, &descriptor, err);
  if (!rc) rc = segue__plugin_options(place, node, descriptor->options, &values);
  if (!rc) rc = segue__c_source_open(source, descriptor, values, err);
  segue__option_values_unref(values);
  if (rc && rc != UV_ENOMEM) rc = err->code = SEGUE_EPOLICY;
  return rc;
}

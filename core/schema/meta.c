/* SPDX-License-Identifier: MIT
 *
 * The metaschemas of draft 2020-12, for schemas that refer to them: the assertions of the draft's
 * own files, without their titles and comments.
 */
#include <string.h>

#include "schema_internal.h"

#define BASE "https://json-schema.org/draft/2020-12/"
#define HEAD(name)                                                                                 \
  "{\"$schema\":\"" BASE "schema\",\"$id\":\"" BASE name "\",\"$dynamicAnchor\":\"meta\","
#define VOCABULARY(name) "\"" BASE "vocab/" name "\":true"
#define VOCABULARIES                                                                                      \
  VOCABULARY("core")                                                                                      \
  "," VOCABULARY("applicator") "," VOCABULARY("unevaluated") "," VOCABULARY("validation") "," VOCABULARY( \
      "meta-data") "," VOCABULARY("format-annotation") "," VOCABULARY("content")
#define SELF "{\"$dynamicRef\":\"#meta\"}"
#define MAP_OF_SELF "{\"type\":\"object\",\"additionalProperties\":" SELF "}"
#define TYPES "\"type\":[\"object\",\"boolean\"]"
#define COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define STRINGS "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}"
#define TEXT "{\"type\":\"string\"}"

static const struct {
  const char *name, *text;
} metaschemas[] = {
    {"schema",
     HEAD("schema") "\"$vocabulary\":{" VOCABULARIES "},"
                    "\"allOf\":[{\"$ref\":\"meta/core\"},{\"$ref\":\"meta/applicator\"},"
                    "{\"$ref\":\"meta/unevaluated\"},{\"$ref\":\"meta/validation\"},"
                    "{\"$ref\":\"meta/meta-data\"},{\"$ref\":\"meta/format-annotation\"},"
                    "{\"$ref\":\"meta/content\"}]," TYPES ",\"properties\":{"
                    "\"definitions\":" MAP_OF_SELF ",\"dependencies\":{\"type\":\"object\","
                    "\"additionalProperties\":{\"anyOf\":[" SELF ",{\"$ref\":"
                    "\"meta/validation#/$defs/stringArray\"}]}},"
                    "\"$recursiveAnchor\":{\"$ref\":\"meta/core#/$defs/anchorString\"},"
                    "\"$recursiveRef\":{\"$ref\":\"meta/core#/$defs/uriReferenceString\"}}}"},
    {"meta/core", HEAD("meta/core") TYPES
     ",\"properties\":{\"$id\":{\"$ref\":\"#/$defs/uriReferenceString\","
     "\"pattern\":\"^[^#]*#?$\"},\"$schema\":{\"$ref\":\"#/$defs/uriString\"},"
     "\"$ref\":{\"$ref\":\"#/$defs/uriReferenceString\"},"
     "\"$anchor\":{\"$ref\":\"#/$defs/anchorString\"},"
     "\"$dynamicRef\":{\"$ref\":\"#/$defs/uriReferenceString\"},"
     "\"$dynamicAnchor\":{\"$ref\":\"#/$defs/anchorString\"},"
     "\"$vocabulary\":{\"type\":\"object\",\"propertyNames\":{\"$ref\":\"#/$defs/uriString\"},"
     "\"additionalProperties\":{\"type\":\"boolean\"}},\"$comment\":" TEXT ",\"$defs\":" MAP_OF_SELF
     "},\"$defs\":{\"anchorString\":{\"type\":\"string\","
     "\"pattern\":\"^[A-Za-z_][-A-Za-z0-9._]*$\"},"
     "\"uriString\":{\"type\":\"string\",\"format\":\"uri\"},"
     "\"uriReferenceString\":{\"type\":\"string\",\"format\":\"uri-reference\"}}}"},
    {"meta/applicator", HEAD("meta/applicator") TYPES
     ",\"properties\":{\"prefixItems\":{\"$ref\":\"#/$defs/schemaArray\"},\"items\":" SELF
     ",\"contains\":" SELF ",\"additionalProperties\":" SELF ",\"properties\":" MAP_OF_SELF
     ",\"patternProperties\":{\"type\":\"object\",\"additionalProperties\":" SELF
     ",\"propertyNames\":{\"format\":\"regex\"}},\"dependentSchemas\":" MAP_OF_SELF
     ",\"propertyNames\":" SELF ",\"if\":" SELF ",\"then\":" SELF ",\"else\":" SELF
     ",\"allOf\":{\"$ref\":\"#/$defs/schemaArray\"},\"anyOf\":{\"$ref\":\"#/$defs/schemaArray\"},"
     "\"oneOf\":{\"$ref\":\"#/$defs/schemaArray\"},\"not\":" SELF
     "},\"$defs\":{\"schemaArray\":{\"type\":\"array\",\"minItems\":1,\"items\":" SELF "}}}"},
    {"meta/unevaluated", HEAD("meta/unevaluated") TYPES
     ",\"properties\":{\"unevaluatedItems\":" SELF ",\"unevaluatedProperties\":" SELF "}}"},
    {"meta/validation", HEAD("meta/validation") TYPES
     ",\"properties\":{\"type\":{\"anyOf\":[{\"$ref\":\"#/$defs/simpleTypes\"},"
     "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/simpleTypes\"},\"minItems\":1,"
     "\"uniqueItems\":true}]},\"const\":true,\"enum\":{\"type\":\"array\",\"items\":true},"
     "\"multipleOf\":{\"type\":\"number\",\"exclusiveMinimum\":0},"
     "\"maximum\":{\"type\":\"number\"},\"exclusiveMaximum\":{\"type\":\"number\"},"
     "\"minimum\":{\"type\":\"number\"},\"exclusiveMinimum\":{\"type\":\"number\"},"
     "\"maxLength\":" COUNT ",\"minLength\":" COUNT
     ",\"pattern\":{\"type\":\"string\",\"format\":\"regex\"},\"maxItems\":" COUNT
     ",\"minItems\":" COUNT ",\"uniqueItems\":{\"type\":\"boolean\"},\"maxContains\":" COUNT
     ",\"minContains\":" COUNT ",\"maxProperties\":" COUNT ",\"minProperties\":" COUNT
     ",\"required\":{\"$ref\":\"#/$defs/stringArray\"},\"dependentRequired\":{\"type\":\"object\","
     "\"additionalProperties\":{\"$ref\":\"#/$defs/stringArray\"}}},\"$defs\":{"
     "\"simpleTypes\":{\"enum\":[\"array\",\"boolean\",\"integer\",\"null\",\"number\",\"object\","
     "\"string\"]},\"stringArray\":" STRINGS "}}"},
    {"meta/meta-data", HEAD("meta/meta-data") TYPES
     ",\"properties\":{\"title\":" TEXT ",\"description\":" TEXT
     ",\"default\":true,\"deprecated\":{\"type\":\"boolean\"},\"readOnly\":{\"type\":\"boolean\"},"
     "\"writeOnly\":{\"type\":\"boolean\"},\"examples\":{\"type\":\"array\",\"items\":true}}}"},
    {"meta/format-annotation",
     HEAD("meta/format-annotation") TYPES ",\"properties\":{\"format\":" TEXT "}}"},
    {"meta/format-assertion",
     HEAD("meta/format-assertion") TYPES ",\"properties\":{\"format\":" TEXT "}}"},
    {"meta/content",
     HEAD("meta/content") TYPES ",\"properties\":{\"contentEncoding\":" TEXT
                                ",\"contentMediaType\":" TEXT ",\"contentSchema\":" SELF "}}"},
};

const char *segue__metaschema(const char *uri) {
  size_t base = sizeof BASE - 1;
  if (strncmp(uri, BASE, base) != 0) return NULL;
  for (size_t i = 0; i < sizeof metaschemas / sizeof *metaschemas; i++)
    if (!strcmp(uri + base, metaschemas[i].name)) return metaschemas[i].text;
  return NULL;
}

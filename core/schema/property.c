/* SPDX-License-Identifier: MIT
 *
 * \p{...}: properties of characters. Translates the names of ECMA-262 to those of PCRE2. A name
 * that is not in these tables is rejected, so that PCRE2's own extensions and its tolerant matching
 * of names have no effect.
 */
#include <string.h>

#include "schema_internal.h"

typedef struct alias {
  const char *name, *alias, *pcre;
} alias;

static const alias categories[] = {
    {"Cased_Letter", "LC", "L&"},
    {"Close_Punctuation", "Pe", "Pe"},
    {"Connector_Punctuation", "Pc", "Pc"},
    {"Control", "Cc", "Cc"},
    {"cntrl", "Cc", "Cc"},
    {"Currency_Symbol", "Sc", "Sc"},
    {"Dash_Punctuation", "Pd", "Pd"},
    {"Decimal_Number", "Nd", "Nd"},
    {"digit", "Nd", "Nd"},
    {"Enclosing_Mark", "Me", "Me"},
    {"Final_Punctuation", "Pf", "Pf"},
    {"Format", "Cf", "Cf"},
    {"Initial_Punctuation", "Pi", "Pi"},
    {"Letter", "L", "L"},
    {"Letter_Number", "Nl", "Nl"},
    {"Line_Separator", "Zl", "Zl"},
    {"Lowercase_Letter", "Ll", "Ll"},
    {"Mark", "M", "M"},
    {"Combining_Mark", "M", "M"},
    {"Math_Symbol", "Sm", "Sm"},
    {"Modifier_Letter", "Lm", "Lm"},
    {"Modifier_Symbol", "Sk", "Sk"},
    {"Nonspacing_Mark", "Mn", "Mn"},
    {"Number", "N", "N"},
    {"Open_Punctuation", "Ps", "Ps"},
    {"Other", "C", "C"},
    {"Other_Letter", "Lo", "Lo"},
    {"Other_Number", "No", "No"},
    {"Other_Punctuation", "Po", "Po"},
    {"Other_Symbol", "So", "So"},
    {"Paragraph_Separator", "Zp", "Zp"},
    {"Private_Use", "Co", "Co"},
    {"Punctuation", "P", "P"},
    {"punct", "P", "P"},
    {"Separator", "Z", "Z"},
    {"Space_Separator", "Zs", "Zs"},
    {"Spacing_Mark", "Mc", "Mc"},
    {"Surrogate", "Cs", "Cs"},
    {"Symbol", "S", "S"},
    {"Titlecase_Letter", "Lt", "Lt"},
    {"Unassigned", "Cn", "Cn"},
    {"Uppercase_Letter", "Lu", "Lu"},
};

static const alias binaries[] = {
    {"Any", "Any", "Any"},
    {"ASCII", "ASCII", "ASCII"},
    {"ASCII_Hex_Digit", "AHex", "AHex"},
    {"Alphabetic", "Alpha", "Alpha"},
    {"Bidi_Control", "Bidi_C", "Bidi_C"},
    {"Bidi_Mirrored", "Bidi_M", "Bidi_M"},
    {"Case_Ignorable", "CI", "CI"},
    {"Cased", "Cased", "Cased"},
    {"Changes_When_Casefolded", "CWCF", "CWCF"},
    {"Changes_When_Casemapped", "CWCM", "CWCM"},
    {"Changes_When_Lowercased", "CWL", "CWL"},
    {"Changes_When_Titlecased", "CWT", "CWT"},
    {"Changes_When_Uppercased", "CWU", "CWU"},
    {"Dash", "Dash", "Dash"},
    {"Default_Ignorable_Code_Point", "DI", "DI"},
    {"Deprecated", "Dep", "Dep"},
    {"Diacritic", "Dia", "Dia"},
    {"Emoji", "Emoji", "Emoji"},
    {"Emoji_Component", "EComp", "EComp"},
    {"Emoji_Modifier", "EMod", "EMod"},
    {"Emoji_Modifier_Base", "EBase", "EBase"},
    {"Emoji_Presentation", "EPres", "EPres"},
    {"Extended_Pictographic", "ExtPict", "ExtPict"},
    {"Extender", "Ext", "Ext"},
    {"Grapheme_Base", "Gr_Base", "Gr_Base"},
    {"Grapheme_Extend", "Gr_Ext", "Gr_Ext"},
    {"Hex_Digit", "Hex", "Hex"},
    {"IDS_Binary_Operator", "IDSB", "IDSB"},
    {"IDS_Trinary_Operator", "IDST", "IDST"},
    {"ID_Continue", "IDC", "IDC"},
    {"ID_Start", "IDS", "IDS"},
    {"Ideographic", "Ideo", "Ideo"},
    {"Join_Control", "Join_C", "Join_C"},
    {"Logical_Order_Exception", "LOE", "LOE"},
    {"Lowercase", "Lower", "Lower"},
    {"Math", "Math", "Math"},
    {"Noncharacter_Code_Point", "NChar", "NChar"},
    {"Pattern_Syntax", "Pat_Syn", "Pat_Syn"},
    {"Pattern_White_Space", "Pat_WS", "Pat_WS"},
    {"Quotation_Mark", "QMark", "QMark"},
    {"Radical", "Radical", "Radical"},
    {"Regional_Indicator", "RI", "RI"},
    {"Sentence_Terminal", "STerm", "STerm"},
    {"Soft_Dotted", "SD", "SD"},
    {"Terminal_Punctuation", "Term", "Term"},
    {"Unified_Ideograph", "UIdeo", "UIdeo"},
    {"Uppercase", "Upper", "Upper"},
    {"Variation_Selector", "VS", "VS"},
    {"White_Space", "space", "space"},
    {"XID_Continue", "XIDC", "XIDC"},
    {"XID_Start", "XIDS", "XIDS"},
};

static bool property_same(const char *name, const char *text, size_t len) {
  return strlen(name) == len && !memcmp(name, text, len);
}

static bool property_find(const alias *table, size_t count, const char *name, size_t len,
                          segue__buf *out) {
  for (size_t i = 0; i < count; i++) {
    if (!property_same(table[i].name, name, len) && !property_same(table[i].alias, name, len))
      continue;
    segue__buf_adds(out, table[i].pcre);
    return true;
  }
  return false;
}

/* Copies the name of a script without a check: PCRE2 rejects names that it does not know. */
static bool add_script(const char *kind, const char *name, size_t len, segue__buf *out) {
  for (size_t i = 0; i < len; i++)
    if (!((name[i] | 32) >= 'a' && (name[i] | 32) <= 'z') && name[i] != '_') return false;
  segue__buf_adds(out, kind);
  segue__buf_add(out, name, len);
  return len > 0;
}

#define COUNT(table) (sizeof(table) / sizeof *(table))

bool segue__regex_property(const char *name, size_t len, bool *negate, segue__buf *out) {
  const char *equals = memchr(name, '=', len);
  *negate = false;
  if (!equals) {
    if (property_same("Assigned", name, len)) {
      *negate = true;
      segue__buf_adds(out, "Cn");
      return true;
    }
    return property_find(categories, COUNT(categories), name, len, out) ||
           property_find(binaries, COUNT(binaries), name, len, out);
  }
  size_t key = (size_t)(equals - name), rest = len - key - 1;
  if (property_same("General_Category", name, key) || property_same("gc", name, key))
    return property_find(categories, COUNT(categories), equals + 1, rest, out);
  if (property_same("Script", name, key) || property_same("sc", name, key))
    return add_script("sc:", equals + 1, rest, out);
  if (property_same("Script_Extensions", name, key) || property_same("scx", name, key))
    return add_script("scx:", equals + 1, rest, out);
  return false;
}

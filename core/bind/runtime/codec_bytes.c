/* SPDX-License-Identifier: MIT
 *
 * segue.base64, segue.percent and segue.hash: bytes as text, and digests. No hook of Lua's reaches
 * a loop in C, so each of them works in blocks and looks at the CPU budget between two of them.
 * OpenSSL makes the digests that protocols name; it is loaded on first use.
 */
#include <string.h>

#include "../../http/openssl.h"
#include "../../os/base64.h"
#include "../../os/hex.h"
#include "lua_document.h"

enum { BLOCK = 192 * 1024, DIGEST_MAX = 64 }; /* a block is a multiple of 3 and of 4 */

static void bytes_check_budget(lua_State *L) {
  if (segue__budget_is_spent(segue__lua_of(L)->budget)) segue__budget_raise(L);
}

static int bytes_refuse(lua_State *L, const char *what, size_t at) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s at byte %d", what, (int)at + 1);
  lua_pushstring(L, segue_error_name(SEGUE_ESYNTAX));
  return 3;
}

/* ---- base64 (RFC 4648) ----------------------------------------------------------------------- */

/* base64_encode(bytes, url) -> text; the form for URLs has no padding */
static int base64_encode(lua_State *L) {
  size_t len, used = 0;
  const char *in = luaL_checklstring(L, 1, &len);
  bool url = lua_toboolean(L, 2);
  char *out = lua_newuserdata(L, len / 3 * 4 + 4);
  for (size_t i = 0; i < len; i += BLOCK) {
    bytes_check_budget(L);
    used += segue__base64_encode(out + used, in + i, len - i < BLOCK ? len - i : BLOCK, url);
  }
  lua_pushlstring(L, out, used);
  return 1;
}

/* base64_decode(text, url) -> bytes. Padding may be missing in the form for URLs only. Bits that
 * are left over must be 0: two texts never stand for the same bytes. */
static int base64_decode(lua_State *L) {
  size_t len, used = 0;
  const char *in = luaL_checklstring(L, 1, &len);
  bool url = lua_toboolean(L, 2);
  size_t whole = segue__base64_letters(in, len, url);
  if (whole == (size_t)-1) return bytes_refuse(L, "the text ends too early for base64", len);
  unsigned char *out = lua_newuserdata(L, whole + 1);
  for (size_t i = 0; i < whole; i += BLOCK) {
    size_t n = whole - i < BLOCK ? whole - i : BLOCK, made = 0, at = 0;
    bytes_check_budget(L);
    segue__base64_result result = segue__base64_decode(out + used, in + i, n, url, &made, &at);
    if (result == SEGUE__BASE64_LETTER) return bytes_refuse(L, "no base64", i + at);
    if (result) return bytes_refuse(L, "bits are left over in base64", whole - 1);
    used += made;
  }
  lua_pushlstring(L, (const char *)out, used);
  return 1;
}

/* ---- Percent-encoding (RFC 3986) ------------------------------------------------------------- */

static bool percent_is_free(unsigned char c, const char *more, size_t len) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~' || memchr(more, c, len) != NULL;
}

/* percent_encode(text, more): the characters in `more` stay as they are too */
static int percent_encode(lua_State *L) {
  size_t len, more_len, used = 0;
  const unsigned char *in = (const unsigned char *)luaL_checklstring(L, 1, &len);
  const char *more = luaL_optlstring(L, 2, "", &more_len);
  bool free[256];
  for (int c = 0; c < 256; c++)
    free[c] = percent_is_free((unsigned char)c, more, more_len);
  char *out = lua_newuserdata(L, len * 3 + 1);
  for (size_t i = 0; i < len; i++) {
    if (!(i % BLOCK)) bytes_check_budget(L);
    if (free[in[i]]) {
      out[used++] = (char)in[i];
      continue;
    }
    out[used++] = '%';
    out[used++] = segue__hex_capital(in[i] >> 4);
    out[used++] = segue__hex_capital(in[i]);
  }
  lua_pushlstring(L, out, used);
  return 1;
}

static int percent_decode(lua_State *L) {
  size_t len, used = 0;
  const char *in = luaL_checklstring(L, 1, &len);
  char *out = lua_newuserdata(L, len + 1);
  for (size_t i = 0; i < len; i++) {
    if (!(i % BLOCK)) bytes_check_budget(L);
    if (in[i] != '%') {
      out[used++] = in[i];
      continue;
    }
    int high = i + 2 < len ? segue__hex_value(in[i + 1]) : -1;
    int low = i + 2 < len ? segue__hex_value(in[i + 2]) : -1;
    if (high < 0 || low < 0) return bytes_refuse(L, "no two hex digits after '%'", i);
    out[used++] = (char)(high << 4 | low);
    i += 2;
  }
  lua_pushlstring(L, out, used);
  return 1;
}

/* ---- Digests --------------------------------------------------------------------------------- */

typedef struct digest {
  const segue__openssl *openssl;
  const EVP_MD *type;
  EVP_MD_CTX **context; /* in a userdata: freed also if the budget raises */
  size_t block;         /* bytes of a block, for HMAC */
} digest;

static int digest_collect(lua_State *L) {
  EVP_MD_CTX **context = lua_touserdata(L, 1);
  const segue__openssl *o = *context ? segue__openssl_load(NULL) : NULL;
  if (o) o->EVP_MD_CTX_free(*context);
  *context = NULL;
  return 0;
}

static const EVP_MD *digest_type(const segue__openssl *o, const char *name, size_t *block) {
  *block = 64;
  if (!strcmp(name, "sha256")) return o->EVP_sha256();
  if (!strcmp(name, "sha1")) return o->EVP_sha1();
  if (!strcmp(name, "md5")) return o->EVP_md5();
  *block = 128;
  return !strcmp(name, "sha512") ? o->EVP_sha512() : NULL;
}

/* Creates the context of OpenSSL in a userdata, which it pushes: an error that the budget raises
 * then cannot leak it. */
static bool digest_open(lua_State *L, digest *d, const char *name, segue_error *err) {
  d->context = lua_newuserdata(L, sizeof(EVP_MD_CTX *));
  *d->context = NULL;
  if (luaL_newmetatable(L, "segue.digest")) {
    lua_pushcfunction(L, digest_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  d->openssl = segue__openssl_load(err);
  if (!d->openssl) return false;
  d->type = digest_type(d->openssl, name, &d->block);
  if (!d->type) return luaL_error(L, "there is no digest '%s'", name);
  *d->context = d->openssl->EVP_MD_CTX_new();
  if (!*d->context) segue__errorf(err, UV_ENOMEM, "%s: out of memory", name);
  return *d->context != NULL;
}

/* Makes a digest of two parts. Returns its length, or 0 if the library refuses (FIPS has no MD5).
 */
static unsigned digest_make(lua_State *L, const digest *d, const void *first, size_t first_len,
                            const char *second, size_t len, unsigned char out[DIGEST_MAX]) {
  const segue__openssl *o = d->openssl;
  unsigned size = 0;
  bool good = o->EVP_DigestInit_ex(*d->context, d->type, NULL) &&
              o->EVP_DigestUpdate(*d->context, first, first_len);
  for (size_t at = 0; good && at < len; at += BLOCK) {
    bytes_check_budget(L);
    good = o->EVP_DigestUpdate(*d->context, second + at, len - at < BLOCK ? len - at : BLOCK);
  }
  return good && o->EVP_DigestFinal_ex(*d->context, out, &size) ? size : 0;
}

/* HMAC (RFC 2104): the digest of the outer key and of the digest of the inner key and the text. */
static unsigned digest_hmac(lua_State *L, const digest *d, const char *key, size_t key_len,
                            const char *text, size_t len, unsigned char out[DIGEST_MAX]) {
  unsigned char pad[128] = {0}, inner[DIGEST_MAX];
  if (key_len > d->block && !digest_make(L, d, "", 0, key, key_len, pad)) return 0;
  if (key_len <= d->block) memcpy(pad, key, key_len);
  for (size_t i = 0; i < d->block; i++)
    pad[i] ^= 0x36;
  unsigned size = digest_make(L, d, pad, d->block, text, len, inner);
  for (size_t i = 0; i < d->block; i++)
    pad[i] ^= 0x36 ^ 0x5c;
  return size ? digest_make(L, d, pad, d->block, (const char *)inner, size, out) : 0;
}

static void push_hex(lua_State *L, const unsigned char *bytes, size_t len) {
  char text[2 * DIGEST_MAX];
  for (size_t i = 0; i < len; i++) {
    text[2 * i] = segue__hex_digit(bytes[i] >> 4);
    text[2 * i + 1] = segue__hex_digit(bytes[i]);
  }
  lua_pushlstring(L, text, 2 * len);
}

/* digest(name, bytes, raw, key) -> hex, or the bytes; nil, message, code without OpenSSL */
static int bytes_digest(lua_State *L) {
  size_t len, key_len;
  const char *name = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
  const char *key = luaL_optlstring(L, 4, NULL, &key_len);
  unsigned char out[DIGEST_MAX];
  segue_error err = {0};
  digest d = {0};
  unsigned size = 0;
  if (digest_open(L, &d, name, &err)) {
    size = key ? digest_hmac(L, &d, key, key_len, text, len, out)
               : digest_make(L, &d, "", 0, text, len, out);
    if (!size) segue__errorf(&err, UV_ENOSYS, "OpenSSL does not make %s on this system", name);
  }
  if (!size) {
    lua_pushnil(L);
    lua_pushstring(L, err.message);
    lua_pushstring(L, segue_error_name(err.code));
    return 3;
  }
  if (lua_toboolean(L, 3))
    lua_pushlstring(L, (const char *)out, size);
  else
    push_hex(L, out, size);
  return 1;
}

/* crc32 of zlib, PNG and Ethernet (polynomial 0xEDB88320): 8 hex digits */
static int bytes_crc32(lua_State *L) {
  size_t len;
  const unsigned char *in = (const unsigned char *)luaL_checklstring(L, 1, &len);
  uint32_t table[256], crc = 0xffffffff;
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int bit = 0; bit < 8; bit++)
      table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
  }
  for (size_t i = 0; i < len; i++) {
    if (!(i % BLOCK)) bytes_check_budget(L);
    crc = crc >> 8 ^ table[(crc ^ in[i]) & 255];
  }
  crc = ~crc;
  unsigned char out[] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                         (unsigned char)(crc >> 8), (unsigned char)crc};
  push_hex(L, out, sizeof out);
  return 1;
}

/* xxh3 (128 bits), as Segue's own hashes: 32 hex digits. It reads several gigabytes a second. */
static int bytes_xxh3(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  char hex[33];
  segue__hash_hex(segue__hash_bytes(text, len, (segue__hash){0, 0}), hex);
  lua_pushstring(L, hex);
  return 1;
}

void segue__codec_bytes_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"base64_encode", base64_encode},
                                       {"base64_decode", base64_decode},
                                       {"percent_encode", percent_encode},
                                       {"percent_decode", percent_decode},
                                       {"digest", bytes_digest},
                                       {"crc32", bytes_crc32},
                                       {"xxh3", bytes_xxh3},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}

/* SPDX-License-Identifier: MIT
 *
 * Properties of a shared object, read from its bytes. The system's loader runs constructors before
 * any check is possible, and crashes on a truncated file; so the checks that come before loading
 * are here. Every offset comes from an untrusted file and is compared with the length before it is
 * followed.
 */
#include <elf.h>
#include <link.h>
#include <string.h>

#include "../os/error.h"
#include "plugin.h"

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#elif defined(__riscv)
enum { MACHINE = EM_RISCV };
#else
enum { MACHINE = EM_NONE }; /* an unknown machine: the system's loader checks it */
#endif

#if __SIZEOF_POINTER__ == 8
enum { CLASS = ELFCLASS64 };
#else
enum { CLASS = ELFCLASS32 };
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { DATA = ELFDATA2LSB };
#else
enum { DATA = ELFDATA2MSB };
#endif

typedef struct image {
  const char *bytes;
  size_t len;
  ElfW(Ehdr) head;
} image;

/* Copies, because the bytes need not be aligned. */
static bool plugin_elf_take(const image *in, size_t at, void *out, size_t size) {
  if (at > in->len || size > in->len - at) return false;
  memcpy(out, in->bytes + at, size);
  return true;
}

static bool plugin_elf_section(const image *in, size_t index, ElfW(Shdr) * out) {
  return index < in->head.e_shnum && in->head.e_shoff <= in->len &&
         plugin_elf_take(in, in->head.e_shoff + index * sizeof *out, out, sizeof *out);
}

static bool plugin_elf_segment(const image *in, size_t index, ElfW(Phdr) * out) {
  return index < in->head.e_phnum && in->head.e_phoff <= in->len &&
         plugin_elf_take(in, in->head.e_phoff + index * sizeof *out, out, sizeof *out);
}

static int check_head(image *in, segue_error *err) {
  if (!plugin_elf_take(in, 0, &in->head, sizeof in->head) ||
      memcmp(in->head.e_ident, ELFMAG, SELFMAG) != 0)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "is not a shared object: build it with cc -shared -fPIC");
  if (in->head.e_ident[EI_CLASS] != CLASS || in->head.e_ident[EI_DATA] != DATA ||
      (MACHINE != EM_NONE && in->head.e_machine != MACHINE))
    return segue__errorf(err, SEGUE_EPOLICY,
                         "was built for another kind of machine: build it on this one");
  if (in->head.e_type != ET_DYN)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "is not a shared object: build it with cc -shared -fPIC");
  return 0;
}

/* Mapping beyond the end of a file crashes the loader with SIGBUS. */
static int check_whole(const image *in, segue_error *err) {
  ElfW(Phdr) part;
  for (size_t i = 0; i < in->head.e_phnum; i++)
    if (!plugin_elf_segment(in, i, &part) || part.p_offset > in->len ||
        part.p_filesz > in->len - part.p_offset)
      return segue__errorf(err, SEGUE_EPOLICY, "is cut short: copy it again");
  ElfW(Shdr) last;
  if (!in->head.e_shnum || !plugin_elf_section(in, in->head.e_shnum - 1u, &last))
    return segue__errorf(err, SEGUE_EPOLICY, "is cut short: copy it again");
  return 0;
}

static bool plugin_elf_named(const image *in, const ElfW(Shdr) * texts, size_t at,
                             const char *name) {
  size_t size = strlen(name) + 1;
  char text[32];
  return size <= sizeof text && at <= texts->sh_size && size <= texts->sh_size - at &&
         texts->sh_offset <= in->len && plugin_elf_take(in, texts->sh_offset + at, text, size) &&
         !memcmp(text, name, size);
}

static bool find_in(const image *in, const ElfW(Shdr) * symbols, const char *name,
                    ElfW(Sym) * out) {
  ElfW(Shdr) texts;
  if (!plugin_elf_section(in, symbols->sh_link, &texts) || symbols->sh_offset > in->len)
    return false;
  for (size_t i = 0; i < symbols->sh_size / sizeof *out; i++) {
    if (!plugin_elf_take(in, symbols->sh_offset + i * sizeof *out, out, sizeof *out)) return false;
    if (out->st_shndx != SHN_UNDEF && plugin_elf_named(in, &texts, out->st_name, name)) return true;
  }
  return false;
}

static bool find_symbol(const image *in, const char *name, ElfW(Sym) * out) {
  ElfW(Shdr) part;
  for (size_t i = 0; plugin_elf_section(in, i, &part); i++)
    if (part.sh_type == SHT_DYNSYM && find_in(in, &part, name, out)) return true;
  return false;
}

/* Copies the bytes that the file has for an address it will be mapped to. */
static bool take_mapped(const image *in, size_t address, void *out, size_t size) {
  ElfW(Phdr) part;
  for (size_t i = 0; plugin_elf_segment(in, i, &part); i++)
    if (part.p_type == PT_LOAD && address >= part.p_vaddr &&
        address - part.p_vaddr <= part.p_filesz && size <= part.p_filesz - (address - part.p_vaddr))
      return plugin_elf_take(in, part.p_offset + (address - part.p_vaddr), out, size);
  return false;
}

bool segue__plugin_exports(const void *bytes, size_t len, const char *symbol) {
  image in = {.bytes = bytes, .len = len};
  segue_error ignored;
  ElfW(Sym) found;
  return !check_head(&in, &ignored) && !check_whole(&in, &ignored) &&
         find_symbol(&in, symbol, &found);
}

int segue__plugin_inspect(const void *bytes, size_t len, const char *symbol, uint32_t *magic,
                          uint32_t *abi, size_t *size, segue_error *err) {
  image in = {.bytes = bytes, .len = len};
  ElfW(Sym) found;
  struct {
    uint32_t magic, abi;
    size_t size;
  } begin;
  int rc = check_head(&in, err);
  if (!rc) rc = check_whole(&in, err);
  if (rc) return rc;
  if (!find_symbol(&in, symbol, &found) || !take_mapped(&in, found.st_value, &begin, sizeof begin))
    return segue__errorf(err, SEGUE_EPOLICY,
                         "exports no segue_module: it is not a module of segue, or does not define "
                         "its segue_module_descriptor with SEGUE_API");
  *magic = begin.magic;
  *abi = begin.abi;
  *size = begin.size;
  return 0;
}

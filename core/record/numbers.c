/* SPDX-License-Identifier: MIT
 *
 * The numbers of reloads and generations as one small value.
 */
#include "numbers.h"

#include <uv.h>

#include "../os/mem.h"

enum { LENGTH = 16 };

int segue__numbers_init(segue__two_slot_file *state_file, const segue__logger *log,
                        const char *folder) {
  return segue__two_slot_file_init(state_file, log, folder, "numbers", "SEGUENO1");
}

segue__numbers segue__numbers_block(const segue__numbers *given) {
  return (segue__numbers){given->reload + SEGUE__NUMBERS_RELOADS,
                          given->generation + SEGUE__NUMBERS_GENERATIONS};
}

int segue__numbers_write(segue__two_slot_file *state_file, const segue__numbers *numbers) {
  segue__buf b;
  segue__buf_init(&b);
  segue__two_slot_file_begin(state_file, &b);
  segue__put_number(&b, numbers->reload, 8);
  segue__put_number(&b, numbers->generation, 8);
  int rc = segue__two_slot_file_write(state_file, &b);
  segue__buf_deinit(&b);
  return rc;
}

int segue__numbers_read(segue__two_slot_file *state_file, segue__numbers *numbers) {
  segue__bytes file;
  const char *at;
  size_t len;
  *numbers = (segue__numbers){0};
  int rc = segue__two_slot_file_read(state_file, &file, &at, &len);
  if (rc) return rc;
  if (len == LENGTH)
    *numbers = (segue__numbers){segue__get_number(at, 8), segue__get_number(at + 8, 8)};
  segue__free(file.data);
  return len == LENGTH ? 0 : UV_ENOENT;
}

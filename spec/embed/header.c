/* SPDX-License-Identifier: MIT
 *
 * A host whose own macros have short names, in the common subset of C99, C11 and C++. It calls
 * every inline function and macro of segue.h. This file is only compiled: `make lint` compiles it
 * as C and as C++ with the warnings of strict hosts, header_spec as C.
 */
#define X 7
#include <segue.h>
#if X != 7
#error "segue.h changes a macro of its host"
#endif

int header_use(segue *s, segue_reader *reader, segue_error *error);

int header_use(segue *s, segue_reader *reader, segue_error *error) {
  segue_options options;
  uint64_t generation = 0;
  segue_options_init(&options);
  generation += segue_snapshot_generation(segue_read_begin(s));
  segue_read_end(s);
  generation += segue_snapshot_generation(segue_reader_begin(reader));
  segue_reader_end(reader);
  if (options.size != sizeof options || generation == X)
    return segue_error_set(error, SEGUE_EUSAGE, "generation %d", X);
  return 0;
}

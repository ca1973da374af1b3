-- SPDX-License-Identifier: MIT
-- The mutants of core/files that came with drift, mount points, removed files and large sets; a
-- part of mutants.lua.

local mount = "spec/fault/files_mount_spec.lua"

return function(_)
  return {
    { "the state of a file that is written in place", "core/files/put.c",
      "int rc = put_check_stamp(target, expected);", "int rc = 0; (void)expected;", mount },
    { "the lease of a file that is written in place", "core/files/put.c",
      "&& !fcntl(target, F_SETLEASE, F_WRLCK);", "&& 0;", mount },
    { "the bytes of a file that was written in place", "core/files/put.c",
      "if (n != m || memcmp(want, have, (size_t)n) != 0) return SEGUE_ECONFLICT;", "", mount },
    { "a copy where no link can be made", "core/files/commit.c",
      "if (rc) rc = segue__file_copy(from, file->second, NULL);", "", mount },
    { "a commit that ends where no copy can be made", "core/files/commit.c",
      "if (rc) rc = segue__file_copy(from, file->second, NULL);",
      "if (rc) rc = 0;", mount },
  }
end

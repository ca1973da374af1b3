-- SPDX-License-Identifier: MIT
-- Runs before each spec file (busted --helper). The sanitizer that was preloaded for this process
-- is not for the programs that it starts: programs that need it are linked with it. The resources
-- that each spec holds are counted around it.
local ffi = require "ffi"
ffi.cdef "int unsetenv(const char *name);"
ffi.C.unsetenv("LD_PRELOAD")

require("spec.support.borrowed").release_after_each_spec()
require("spec.support.held").check_each_spec()

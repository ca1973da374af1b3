#!/bin/sh
# SPDX-License-Identifier: MIT
# The checks of `make lint` that need no building: layout, warnings of two compilers, luacheck, and
# the rules of the house (spec/support/house.lua). Arguments: the C files. All checks run, so that one
# pass shows everything; the exit code is that of the worst.
set -u
# Unquoted below, so the quotes that the shell would take off are taken off here.
flags="-std=c11 -fsyntax-only -pthread -Wall -Wextra -Werror -I. -Icore $(echo "$CPPFLAGS" | tr -d \')"
headers=$(find core spec -name '*.h' -not -path 'spec/support/cdef/*')
failed=0

check() {
  name=$1
  shift
  printf '  lint    %s\n' "$name"
  "$@" || { failed=1; echo "lint: $name failed" >&2; }
}

each() { # each COMMAND... : one process per file, two at a time
  printf '%s\n' $files | xargs -P "$(nproc)" -n 1 "$@"
}

lua() {
  find . -name '*.lua' -not -path './build*' -print0 | xargs -0 luacheck -q --no-color --codes
}


files="$*"
layout() {
  wrong=$(clang-format --dry-run $files $headers 2>&1 | sed -n 's/^\([^ :]*:[0-9]*\):[0-9]*: warning.*/\1/p')
  [ -z "$wrong" ] && return 0
  printf '%s: not laid out as .clang-format says\n' $wrong | head -20
  echo "Run: make format"
  return 1
}
check "clang-format" layout
check "gcc" each gcc $flags
check "gcc, test build" each gcc $flags -DSEGUE_TEST
check "clang" each clang $flags
check "clang, test build" each clang $flags -DSEGUE_TEST
for std in c99 c11 c17; do
  check "core/segue.h alone as $std" gcc -x c -std=$std -pedantic -Wall -Wextra -Werror \
    -fsyntax-only core/segue.h
done
for std in c++11 c++17; do
  check "core/segue.h alone as $std" g++ -x c++ -std=$std -pedantic -Wall -Wextra -Werror \
    -fsyntax-only core/segue.h
done
strict="-pedantic -Wall -Wextra -Wshadow -Wold-style-cast -Wzero-as-null-pointer-constant -Werror"
for compiler in g++ clang++; do
  for std in c++11 c++20; do
    check "spec/embed/header.c as $std, $compiler" $compiler -x c++ -std=$std $strict -Icore \
      -fsyntax-only spec/embed/header.c
  done
done
check "house" luajit spec/support/house.lua
check "luacheck" lua

exit $failed

#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every fuzzer in folder $1 under AFL++ for $2 seconds, FUZZ_JOBS (2) at a time, on its corpus
# in spec/fuzz/corpus. What it found stays in the build folder, and fails the run.
set -eu
folder=$1
seconds=$2
export AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_NO_UI=1 AFL_QUIET=1
export AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=0:symbolize=0

find "$folder" -maxdepth 1 -type f -perm -u+x | sort | xargs -P "${FUZZ_JOBS:-2}" -I{} sh -c '
  name=$(basename "$1")
  rm -rf "$1.out"
  if ! afl-fuzz -i "spec/fuzz/corpus/$name" -o "$1.out" -m none -t 5000 -V "$2" -- "$1" \
      >"$1.log" 2>&1; then
    tail -20 "$1.log"
    printf "  afl     %-20s did not run, see %s\n" "$name" "$1.log"
    exit 1
  fi
  runs=$(sed -n "s/^execs_done *: *//p" "$1.out/default/fuzzer_stats")
  found=$(find "$1.out/default/crashes" "$1.out/default/hangs" -name "id:*" | wc -l)
  if [ "$found" = 0 ]; then
    printf "  afl     %-20s %s runs, no finding\n" "$name" "$runs"
  else
    printf "  afl     %-20s FOUND %s, see %s\n" "$name" "$found" "$1.out/default"
    exit 1
  fi' afl {} "$seconds"

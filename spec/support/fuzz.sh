#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every fuzzer in folder $1 for $2 seconds, FUZZ_JOBS (2) at a time, on its corpus in
# spec/fuzz/corpus. New inputs stay in the build folder; a finding is kept there too and fails the
# run.
set -eu
folder=$1
seconds=$2
[ -d "$folder" ] || { echo "There is no fuzzer in spec/fuzz." >&2; exit 1; }

find "$folder" -maxdepth 1 -type f -perm -u+x | sort | xargs -P "${FUZZ_JOBS:-2}" -I{} sh -c '
  name=$(basename "$1")
  mkdir -p "$1.found" "$1.corpus" "spec/fuzz/corpus/$name"
  if "$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
      -artifact_prefix="$1.found/" "$1.corpus" "spec/fuzz/corpus/$name" >"$1.log" 2>&1; then
    printf "  fuzz    %-20s %s runs, no finding\n" "$name" \
      "$(sed -n "s/^stat::number_of_executed_units: *//p" "$1.log")"
  else
    tail -40 "$1.log"
    printf "  fuzz    %-20s FOUND something, see %s\n" "$name" "$1.found"
    exit 1
  fi' fuzz {} "$seconds"

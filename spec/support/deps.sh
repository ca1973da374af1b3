#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages named as arguments that are missing, and says so. Packages that bring
# a service (nginx, prometheus) are kept from starting it: the specs run their own, on their own
# ports.
set -eu

missing=""
for package in "$@"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null 2>&1; then
  as_root="sudo"
else
  echo "These Debian packages are missing and only root can install them:$missing." >&2
  echo "Run as root: apt-get install --no-install-recommends$missing" >&2
  exit 1
fi

policy=/usr/sbin/policy-rc.d
restore() {
  if [ -n "$guarded" ]; then $as_root rm -f "$policy"; fi
}
guarded=""
trap restore EXIT
trap 'exit 1' INT TERM HUP
if [ ! -e "$policy" ]; then
  guarded=1
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
fi

install() {
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

echo "Installing Debian packages:$missing"
# Lists that are missing or too old are the usual reason for a failure: fetch them, try once more.
if ! install; then
  echo "Fetching the package lists and trying again"
  $as_root apt-get update -q
  install
fi

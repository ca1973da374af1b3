#!/bin/sh
# SPDX-License-Identifier: MIT
# Packs an installation as a Debian package: deb.sh ROOT VERSION FOLDER, where ROOT is what make
# install filled with PREFIX=/usr, and gets the package's documents and control files here. What it
# depends on is read from the binaries and asked of dpkg: the packages that own their libraries, at
# least as new as those they were linked with.
set -eu
root=$1 version=$2 folder=$3
arch=$(dpkg --print-architecture)
doc=$root/usr/share/doc/segue

needed() { # the libraries that these binaries name
  readelf -d "$@" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u
}

owner() { # "package (>= version)" of a library
  path=$(ldconfig -p | sed -n "s|^[[:space:]]*$1 (.*) => \(.*\)|\1|p" | head -n 1)
  [ -n "$path" ] || { echo "deb.sh: $1 is in no library folder" >&2; exit 1; }
  # dpkg knows files by the path they were packed under, which may lead through a link
  package=$(dpkg -S "$path" 2>/dev/null || dpkg -S "$(readlink -f "$path")" 2>/dev/null ||
    dpkg -S "/usr$path" 2>/dev/null || dpkg -S "${path#/usr}" 2>/dev/null) ||
    { echo "deb.sh: no package owns $path" >&2; exit 1; }
  package=${package%%:*}
  dpkg-query -W -f '${Package} (>= ${source:Upstream-Version})\n' "$package" | head -n 1
}

list() { # the libraries' packages, as a control field wants them
  for library in "$@"; do owner "$library"; done | sort -u | paste -s -d , | sed 's/,/, /g'
}

depends=$(list $(needed "$root/usr/bin/segue" "$root"/usr/lib/libsegue.so."$version" \
  "$root"/usr/lib/segue/plugins/*.so |
  grep -v '^ld-linux\|^libsegue'))

strip --strip-unneeded "$root/usr/bin/segue" "$root"/usr/lib/libsegue.so."$version" \
  "$root"/usr/lib/segue/plugins/*.so
strip --strip-debug "$root/usr/lib/libsegue.a"
install -d "$doc" "$root/DEBIAN"
install -m 644 README.md "$doc/README.md"
gzip -9n < CHANGELOG.md > "$doc/changelog.gz"
{
  echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
  echo "Upstream-Name: segue"
  echo
  echo "Files: *"
  sed -n 's/^Copyright (c) /Copyright: /p' LICENSE
  echo "License: MIT"
  sed -e 's/^$/./' -e 's/^/ /' LICENSE
} > "$doc/copyright"
find "$root/usr/share/man" -name '*.[1-8]' -exec gzip -9nf {} + 2>/dev/null || :
chmod -R u+rwX,go+rX,go-w "$root"

cat > "$root/DEBIAN/control" <<CONTROL
Package: segue
Version: $version
Architecture: $arch
Section: admin
Priority: optional
Maintainer: The Segue authors <segue@localhost>
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f 1)
Depends: $depends
Recommends: $(list libcurl.so.4 libssl.so.3)
Suggests: lua-busted, pkg-config, libuv1-dev, libyaml-dev, libxxhash-dev, libpcre2-dev, libsqlite3-dev, libluajit2-5.1-dev
Description: reloads configuration and modules of running servers as one transaction
 A daemon and a C library. A policy in Lua says where configuration comes from,
 what asks for a reload, and what may go live; a change goes live as a whole or
 not at all, and each request gets the outcome as its answer.
CONTROL
echo "activate-noawait ldconfig" > "$root/DEBIAN/triggers"
(cd "$root" && find usr -type f -exec md5sum {} + | sort -k 2) > "$root/DEBIAN/md5sums"

package=$folder/segue_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "  deb     $package"

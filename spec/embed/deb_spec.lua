-- SPDX-License-Identifier: MIT
-- `make deb`: the package is built and unpacked, and what is in it runs from there.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local dir, package, version

local run = process.output

local function field(name)
  return (run { "dpkg-deb", "-f", package, name }:gsub("\n$", ""))
end

describe("the Debian package", function()
  setup(function()
    dir = tempdir.new()
    local out = run { "make", "--no-print-directory", "deb", "BUILD=" .. os.getenv "SEGUE_SPEC_TOP",
      "SAN=" .. os.getenv "SEGUE_SPEC_SAN", deadline_ms = 300000 }
    package = assert(out:match("deb +(%S+%.deb)\n"), out)
    version = io.open("core/segue.h"):read("*a"):match('SEGUE_VERSION "([^"]+)"')
    run { "dpkg-deb", "-x", package, dir.path }
  end)
  teardown(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("has its name, version and description", function()
    local arch = run({ "dpkg", "--print-architecture" }):match "%S+"
    assert.equal(("segue_%s_%s.deb"):format(version, arch), package:match "[^/]+$")
    assert.equal("segue", field "Package")
    assert.equal(version, field "Version")
    assert.equal(arch, field "Architecture")
    assert.is_true(tonumber(field "Installed-Size") > 500)
  end)

  it("depends on installed packages that own every library it is linked with", function()
    local depends = field "Depends" .. ", "
    for _, name in ipairs { "libc6", "libuv1", "libyaml", "libpcre2", "libluajit" } do
      assert.truthy(depends:find(name, 1, true), depends)
    end
    for name, least in depends:gmatch "(%S+) %(>= ([^)]+)%), " do
      local installed = run { "dpkg-query", "-W", "-f", "${Version}\n", name }:match "%S+"
      run { "dpkg", "--compare-versions", installed, "ge", least }
    end
    assert.matches("^libcurl4 ", field "Recommends")
  end)

  it("runs from the folder in which it is unpacked", function()
    local segue = dir:at "usr/bin/segue"
    assert.equal(("segue %s\n"):format(version), run { segue, "version" })
    local work = tempdir.new()
    run { segue, "init", cwd = work.path }
    assert.matches("^good: ", run { segue, "check", cwd = work.path })
    assert.equal(0, process.run({ segue, "plan", cwd = work.path }).code)
  end)

  it("contains the files of an installation, the documents, and correct checksums", function()
    for _, path in ipairs { "usr/include/segue.h", "usr/lib/libsegue.a", "usr/lib/libsegue.so",
      "usr/lib/libsegue.so." .. version, "usr/lib/pkgconfig/segue.pc", "usr/share/segue/lua",
      "usr/share/man/man1/segue.1.gz", "usr/lib/systemd/system/segue.service",
      "usr/lib/systemd/system/segue.socket",
      "usr/share/doc/segue/copyright", "usr/share/doc/segue/changelog.gz",
      "usr/share/doc/segue/README.md" } do
      assert.truthy(uv.fs_stat(dir:at(path)), path)
    end
    assert.equal("prefix=/usr\n", dir:read("usr/lib/pkgconfig/segue.pc"):match "^prefix=[^\n]*\n")
    run { "dpkg-deb", "-e", package, dir:at "DEBIAN" }
    run { "md5sum", "--quiet", "-c", "DEBIAN/md5sums", cwd = dir.path }
    local listing = run { "dpkg-deb", "-c", package }
    for line in listing:gmatch "[^\n]+" do
      assert.matches("^[-dl]%S+ root/root ", line)
      assert.is_nil(line:match "^[-d]....w" or line:match "^[-d].......w", line)
    end
  end)
end)

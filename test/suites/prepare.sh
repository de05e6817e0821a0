#!/bin/bash
# prepare.sh SUITE: makes the test-suite of another program runnable here, from Debian's packages and sources, and prints
# where it stands. None of its code is in this repository. Quick when it was prepared before. Where it cannot be had, says
# why on standard error and exits 1.
#   restic   restic's tests of its own REST and S3 stores: a folder with rest.test and s3.test
#   minio    the functional tests of MinIO's Go client: a program that takes names of cases, "list" for all names
#   swift    the S3 tests of OpenStack Swift: a folder for PYTHONPATH
set -u
CACHE=${HOLDFAST_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/holdfast-test-servers}/suites
suite=${1:-}
dir=$CACHE/$suite
mkdir -p "$dir"
LOG=$CACHE/$suite.log
fail() { echo "$*; see $LOG" >&2; exit 1; }
exec 9>"$CACHE/lock"
command -v flock >/dev/null && flock 9
[ ! -e "$dir/ready" ] || { echo "$dir"; exit 0; }
: >"$LOG"

# packages NAME...: installs Debian packages that are missing.
packages() {
  local missing="" sudo="" one
  for one in "$@"; do dpkg-query -W -f '${Status}' "$one" 2>/dev/null | grep -q "ok installed" || missing="$missing $one"; done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "no apt-get here"
  [ "$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && sudo="sudo -n"; } || fail "neither root nor sudo without a password"
  local apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600"
  $apt update >>"$LOG" 2>&1
  # shellcheck disable=SC2086
  $apt install -y --no-install-recommends $missing >>"$LOG" 2>&1 9>&- || fail "could not install$missing"
}

# source NAME FOLDER: unpacks the original source of a Debian package. The machine's own sources stay as they are.
source_of() {
  local here=$CACHE/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed="" options
  mkdir -p "$here/lists/partial" "$here/cache/archives/partial" "$2"
  [ ! -e $keyring ] || signed="[signed-by=$keyring]"
  apt-get indextargets --format '$(ORIGIN) $(SITE) $(CODENAME)' 'Identifier: Packages' 'Component: main' |
    sed -n "s|^Debian \\(\\S*\\) \\([a-z]*\\)\$|deb-src $signed \\1 \\2 main|p" | sort -u >"$here/sources.list"
  [ -s "$here/sources.list" ] || fail "this is no Debian with a package archive"
  options="-qq -o Dir::Etc::SourceList=$here/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$here/lists -o Dir::Cache=$here/cache -o APT::Sandbox::User="
  # shellcheck disable=SC2086
  { apt-get $options update && (cd "$here" && apt-get $options source --download-only "$1"); } >>"$LOG" 2>&1 || fail "no source of $1"
  tar -C "$2" --strip-components=1 -xf "$(ls "$here/$1"_*.orig.tar.?z)" >>"$LOG" 2>&1 || fail "cannot unpack the source of $1"
}

# Debian's Go libraries are found below GOPATH; nothing is downloaded.
go_build() { GO111MODULE=off CGO_ENABLED=0 GOFLAGS="" GOPATH=$dir/go:/usr/share/gocode GOCACHE=$CACHE/go-cache go "$@" >>"$LOG" 2>&1; }

case $suite in
  restic)
    packages golang-go golang-github-cenkalti-backoff-dev golang-github-elithrar-simple-scrypt-dev golang-github-juju-ratelimit-dev \
      golang-github-minio-minio-go-v7-dev golang-github-pkg-errors-dev golang-github-pkg-xattr-dev golang-github-restic-chunker-dev \
      golang-golang-x-crypto-dev golang-golang-x-net-dev golang-golang-x-sync-dev golang-golang-x-sys-dev
    root=$dir/go/src/github.com/restic/restic
    source_of restic "$root"
    cd "$root" || exit 1
    for one in rest s3; do go_build test -c -o "$dir/$one.test" "./internal/backend/$one" || fail "restic's tests do not build"; done
    ;;
  minio)
    packages golang-go golang-github-minio-minio-go-v7-dev golang-github-sirupsen-logrus-dev golang-github-dustin-go-humanize-dev
    tests=/usr/share/gocode/src/github.com/minio/minio-go/v7/functional_tests.go
    [ -e $tests ] || fail "the package of MinIO's client has no functional tests"
    mkdir -p "$dir/src"
    cd "$dir/src" || exit 1
    # Its own main runs everything and ends at the first failure; this one runs what it is told to.
    sed -e 's/^func main() {/func everything() {/' -e '/^\/\/go:build/d' -e '/^\/\/ +build/d' $tests >tests.go
    {
      printf 'package main\n\nimport (\n\t"fmt"\n\t"os"\n\n\tlog "github.com/sirupsen/logrus"\n)\n\nvar cases = map[string]func(){\n'
      sed -n 's/^func \(test[A-Za-z0-9]*\)() {$/\t"\1": \1,/p' $tests
      printf '}\n\nfunc main() {\n\tlog.SetOutput(os.Stdout)\n\tlog.SetFormatter(&mintJSONFormatter{})\n\tfor _, name := range os.Args[1:] {\n'
      printf '\t\tif name == "list" {\n\t\t\tfor one := range cases {\n\t\t\t\tfmt.Println(one)\n\t\t\t}\n\t\t} else {\n\t\t\tcases[name]()\n\t\t}\n\t}\n}\n'
    } >main.go
    go_build build -o "$dir/minio-tests" . || fail "the tests of MinIO's client do not build"
    ;;
  swift)
    packages python3-boto python3-boto3 python3-requests python3-six python3-swift python3-swiftclient
    source_of swift "$dir/source"
    ;;
  *) echo "usage: $0 restic|minio|swift" >&2; exit 2 ;;
esac
touch "$dir/ready"
echo "$dir"

#!/bin/bash
# copy_checked.sh SOURCE TARGET SHA256, on every node: a copy that is sound, or one line and exit code 2.
set -euo pipefail
source=$1 target=$2 expected=$3
checksum() { sha256sum "$1" | cut -d ' ' -f 1; }
fail() {
    rm -f "$target.part"
    echo "error: staging on $(hostname): $1" >&2
    exit 2
}

if [ -f "$target" ]; then # left by an earlier start of this job
    [ "$(checksum "$target")" = "$expected" ] && exit 0
    echo "staging on $(hostname): the copy $target is damaged; copying again" >&2
fi
mkdir -p "${target%/*}" || fail "$target: its folder cannot be made"
cp "$source" "$target.part" || fail "$source: cannot be copied to $target"
found=$(checksum "$target.part")
[ "$found" = "$expected" ] || fail "$target: damaged copy, sha256 $found; that of $source is $expected"
mv "$target.part" "$target"

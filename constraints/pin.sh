#!/bin/sh
# Writes constraints/*.txt from *.in. Versions are chosen once, for test.in; the other files use the same ones.
# Files that exist keep their versions where they still fit.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
case $python in /*) ;; */*) python=../$python ;; esac

pin() { # pin INPUT [MORE_INPUT]: the result goes to INPUT's .txt
    "$python" -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras \
        --no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links -o "${1%.in}.txt" "$@"
    sed -i '/^--[a-z]/d; /^#/d; /^$/d' "${1%.in}.txt"
}

trap 'rm -f same.in versions.tmp' EXIT
pin test.in
sed -n 's/^\([a-z0-9._-]*==[^ ]*\).*/\1/p' test.txt > versions.tmp
echo "-c versions.tmp" > same.in
for set in runtime demo bench prove ptxas tvm; do pin "$set.in" same.in; done

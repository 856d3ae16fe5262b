#!/usr/bin/env bash
# Installs Deno in a folder of its own (.cache/deno): its WebGPU is wgpu with naga, a second compiler that the shaders are
# tested with. 100 MB that only these tests need, so it is no dependency of the project. May be run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=2.9.6
folder=.cache/deno
if [ "$("$folder/node_modules/.bin/deno" --version 2>/dev/null | head -1 | cut -d' ' -f2)" = "$version" ]; then
  echo "install-deno: nothing is missing"
  exit 0
fi
mkdir -p "$folder"
echo '{ "private": true }' >"$folder/package.json"
npm install --prefix "$folder" --no-audit --no-fund --no-package-lock --loglevel=error "deno@$version"
"$folder/node_modules/.bin/deno" --version | head -1

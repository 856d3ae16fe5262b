#!/usr/bin/env bash
# Brings Chromium for the tests in test/browser, where neither CHROMIUM nor the usual places have one (Debian, Ubuntu).
set -euo pipefail

for each in "${CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; do
  if [ -n "$each" ] && [ -x "$each" ]; then
    echo "browser: $each"
    exit 0
  fi
done
if ! command -v apt-get >/dev/null; then
  echo "no Chromium, and no apt-get to install it: set CHROMIUM to its path" >&2
  exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q >/dev/null
$as_root apt-get install -y -q --no-install-recommends chromium >/dev/null
echo "browser: $(command -v chromium)"

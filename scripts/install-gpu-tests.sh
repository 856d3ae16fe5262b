#!/usr/bin/env bash
# Installs what the tests of the WebGPU backend need on Debian, as root and with apt alone: a Vulkan loader, and Chromium,
# which brings a software driver (SwiftShader). Installs only what is missing; may be run again.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

missing=()
ldconfig -p | grep -q 'libvulkan\.so\.1' || missing+=(libvulkan1)
[ -e /usr/lib/chromium/vk_swiftshader_icd.json ] || missing+=(chromium)
if [ "${#missing[@]}" -eq 0 ]; then
  echo "install-gpu-tests: nothing is missing"
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "install-gpu-tests: ${missing[*]} must be installed as root" >&2
  exit 1
fi
echo "install-gpu-tests: installing ${missing[*]}"
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"

#!/usr/bin/env bash
# Installs the Debian packages that the tests with real servers need, where their command is missing (packages.txt: package, command).
set -euo pipefail
cd "$(dirname "$0")"
missing=()
while read -r package command; do
  command -v "$command" >/dev/null || missing+=("$package")
done < <(grep -v '^#' packages.txt)
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing ${missing[*]}"
sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

#!/bin/sh
# Installs Debian's SLURM where it is missing, if that can be done here; the tests skip, and say so, where it cannot.
PATH="$PATH:/usr/sbin:/sbin"
command -v slurmctld >/dev/null 2>&1 && command -v slurmd >/dev/null 2>&1 && command -v munged >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "SLURM is not installed, and only root can install it, on Debian: its tests are skipped"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
for attempt in with-the-lists-there-are with-new-lists; do
  timeout 300 apt-get install --yes --quiet --no-install-recommends slurm-wlm munge >"$log" 2>&1 && exit 0
  [ $attempt = with-new-lists ] || timeout 120 apt-get update --quiet >/dev/null 2>&1
done
echo "SLURM cannot be installed here: its tests are skipped"
tail -2 "$log"
rm -f "$log"
exit 0

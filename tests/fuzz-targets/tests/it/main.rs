//! Every target stands its committed corpus, and mutations of it that are the same in every run.
#![allow(clippy::unwrap_used, reason = "a test panics")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz_targets::mutate::Mutator;
use fuzz_targets::{TARGETS, Target, corpus, seeds, target};

/// Mutations of each corpus.
const MUTATIONS: usize = 2_000;

fn inputs(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus(name);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "`{}` holds nothing", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs a target, and prints the input that it does not stand.
fn stands(target: &Target, input: &[u8]) {
    let run = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    assert!(run.is_ok(), "`{}` does not stand `{}`", target.name, input.escape_ascii());
}

/// The corpus and so many mutations of it: fewer where each takes long.
fn stands_all(name: &str, mutations: usize) {
    let target = target(name).unwrap();
    let inputs = inputs(name);
    inputs.iter().for_each(|input| stands(target, input));
    let mut mutator = Mutator::new(1);
    for _ in 0..mutations {
        stands(target, &mutator.mutation(&inputs));
    }
}

#[test]
fn jobs_stand_their_corpus_and_mutations_of_it() {
    for name in ["job_json", "ndjson", "arrow_body"] {
        stands_all(name, MUTATIONS);
    }
}

#[test]
fn messages_stand_their_corpus_and_mutations_of_it() {
    for name in ["submission", "bus_message"] {
        stands_all(name, MUTATIONS);
    }
}

#[test]
fn objects_stand_their_corpus_and_mutations_of_it() {
    for name in ["log_object", "checkpoint", "cells"] {
        stands_all(name, MUTATIONS / 10);
    }
}

#[test]
fn texts_stand_their_corpus_and_mutations_of_it() {
    for name in ["quantity", "cursor"] {
        stands_all(name, MUTATIONS);
    }
}

#[test]
fn settings_stand_their_corpus_and_mutations_of_it() {
    stands_all("settings", MUTATIONS / 4);
}

#[test]
fn every_target_has_a_corpus_and_its_seeds_are_there() {
    for target in TARGETS {
        assert!(!inputs(target.name).is_empty());
    }
    for (target, name, _) in seeds::all() {
        assert!(corpus(target).join(name).exists(), "{target}/{name} is missing");
    }
}

#[test]
fn the_same_seed_gives_the_same_mutations_and_they_differ() {
    let corpus = vec![b"some bytes".to_vec(), b"others".to_vec()];
    let take = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.mutation(&corpus)).collect::<Vec<_>>()
    };
    assert_eq!(take(7), take(7));
    assert_ne!(take(7), take(8));
}

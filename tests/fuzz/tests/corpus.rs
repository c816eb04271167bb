//! Every target's corpus, as it is and mutated: what fuzzing once found stays found, without a fuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

use std::fs;
use std::path::Path;

use granary_fuzz::TARGETS;

/// Mutations of each input.
const MUTATIONS: u64 = 20;
/// All corpora together.
const LIMIT: u64 = 200 << 10;

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{target} has a corpus");
    run(b"");
    for (number, (name, input)) in inputs.iter().enumerate() {
        println!("{target}/{name}");
        run(input);
        for mutation in 0..MUTATIONS {
            println!("{target}/{name}, mutation {mutation}");
            let (_, other) = &inputs[(number + mutation as usize) % inputs.len()];
            run(&mutated(input, other, mutation));
        }
    }
}

/// A byte flipped, a piece left out, a piece doubled, the front of one with the end of another.
fn mutated(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ input.len() as u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % (limit as u64 + 1)) as usize
    };
    let mut bytes = input.to_vec();
    let (from, to) = {
        let (a, b) = (below(bytes.len()), below(bytes.len()));
        (a.min(b), a.max(b))
    };
    match seed % 4 {
        0 if !bytes.is_empty() => {
            let at = from.min(bytes.len() - 1);
            bytes[at] ^= 1 << below(7);
        }
        1 => drop(bytes.drain(from..to)),
        2 => {
            let piece = bytes[from..to].to_vec();
            bytes.splice(to..to, piece);
        }
        _ => {
            bytes.truncate(from);
            bytes.extend_from_slice(&other[below(other.len())..]);
        }
    }
    bytes
}

macro_rules! replays {
    ($($name:ident: $target:literal;)*) => {
        $(#[test]
        fn $name() {
            replay($target);
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$($target),*];
            assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), replayed);
        }
    };
}

replays! {
    commits_and_patches: "commit";
    head_values: "head";
    http_arguments: "http";
    image_files: "image";
    log_replay: "log";
    modules: "module";
}

#[test]
fn the_corpus_is_small() {
    let bytes: usize = TARGETS
        .iter()
        .flat_map(|(target, _)| inputs(target))
        .map(|(_, input)| input.len())
        .sum();
    assert!(
        bytes as u64 <= LIMIT,
        "{bytes} bytes: keep what covers most, at most {LIMIT}"
    );
}

//! Every input that the fuzzer keeps goes through its target here: the corpus, and what once broke something.

use std::fs;
use std::path::PathBuf;

#[path = "../fuzz/src/heap.rs"]
#[allow(unsafe_code)] // The fuzzer's own allocator: what is held is counted (see there).
mod heap;
#[path = "../fuzz/src/input.rs"]
#[allow(dead_code)] // Its writer is for seeds.
mod input;
#[path = "../fuzz/src/lines.rs"]
mod lines;
#[path = "../fuzz/src/properties.rs"]
mod properties;
#[path = "../fuzz/src/targets.rs"]
mod targets;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

#[test]
fn every_target_has_a_corpus_and_every_kept_input_holds() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for target in targets::all() {
        let mut count = 0;
        for kept in ["corpus", "regressions"] {
            let Ok(files) = fs::read_dir(fuzz.join(kept).join(&target.name)) else { continue };
            for file in files.flatten() {
                let data = fs::read(file.path()).expect("an input");
                println!("{} {}", target.name, file.path().display());
                (target.run)(&data);
                count += 1;
            }
        }
        assert!(count > 0, "no input of {}", target.name);
    }
}

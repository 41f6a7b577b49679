//! One fuzzer for everything that reads what strangers wrote. `FUZZ_TARGET` names what is fuzzed (see `targets`); a
//! panic, a caught one too, is a crash. `FUZZ_SEEDS=FOLDER` writes the first corpus there, from `tests/data`; of
//! `FUZZ_THOROUGH_EVERY=N` inputs one is checked for everything (see `properties`), of others what is quick.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

mod heap;
mod input;
mod properties;
mod seeds;
mod targets;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
            seeds::write(std::path::Path::new(&folder));
            std::process::exit(0);
        }
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let Some(target) = targets::all().into_iter().find(|target| target.name == name) else {
            let names: Vec<_> = targets::all().into_iter().map(|target| target.name).collect();
            println!("{}", names.join(" "));
            std::process::exit(if name.is_empty() { 0 } else { 2 });
        };
        let _ = TARGET.set(target);
        let every = std::env::var("FUZZ_THOROUGH_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        properties::THOROUGH_EVERY.store(every, std::sync::atomic::Ordering::Relaxed);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);

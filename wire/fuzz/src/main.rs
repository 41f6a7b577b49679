//! One fuzzer for everything that reads what strangers wrote. `FUZZ_TARGET` names what is fuzzed (see `targets`); a
//! panic, a caught one too, is a crash. `FUZZ_SEEDS=FOLDER` writes the first corpus there, from `tests/data`; of
//! `FUZZ_THOROUGH_EVERY=N` inputs one is checked for everything (see `properties`), of others what is quick. `FUZZ_BATCHES=N` runs
//! so many inputs in batches (see `batches`) from the folders given, and not libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

mod batches;
mod heap;
mod input;
mod lines;
mod properties;
mod seeds;
mod targets;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

/// Says how many inputs were checked for everything.
fn at_exit() {
    extern "C" fn say() {
        println!("stat::fully_checked_units: {}", properties::THOROUGH_TOTAL.load(std::sync::atomic::Ordering::Relaxed));
    }
    // SAFETY: a function of no argument, which runs once.
    unsafe { libc::atexit(say) };
}

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
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        properties::THOROUGH_EVERY.store(number("FUZZ_THOROUGH_EVERY").unwrap_or(1), std::sync::atomic::Ordering::Relaxed);
        at_exit();
        if let Some(inputs) = number("FUZZ_BATCHES") {
            let artifact = std::env::var("FUZZ_ARTIFACT").unwrap_or_else(|_| format!("crash-{name}"));
            batches::run(batches::Plan {
                target: TARGET.get().expect("set above"),
                inputs,
                seconds: number("FUZZ_SECONDS"),
                seed: number("FUZZ_SEED").unwrap_or(1),
                folders: std::env::args_os().skip(1).map(Into::into).collect(),
                artifact: std::ffi::CString::new(artifact).expect("a path"),
            });
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);

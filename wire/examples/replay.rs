//! The sensor without Python: what the packet path alone costs.
//!
//! `replay FILE…` reads each capture and prints packets, events, nanoseconds of CPU per packet and the peak of memory; with
//! `--digest` one hash per file instead, of every event, conversation and measure; with `--events` of the events alone, which
//! decoders that gather nothing beside them may reach by shorter ways. `perf record` and `valgrind` see nothing here but the
//! packet path.

use hopwatch_wire::quality::Quality;
use hopwatch_wire::sensor::{Sensor, SensorOptions};
use hopwatch_wire::source::{FRAMES_MAX, FileSource, Source, Turn};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Frames between two looks at the events, and events that are enough for one, as when Python takes them.
const FRAMES: usize = 65_536;
const EVENTS: usize = 1024;
/// Connections that end at a time.
const ENDED: usize = 2048;

struct Run {
    packets: u64,
    events: u64,
    counters: String,
    digest: String,
}

fn run(path: &Path, digest: bool, conversations: bool) -> Result<Run, String> {
    let mut source = FileSource::open(path).map_err(|wrong| wrong.to_string())?;
    let mut sensor = Sensor::new("bench", "tap-bench", SensorOptions { conversations, ..SensorOptions::default() });
    sensor.quality = conversations.then(|| Box::new(Quality::new(Vec::new())));
    let (mut sha, mut events) = (Sha256::new(), 0);
    let mut take = |sensor: &mut Sensor| {
        sensor.windows.take_each(|line| {
            events += 1;
            if digest {
                sha.update(line);
                sha.update(b"\n");
            }
        });
    };
    let mut frames = 0;
    let end = loop {
        match source.read_some(FRAMES_MAX, &mut |frames| sensor.frames(frames)) {
            Ok(Turn::Frames(count)) => frames += count,
            Ok(Turn::Idle) => {}
            Ok(Turn::End) => break String::new(),
            Err(wrong) => break wrong.to_string(),
        }
        if frames >= FRAMES || sensor.windows.ready() >= EVENTS {
            frames = 0;
            take(&mut sensor);
        }
    };
    take(&mut sensor);
    while sensor.finish_some(ENDED) {
        take(&mut sensor);
    }
    take(&mut sensor);
    let counters = format!(
        "{:?} {:?} {:?} copies_unwatched {} {end}",
        sensor.counters,
        sensor.windows.counters,
        sensor.fragment_counters(),
        sensor.copies.unwatched_total
    );
    for line in sensor.take_conversations() {
        sha.update(&line);
        sha.update(b"\n");
    }
    sha.update(sensor.quality.as_ref().map(|quality| quality.said()).unwrap_or_default());
    let digest = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Run { packets: sensor.counters.packets_total, events, counters, digest })
}

/// Nanoseconds that this process has had a processor (proc(5), schedstat), and kilobytes at the peak.
fn spent() -> (u64, u64) {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    (number(stat.split_whitespace().next()), number(peak.and_then(|rest| rest.split_whitespace().next())))
}

fn main() {
    let (options, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let conversations = options.iter().any(|option| option == "--digest");
    let digest = conversations || options.iter().any(|option| option == "--events");
    for path in &paths {
        let (before_ns, _) = spent();
        match run(Path::new(path), digest, conversations) {
            Ok(run) if digest => println!("{} {path} {} events {} packets {}", run.digest, run.events, run.packets, run.counters),
            Ok(run) => {
                let (after_ns, peak_kb) = spent();
                let each_ns = (after_ns - before_ns) as f64 / run.packets.max(1) as f64;
                println!(
                    "{path}: {} packets, {} events, {each_ns:.1} ns/packet, {} MB at the peak",
                    run.packets,
                    run.events,
                    peak_kb / 1024
                );
            }
            Err(wrong) => println!("{path}: {wrong}"),
        }
    }
}

//! A reader of an interface that looks at nothing: what capture alone costs. Run by `make bench-live`.
//!
//! `ring INTERFACE` reads until its standard input ends, then prints packets, bytes and drops.

use hopwatch_wire::capture::{Capture, Options};
use hopwatch_wire::source::{Source, Step};
use std::io::Read;

fn main() {
    let interface = std::env::args().nth(1).unwrap_or_default();
    let mut capture = match Capture::open(&[&interface], &Options::default()) {
        Ok(capture) => capture,
        Err(wrong) => {
            eprintln!("ring: {wrong}");
            std::process::exit(2);
        }
    };
    let stop = capture.stop_handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        stop.stop();
    });
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    loop {
        match capture.read() {
            Ok(Step::Frame(frame)) => {
                packets += 1;
                bytes += u64::from(frame.wire_len);
            }
            Ok(Step::Idle) => {}
            Ok(Step::End) | Err(_) => break,
        }
    }
    println!("{{\"packets\": {packets}, \"bytes\": {bytes}, \"lost\": {}}}", capture.lost_total());
}

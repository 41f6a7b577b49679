//! Many inputs in little time. libFuzzer looks at some 80,000 counters behind every input and weighs every edge that it took; here inputs are
//! made and run in batches, and the counters are looked at once for all of them. Where a batch took an edge that nothing took before, its
//! inputs are run again one by one, and those that take new edges, or old ones another number of times (in powers of two, as
//! AFL counts them), are kept to be changed in turn, and checked for everything. One input beside each batch is looked at alone from the first.
//!
//! What a value is compared with is not seen here: libFuzzer runs before.

use crate::input::Pieces;
use crate::properties::{self, THOROUGH_EVERY};
use crate::targets::Target;
use hopwatch_wire::protocols::testing::Random;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const BATCH: usize = 32;
/// Of a hundred inputs: so many of at most so many bytes.
const LENGTHS: [(usize, usize); 3] = [(75, 512), (20, 2048), (5, 8192)];
/// Of the processor, for one input.
const SECONDS_MAX: i64 = 20;
/// Of the whole process, beside its corpus: an input that leaves something behind would show here.
const HELD_BYTES_MAX: usize = 1 << 30;

unsafe extern "C" {
    // The linker's names for the first and the last counter of all that is instrumented.
    #[link_name = "__start___sancov_cntrs"]
    static mut FIRST: u8;
    #[link_name = "__stop___sancov_cntrs"]
    static mut LAST: u8;
}

/// What runs now, for who has to write it down.
static INPUT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);
static ARTIFACT: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

pub struct Plan<'a> {
    pub target: &'a Target,
    pub inputs: u64,
    pub seconds: Option<u64>,
    pub seed: u64,
    /// Inputs to begin with; what is kept is written to the first.
    pub folders: Vec<PathBuf>,
    /// Where the input goes that breaks something.
    pub artifact: CString,
}

struct Entry {
    data: Vec<u8>,
    chosen: u64,
}

struct Engine<'a> {
    target: &'a Target,
    counters: &'static mut [u8],
    /// By counter: 255 as long as nothing reached it.
    unreached: Vec<u8>,
    /// By counter: a bit for each number of times it was seen at.
    seen: Vec<u8>,
    corpus: Vec<Entry>,
    random: Random,
    executed: u64,
}

/// Runs so many inputs, or as many as there is time for, and says what came of it.
pub fn run(plan: Plan<'_>) {
    write_down_what_aborts(plan.artifact);
    // SAFETY: the linker's bounds of one section of bytes; its only other users are the increments of the code that runs in this thread.
    let counters = unsafe {
        let (first, last) = (&raw mut FIRST, &raw mut LAST);
        std::slice::from_raw_parts_mut(first, last as usize - first as usize)
    };
    let mut engine = Engine {
        target: plan.target,
        unreached: vec![255; counters.len()],
        seen: vec![0; counters.len()],
        counters,
        corpus: Vec::new(),
        random: Random(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        executed: 0,
    };
    let mut first = Vec::new();
    for folder in &plan.folders {
        first.extend(fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| fs::read(file.path()).ok()));
    }
    first.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    for data in first {
        engine.alone(data, None);
    }
    if engine.corpus.is_empty() {
        engine.corpus.push(Entry { data: vec![0], chosen: 0 });
    }
    let every = THOROUGH_EVERY.load(Relaxed);
    let (began, mut said) = (Instant::now(), Instant::now());
    let mut batch: Vec<Vec<u8>> = vec![Vec::new(); BATCH];
    while engine.executed < plan.inputs && plan.seconds.is_none_or(|most| began.elapsed().as_secs() < most) {
        let mut data = Vec::new();
        engine.make(&mut data);
        engine.alone(data, plan.folders.first());
        engine.counters.fill(0);
        for data in &mut batch {
            engine.make(data);
            engine.execute(data);
        }
        let reached = engine.reached();
        if !reached.is_empty() {
            for data in &batch {
                engine.alone(data.clone(), plan.folders.first());
            }
            // What one input alone does not show again (a table's seed) is not looked for in every batch.
            reached.into_iter().for_each(|place| engine.unreached[place] = 0);
        }
        THOROUGH_EVERY.store(every, Relaxed);
        assert!(crate::heap::held() < HELD_BYTES_MAX, "inputs leave something behind");
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            engine.say("pulse");
        }
    }
    engine.say("DONE");
    println!("stat::number_of_executed_units: {}", engine.executed);
}

impl Engine<'_> {
    fn say(&self, what: &str) {
        let edges = self.seen.iter().filter(|seen| **seen != 0).count();
        let full = properties::THOROUGH_TOTAL.load(Relaxed);
        println!("#{} {what} cov: {edges} corp: {} full: {full}", self.executed, self.corpus.len());
    }

    fn execute(&mut self, data: &[u8]) {
        INPUT.store(data.as_ptr().cast_mut(), Relaxed);
        LENGTH.store(data.len(), Relaxed);
        self.executed += 1;
        NUMBER.store(self.executed, Relaxed);
        (self.target.run)(data);
    }

    /// What was reached that nothing reached before.
    fn reached(&self) -> Vec<usize> {
        let mut places = Vec::new();
        for (at, (counters, unreached)) in self.counters.chunks(4096).zip(self.unreached.chunks(4096)).enumerate() {
            let both = || counters.iter().zip(unreached).map(|(count, mask)| count & mask);
            if both().fold(0, |any, one| any | one) != 0 {
                places.extend((at * 4096..).zip(both()).filter(|(_, one)| *one != 0).map(|(place, _)| place));
            }
        }
        places
    }

    /// Runs one input and keeps it if it shows something; it is then checked for everything.
    fn alone(&mut self, data: Vec<u8>, folder: Option<&PathBuf>) {
        self.counters.fill(0);
        self.execute(&data);
        if !self.learn() {
            return;
        }
        let every = THOROUGH_EVERY.swap(1, Relaxed);
        self.execute(&data);
        THOROUGH_EVERY.store(every, Relaxed);
        if let Some(folder) = folder {
            write(folder, &data);
        }
        self.corpus.push(Entry { data, chosen: 0 });
    }

    fn learn(&mut self) -> bool {
        let mut learned = false;
        // Most are zero.
        let reached = self.counters.chunks(32).enumerate().filter(|(_, some)| some.iter().fold(0, |any, count| any | count) != 0);
        for (at, some) in reached {
            for (place, count) in (at * 32..).zip(some).filter(|(_, count)| **count != 0) {
                let bit = 1 << count.ilog2();
                if self.seen[place] & bit == 0 {
                    learned = true;
                    self.seen[place] |= bit;
                    self.unreached[place] = 0;
                }
            }
        }
        learned
    }

    /// One of those that are kept: a half of the times one of the last, or the one of two that was taken less often.
    fn choose(&mut self) -> usize {
        let count = self.corpus.len();
        let (one, other) = (self.random.below(count), self.random.below(count));
        if self.random.below(4) == 0 {
            count - 1 - self.random.below(count.min(64))
        } else if self.corpus[one].chosen < self.corpus[other].chosen {
            one
        } else {
            other
        }
    }

    fn make(&mut self, into: &mut Vec<u8>) {
        let mut share = self.random.below(100);
        let mut most = 0;
        for (hundredths, bytes) in LENGTHS {
            most = bytes;
            if share < hundredths {
                break;
            }
            share -= hundredths;
        }
        let (chosen, other) = (self.choose(), self.choose());
        self.corpus[chosen].chosen += 1;
        let (entry, other) = (&self.corpus[chosen].data, &self.corpus[other].data);
        into.clear();
        into.extend_from_slice(&entry[..entry.len().min(most)]);
        let random = &mut self.random;
        for _ in 0..1 << random.below(4) {
            match self.target.pieces {
                Some(start) if random.below(2) == 0 => change_piece(random, into, start, other),
                _ => change(random, into, other),
            }
        }
        into.truncate(most);
    }
}

/// Values at the edges of what fields hold.
const EDGES: [u64; 14] = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];

/// One change of bytes: of a bit, a byte, a number of any width and order, a stretch that goes, comes twice, or comes from another input.
fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let most = [2, 8, 32, 256][random.below(4)];
    let length = 1 + random.below(most);
    let end = bytes.len().min(at + length);
    match random.below(10) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.draw() as u8),
        2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(random.below(33) as u8).wrapping_sub(16)),
        3 => {
            let number = EDGES[random.below(EDGES.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let width = 1 << random.below(4);
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let number = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
            bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = *new);
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let again = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, again);
        }
        6 => {
            let again = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.iter_mut().skip(to).zip(again).for_each(|(byte, new)| *byte = new);
        }
        7 => drop(bytes.splice(at..at, stretch(random, other, length).iter().copied())),
        8 => {
            let new = stretch(random, other, length);
            bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
        }
        _ => {
            let byte = [0, 0xff, b' ', b'a', b'0', random.draw() as u8][random.below(6)];
            bytes.splice(at..at, std::iter::repeat_n(byte, length));
        }
    }
}

fn stretch<'a>(random: &mut Random, of: &'a [u8], length: usize) -> &'a [u8] {
    let at = random.below(of.len() + 1);
    &of[at..of.len().min(at + length)]
}

/// One change that leaves the pieces whole (see `input`): inside one, whose length follows, or of their order and number.
fn change_piece(random: &mut Random, bytes: &mut Vec<u8>, start: usize, other: &[u8]) {
    let Some(all) = bytes.get(start..) else { return };
    let count = Pieces(all).count();
    if count == 0 {
        return;
    }
    let (chosen, change_of) = (random.below(count), random.below(10));
    let mut into = bytes[..start].to_vec();
    let mut held: Option<(u8, Vec<u8>)> = None;
    for (at, (control, content)) in Pieces(all).enumerate() {
        let mut put = |control: u8, content: &[u8]| crate::input::put(control, content, &mut into);
        if at != chosen {
            put(control, content);
            if let Some((control, content)) = held.take() {
                put(control, &content);
            }
            continue;
        }
        match change_of {
            0..5 => {
                let mut content = content.to_vec();
                change(random, &mut content, other);
                put(control, &content);
            }
            5 => put(control ^ 1 << random.below(8), content),
            6 => {
                let (head, tail) = content.split_at(random.below(content.len() + 1));
                put(control, head);
                put(control, tail);
            }
            7 => {
                put(control, content);
                put(control, content);
            }
            8 => held = Some((control, content.to_vec())),
            _ => {
                let theirs = other.get(start..).unwrap_or_default();
                if let Some((control, content)) = Pieces(theirs).nth(random.below(Pieces(theirs).count().max(1))) {
                    put(control, content);
                }
                put(control, content);
            }
        }
    }
    *bytes = into;
}

fn write(folder: &Path, data: &[u8]) {
    let name = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let _ = fs::write(folder.join(format!("{name:016x}")), data);
}

/// Whatever ends by SIGABRT (a panic, a stack that overflows, an input without an end) leaves its input.
fn write_down_what_aborts(artifact: CString) {
    extern "C" fn write_down(_: libc::c_int) {
        let (input, length) = (INPUT.load(Relaxed), LENGTH.load(Relaxed));
        // SAFETY: only what a signal's handler may call; the input is lent for as long as it runs, and the path for ever.
        unsafe {
            let file = libc::open(ARTIFACT.load(Relaxed), libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY, 0o644);
            if file >= 0 && !input.is_null() {
                libc::write(file, input.cast(), length);
                libc::close(file);
            }
        }
    }
    ARTIFACT.store(artifact.into_raw(), Relaxed);
    // SAFETY: a zeroed sigaction is one without flags and mask; the handler is above.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = write_down as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGABRT, &raw const action, std::ptr::null_mut());
    }
    std::thread::spawn(|| {
        let (mut number, mut since_s) = (0, 0);
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let now_s = processor_s();
            if number != NUMBER.load(Relaxed) {
                (number, since_s) = (NUMBER.load(Relaxed), now_s);
            } else if number > 0 && now_s - since_s > SECONDS_MAX {
                eprintln!("input {number} takes more than {SECONDS_MAX} s");
                std::process::abort();
            }
        }
    });
}

/// Seconds of the processor that this process took so far.
fn processor_s() -> i64 {
    // SAFETY: the clock writes one timespec.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time);
        time.tv_sec
    }
}

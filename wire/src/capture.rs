//! Frames from live interfaces through AF_PACKET rings (packet(7), TPACKET_V3), read in place.
//!
//! The kernel writes frames into blocks of memory that it shares with this process and hands a block over when it is
//! full or [`RETIRE_MS`] old; a frame is lent straight out of its block, which goes back when the next one is read. When
//! no block is free the kernel drops frames and counts them: [`Source::lost_total`] is that count.
//!
//! Several interfaces are one stream in the order of time, as the two directions of a tap have to be: a frame waits until
//! every other interface has a younger one at hand or can have no older one any more ([`MERGE_WAIT_MS`]). An interface
//! that fails is told ([`Source::take_outages`]) and the others go on; only the last one ends the capture. One that comes
//! up again is read again.
//!
//! Needs CAP_NET_RAW. This is the one module of the crate with `unsafe` code: system calls, the shared memory, and the
//! functions of libpcap, which compiles filters and is loaded only when there is one.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::packet::LinkType;
use crate::source::{FRAMES_MAX, Frame, Outage, Source, SourceError, Step, Turn};

/// Bytes a block: a frame must fit one, and loopback frames reach 65,549 bytes, offloaded ones 512 KiB.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Blocks a ring at the least: one to read while the kernel fills the other.
const BLOCKS_MIN: usize = 2;
/// Blocks a ring at the most: 4 GiB.
const BLOCKS_MAX: usize = 4096;
/// A block that is not full is handed over at this age.
const RETIRE_MS: c_uint = 10;
/// How long a frame of one interface waits for older ones of the others. A block that is not full comes when it is
/// [`RETIRE_MS`] old, and the kernel's timer may be two ticks of 10 ms late. A single interface waits for nothing.
pub const MERGE_WAIT_MS: i64 = 30;
/// An interface that stays down is told again after so long.
const OUTAGE_NS: i64 = 10_000_000_000;
/// Interfaces one capture takes.
pub const INTERFACES_MAX: usize = 64;
/// Instructions the kernel takes in one filter (BPF_MAXINSNS).
const FILTER_INSTRUCTIONS_MAX: usize = 4096;

/// Places in a block and in a packet's header (linux/if_packet.h: tpacket_block_desc, tpacket3_hdr, sockaddr_ll).
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
const PACKET_NEXT: usize = 0;
const PACKET_SECONDS: usize = 4;
const PACKET_NANOSECONDS: usize = 8;
const PACKET_CAPTURED: usize = 12;
const PACKET_WIRE: usize = 16;
const PACKET_STATUS: usize = 20;
const PACKET_DATA: usize = 24;
const PACKET_VLAN: usize = 32;
const PACKET_TYPE: usize = 48 + 10;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
/// Tunnels without a link header (tun, WireGuard).
const ARPHRD_NONE: u16 = 65534;

/// How to capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// A filter expression (pcap-filter(7)). Tags that the kernel took off are not seen by it.
    pub filter: Option<String>,
    /// Bytes kept of each frame.
    pub snap_bytes: u32,
    /// Memory of each interface's ring, in whole blocks of 1 MiB, at least two.
    pub ring_bytes: usize,
    /// Group number: captures with the same one share the interface's flows, each flow whole (PACKET_FANOUT_HASH).
    pub fanout: Option<u16>,
    /// Also what is addressed to other machines, as a mirror port sends it.
    pub promiscuous: bool,
    /// How long one reading waits for frames.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            filter: None,
            snap_bytes: 262_144,
            ring_bytes: 64 * BLOCK_BYTES,
            fanout: None,
            promiscuous: true,
            timeout: Duration::from_millis(100),
        }
    }
}

/// A running capture.
pub struct Capture {
    rings: Vec<Ring>,
    timeout_ms: c_int,
    stop: Arc<AtomicBool>,
    bytes_read: u64,
    lost_total: u64,
    /// No interface can have a frame at hand that is older and not seen yet.
    settled_ns: i64,
    outages: Vec<Outage>,
}

/// Ends a capture from another thread; its next reading says [`Step::End`], at the latest after its timeout.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Capture {
    /// Starts to capture on every interface named.
    ///
    /// # Errors
    /// [`SourceError::Capture`]: no such interface, one that is down, no permission, a filter that is none.
    pub fn open(interfaces: &[&str], options: &Options) -> Result<Capture, SourceError> {
        if interfaces.is_empty() || interfaces.len() > INTERFACES_MAX {
            let message = format!("{} interfaces, expected 1 to {INTERFACES_MAX}", interfaces.len());
            return Err(SourceError::Capture { place: "capture".to_owned(), message });
        }
        let mut rings = Vec::with_capacity(interfaces.len());
        for name in interfaces {
            let ring = Ring::open(name, options).map_err(|message| SourceError::Capture { place: (*name).to_owned(), message })?;
            rings.push(ring);
        }
        let timeout_ms = c_int::try_from(options.timeout.as_millis()).unwrap_or(c_int::MAX);
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Capture { rings, timeout_ms, stop, bytes_read: 0, lost_total: 0, settled_ns: i64::MIN, outages: Vec::new() })
    }

    pub fn stop_handle(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// The ring with the oldest frame at hand, its time, and whether every other interface that is up has one as well.
    fn oldest(&mut self) -> Option<(i64, usize, bool)> {
        let mut oldest: Option<(i64, usize)> = None;
        let mut all = true;
        for (index, ring) in self.rings.iter_mut().enumerate() {
            match ring.ready() {
                Some(time_ns) => {
                    if ring.down.as_ref().is_some_and(|down| time_ns > down.since_ns) {
                        self.outages.extend(ring.up_again(time_ns));
                    }
                    if oldest.is_none_or(|(least, _)| time_ns < least) {
                        oldest = Some((time_ns, index));
                    }
                }
                None => all &= ring.down.is_some(),
            }
        }
        oldest.map(|(time_ns, index)| (time_ns, index, all))
    }

    /// The ring whose frame is next in the order of time; None if nothing came within the timeout.
    fn next(&mut self) -> Result<Option<usize>, SourceError> {
        let mut has_waited = false;
        loop {
            let Some((time_ns, index, all)) = self.oldest() else {
                if has_waited {
                    return Ok(None);
                }
                has_waited = true;
                self.wait(self.timeout_ms)?;
                continue;
            };
            if all || time_ns <= self.settled_ns {
                return Ok(Some(index));
            }
            self.settled_ns = now_ns() - MERGE_WAIT_MS * 1_000_000;
            let left_ms = time_ns.saturating_sub(self.settled_ns).div_euclid(1_000_000) + 1;
            // A frame from the future says that the clock was set; waiting would not end.
            if time_ns <= self.settled_ns || left_ms > MERGE_WAIT_MS + 1 {
                return Ok(Some(index));
            }
            self.wait(left_ms as c_int)?;
        }
    }

    /// The ring whose turn it is, if any frame came; None after the end.
    fn turn(&mut self) -> Result<Option<Option<usize>>, SourceError> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let next = self.next();
        if next.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        next.map(Some)
    }

    /// Waits for a block of a ring that has none at hand. An interface that failed meanwhile is an outage, the last one
    /// an error.
    fn wait(&mut self, timeout_ms: c_int) -> Result<(), SourceError> {
        let mut waiting: Vec<libc::pollfd> = self
            .rings
            .iter_mut()
            .map(|ring| {
                // A negative descriptor is passed over (poll(2)).
                let fd = if ring.ready().is_some() { -1 } else { ring.socket.as_raw_fd() };
                libc::pollfd { fd, events: libc::POLLIN | libc::POLLERR, revents: 0 }
            })
            .collect();
        // SAFETY: the array lives through the call and its length is its own.
        let ready = unsafe { libc::poll(waiting.as_mut_ptr(), waiting.len() as libc::nfds_t, timeout_ms) };
        let error = io::Error::last_os_error();
        if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(SourceError::Io { place: "capture".to_owned(), error });
        }
        for index in 0..waiting.len() {
            let has_error = waiting.get(index).is_some_and(|waited| waited.revents & libc::POLLERR != 0);
            let Some(ring) = self.rings.get_mut(index).filter(|_| has_error) else { continue };
            let code: c_int = get_option(&ring.socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0);
            if code == 0 {
                continue;
            }
            let why = match code {
                libc::ENETDOWN => "the interface went down".to_owned(),
                other => io::Error::from_raw_os_error(other).to_string(),
            };
            let place = ring.name.clone();
            if ring.down.is_none() {
                let since_ns = now_ns();
                ring.down = Some(Down { since_ns, told_ns: since_ns });
                self.outages.push(Outage { place: place.clone(), why: why.clone(), since_ns, until_ns: since_ns });
            }
            if self.rings.iter().all(|ring| ring.down.is_some()) {
                return Err(SourceError::Capture { place, message: why });
            }
        }
        Ok(())
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Source for Capture {
    fn read(&mut self) -> Result<Step<'_>, SourceError> {
        let index = match self.turn()? {
            Some(Some(index)) => index,
            Some(None) => return Ok(Step::Idle),
            None => return Ok(Step::End),
        };
        let mut frame = [Frame::NONE];
        match self.rings.get_mut(index).map(|ring| ring.take(index as u32, &mut frame)) {
            Some(1) => {
                let [frame] = frame;
                self.bytes_read += frame.data.len() as u64;
                Ok(Step::Frame(frame))
            }
            _ => Ok(Step::Idle),
        }
    }

    fn read_some(&mut self, most: usize, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Turn, SourceError> {
        // Those of several interfaces are put in order by their times, one by one.
        let most = if self.rings.len() == 1 { most.min(FRAMES_MAX) } else { 1 };
        let index = match self.turn()? {
            Some(Some(index)) => index,
            Some(None) => return Ok(Turn::Idle),
            None => return Ok(Turn::End),
        };
        let mut places = [Frame::NONE; FRAMES_MAX];
        let places = places.get_mut(..most).unwrap_or_default();
        let count = self.rings.get_mut(index).map_or(0, |ring| ring.take(index as u32, places));
        let Some(frames) = places.get(..count).filter(|frames| !frames.is_empty()) else { return Ok(Turn::Idle) };
        self.bytes_read += frames.iter().map(|frame| frame.data.len() as u64).sum::<u64>();
        take(frames);
        Ok(Turn::Frames(count))
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn bytes_total(&self) -> Option<u64> {
        None
    }

    fn interface_name(&self, interface: u32) -> Option<&str> {
        self.rings.get(interface as usize).map(|ring| ring.name.as_str())
    }

    fn lost_total(&mut self) -> u64 {
        for ring in &self.rings {
            // Reading the counters sets them to zero.
            let counters: Option<libc::tpacket_stats_v3> = get_option(&ring.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS);
            self.lost_total += counters.map_or(0, |counters| u64::from(counters.tp_drops));
        }
        self.lost_total
    }

    fn take_outages(&mut self) -> Vec<Outage> {
        let now_ns = now_ns();
        let is_over = self.stop.load(Ordering::Relaxed);
        for ring in &mut self.rings {
            if ring.down.as_ref().is_some_and(|down| is_over || now_ns.saturating_sub(down.told_ns) >= OUTAGE_NS) {
                self.outages.extend(ring.still_down(now_ns));
            }
        }
        mem::take(&mut self.outages)
    }
}

/// The memory a ring shares with the kernel.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone and is not tied to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Whose the block is; Acquire so that its content is seen once it is ours.
    fn status(&self, block: usize) -> &AtomicU32 {
        let at = block * BLOCK_BYTES + BLOCK_STATUS;
        assert!(at + 4 <= self.bytes);
        // SAFETY: within the mapping (asserted), aligned (blocks are pages), alive as long as `self`, and the kernel
        // writes it as one word.
        unsafe { AtomicU32::from_ptr(self.start.add(at).cast::<u32>()) }
    }

    /// A block that the kernel has handed over.
    fn block(&self, block: usize) -> &[u8] {
        let at = block * BLOCK_BYTES;
        assert!(at + BLOCK_BYTES <= self.bytes);
        // SAFETY: within the mapping (asserted). The kernel does not write into a block between handing it over and
        // getting it back; `Ring` reads only while it holds the block, and the borrow ends before it is given back.
        unsafe { std::slice::from_raw_parts(self.start.add(at), BLOCK_BYTES) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap gave, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// One interface's socket and ring.
struct Ring {
    name: String,
    link: LinkType,
    is_loopback: bool,
    // Before the socket, so that it is unmapped first.
    mapping: Mapping,
    socket: OwnedFd,
    blocks: usize,
    /// The block read now, or next if none is held.
    block: usize,
    held: bool,
    /// Packets left in the block and where in it the next one lies.
    left: u32,
    at: usize,
    down: Option<Down>,
}

/// Since when an interface is down, and until when that was told.
struct Down {
    since_ns: i64,
    told_ns: i64,
}

impl Ring {
    fn open(name: &str, options: &Options) -> Result<Ring, String> {
        let index = interface_index(name)?;
        // Protocol 0 receives nothing yet: no frame may pass before the filter is in place.
        // SAFETY: no memory is passed.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(no_socket(&io::Error::last_os_error()));
        }
        // SAFETY: a descriptor just opened, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let (hardware, flags) = describe(&socket, name)?;
        let (link, link_number) = match hardware {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => (LinkType::Ethernet, 1),
            ARPHRD_NONE => (LinkType::Raw, 12),
            other => return Err(format!("hardware type {other}, expected Ethernet (1), loopback (772) or none (65534)")),
        };
        if flags & libc::IFF_UP == 0 {
            return Err(format!("the interface is down; `ip link set {name} up` starts it"));
        }
        let is_loopback = hardware == ARPHRD_LOOPBACK;
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");

        attach(&socket, &filter(options, link_number)?).map_err(|error| failed("filter", error))?;
        set_option(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as c_int))
            .map_err(|error| failed("packet ring version 3", error))?;
        let blocks = (options.ring_bytes / BLOCK_BYTES).clamp(BLOCKS_MIN, BLOCKS_MAX);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as c_uint,
            tp_block_nr: blocks as c_uint,
            // Version 3 packs frames by their length; this has only to divide the block.
            tp_frame_size: 2048,
            tp_frame_nr: (blocks * (BLOCK_BYTES / 2048)) as c_uint,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(&socket, libc::PACKET_RX_RING, &request).map_err(|error| failed(&format!("ring of {blocks} MiB"), error))?;
        let bytes = blocks * BLOCK_BYTES;
        // SAFETY: a new mapping at an address of the kernel's choice, as large as the ring just made.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, socket.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(failed(&format!("ring of {blocks} MiB"), io::Error::last_os_error()));
        }
        let mapping = Mapping { start: start.cast(), bytes };
        if is_loopback {
            // Every frame passes lo twice, out and in. Kernels before 4.20 do not know this; `take` drops them as well.
            let _ = set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &(1 as c_int));
        } else if options.promiscuous {
            let membership =
                libc::packet_mreq { mr_ifindex: index as c_int, mr_type: libc::PACKET_MR_PROMISC as u16, mr_alen: 0, mr_address: [0; 8] };
            set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &membership).map_err(|error| failed("promiscuous mode", error))?;
        }
        bind(&socket, index).map_err(|error| match error.raw_os_error() {
            Some(libc::ENETDOWN) => format!("the interface is down; `ip link set {name} up` starts it"),
            _ => failed("bind", error),
        })?;
        if let Some(group) = options.fanout {
            let method = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_DEFRAG;
            let argument = u32::from(group) | method << 16;
            set_option(&socket, libc::PACKET_FANOUT, &argument).map_err(|error| failed("fanout", error))?;
        }
        Ok(Ring { name: name.to_owned(), link, is_loopback, mapping, socket, blocks, block: 0, held: false, left: 0, at: 0, down: None })
    }

    fn still_down(&mut self, until_ns: i64) -> Option<Outage> {
        let down = self.down.as_mut()?;
        let since_ns = mem::replace(&mut down.told_ns, until_ns);
        Some(Outage { place: self.name.clone(), why: "the interface is down".to_owned(), since_ns, until_ns })
    }

    fn up_again(&mut self, until_ns: i64) -> Option<Outage> {
        let since_ns = self.down.take()?.told_ns;
        let until_ns = until_ns.max(since_ns);
        Some(Outage { place: self.name.clone(), why: "the interface was down and is up again".to_owned(), since_ns, until_ns })
    }

    /// The time of the next frame at hand; takes and gives back blocks on the way.
    fn ready(&mut self) -> Option<i64> {
        loop {
            if self.held && self.left == 0 {
                self.mapping.status(self.block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
                self.held = false;
                self.block = (self.block + 1) % self.blocks;
            }
            if !self.held {
                if self.mapping.status(self.block).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                    return None;
                }
                let block = self.mapping.block(self.block);
                self.held = true;
                self.left = word(block, BLOCK_PACKETS);
                self.at = word(block, BLOCK_FIRST) as usize;
            }
            if self.left > 0 {
                let header = self.mapping.block(self.block).get(self.at..).unwrap_or(&[]);
                let is_outgoing = header.get(PACKET_TYPE) == Some(&libc::PACKET_OUTGOING);
                if !(self.is_loopback && is_outgoing) {
                    return Some(time_ns(header));
                }
                let next = word(header, PACKET_NEXT) as usize;
                self.pass(next);
            }
        }
    }

    fn pass(&mut self, next: usize) {
        self.left -= 1;
        self.at += next;
    }

    /// Lends the frame that [`Ring::ready`] found and those behind it in the same block, as many as there are places. The block
    /// is given back by the next [`Ring::ready`], when they are lent no more.
    fn take<'a>(&'a mut self, interface: u32, places: &mut [Frame<'a>]) -> usize {
        let Self { mapping, link, is_loopback, left, at, .. } = self;
        if !self.held {
            return 0;
        }
        let block = mapping.block(self.block);
        let mut count = 0;
        while *left > 0 {
            let Some(place) = places.get_mut(count) else { break };
            let header = block.get(*at..).unwrap_or(&[]);
            *left -= 1;
            *at += word(header, PACKET_NEXT) as usize;
            if *is_loopback && header.get(PACKET_TYPE) == Some(&libc::PACKET_OUTGOING) {
                continue;
            }
            let Some(frame) = frame(*link, header, interface) else { break };
            *place = frame;
            count += 1;
        }
        count
    }
}

/// The frame behind its header in a block.
fn frame(link: LinkType, header: &[u8], interface: u32) -> Option<Frame<'_>> {
    let start = usize::from(short(header, PACKET_DATA));
    let captured = word(header, PACKET_CAPTURED) as usize;
    let has_tag = word(header, PACKET_STATUS) & libc::TP_STATUS_VLAN_VALID != 0;
    let data = header.get(start..start.checked_add(captured)?)?;
    Some(Frame {
        time_ns: time_ns(header),
        link,
        data,
        wire_len: word(header, PACKET_WIRE).max(data.len() as u32),
        vlan: has_tag.then(|| word(header, PACKET_VLAN) as u16),
        interface,
    })
}

fn time_ns(header: &[u8]) -> i64 {
    i64::from(word(header, PACKET_SECONDS)) * 1_000_000_000 + i64::from(word(header, PACKET_NANOSECONDS))
}

/// The number at `at`, in the machine's byte order.
fn word(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    found.map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    found.map_or(0, |chunk| u16::from_ne_bytes(*chunk))
}

fn no_socket(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let program = std::env::current_exe().map_or_else(|_| "PROGRAM".to_owned(), |path| path.display().to_string());
            format!("capturing needs CAP_NET_RAW; run as root or give it once: `sudo setcap cap_net_raw+ep {program}`")
        }
        _ => format!("packet socket: {error}"),
    }
}

fn interface_index(name: &str) -> Result<c_uint, String> {
    let text = CString::new(name).unwrap_or_default();
    // SAFETY: a terminated string that lives through the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err("no such interface; `ip link` lists them".to_owned()),
        index => Ok(index),
    }
}

/// Hardware type and flags of an interface (netdevice(7)).
fn describe(socket: &OwnedFd, name: &str) -> Result<(u16, c_int), String> {
    // SAFETY: ifreq is plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *target = byte as c_char;
    }
    // SAFETY: both requests fill in the ifreq passed; the union field read is the one each has written.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &mut request) < 0 {
            return Err(format!("hardware type: {}", io::Error::last_os_error()));
        }
        let hardware = request.ifr_ifru.ifru_hwaddr.sa_family;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request) < 0 {
            return Err(format!("flags: {}", io::Error::last_os_error()));
        }
        Ok((hardware, c_int::from(request.ifr_ifru.ifru_flags)))
    }
}

fn bind(socket: &OwnedFd, index: c_uint) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as c_int;
    let size = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives through the call and its size is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_option<T>(socket: &OwnedFd, option: c_int, value: &T) -> io::Result<()> {
    let size = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call and its size is its own.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const *value).cast(), size) })
}

/// An option's value; T must be plain numbers.
fn get_option<T: Copy>(socket: &OwnedFd, level: c_int, option: c_int) -> Option<T> {
    // SAFETY: both types asked for (an int, tpacket_stats_v3) are plain numbers, for which zero is a value.
    let mut value: T = unsafe { mem::zeroed() };
    let mut size = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: value and size live through the call, which writes at most `size` bytes.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &mut size) };
    (result == 0).then_some(value)
}

fn attach(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let size = mem::size_of_val(&filter) as libc::socklen_t;
    // SAFETY: the program lives through the call; the kernel copies and checks it and does not write to it.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size) })
}

/// The program that says how many bytes to keep of a frame, 0 for none.
fn filter(options: &Options, link_number: c_int) -> Result<Vec<libc::sock_filter>, String> {
    match &options.filter {
        Some(expression) => compile(expression, link_number, options.snap_bytes),
        None => Ok(vec![libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: options.snap_bytes }]),
    }
}

/// struct bpf_program (pcap/bpf.h); its instructions are laid out as the kernel's.
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    instructions: *mut libc::sock_filter,
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
type Compile = unsafe extern "C" fn(*mut c_void, *mut BpfProgram, *const c_char, c_int, c_uint) -> c_int;
type GetError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut BpfProgram);
type Close = unsafe extern "C" fn(*mut c_void);

/// Compiles a filter expression with libpcap, loaded for this alone: nothing else here needs it.
fn compile(expression: &str, link_number: c_int, snap_bytes: u32) -> Result<Vec<libc::sock_filter>, String> {
    // Compilers before libpcap 1.8 keep their state in globals.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = CString::new(expression).map_err(|_| "filter: a zero byte in the expression".to_owned())?;
    // SAFETY: terminated strings; the types are those of libpcap's headers, stable since 0.8; the handle, the program
    // and the error text are used before they are freed, each freed once. The library stays loaded.
    unsafe {
        let library = libc::dlopen(c"libpcap.so.0.8".as_ptr(), libc::RTLD_NOW);
        let library = if library.is_null() { libc::dlopen(c"libpcap.so.1".as_ptr(), libc::RTLD_NOW) } else { library };
        if library.is_null() {
            return Err("a filter needs libpcap.so.0.8; Debian and Ubuntu have it in the package libpcap0.8".to_owned());
        }
        let symbol = |name: &CStr| {
            let found = libc::dlsym(library, name.as_ptr());
            let missing = || format!("filter: libpcap has no {}", name.to_string_lossy());
            if found.is_null() { Err(missing()) } else { Ok(found) }
        };
        let open_dead = mem::transmute::<*mut c_void, OpenDead>(symbol(c"pcap_open_dead")?);
        let compile = mem::transmute::<*mut c_void, Compile>(symbol(c"pcap_compile")?);
        let get_error = mem::transmute::<*mut c_void, GetError>(symbol(c"pcap_geterr")?);
        let free_code = mem::transmute::<*mut c_void, FreeCode>(symbol(c"pcap_freecode")?);
        let close = mem::transmute::<*mut c_void, Close>(symbol(c"pcap_close")?);

        let handle = open_dead(link_number, c_int::try_from(snap_bytes).unwrap_or(c_int::MAX));
        if handle.is_null() {
            return Err("filter: libpcap has no memory".to_owned());
        }
        let mut program = BpfProgram { len: 0, instructions: ptr::null_mut() };
        let netmask_unknown = c_uint::MAX;
        let result = if compile(handle, &mut program, text.as_ptr(), 1, netmask_unknown) != 0 {
            Err(format!("filter `{expression}`: {}", CStr::from_ptr(get_error(handle)).to_string_lossy()))
        } else {
            let count = program.len as usize;
            let copied = if count == 0 || count > FILTER_INSTRUCTIONS_MAX {
                Err(format!("filter `{expression}`: {count} instructions, expected 1 to {FILTER_INSTRUCTIONS_MAX}"))
            } else {
                Ok(std::slice::from_raw_parts(program.instructions, count).to_vec())
            };
            free_code(&mut program);
            copied
        };
        close(handle);
        result
    }
}

#[cfg(test)]
mod tests;

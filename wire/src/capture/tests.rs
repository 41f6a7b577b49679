//! Real captures, each in a network namespace of its own thread: nothing of the machine is touched.
//!
//! Without privilege only the refusal can be tested, and then it is.

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::*;
use crate::packet::{Layer, Transport, parse};

fn is_root() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `story` in a thread with a fresh network namespace where `lo` is up; without privilege, expects the refusal.
fn in_namespace(story: impl FnOnce() + Send + 'static) {
    if !is_root() {
        let refused = Capture::open(&["lo"], &Options::default()).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains("CAP_NET_RAW")));
        return;
    }
    let done = thread::spawn(move || {
        // SAFETY: no memory is passed; only this thread moves.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "root may make a network namespace");
        ip("link set lo up");
        story();
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

fn wait_up(interface: &str) {
    for _ in 0..500 {
        let shown = Command::new("ip").args(["-o", "link", "show", interface]).output().expect("iproute2 is installed");
        if String::from_utf8_lossy(&shown.stdout).contains("state UP") {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{interface} is not up after five seconds");
}

fn small() -> Options {
    Options { ring_bytes: 2 * BLOCK_BYTES, timeout: Duration::from_millis(20), ..Options::default() }
}

/// What was captured of one frame: time, UDP payload, wire length, tag, interface.
type Seen = (i64, Vec<u8>, u32, Option<u16>, u32);

/// UDP frames until `count` of them came; five seconds without one end the wait on a busy machine.
fn datagrams(capture: &mut Capture, count: usize) -> Vec<Seen> {
    read_until(capture, count, 250)
}

/// UDP frames until half a second went by without one.
fn all_datagrams(capture: &mut Capture) -> Vec<Seen> {
    read_until(capture, usize::MAX, 25)
}

/// UDP frames until `count` of them came or nothing did `patience` times of 20 ms in a row.
fn read_until(capture: &mut Capture, count: usize, patience: u32) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut idle = 0;
    while seen.len() < count && idle < patience {
        let turn = capture.read_some(count - seen.len(), &mut |frames| {
            for frame in frames {
                if let Ok(Layer::Ip(packet)) = parse(frame.link, frame.data, frame.wire_len, None) {
                    if let Transport::Udp(udp) = packet.transport {
                        seen.push((frame.time_ns, udp.payload.to_vec(), frame.wire_len, frame.vlan, frame.interface));
                    }
                }
            }
        });
        idle = if matches!(turn, Ok(Turn::Frames(_))) { 0 } else { idle + 1 };
    }
    seen
}

/// An Ethernet frame with a UDP datagram, sent out of an interface as it is.
fn send(interface: &str, tag: Option<u16>, payload: &[u8]) {
    let socket = sender(interface);
    send_on(&socket, tag, payload);
}

fn sender(interface: &str) -> OwnedFd {
    let index = interface_index(interface).expect("the interface is there");
    // SAFETY: a new socket, owned here.
    let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)) };
    bind(&socket, index).expect("bound");
    socket
}

fn send_on(socket: &OwnedFd, tag: Option<u16>, payload: &[u8]) {
    let total = (28 + payload.len()) as u16;
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 9]);
    if let Some(tag) = tag {
        frame.extend_from_slice(&[0x81, 0x00]);
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0x27, 0x0f]);
    frame.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    // SAFETY: the frame lives through the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(sent, frame.len() as isize);
}

#[test]
fn loopback_frames_come_once_whole_and_in_nanoseconds() {
    in_namespace(|| {
        let mut capture = Capture::open(&["lo"], &small()).expect("captured");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = socket.local_addr().expect("an address");
        let largest = vec![7; 65_507];
        for payload in [&b"one"[..], &largest, b"three"] {
            socket.send_to(payload, to).expect("sent");
        }
        let mut seen = datagrams(&mut capture, 3);
        seen.extend(all_datagrams(&mut capture));
        let payloads: Vec<_> = seen.iter().map(|(_, payload, ..)| payload.as_slice()).collect();
        assert_eq!(payloads, [&b"one"[..], &largest, b"three"]);
        assert_eq!(seen[1].2, 65_549);
        assert!(seen.is_sorted_by_key(|frame| frame.0) && seen[0].0 > 1_600_000_000_000_000_000);
        assert!(seen.iter().any(|frame| frame.0 % 1000 != 0), "nanoseconds, not microseconds");
        assert_eq!(capture.interface_name(0), Some("lo"));
        assert_eq!(capture.lost_total(), 0);
    });
}

#[test]
fn both_ends_of_a_cable_are_captured_and_a_stripped_tag_is_given_back() {
    in_namespace(|| {
        ip("link add north type veth peer name south");
        ip("link set north up");
        ip("link set south up");
        // The kernel lets a cable carry frames some time after both its ends are up; until then it drops them.
        wait_up("north");
        wait_up("south");
        let mut capture = Capture::open(&["south"], &small()).expect("captured");
        send("north", Some(0x6014), b"tagged");
        send("north", None, b"bare");
        let seen = datagrams(&mut capture, 2);
        let told: Vec<_> = seen.iter().map(|(_, payload, _, tag, _)| (payload.as_slice(), *tag)).collect();
        assert_eq!(told, [(&b"tagged"[..], Some(0x6014)), (b"bare", None)]);

        let mut both = Capture::open(&["north", "south"], &small()).expect("captured");
        send("north", None, b"seen twice");
        let seen = datagrams(&mut both, 2);
        let mut interfaces: Vec<_> = seen.iter().map(|frame| frame.4).collect();
        interfaces.sort_unstable();
        assert_eq!(interfaces, [0, 1], "leaving north and arriving at south");
    });
}

/// A cable whose two ends are both captured.
fn cable() -> Capture {
    ip("link add north type veth peer name south");
    ip("link set north up");
    ip("link set south up");
    wait_up("north");
    wait_up("south");
    let options = Options { ring_bytes: 32 * BLOCK_BYTES, ..small() };
    Capture::open(&["north", "south"], &options).expect("captured")
}

/// Reads on until an outage is told.
fn outage(capture: &mut Capture) -> Outage {
    for _ in 0..250 {
        capture.read().expect("an interface is left");
        if let Some(outage) = capture.take_outages().into_iter().next() {
            return outage;
        }
    }
    panic!("no outage within five seconds");
}

#[test]
fn several_interfaces_are_one_stream_in_the_order_of_time() {
    in_namespace(|| {
        let mut capture = cable();
        // The rings hand their blocks over at different times, several frames each, while the frames go on.
        let sending = thread::spawn(|| {
            let ends = [sender("north"), sender("south")];
            for number in 0..200u8 {
                send_on(&ends[usize::from(number % 2)], None, &[number]);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let seen = datagrams(&mut capture, 400);
        sending.join().expect("sent");
        assert_eq!(seen.len(), 400, "every frame at both ends");
        assert!(seen.is_sorted_by_key(|frame| frame.0));
        let numbers: Vec<_> = seen.iter().map(|frame| frame.1[0]).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    });
}

#[test]
fn an_interface_that_fails_is_told_and_the_others_go_on_until_the_last() {
    in_namespace(|| {
        let mut capture = cable();
        ip("link set south down");
        let down = outage(&mut capture);
        assert_eq!((down.place.as_str(), down.why.as_str()), ("south", "the interface went down"));
        ip("link set south up");
        wait_up("south");
        send("north", None, b"again");
        let seen = datagrams(&mut capture, 2);
        assert_eq!(seen.iter().map(|frame| frame.4).collect::<Vec<_>>(), [0, 1]);
        let up = outage(&mut capture);
        assert_eq!((up.place.as_str(), up.why.as_str()), ("south", "the interface was down and is up again"));
        assert!(up.since_ns == down.until_ns && up.until_ns > up.since_ns);
        ip("link del north");
        let failed = (0..50).find_map(|_| capture.read().err()).map(|error| error.to_string());
        assert!(failed.is_some_and(|text| text.ends_with(": the interface went down")));
        assert_eq!(capture.read().ok(), Some(Step::End));
    });
}

#[test]
fn filter_and_snap_length_are_the_kernels() {
    in_namespace(|| {
        let options = Options { filter: Some("udp dst port 9999".to_owned()), snap_bytes: 50, ..small() };
        let mut capture = Capture::open(&["lo"], &options).expect("captured");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        for port in [9998, 9999, 10_000] {
            let _ = socket.send_to(&[5; 100], ("127.0.0.1", port));
        }
        let mut seen = datagrams(&mut capture, 1);
        seen.extend(all_datagrams(&mut capture));
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].1.len(), seen[0].2), (8, 142), "50 of 142 bytes");
        let options = Options { filter: Some("udp dst prot 1".to_owned()), ..small() };
        let refused = Capture::open(&["lo"], &options).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.starts_with("lo: filter `udp dst prot 1`: ")));
    });
}

#[test]
fn what_the_kernel_drops_is_counted_once_and_stays_counted() {
    in_namespace(|| {
        let mut capture = Capture::open(&["lo"], &small()).expect("captured");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let to = socket.local_addr().expect("an address");
        for _ in 0..80 {
            socket.send_to(&[1; 60_000], to).expect("sent");
        }
        let lost = capture.lost_total();
        let seen = all_datagrams(&mut capture).len() as u64;
        assert!(lost > 0, "4.8 MB do not fit 2 MiB");
        assert_eq!((seen + lost, capture.lost_total()), (80, lost));
    });
}

#[test]
fn fanout_gives_every_flow_to_one_of_the_captures() {
    in_namespace(|| {
        let options = Options { fanout: Some(7), ..small() };
        let mut captures = [1, 2].map(|_| Capture::open(&["lo"], &options).expect("captured"));
        for flow in 0..16u8 {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
            let to = socket.local_addr().expect("an address");
            for _ in 0..3 {
                socket.send_to(&[flow], to).expect("sent");
            }
        }
        let mut flows = [[0u8; 16]; 2];
        let until = Instant::now() + Duration::from_secs(5);
        while flows.iter().flatten().sum::<u8>() < 48 && Instant::now() < until {
            for (capture, flows) in captures.iter_mut().zip(&mut flows) {
                while let Ok(Step::Frame(frame)) = capture.read() {
                    if let Some(flow) = frame.data.get(42) {
                        flows[usize::from(*flow) % 16] += 1;
                    }
                }
            }
        }
        let [one, other] = flows;
        for flow in 0..16 {
            assert!(matches!((one[flow], other[flow]), (3, 0) | (0, 3)), "flow {flow}");
        }
    });
}

#[test]
fn idle_and_stop_are_told_apart() {
    in_namespace(|| {
        let mut capture = Capture::open(&["lo"], &small()).expect("captured");
        assert_eq!(capture.read().ok(), Some(Step::Idle));
        capture.stop_handle().stop();
        assert_eq!(capture.read().ok(), Some(Step::End));
    });
}

#[test]
fn errors_say_what_to_do() {
    let text = |interface: &str| Capture::open(&[interface], &small()).err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(text("nowhere0"), "nowhere0: no such interface; `ip link` lists them");
    in_namespace(move || {
        ip("link add north type veth peer name south");
        assert_eq!(text("south"), "south: the interface is down; `ip link set south up` starts it");
        // SAFETY: no memory is passed; the bare system call changes this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        let refused = text("lo");
        assert!(refused.starts_with("lo: capturing needs CAP_NET_RAW; run as root or give it once: `sudo setcap cap_net_raw+ep /"));
    });
}

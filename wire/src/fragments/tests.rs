use super::*;
use crate::packet::{LinkType, Transport, parse};

const NS: i64 = 1_700_000_000_000_000_000;

fn datagram(payload: usize) -> Vec<u8> {
    let content: Vec<u8> = (0..payload).map(|i| (i / 8) as u8).collect();
    let words = [40_000, 50_000, (payload + 8) as u16, 0];
    [&words.map(u16::to_be_bytes).concat()[..], &content].concat()
}

/// An IPv4 packet with a piece of another one's payload.
fn four(identification: u16, whole: &[u8], from: usize, to: usize) -> Vec<u8> {
    let more = if to < whole.len() { 0x2000 } else { 0 };
    let words = [0x4500, (20 + to - from) as u16, identification, more | (from / 8) as u16, 0x4011, 0];
    [&words.map(u16::to_be_bytes).concat()[..], &[10, 0, 0, 1, 10, 0, 0, 2], &whole[from..to]].concat()
}

fn six(identification: u32, next: u8, whole: &[u8], from: usize, to: usize) -> Vec<u8> {
    let offset = (from as u16) | u16::from(to < whole.len());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((8 + to - from) as u16).to_be_bytes());
    packet.extend([44, 64]);
    packet.extend([[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].repeat(2).concat());
    packet.extend([next, 0]);
    packet.extend(offset.to_be_bytes());
    packet.extend(identification.to_be_bytes());
    [&packet[..], &whole[from..to]].concat()
}

#[derive(Default)]
struct Told {
    fragments: Fragments,
    datagrams: Vec<(usize, Vec<u8>, u32)>,
    lost: Vec<Lost>,
}

impl Told {
    fn see_cut(&mut self, packet: &[u8], wire: u32, context: u32, time_ns: i64) {
        let Ok(Layer::Fragment(fragment)) = parse(LinkType::Raw, packet, wire, None) else { panic!("no fragment") };
        let mut outcomes = Vec::new();
        self.fragments.add(&fragment, context, 0, time_ns, &mut |outcome| outcomes.push(outcome));
        self.hear(outcomes);
    }

    fn see(&mut self, packet: &[u8]) {
        self.see_cut(packet, packet.len() as u32, 0, NS);
    }

    fn at(&mut self, time_ns: i64) {
        let mut outcomes = Vec::new();
        self.fragments.advance(time_ns, &mut |outcome| outcomes.push(outcome));
        self.hear(outcomes);
    }

    fn hear(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Lost(lost) => self.lost.push(lost),
                Outcome::Whole(whole) => match whole.parse() {
                    Ok(Layer::Ip(packet)) => match packet.transport {
                        Transport::Udp(udp) => {
                            self.datagrams.push((udp.payload_bytes as usize, udp.payload.to_vec(), whole.context));
                        }
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                },
            }
        }
    }
}

#[test]
fn pieces_in_any_order_and_seen_twice_make_one_datagram() {
    let whole = datagram(200);
    let cuts = [(0, 64), (64, 72), (72, 160), (160, 208)];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
    for order in orders {
        for version in [4, 6] {
            let mut told = Told::default();
            for (turn, index) in order.into_iter().enumerate() {
                let (from, to) = cuts[index];
                let piece = if version == 4 { four(7, &whole, from, to) } else { six(7, 17, &whole, from, to) };
                told.see(&piece);
                if turn < 3 {
                    told.see(&piece);
                }
            }
            assert_eq!(told.datagrams, [(200, whole[8..].to_vec(), 0)], "IPv{version} {order:?}");
            let counters = &told.fragments.counters;
            assert_eq!((counters.fragments_total, counters.reassembled_total, counters.incomplete_total), (7, 1, 0));
            assert_eq!((told.fragments.bytes, told.fragments.pending.len()), (0, 0));
        }
    }
}

#[test]
fn packets_that_differ_in_number_address_or_context_are_not_mixed() {
    let whole = datagram(56);
    let mut told = Told::default();
    told.see(&four(1, &whole, 0, 32));
    told.see(&four(2, &whole, 32, 64));
    told.see_cut(&four(1, &whole, 32, 64), 52, 9, NS);
    assert!(told.datagrams.is_empty());
    told.see(&four(1, &whole, 32, 64));
    told.see_cut(&four(1, &whole, 0, 32), 52, 9, NS);
    assert_eq!(told.datagrams.iter().map(|told| told.2).collect::<Vec<_>>(), [0, 9]);
}

#[test]
fn pieces_that_contradict_one_another_are_dropped_with_all_of_their_packet() {
    let whole = datagram(200);
    let mut other = whole.clone();
    other[70] ^= 1;
    for (name, second) in [("other bytes", four(7, &other, 64, 128)), ("another end", four(7, &whole[..200], 160, 200))] {
        let mut told = Told::default();
        told.see(&four(7, &whole, 0, 128));
        told.see(&four(7, &whole, 160, 208));
        told.see(&second);
        told.see(&four(7, &whole, 128, 160));
        told.at(i64::MAX);
        assert!(told.datagrams.is_empty(), "{name}");
        assert_eq!(told.lost.len(), 1);
        assert_eq!((told.lost[0].packets, told.lost[0].why), (4, "fragments that contradict one another"), "{name}");
        assert_eq!((told.fragments.counters.overlaps_total, told.fragments.bytes), (1, 0));
    }
}

#[test]
fn an_overlap_with_the_same_bytes_is_read_in_ipv4_and_dropped_in_ipv6() {
    let whole = datagram(200);
    for (version, readable) in [(4, true), (6, false)] {
        let mut told = Told::default();
        for (from, to) in [(0, 128), (64, 160), (160, 208)] {
            told.see(&if version == 4 { four(7, &whole, from, to) } else { six(7, 17, &whole, from, to) });
        }
        told.at(i64::MAX);
        assert_eq!(told.datagrams.len(), usize::from(readable), "IPv{version} (RFC 5722, 3)");
        assert_eq!(told.lost.is_empty(), readable);
    }
}

#[test]
fn what_stays_incomplete_is_lost_by_its_bytes_after_its_patience() {
    let whole = datagram(200);
    let mut told = Told::default();
    told.see(&four(7, &whole, 64, 128));
    told.see_cut(&four(7, &whole, 160, 208), 68, 0, NS + 5);
    told.at(NS + PATIENCE_NS);
    assert!(told.lost.is_empty());
    told.at(NS + PATIENCE_NS + 1);
    let why = "fragments of packets that were never whole";
    assert_eq!(told.lost, [Lost { packets: 2, bytes: 112, start_ns: NS, end_ns: NS + 5, why }]);
    told.see_cut(&four(7, &whole, 0, 64), 84, 0, NS + PATIENCE_NS + 2);
    assert!(told.datagrams.is_empty(), "the number begins another packet");
}

#[test]
fn the_beginning_of_an_incomplete_datagram_is_read_and_the_rest_counted_as_cut() {
    let whole = datagram(200);
    let mut told = Told::default();
    told.see(&four(7, &whole, 0, 64));
    told.see(&four(7, &whole, 128, 160));
    told.at(i64::MAX);
    assert_eq!(told.datagrams, [(200, whole[8..64].to_vec(), 0)]);
    assert_eq!((told.lost.len(), told.fragments.counters.incomplete_total), (0, 1));
}

#[test]
fn a_snap_length_inside_a_fragment_cuts_the_datagram_there() {
    let whole = datagram(200);
    let mut told = Told::default();
    let first = four(7, &whole, 0, 128);
    told.see_cut(&first[..60], 148, 0, NS);
    told.see_cut(&first[..60], 148, 0, NS);
    told.see(&four(7, &whole, 128, 208));
    assert_eq!(told.datagrams, [(200, whole[8..40].to_vec(), 0)]);
}

#[test]
fn extension_headers_of_ipv6_inside_the_fragments_are_walked() {
    let whole = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &datagram(200)].concat();
    let mut told = Told::default();
    told.see(&six(7, 60, &whole, 0, 104));
    told.see(&six(7, 60, &whole, 104, 216));
    assert_eq!(told.datagrams.len(), 1);
}

#[test]
fn a_fragment_that_ends_beyond_the_longest_packet_is_lost_at_once() {
    let mut beyond = four(7, &datagram(200), 0, 64);
    beyond[6..8].copy_from_slice(&[0x1f, 0xff]);
    let mut told = Told::default();
    told.see(&beyond);
    assert_eq!((told.lost.len(), told.lost[0].bytes, told.fragments.pending.len()), (1, 64, 0));
}

#[test]
fn count_bytes_and_pieces_are_bounded_and_reaching_a_bound_is_counted() {
    let whole = datagram(65_000);
    let mut told = Told::default();
    for number in 0..PACKETS_MAX as u32 + 10 {
        told.see(&six(number, 17, &whole, 64, 128));
    }
    assert_eq!((told.fragments.pending.len(), told.fragments.counters.evicted_total), (PACKETS_MAX, 10));
    let mut told = Told::default();
    for number in 0..1000 {
        told.see(&four(number, &whole, 64_000, 64_008));
        assert!(told.fragments.bytes <= BYTES_MAX);
    }
    assert!(told.fragments.counters.evicted_total > 0);
    let kept: u64 = told.fragments.pending.len() as u64;
    assert_eq!(kept + told.lost.iter().map(|lost| lost.packets).sum::<u64>(), 1000, "every fragment is kept or lost");
    let mut told = Told::default();
    for piece in 0..=RUNS_MAX {
        told.see(&four(7, &whole, piece * 16, piece * 16 + 8));
    }
    told.at(i64::MAX);
    assert_eq!((told.lost.len(), told.lost[0].packets, told.fragments.counters.evicted_total), (1, RUNS_MAX as u64 + 1, 1));
}

#[test]
fn a_long_run_of_whole_packets_leaves_nothing_behind() {
    let whole = datagram(56);
    let mut told = Told::default();
    told.see(&six(1 << 30, 17, &whole, 0, 32));
    for number in 0..3 * PACKETS_MAX as u32 {
        told.see(&six(number, 17, &whole, 0, 32));
        told.see(&six(number, 17, &whole, 32, 64));
    }
    assert!(told.fragments.ages.len() <= 2 * PACKETS_MAX + 1);
    assert_eq!((told.fragments.pending.len(), told.datagrams.len()), (1, 3 * PACKETS_MAX));
}

#[test]
fn a_mirror_that_shows_each_fragment_twice_makes_one_packet_and_loses_nothing() {
    let whole = datagram(200);
    let mut told = Told::default();
    let pieces = [four(7, &whole, 0, 64), four(7, &whole, 64, 208)];
    for piece in [0, 0, 1, 1, 0] {
        told.see(&pieces[piece]);
    }
    assert_eq!((told.datagrams.len(), told.fragments.counters.copies_total), (1, 2));
    // Later the number is used again.
    for piece in &pieces {
        told.see_cut(piece, piece.len() as u32, 0, NS + COPY_NS);
    }
    told.at(i64::MAX);
    assert_eq!((told.datagrams.len(), told.lost.len()), (2, 0));
    for number in 0..3 * MADE_MAX as u32 {
        told.see(&six(number, 17, &whole, 0, 104));
        told.see(&six(number, 17, &whole, 104, 208));
    }
    assert!(told.fragments.made.len() <= MADE_MAX && told.fragments.made_order.len() <= MADE_MAX);
}

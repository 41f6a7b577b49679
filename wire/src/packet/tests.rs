use super::plain::Plain;
use super::*;
use crate::source::Frame;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&MACS[..], &ethertype.to_be_bytes(), rest].concat()
}

fn tcp_segment(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9c, 0x40, 0x07, 0x5b, 0, 0, 0, 5, 0, 0, 0, 9, 0x50, 0x18, 0x10, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

fn udp_datagram(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 8) as u16;
    let mut bytes = vec![0x9c, 0x40, 0x00, 0x35];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

fn ipv4_packet(protocol: u8, fragment: u16, options: &[u8], rest: &[u8]) -> Vec<u8> {
    let total = (20 + options.len() + rest.len()) as u16;
    let mut bytes = vec![0x45 + (options.len() / 4) as u8, 0];
    bytes.extend_from_slice(&total.to_be_bytes());
    bytes.extend_from_slice(&[0, 7]);
    bytes.extend_from_slice(&fragment.to_be_bytes());
    bytes.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend_from_slice(options);
    bytes.extend_from_slice(rest);
    bytes
}

fn ipv6_packet(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[next, 64]);
    bytes.extend_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
    bytes.extend_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets());
    bytes.extend_from_slice(rest);
    bytes
}

fn ip(link: LinkType, frame: &[u8]) -> Packet<'_> {
    match parse(link, frame, frame.len() as u32, None) {
        Ok(Layer::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn as_tcp<'a>(packet: &Packet<'a>) -> Tcp<'a> {
    match packet.transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("{other:?}"),
    }
}

fn as_udp<'a>(packet: &Packet<'a>) -> Udp<'a> {
    match packet.transport {
        Transport::Udp(udp) => udp,
        other => panic!("{other:?}"),
    }
}

fn with_checksums(mut packet: Vec<u8>, header: usize, field: usize, pseudo: u64) -> Vec<u8> {
    let value = !(fold(sum(&packet[header..]) + pseudo) as u16);
    packet[header + field..header + field + 2].copy_from_slice(&value.to_be_bytes());
    if header == 20 {
        let value = !(fold(sum(&packet[..20])) as u16);
        packet[10..12].copy_from_slice(&value.to_be_bytes());
    }
    packet
}

#[test]
fn a_tcp_segment_gives_addresses_ports_numbers_and_payload() {
    let frame = ethernet(0x0800, &ipv4_packet(6, 0x4000, &[], &tcp_segment(b"hello")));
    let packet = ip(LinkType::Ethernet, &frame);
    assert_eq!(packet.source.to_string(), "10.0.0.1");
    assert_eq!(packet.destination.to_string(), "10.0.0.2");
    let tcp = as_tcp(&packet);
    assert_eq!((tcp.source_port, tcp.destination_port), (40000, 1883));
    assert_eq!((tcp.sequence, tcp.acknowledgment, tcp.window), (5, 9, 4096));
    assert!(tcp.flags.ack() && !tcp.flags.syn() && !tcp.flags.fin() && !tcp.flags.rst());
    assert_eq!((tcp.payload, tcp.payload_bytes, tcp.cut), (&b"hello"[..], 5, 0));
}

#[test]
fn ethernet_padding_is_no_payload() {
    let mut frame = ethernet(0x0800, &ipv4_packet(6, 0, &[], &tcp_segment(b"a")));
    frame.resize(60, 0);
    let packet = ip(LinkType::Ethernet, &frame);
    assert_eq!(as_tcp(&packet).payload, b"a");
    assert_eq!(packet.ip_payload_bytes, 21);
}

#[test]
fn a_snap_length_leaves_the_missing_bytes_counted_as_cut() {
    let frame = ethernet(0x0800, &ipv4_packet(6, 0, &[], &tcp_segment(&[7; 100])));
    let wire_len = frame.len() as u32;
    let Ok(Layer::Ip(packet)) = parse(LinkType::Ethernet, &frame[..64], wire_len, None) else {
        panic!("not IP");
    };
    let tcp = as_tcp(&packet);
    assert_eq!((tcp.payload.len(), tcp.payload_bytes, tcp.cut), (10, 100, 90));
    assert_eq!(checksum_ok(&packet), Some(false), "the IPv4 header has none here");
    assert_eq!(parse(LinkType::Ethernet, &frame[..50], wire_len, None), Err(Malformed::HeadersCut));
    assert_eq!(parse(LinkType::Ethernet, &frame[..50], 50, None), Err(Malformed::FrameShort));
}

#[test]
fn ports_stay_known_when_the_snap_length_falls_into_tcp_options() {
    let mut segment = tcp_segment(&[0; 12]);
    segment[12] = 0x80;
    segment.extend_from_slice(b"data");
    let frame = ethernet(0x0800, &ipv4_packet(6, 0, &[], &segment));
    let Ok(Layer::Ip(packet)) = parse(LinkType::Ethernet, &frame[..56], frame.len() as u32, None) else {
        panic!("not IP");
    };
    let tcp = as_tcp(&packet);
    assert_eq!((tcp.source_port, tcp.payload.len(), tcp.cut), (40000, 0, 4));
}

#[test]
fn total_length_0_reaches_to_the_end_of_the_frame() {
    let mut inner = ipv4_packet(6, 0, &[], &tcp_segment(&[1; 3000]));
    inner[2..4].copy_from_slice(&[0, 0]);
    let frame = ethernet(0x0800, &inner);
    assert_eq!(as_tcp(&ip(LinkType::Ethernet, &frame)).payload.len(), 3000);
}

#[test]
fn a_total_length_beyond_the_frame_gives_what_the_frame_held() {
    let mut inner = ipv4_packet(6, 0, &[], &tcp_segment(b"abc"));
    inner[2..4].copy_from_slice(&[0x40, 0]);
    let frame = ethernet(0x0800, &inner);
    let tcp = as_tcp(&ip(LinkType::Ethernet, &frame));
    assert_eq!((tcp.payload, tcp.cut), (&b"abc"[..], 0));
}

#[test]
fn ipv4_options_lie_before_the_transport_header() {
    let frame = ethernet(0x0800, &ipv4_packet(17, 0, &[1; 8], &udp_datagram(b"q")));
    assert_eq!(as_udp(&ip(LinkType::Ethernet, &frame)).payload, b"q");
}

#[test]
fn stacked_tags_are_given_outermost_first_and_a_stripped_one_comes_first() {
    let inner = ipv4_packet(17, 0, &[], &udp_datagram(b"q"));
    let tagged = [&[0x20, 0x14, 0x91, 0x00, 0x00, 0x15, 0x08, 0x00][..], &inner].concat();
    let frame = ethernet(0x88a8, &tagged);
    assert_eq!(ip(LinkType::Ethernet, &frame).vlans.as_slice(), [20, 21]);
    let Ok(Layer::Ip(packet)) = parse(LinkType::Ethernet, &frame, frame.len() as u32, Some(0x6007)) else {
        panic!("not IP");
    };
    assert_eq!(packet.vlans.as_slice(), [7, 20, 21]);
}

#[test]
fn four_tags_are_read_and_a_fifth_is_refused() {
    let inner = ipv4_packet(17, 0, &[], &udp_datagram(b"q"));
    let tag = [0, 9, 0x81, 0x00];
    let last = [0, 9, 0x08, 0x00];
    let four = ethernet(0x8100, &[&tag[..], &tag, &tag, &last, &inner].concat());
    assert_eq!(ip(LinkType::Ethernet, &four).vlans.as_slice(), [9, 9, 9, 9]);
    let five = ethernet(0x8100, &[&tag[..], &tag, &tag, &tag, &last, &inner].concat());
    assert_eq!(parse(LinkType::Ethernet, &five, five.len() as u32, None), Err(Malformed::VlanDepth));
}

#[test]
fn every_link_type_finds_the_same_datagram() {
    let four = ipv4_packet(17, 0, &[], &udp_datagram(b"q"));
    let six = ipv6_packet(17, &udp_datagram(b"q"));
    let mut sll = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00];
    sll.extend_from_slice(&four);
    let mut sll2 = vec![0x86, 0xdd, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    sll2.extend_from_slice(&six);
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &four].concat();
    // Data with quality of service, towards an access point.
    let wlan = [&[0x88, 1][..], &[0; 22], &[0, 0], &snap].concat();
    let nflog = |order: fn(u16) -> [u8; 2], packet: &[u8]| {
        let attribute = |kind: u16, value: &[u8]| [&order(value.len() as u16 + 4)[..], &order(kind), value].concat();
        let prefix = attribute(10, b"drop\0");
        [&[2, 0, 0, 5][..], &attribute(1, &[8, 0, 3, 0]), &prefix, &[0; 3], &attribute(9, packet)].concat()
    };
    let frames = [
        (12, four.clone()),
        (14, four.clone()),
        (101, six.clone()),
        (228, four.clone()),
        (229, six.clone()),
        (0, [&[2, 0, 0, 0][..], &four].concat()),
        (0, [&[0, 0, 0, 2][..], &four].concat()),
        (0, [&[30, 0, 0, 0][..], &six].concat()),
        (108, [&[0, 0, 0, 24][..], &six].concat()),
        (0, [&[0x0f, 0, 8, 0][..], &four].concat()),
        (113, sll),
        (276, sll2),
        (1, ethernet(snap.len() as u16, &snap)),
        (1, ethernet(0x8847, &[&[0, 1, 0, 64, 0, 1, 1, 64][..], &four].concat())),
        (9, [&[0xff, 3, 0, 0x21][..], &four].concat()),
        (9, [&[0x57][..], &six].concat()),
        (50, [&[0xff, 3, 0, 0x57][..], &six].concat()),
        (50, [&[0x0f, 0, 8, 0][..], &four].concat()),
        (51, [&[0x11, 0, 0, 9, 0, four.len() as u8 + 2, 0, 0x21][..], &four].concat()),
        (104, [&[0x8f, 0, 0x86, 0xdd][..], &six].concat()),
        (8, [&[1, 0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &four].concat()),
        (105, wlan.clone()),
        (127, [&[0, 0, 9, 0, 0, 0, 0, 0, 0][..], &wlan].concat()),
        (239, nflog(u16::to_le_bytes, &four)),
        (239, nflog(u16::to_be_bytes, &six)),
        (1, ethernet(0x8864, &[&[0x11, 0, 0, 9, 0, six.len() as u8 + 2, 0, 0x57][..], &six].concat())),
        (1, ethernet(0x88e7, &[&[0, 0, 0, 7][..], &ethernet(0x0800, &four)].concat())),
        (1, ethernet(0x8903, &[&[0, 7][..], &ethernet(0x8100, &[&[0, 5, 8, 0][..], &four].concat())].concat())),
        // A pseudowire, with and without control word.
        (1, ethernet(0x8848, &[&[0, 1, 1, 64, 0, 0, 0, 9][..], &ethernet(0x0800, &four)].concat())),
        (1, ethernet(0x8847, &[&[0, 1, 1, 64][..], &ethernet(0x86dd, &six)].concat())),
    ];
    for (number, frame) in frames {
        let packet = ip(LinkType::from_number(number), &frame);
        let udp = as_udp(&packet);
        assert_eq!((udp.source_port, udp.destination_port), (40000, 53), "link type {number}");
        assert_eq!(udp.payload, b"q", "link type {number}");
    }
    assert_eq!(parse(LinkType::from_number(147), &four, 60, None), Err(Malformed::LinkType));
}

fn as_fragment(link: LinkType, frame: &[u8]) -> Fragment<'_> {
    match parse(link, frame, frame.len() as u32, None) {
        Ok(Layer::Fragment(fragment)) => fragment,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fragments_say_where_they_lie_and_are_read_no_further() {
    let datagram = udp_datagram(&[3; 40]);
    let first = ethernet(0x0800, &ipv4_packet(17, 0x2000, &[], &datagram[..24]));
    let fragment = as_fragment(LinkType::Ethernet, &first);
    assert!(fragment.first() && fragment.more && fragment.identification == 7);
    assert_eq!((fragment.protocol, fragment.payload, fragment.payload_bytes), (17, &datagram[..24], 24));
    let second = ethernet(0x0800, &ipv4_packet(17, 0x0003, &[], &datagram[24..]));
    let fragment = as_fragment(LinkType::Ethernet, &second);
    assert!(!fragment.first() && !fragment.more && fragment.offset_bytes == 24);
    assert_eq!(fragment.payload, &datagram[24..]);
    let mut short = ipv4_packet(17, 0x2000, &[], &datagram[..24]);
    short[2..4].copy_from_slice(&1500u16.to_be_bytes());
    let fragment = as_fragment(LinkType::Ipv4, &short);
    assert_eq!((fragment.payload.len(), fragment.payload_bytes), (24, 1480), "as long as its header says");
}

#[test]
fn ipv6_extension_headers_are_walked_to_the_transport() {
    let datagram = udp_datagram(b"q");
    let extensions = [
        &[43, 0, 1, 4, 0, 0, 0, 0][..],         // Hop-by-hop, then routing.
        &[60, 0, 0, 1, 0, 0, 0, 0],             // Routing with a segment left, then destination options.
        &[51, 0, 1, 4, 0, 0, 0, 0],             // Destination options, then AH.
        &[44, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], // AH, then fragment.
        &[17, 0, 0, 0, 0, 0, 0, 5],             // An atomic fragment, then UDP.
        &datagram,
    ]
    .concat();
    let frame = ethernet(0x86dd, &ipv6_packet(0, &extensions));
    let packet = ip(LinkType::Ethernet, &frame);
    assert_eq!(packet.destination.to_string(), "2001:db8::2");
    assert_eq!(packet.protocol, 17);
    assert_eq!(as_udp(&packet).payload, b"q");
    assert_eq!(checksum_ok(&packet), None, "a routing header hides the last destination");
}

#[test]
fn a_chain_of_eight_extension_headers_is_read_and_nine_are_refused() {
    let datagram = udp_datagram(b"q");
    for (count, readable) in [(8, true), (9, false)] {
        let mut rest = Vec::new();
        for left in (0..count).rev() {
            rest.extend_from_slice(&[if left == 0 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        rest.extend_from_slice(&datagram);
        let packet = ipv6_packet(60, &rest);
        let parsed = parse(LinkType::Raw, &packet, packet.len() as u32, None);
        assert_eq!(parsed.is_ok(), readable);
        assert!(readable || parsed == Err(Malformed::Ipv6Extension));
    }
}

#[test]
fn later_ipv6_fragments_are_not_read_as_headers() {
    let rest = [&[0, 0, 0, 0x09, 0, 0, 0, 5][..], &[0xff; 16]].concat();
    let packet = ipv6_packet(44, &rest);
    let fragment = as_fragment(LinkType::Ipv6, &packet);
    assert_eq!((fragment.offset_bytes, fragment.more, fragment.identification), (8, true, 5));
    assert_eq!((fragment.protocol, fragment.payload_bytes), (0, 16));
}

#[test]
fn frames_without_ip_give_their_ethertype_and_macs() {
    let frame = ethernet(0x8892, &[0; 46]);
    assert_eq!(
        parse(LinkType::Ethernet, &frame, 60, Some(3)).map(|layer| match layer {
            Layer::NotIp { ethertype, source_mac, destination_mac, vlans } =>
                (ethertype, source_mac, destination_mac, vlans.as_slice().to_vec()),
            _ => panic!("PROFINET is not IP"),
        }),
        Ok((0x8892, [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], vec![3]))
    );
}

#[test]
fn contradictions_are_told_apart() {
    let good = ipv4_packet(6, 0, &[], &tcp_segment(b"x"));
    let broken = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        parse(LinkType::Ipv4, &packet, packet.len() as u32, None).map(|_| ())
    };
    assert_eq!(broken(0, 0x55), Err(Malformed::IpVersion));
    assert_eq!(broken(0, 0x44), Err(Malformed::Ipv4HeaderLength));
    assert_eq!(broken(3, 19), Err(Malformed::Ipv4TotalLength));
    assert_eq!(broken(3, 20), Err(Malformed::FrameShort));
    assert_eq!(broken(32, 0x40), Err(Malformed::TcpDataOffset));
    assert_eq!(broken(32, 0x60), Err(Malformed::TcpDataOffset));
    let mut datagram = ipv4_packet(17, 0, &[], &udp_datagram(b"abc"));
    datagram[25] = 7;
    assert_eq!(parse(LinkType::Ipv4, &datagram, 31, None), Err(Malformed::UdpLength));
    datagram[25] = 12;
    assert_eq!(as_udp(&ip(LinkType::Ipv4, &datagram)).payload, b"abc");
    for (index, reason) in Malformed::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index);
    }
}

#[test]
fn checksums_hold_until_a_byte_changes() {
    let v4 = sum(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let good = with_checksums(ipv4_packet(6, 0, &[], &tcp_segment(b"odd")), 20, 16, v4 + 6 + 23);
    assert_eq!(checksum_ok(&ip(LinkType::Raw, &good)), Some(true));
    for at in [1, 15, 21, 42] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(checksum_ok(&ip(LinkType::Raw, &bad)), Some(false), "byte {at}");
    }
    let datagram = ipv6_packet(17, &udp_datagram(b"q"));
    let addresses = sum(&datagram[8..40]);
    let good = with_checksums(datagram, 40, 6, addresses + 17 + 9);
    assert_eq!(checksum_ok(&ip(LinkType::Raw, &good)), Some(true));
}

#[test]
fn no_prefix_and_no_flipped_byte_of_a_frame_makes_it_panic() {
    let extensions = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 0, 1, 0, 0, 0, 0], &tcp_segment(b"abcdef")].concat();
    let frames = [
        ethernet(0x8100, &[&[0, 5, 8, 0][..], &ipv4_packet(6, 0, &[1; 4], &tcp_segment(b"abcdef"))].concat()),
        ethernet(0x86dd, &ipv6_packet(0, &extensions)),
        ethernet(0x8847, &[&[0, 1, 1, 64][..], &ipv4_packet(17, 0, &[], &udp_datagram(b"abcdef"))].concat()),
        ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 36, 0, 0x21][..], &ipv4_packet(17, 0, &[], &udp_datagram(b"abcdef"))].concat()),
    ];
    for frame in frames {
        for link in [0, 1, 101, 108, 113, 228, 229, 276].map(LinkType::from_number) {
            for end in 0..=frame.len() {
                for wire_len in [end as u32, frame.len() as u32, 0, u32::MAX] {
                    let _ = parse(link, &frame[..end], wire_len, None);
                }
            }
            for at in 0..frame.len() {
                for value in 0..=255 {
                    let mut mutated = frame.clone();
                    mutated[at] = value;
                    if let Ok(Layer::Ip(packet)) = parse(link, &mutated, frame.len() as u32, None) {
                        let _ = checksum_ok(&packet);
                        let captured = packet.ip_payload.len() as u32;
                        assert!(captured <= packet.ip_payload_bytes);
                    }
                }
            }
        }
    }
}

#[test]
fn link_headers_without_end_are_refused() {
    let four = ipv4_packet(17, 0, &[], &udp_datagram(b"q"));
    for (labels, readable) in [(LINK_LAYERS_MAX - 3, true), (LINK_LAYERS_MAX, false)] {
        let stack = [[0, 1, 0, 64]].repeat(labels).concat();
        let frame = ethernet(0x8847, &[&stack[..], &[0, 1, 1, 64], &four].concat());
        let parsed = parse(LinkType::Ethernet, &frame, frame.len() as u32, None);
        assert_eq!(parsed.is_ok(), readable, "{labels} labels");
        assert!(readable || parsed == Err(Malformed::LinkDepth));
    }
}

#[test]
fn what_a_link_carries_besides_ip_is_not_ip() {
    let frames = [
        (9, vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4]),            // PPP's link control.
        (104, vec![0x8f, 0, 0x20, 0, 1, 1, 0, 4]),             // Cisco discovery.
        (105, [&[0x80, 0][..], &[0; 40]].concat()),            // A beacon.
        (105, [&[0x08, 0x41][..], &[0; 40]].concat()),         // Encrypted data.
        (8, [&[1, 0x80][..], &[0; 14], &[0x45; 20]].concat()), // A compressed header.
    ];
    for (number, frame) in frames {
        let parsed = parse(LinkType::from_number(number), &frame, frame.len() as u32, None);
        assert!(matches!(parsed, Ok(Layer::NotIp { .. })), "link type {number}: {parsed:?}");
    }
}

/// Frames one after another from one, each with a byte changed or its end cut off.
fn changed(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![frame.to_vec()];
    for at in 0..frame.len().min(70) {
        for change in [1, 0x0f, 0x40, 0x80, 0xff] {
            let mut other = frame.to_vec();
            other[at] ^= change;
            all.push(other);
        }
        all.push(frame[..at].to_vec());
    }
    all
}

#[test]
fn what_is_read_in_one_pass_is_what_the_general_reader_says() {
    let packet = ipv4_packet(6, 0x4000, &[], &tcp_segment(b"payload"));
    let tag = |ethertype: u16, rest: &[u8]| [&[0xa0, 0x64], &ethertype.to_be_bytes(), rest].concat();
    let bases = [
        ethernet(0x0800, &packet),
        ethernet(0x0800, &[&packet[..], &[0; 9]].concat()),
        ethernet(0x8100, &tag(0x0800, &packet)),
        ethernet(0x8100, &tag(0x8100, &tag(0x0800, &packet))),
        ethernet(0x86dd, &ipv6_packet(6, &tcp_segment(b"payload"))),
    ];
    let mut plain_total = 0;
    for frame in bases.iter().flat_map(|base| changed(base)) {
        for wire_len in [frame.len() as u32, frame.len() as u32 + 40] {
            let lent = Frame { time_ns: 0, link: LinkType::Ethernet, data: &frame, wire_len, vlan: None, interface: 0 };
            let Some(plain) = Plain::read(&lent) else { continue };
            plain_total += 1;
            let Ok(Layer::Ip(packet)) = parse(LinkType::Ethernet, &frame, wire_len, None) else { panic!("{frame:02x?}") };
            let tcp = as_tcp(&packet);
            let ends = [IpAddr::V4(Ipv4Addr::from_bits(plain.source)), IpAddr::V4(Ipv4Addr::from_bits(plain.destination))];
            assert_eq!([packet.source, packet.destination], ends);
            assert_eq!((packet.vlans, packet.protocol, packet.hop_limit), (plain.vlans, 6, plain.hop_limit));
            assert_eq!((packet.identification, packet.ip_payload_bytes), (plain.identification, plain.ip_payload_bytes));
            assert_eq!(packet.ip_payload.first_chunk(), Some(plain.tcp));
            assert_eq!([tcp.source_port, tcp.destination_port], [plain.source_port, plain.destination_port]);
            assert_eq!([tcp.sequence, tcp.acknowledgment], [plain.sequence, plain.acknowledgment]);
            assert_eq!((tcp.flags, tcp.payload, tcp.cut), (plain.flags, plain.payload, 0));
        }
    }
    assert!(plain_total > 500, "{plain_total} of the frames are read in one pass");
    for (link, vlan) in [(LinkType::Raw, None), (LinkType::Ethernet, Some(7))] {
        let data = &bases[0];
        assert!(Plain::read(&Frame { time_ns: 0, link, data, wire_len: data.len() as u32, vlan, interface: 0 }).is_none());
    }
}

use super::*;
use crate::packet::{LinkType, parse};

fn ipv4(protocol: u8, rest: &[u8]) -> Vec<u8> {
    let total = (20 + rest.len()) as u16;
    let head = [0x45, 0, (total >> 8) as u8, total as u8, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    [&head[..], rest].concat()
}

fn ipv6(protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = rest.len() as u16;
    let mut packet = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, protocol, 64];
    packet.extend([[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].repeat(2).concat());
    [&packet[..], rest].concat()
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let words = [from, to, (payload.len() + 8) as u16, 0];
    [&words.map(u16::to_be_bytes).concat()[..], payload].concat()
}

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), rest].concat()
}

/// The innermost packet.
fn four() -> Vec<u8> {
    ipv4(17, &udp(40_000, 50_000, b"inside"))
}

fn six() -> Vec<u8> {
    ipv6(17, &udp(40_000, 50_000, b"inside"))
}

type Steps = Vec<Step>;

/// What a packet turns out to carry: the payload of the datagram in it, and the steps of the context. None: nothing.
fn opened(packet: &[u8]) -> Option<(Vec<u8>, Steps)> {
    let Ok(Layer::Ip(outer)) = parse(LinkType::Raw, packet, packet.len() as u32, None) else { panic!("the outer packet is IP") };
    let inside = inside(&outer)?;
    match inside.parse() {
        Ok(Layer::Ip(packet)) => match packet.transport {
            Transport::Udp(udp) => Some((udp.payload.to_vec(), inside.steps.into_iter().flatten().collect())),
            other => panic!("{other:?}"),
        },
        _ => None,
    }
}

fn expect(name: &str, packet: &[u8], steps: &[Step]) {
    assert_eq!(opened(packet), Some((b"inside".to_vec(), steps.to_vec())), "{name}");
}

fn gre(head: &[u8], rest: &[u8]) -> Vec<u8> {
    ipv4(47, &[head, rest].concat())
}

#[test]
fn ip_in_ip_is_opened_in_all_four_ways() {
    expect("RFC 2003", &ipv4(4, &four()), &[]);
    expect("RFC 4213", &ipv4(41, &six()), &[]);
    expect("RFC 2473, IPv4", &ipv6(4, &four()), &[]);
    expect("RFC 2473, IPv6", &ipv6(41, &six()), &[]);
}

#[test]
fn gre_is_opened_with_every_optional_field() {
    let key = [0, 0, 1, 2];
    expect("plain", &gre(&[0, 0, 8, 0], &four()), &[]);
    expect("checksum", &gre(&[0x80, 0, 8, 0, 0xab, 0xcd, 0, 0], &four()), &[]);
    expect("key", &gre(&[&[0x20, 0, 0x86, 0xdd][..], &key].concat(), &six()), &[(Kind::Gre, 258)]);
    expect("sequence", &gre(&[0x10, 0, 8, 0, 0, 0, 0, 9], &four()), &[]);
    let all = [&[0xb0, 0, 8, 0, 0xab, 0xcd, 0, 0][..], &key, &[0, 0, 0, 9]].concat();
    expect("all three", &gre(&all, &four()), &[(Kind::Gre, 258)]);
    expect("over IPv6", &ipv6(47, &[&[0, 0, 8, 0][..], &four()].concat()), &[]);
    expect("MPLS", &gre(&[0, 0, 0x88, 0x47], &[&[0, 1, 0, 64, 0, 1, 1, 64][..], &four()].concat()), &[]);
    expect("PPTP", &gre(&[0x30, 0x81, 0x88, 0x0b, 0, 36, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2], &[&[0xff, 3, 0, 0x21][..], &four()].concat()), &[]);
    let wlan = [&[0x88, 1][..], &[0; 24], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &four()].concat();
    expect("Aruba", &gre(&[0, 0, 0x82, 0], &wlan), &[]);
}

#[test]
fn bridged_gre_has_a_key_or_a_virtual_subnet() {
    let frame = ethernet(0x8100, &[&[0, 5, 8, 0][..], &four()].concat());
    let with_key = |key: u32| gre(&[&[0x20, 0, 0x65, 0x58][..], &key.to_be_bytes()].concat(), &frame);
    expect("plain", &gre(&[0, 0, 0x65, 0x58], &frame), &[]);
    expect("a key", &with_key(7), &[(Kind::Gre, 7)]);
    expect("the last key that is no subnet", &with_key(0x0f_ffff), &[(Kind::Gre, 0x0f_ffff)]);
    expect("a subnet and one flow", &with_key(0x1000 << 8 | 0x33), &[(Kind::Vsid, 0x1000)]);
    expect("the same subnet and another flow", &with_key(0x1000 << 8 | 0x44), &[(Kind::Vsid, 0x1000)]);
}

#[test]
fn mirrored_frames_come_out_of_all_three_erspans_with_session_and_vlan() {
    let frame = ethernet(0x0800, &four());
    expect("I", &gre(&[0, 0, 0x88, 0xbe], &frame), &[]);
    let head = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1];
    let two = [&[0x10, 120, 0x08, 5][..], &[0, 0, 0, 3]].concat();
    expect("II", &gre(&head, &[&two[..], &frame].concat()), &[(Kind::Erspan, 5), (Kind::Vlan, 120)]);
    let untagged = [0x10, 0, 0x03, 0xff, 0, 0, 0, 3];
    expect("II, no VLAN", &gre(&head, &[&untagged[..], &frame].concat()), &[(Kind::Erspan, 1023)]);
    let head = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1];
    let three = |last: u8, frame_type: u8| [0x20, 120, 0, 5, 0, 0, 0, 0, 0, 0, frame_type << 2, last];
    let steps = [(Kind::Erspan, 5), (Kind::Vlan, 120)];
    expect("III", &gre(&head, &[&three(0, 0)[..], &frame].concat()), &steps);
    expect("III with the platform's header", &gre(&head, &[&three(1, 0)[..], &[9; 8], &frame].concat()), &steps);
    expect("III of an IP packet", &gre(&head, &[&three(0, 2)[..], &four()].concat()), &steps);
    assert_eq!(opened(&gre(&head, &[&two[..], &frame].concat())), None, "the version is wrong");
}

#[test]
fn vxlan_gpe_and_geneve_are_opened_by_their_port_and_flags() {
    let frame = ethernet(0x86dd, &six());
    let over = |port: u16, head: &[u8], rest: &[u8]| ipv4(17, &udp(55_555, port, &[head, rest].concat()));
    for port in [4789, 8472] {
        expect("VXLAN", &over(port, &[8, 0, 0, 0, 0, 1, 0, 0], &frame), &[(Kind::Vni, 256)]);
    }
    expect("with group policy", &over(4789, &[0x88, 0, 0, 9, 0, 0, 7, 0], &frame), &[(Kind::Vni, 7)]);
    expect("GPE, Ethernet", &over(4790, &[0x0c, 0, 0, 3, 0, 0, 7, 0], &frame), &[(Kind::Vni, 7)]);
    expect("GPE, IPv4", &over(4790, &[0x0c, 0, 0, 1, 0, 0, 7, 0], &four()), &[(Kind::Vni, 7)]);
    expect("Geneve", &over(6081, &[2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 1, 1, 1, 2, 2, 2, 2], &frame), &[(Kind::Vni, 7)]);
    expect("Geneve, IPv4", &over(6081, &[0, 0, 8, 0, 0, 0, 7, 0], &four()), &[(Kind::Vni, 7)]);
    assert_eq!(opened(&over(4789, &[0, 0, 0, 0, 0, 1, 0, 0], &frame)), None, "no valid identifier");
    assert_eq!(opened(&over(4789, &[8, 0, 0, 0, 0, 1, 0, 1], &frame)), None, "reserved bits");
    assert_eq!(opened(&over(4788, &[8, 0, 0, 0, 0, 1, 0, 0], &frame)), None, "another port");
    assert_eq!(opened(&over(6081, &[0, 0x80, 8, 0, 0, 0, 7, 0], &four())), None, "a control packet");
}

#[test]
fn gtp_l2tp_and_the_rest_are_opened() {
    let over = |port: u16, head: &[u8], rest: &[u8]| ipv4(17, &udp(1701, port, &[head, rest].concat()));
    let length = four().len() as u8;
    expect("GTP", &over(2152, &[0x30, 255, 0, length, 0, 0, 0, 1], &four()), &[]);
    let extended = [0x34, 255, 0, length + 8, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0];
    expect("GTP with an extension header", &over(2152, &extended, &four()), &[]);
    expect("L2TP", &over(1701, &[0, 2, 0, 1, 0, 2], &[&[0xff, 3, 0, 0x21][..], &four()].concat()), &[]);
    let head = [0x4a, 2, 0, 70, 0, 1, 0, 2, 0, 0, 0, 0, 0, 2, 9, 9];
    expect("L2TP with all fields", &over(40_000, &head, &[&[0x21][..], &four()].concat()), &[]);
    assert_eq!(opened(&over(1701, &[0xc8, 2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0], &four())), None, "control");
    expect("GRE in UDP", &over(4754, &[0x20, 0, 8, 0, 0, 0, 0, 7], &four()), &[(Kind::Gre, 7)]);
    expect("MPLS in UDP", &over(6635, &[0, 1, 1, 64], &six()), &[]);
    expect("EtherIP", &ipv4(97, &[&[0x30, 0][..], &ethernet(0x0800, &four())].concat()), &[]);
    expect("MPLS in IP", &ipv4(137, &[&[0, 1, 1, 64][..], &four()].concat()), &[]);
}

#[test]
fn what_is_no_tunnel_or_not_whole_stays_closed() {
    assert_eq!(opened(&four()), None);
    assert_eq!(opened(&ipv4(1, &[8, 0, 0, 0])), None);
    assert_eq!(opened(&gre(&[0x40, 0, 8, 0], &four())), None, "source routes");
    assert_eq!(opened(&gre(&[0, 1, 8, 0], &four())), None, "version 1 without PPP");
    assert_eq!(opened(&gre(&[0, 0, 0x08, 0x06], &[0; 28])), None, "ARP");
    let whole = gre(&[0xb0, 0, 8, 0, 0xab, 0xcd, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9], &four());
    for end in 20..whole.len() - 7 {
        let mut cut = whole[..end].to_vec();
        cut[3] = end as u8;
        assert_eq!(opened(&cut), None, "{end} bytes");
    }
}

#[test]
fn no_flipped_byte_makes_the_tunnels_panic() {
    let frame = ethernet(0x0800, &four());
    let packets = [
        gre(&[0xb0, 0, 8, 0, 0xab, 0xcd, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9], &four()),
        gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1], &[&[0x20, 120, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1][..], &[9; 8], &frame].concat()),
        ipv4(17, &udp(1701, 6081, &[&[2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 1, 1, 1, 2, 2, 2, 2][..], &frame].concat())),
        ipv4(17, &udp(1, 2152, &[&[0x34, 255, 0, 60, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0][..], &four()].concat())),
        ipv4(17, &udp(1, 1701, &[&[0x4a, 2, 0, 70, 0, 1, 0, 2, 0, 0, 0, 0, 0, 2, 9, 9, 0x21][..], &four()].concat())),
    ];
    for packet in packets {
        for at in 20..packet.len() {
            for value in 0..=255 {
                let mut mutated = packet.clone();
                mutated[at] = value;
                for wire in [mutated.len() as u32, 9000] {
                    if let Ok(Layer::Ip(outer)) = parse(LinkType::Raw, &mutated, wire, None) {
                        let _ = inside(&outer).map(|inside| inside.parse().is_ok());
                    }
                }
            }
        }
    }
}

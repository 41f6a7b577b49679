//! What may lie between a link header and IP: tags, labels, sessions, backbone headers, and links other than Ethernet.
//!
//! One loop reads one header a turn, so that no nesting makes it deep: after [`LINK_LAYERS_MAX`] turns the frame is
//! refused as [`Malformed::LinkDepth`].

use super::{LINK_LAYERS_MAX, Layer, Malformed, View, Vlans, by_version, ipv4, ipv6, not_ip};

type Macs = ([u8; 6], [u8; 6]);
const NO_MACS: Macs = ([0; 6], [0; 6]);

/// What the next header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Ethernet,
    Ethertype(u16),
    /// IP, the version told by its first nibble.
    Ip,
    Ppp,
    Pppoe,
    /// A label of an MPLS stack.
    Mpls,
    AfterLabels,
    Wlan,
    Llc,
}

/// Follows the headers from an ethertype that is not IP's.
#[inline(never)]
pub(super) fn layers<'a>(ethertype: u16, view: View<'a>, vlans: Vlans, macs: Macs) -> Result<Layer<'a>, Malformed> {
    walk(At::Ethertype(ethertype), view, vlans, macs)
}

/// Follows the headers inside a tunnel.
pub(super) fn within(at: At, view: View<'_>) -> Result<Layer<'_>, Malformed> {
    walk(at, view, Vlans::default(), NO_MACS)
}

fn walk<'a>(mut at: At, mut view: View<'a>, mut vlans: Vlans, mut macs: Macs) -> Result<Layer<'a>, Malformed> {
    for _ in 0..LINK_LAYERS_MAX {
        match at {
            At::Ethernet => {
                let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *view.head::<14>()?;
                macs = ([s0, s1, s2, s3, s4, s5], [d0, d1, d2, d3, d4, d5]);
                at = At::Ethertype(u16::from_be_bytes([t0, t1]));
                view = view.skip(14)?;
            }
            At::Ethertype(0x0800) => return ipv4(view, vlans),
            At::Ethertype(0x86dd) => return ipv6(view, vlans),
            // 0x9100 is what QinQ used before IEEE 802.1ad gave it 0x88a8; old switches still send it.
            At::Ethertype(0x8100 | 0x88a8 | 0x9100) => {
                let [t0, t1, e0, e1] = *view.head::<4>()?;
                if !vlans.push(u16::from_be_bytes([t0, t1])) {
                    return Err(Malformed::VlanDepth);
                }
                at = At::Ethertype(u16::from_be_bytes([e0, e1]));
                view = view.skip(4)?;
            }
            // Unicast and multicast label stacks (RFC 3032, 5; RFC 5332).
            At::Ethertype(0x8847 | 0x8848) => at = At::Mpls,
            At::Ethertype(0x8864) => at = At::Pppoe,
            At::Ethertype(0x880b) => at = At::Ppp,
            // A provider backbone's customer frame behind the service tag (IEEE 802.1Q, 9.7).
            At::Ethertype(0x88e7) => {
                view = view.skip(4)?;
                at = At::Ethernet;
            }
            // Cisco FabricPath puts an Ethernet header and a tag of two bytes before the frame.
            At::Ethertype(0x8903) => {
                view = view.skip(2)?;
                at = At::Ethernet;
            }
            At::Ethertype(length @ 0..=1500) => match snap(view.limit(u32::from(length))) {
                Some((ethertype, rest)) => (at, view) = (At::Ethertype(ethertype), rest),
                None => return Ok(other(length, vlans, macs)),
            },
            At::Ethertype(ethertype) => return Ok(other(ethertype, vlans, macs)),
            At::Llc => match snap(view) {
                Some((ethertype, rest)) => (at, view) = (At::Ethertype(ethertype), rest),
                None => return Ok(other(0, vlans, macs)),
            },
            At::Ip => return by_version(view, vlans),
            // A session's payload has a length of its own (RFC 2516, 4).
            At::Pppoe => {
                let [_, _, _, _, l0, l1] = *view.head::<6>()?;
                view = view.skip(6)?.limit(u32::from(u16::from_be_bytes([l0, l1])));
                at = At::Ppp;
            }
            At::Ppp => match ppp_protocol(view)? {
                (0x0021, rest) => return ipv4(rest, vlans),
                (0x0057, rest) => return ipv6(rest, vlans),
                (0x0281 | 0x0283, rest) => (at, view) = (At::Mpls, rest),
                _ => return Ok(other(0, vlans, macs)),
            },
            At::Mpls => {
                let is_last = view.head::<4>()?[2] & 1 == 1;
                view = view.skip(4)?;
                if is_last {
                    at = At::AfterLabels;
                }
            }
            // Nothing says what follows the last label (RFC 4928, 2): IP by its version, else a pseudowire of Ethernet
            // frames, with a control word whose first nibble is 0 (RFC 4385, 3) or without.
            At::AfterLabels => match view.data.first().map(|byte| byte >> 4) {
                Some(4) if !is_ethernet(view.data) => return ipv4(view, vlans),
                Some(6) if !is_ethernet(view.data) => return ipv6(view, vlans),
                Some(0) if is_ethernet(view.data.get(4..).unwrap_or(&[])) => {
                    view = view.skip(4)?;
                    at = At::Ethernet;
                }
                _ if is_ethernet(view.data) => at = At::Ethernet,
                _ => return Ok(other(0x8847, vlans, macs)),
            },
            At::Wlan => match wlan_body(view)? {
                Some(rest) => (at, view) = (At::Llc, rest),
                None => return Ok(other(0, vlans, macs)),
            },
        }
    }
    Err(Malformed::LinkDepth)
}

fn other<'a>(ethertype: u16, vlans: Vlans, (source_mac, destination_mac): Macs) -> Layer<'a> {
    Layer::NotIp { ethertype, source_mac, destination_mac, vlans }
}

/// Whether an Ethernet header with something known behind it stands here.
fn is_ethernet(data: &[u8]) -> bool {
    match data.get(12..15) {
        Some(&[0x08, 0x00, version]) => version >> 4 == 4,
        Some(&[0x86, 0xdd, version]) => version >> 4 == 6,
        Some(&[0x81 | 0x91, 0x00, _] | &[0x88, 0xa8 | 0x47 | 0x64, _] | &[0x08, 0x06, _]) => true,
        _ => false,
    }
}

/// LLC with SNAP carries an ethertype, if no vendor has its own numbers (RFC 1042; 0000f8 is IEEE 802.1H's).
fn snap(view: View<'_>) -> Option<(u16, View<'_>)> {
    match view.data {
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, e0, e1, ..] if u16::from_be_bytes([*e0, *e1]) > 1500 => {
            Some((u16::from_be_bytes([*e0, *e1]), view.skip(8).ok()?))
        }
        _ => None,
    }
}

/// The protocol of a PPP packet, behind the address and control bytes if they are there (RFC 1661, 2; RFC 1662, 3.1).
/// A protocol of one byte is an odd number (compression: RFC 1661, 6.5).
fn ppp_protocol(view: View<'_>) -> Result<(u16, View<'_>), Malformed> {
    let rest = if view.data.starts_with(&[0xff, 0x03]) { view.skip(2)? } else { view };
    let [first] = *rest.head::<1>()?;
    if first & 1 == 1 {
        return Ok((u16::from(first), rest.skip(1)?));
    }
    Ok((u16::from_be_bytes(*rest.head::<2>()?), rest.skip(2)?))
}

/// The body of a data frame that is not encrypted, not null and no aggregate (IEEE 802.11-2020, 9.2.4.1, 9.3.2.1).
fn wlan_body(view: View<'_>) -> Result<Option<View<'_>>, Malformed> {
    let [kind, flags] = *view.head::<2>()?;
    let is_data = kind & 0x0c == 0x08 && kind & 0x40 == 0;
    let is_protected = flags & 0x40 != 0;
    if !is_data || is_protected || kind & 0x03 != 0 {
        return Ok(None);
    }
    // A fourth address between two access points, then quality of service, then high throughput control.
    let addresses = if flags & 0x03 == 0x03 { 30 } else { 24 };
    let is_qos = kind & 0x80 != 0;
    let header = addresses + if is_qos { 2 } else { 0 } + if is_qos && flags & 0x80 != 0 { 4 } else { 0 };
    if is_qos && view.skip(addresses)?.head::<1>()?[0] & 0x80 != 0 {
        return Ok(None);
    }
    view.skip(header).map(Some)
}

pub(super) fn ppp(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    walk(At::Ppp, view, vlans, NO_MACS)
}

pub(super) fn pppoe(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    walk(At::Pppoe, view, vlans, NO_MACS)
}

/// Address 0x0f or 0x8f says Cisco's framing (RFC 1547, 4.3.1), which is not PPP's.
pub(super) fn ppp_hdlc(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    match view.data.first() {
        Some(0x0f | 0x8f) => cisco_hdlc(view, vlans),
        _ => ppp(view, vlans),
    }
}

pub(super) fn cisco_hdlc(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let [_, _, e0, e1] = *view.head::<4>()?;
    match u16::from_be_bytes([e0, e1]) {
        // Below are Cisco's own: 0x2000 discovery, and what is a length elsewhere.
        0..=1500 => Ok(not_ip(0, vlans)),
        ethertype => walk(At::Ethertype(ethertype), view.skip(4)?, vlans, NO_MACS),
    }
}

/// The second byte is that of the packet on the line: a version, or how its header was compressed (RFC 1144).
pub(super) fn slip(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let kind = view.head::<16>()?[1] >> 4;
    let rest = view.skip(16)?;
    match (kind, rest.data.first().map(|byte| byte >> 4)) {
        (0..=6, Some(4)) => ipv4(rest, vlans),
        (0..=6, Some(6)) => ipv6(rest, vlans),
        _ => Ok(not_ip(0, vlans)),
    }
}

pub(super) fn wlan(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    walk(At::Wlan, view, vlans, NO_MACS)
}

/// The length of the radiotap header stands little-endian at its third byte (radiotap.org).
pub(super) fn radiotap(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let [_, _, l0, l1] = *view.head::<4>()?;
    walk(At::Wlan, view.skip(usize::from(u16::from_le_bytes([l0, l1])))?, vlans, NO_MACS)
}

/// Attributes in the byte order of the machine that logged; NFULA_PAYLOAD (9) is the packet.
pub(super) fn nflog(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let mut rest = view.skip(4)?;
    loop {
        let [l0, l1, k0, k1] = *rest.head::<4>()?;
        // A length counts its own four bytes; the other order makes the small ones large.
        let (little, big) = (u16::from_le_bytes([l0, l1]), u16::from_be_bytes([l0, l1]));
        let is_little = (4..=rest.wire).contains(&u32::from(little));
        let (length, kind) = if is_little { (little, [k0, k1]) } else { (big, [k1, k0]) };
        if length < 4 {
            return Err(Malformed::FrameShort);
        }
        if u16::from_le_bytes(kind) & 0x3fff == 9 {
            return by_version(rest.limit(u32::from(length)).skip(4)?, vlans);
        }
        rest = rest.skip((usize::from(length) + 3) & !3)?;
    }
}

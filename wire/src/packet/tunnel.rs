//! What a packet carries that is itself a packet or a frame: tunnels over IP and over UDP.
//!
//! | outer | inner | context | specification |
//! |---|---|---|---|
//! | IP 4, 41 | IP | | RFC 2003, RFC 4213, RFC 2473 |
//! | IP 47 | IP, MPLS, PPP, Ethernet, IEEE 802.11 (Aruba) | `gre:KEY` | RFC 2784, RFC 2890, RFC 2637 |
//! | IP 47, 0x6558, key from 0x100000 | Ethernet | `vsid:N` | RFC 7637 |
//! | IP 47, 0x88be, 0x22eb | Ethernet or IP | `erspan:SESSION`, `vlan:N` | draft-foschiano-erspan-03 |
//! | IP 97, 137 | Ethernet, MPLS | | RFC 3378, RFC 4023 |
//! | UDP 4789, 8472, 4790 | Ethernet, IP | `vni:N` | RFC 7348, draft-ietf-nvo3-vxlan-gpe |
//! | UDP 6081 | Ethernet, IP | `vni:N` | RFC 8926 |
//! | UDP 2152 | IP | | 3GPP TS 29.281 |
//! | UDP 1701 | PPP | | RFC 2661 |
//! | UDP 4754, 6635 | as GRE, MPLS | as GRE | RFC 8086, RFC 7510 |
//!
//! A context is what tells two networks with the same addresses apart. Labels of MPLS, and the tunnel endpoint and
//! session identifiers of GTP and L2TP, are chosen by each receiver: both directions of one connection have different
//! ones, so they are none.

use super::link::{self, At};
use super::{Layer, Malformed, Packet, Transport, View};

/// Tunnels inside tunnels that are opened; deeper ones are counted as what carries them.
pub const TUNNELS_MAX: u8 = 8;
/// Extension headers of GTP-U followed per packet.
const GTP_EXTENSIONS_MAX: usize = 8;

/// What a step of a context names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Vlan,
    Vni,
    Vsid,
    Gre,
    Erspan,
    Tap,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Vlan, Kind::Vni, Kind::Vsid, Kind::Gre, Kind::Erspan, Kind::Tap];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Vlan => "vlan",
            Kind::Vni => "vni",
            Kind::Vsid => "vsid",
            Kind::Gre => "gre",
            Kind::Erspan => "erspan",
            Kind::Tap => "tap",
        }
    }
}

/// One step of a context: `vni:7`.
pub type Step = (Kind, u32);

/// The inside of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    at: At,
    view: View<'a>,
    /// What the tunnel's header adds to the context.
    pub steps: [Option<Step>; 2],
}

impl<'a> Inside<'a> {
    /// Reads the headers of what is inside.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn parse(&self) -> Result<Layer<'a>, Malformed> {
        link::within(self.at, self.view)
    }

    fn new(at: At, view: View<'a>) -> Inside<'a> {
        Inside { at, view, steps: [None; 2] }
    }

    fn of(at: At, view: View<'a>, kind: Kind, number: u32) -> Inside<'a> {
        Inside { at, view, steps: [Some((kind, number)), None] }
    }
}

/// Whether a datagram to this port, or from it, may be a tunnel.
#[inline]
pub fn is_port(destination: u16, source: u16) -> bool {
    // L2TP answers go to the port that asked (RFC 2661, 8.1).
    matches!(destination, 1701 | 2152 | 4754 | 4789 | 4790 | 6081 | 6635 | 8472) || source == 1701
}

/// Opens a packet that is a tunnel's; None for every other, and for one whose header is not whole or not valid.
#[cold]
pub fn inside<'a>(packet: &Packet<'a>) -> Option<Inside<'a>> {
    match packet.transport {
        Transport::Tcp(_) => None,
        Transport::Udp(udp) => {
            let view = View::new(udp.payload, udp.payload_bytes);
            match (udp.destination_port, udp.source_port) {
                (4789 | 8472, _) => vxlan(view),
                (4790, _) => vxlan_gpe(view),
                (6081, _) => geneve(view),
                (2152, _) => gtp(view),
                (4754, _) => gre(view),
                (6635, _) => Some(Inside::new(At::Mpls, view)),
                (1701, _) | (_, 1701) => l2tp(view),
                _ => None,
            }
        }
        Transport::Other { protocol, .. } => {
            let view = View::new(packet.ip_payload, packet.ip_payload_bytes);
            match protocol {
                4 | 41 => Some(Inside::new(At::Ip, view)),
                47 => gre(view),
                97 => etherip(view),
                137 => Some(Inside::new(At::Mpls, view)),
                _ => None,
            }
        }
    }
}

/// Reads numbers off the front; None where the header is not here.
fn take<'a, const N: usize>(view: &mut View<'a>) -> Option<&'a [u8; N]> {
    let head = view.head::<N>().ok()?;
    *view = view.skip(N).ok()?;
    Some(head)
}

/// GRE (RFC 2784; key and sequence number RFC 2890; version 1 for PPTP: RFC 2637, 4.1).
fn gre(mut view: View<'_>) -> Option<Inside<'_>> {
    let [f0, f1, p0, p1] = *take::<4>(&mut view)?;
    let protocol = u16::from_be_bytes([p0, p1]);
    let (has_checksum, has_routing, has_key, has_sequence) = (f0 & 0x80 != 0, f0 & 0x40 != 0, f0 & 0x20 != 0, f0 & 0x10 != 0);
    if has_routing {
        return None; // Source routes of RFC 1701, which RFC 2784 (2.3) has receivers discard.
    }
    match f1 & 7 {
        0 => {}
        // The key is payload length and call number there; an acknowledgement may follow.
        1 if protocol == 0x880b && has_key => {
            take::<4>(&mut view)?;
            if has_sequence {
                take::<4>(&mut view)?;
            }
            if f1 & 0x80 != 0 {
                take::<4>(&mut view)?;
            }
            return Some(Inside::new(At::Ppp, view));
        }
        _ => return None,
    }
    if has_checksum {
        take::<4>(&mut view)?;
    }
    let key = if has_key { Some(u32::from_be_bytes(*take::<4>(&mut view)?)) } else { None };
    if has_sequence {
        take::<4>(&mut view)?;
    }
    let mut inside = match protocol {
        0x0800 | 0x86dd => Inside::new(At::Ip, view),
        0x6558 => Inside::new(At::Ethernet, view),
        0x8847 | 0x8848 => Inside::new(At::Mpls, view),
        0x880b => Inside::new(At::Ppp, view),
        // ERSPAN I has neither sequence number nor header of its own.
        0x88be if !has_sequence => Inside::new(At::Ethernet, view),
        0x88be => erspan_2(view)?,
        0x22eb => erspan_3(view)?,
        // Aruba's access points send what came by radio, a number a virtual access point.
        0x8200..=0x83ff => Inside::new(At::Wlan, view),
        _ => return None,
    };
    if let (Some(key), [None, _]) = (key, inside.steps) {
        // Virtual subnets are 24 bits and begin at 0x1000; the 8 bits beside them differ by flow (RFC 7637, 3.2).
        let is_nvgre = protocol == 0x6558 && !has_checksum && !has_sequence && key >> 8 >= 0x1000;
        inside.steps = [Some(if is_nvgre { (Kind::Vsid, key >> 8) } else { (Kind::Gre, key) }), None];
    }
    Some(inside)
}

/// Session and VLAN of a mirrored frame, as both types of header have them (draft-foschiano-erspan-03, 4.2, 4.3).
fn mirrored(at: At, view: View<'_>, [v0, v1, s0, s1]: [u8; 4]) -> Inside<'_> {
    let vlan = u32::from(u16::from_be_bytes([v0, v1]) & 0x0fff);
    let session = u32::from(u16::from_be_bytes([s0, s1]) & 0x03ff);
    Inside { at, view, steps: [Some((Kind::Erspan, session)), (vlan != 0).then_some((Kind::Vlan, vlan))] }
}

fn erspan_2(mut view: View<'_>) -> Option<Inside<'_>> {
    let [v0, v1, s0, s1, ..] = *take::<8>(&mut view)?;
    (v0 >> 4 == 1).then(|| mirrored(At::Ethernet, view, [v0, v1, s0, s1]))
}

fn erspan_3(mut view: View<'_>) -> Option<Inside<'_>> {
    let [v0, v1, s0, s1, _, _, _, _, _, _, f0, f1] = *take::<12>(&mut view)?;
    if f1 & 1 != 0 {
        take::<8>(&mut view)?; // The platform's own header.
    }
    let at = match f0 >> 2 & 0x1f {
        0 => At::Ethernet,
        2 => At::Ip,
        _ => return None,
    };
    (v0 >> 4 == 2).then(|| mirrored(at, view, [v0, v1, s0, s1]))
}

/// Version 3 in the first nibble, the rest zero (RFC 3378, 3).
fn etherip(mut view: View<'_>) -> Option<Inside<'_>> {
    (*take::<2>(&mut view)? == [0x30, 0]).then(|| Inside::new(At::Ethernet, view))
}

/// A valid network identifier, and zero in the last byte (RFC 7348, 5); group policy sets other flags.
fn vxlan(mut view: View<'_>) -> Option<Inside<'_>> {
    let [flags, _, _, _, v0, v1, v2, reserved] = *take::<8>(&mut view)?;
    let number = u32::from_be_bytes([0, v0, v1, v2]);
    (flags & 0x08 != 0 && flags & 0x37 == 0 && reserved == 0).then(|| Inside::of(At::Ethernet, view, Kind::Vni, number))
}

/// The same with the next protocol in its fourth byte (draft-ietf-nvo3-vxlan-gpe, 3.1).
fn vxlan_gpe(mut view: View<'_>) -> Option<Inside<'_>> {
    let [flags, _, _, protocol, v0, v1, v2, reserved] = *take::<8>(&mut view)?;
    let at = match (flags & 0x04 != 0, protocol) {
        (false, _) | (true, 3) => At::Ethernet,
        (true, 1 | 2) => At::Ip,
        _ => return None,
    };
    (flags & 0x08 != 0 && reserved == 0).then(|| Inside::of(at, view, Kind::Vni, u32::from_be_bytes([0, v0, v1, v2])))
}

/// Version 0, options counted in words, not a control packet (RFC 8926, 3.4).
fn geneve(mut view: View<'_>) -> Option<Inside<'_>> {
    let [o0, o1, p0, p1, v0, v1, v2, reserved] = *take::<8>(&mut view)?;
    if o0 >> 6 != 0 || o1 & 0x80 != 0 || reserved != 0 {
        return None;
    }
    let rest = view.skip(usize::from(o0 & 0x3f) * 4).ok()?;
    let at = match u16::from_be_bytes([p0, p1]) {
        0x6558 => At::Ethernet,
        0x0800 | 0x86dd => At::Ip,
        _ => return None,
    };
    Some(Inside::of(at, rest, Kind::Vni, u32::from_be_bytes([0, v0, v1, v2])))
}

/// Version 1, protocol type GTP, message G-PDU (3GPP TS 29.281, 5.1); extension headers count words (5.2.1).
fn gtp(mut view: View<'_>) -> Option<Inside<'_>> {
    let [flags, kind, l0, l1, _, _, _, _] = *take::<8>(&mut view)?;
    if flags & 0xf0 != 0x30 || kind != 255 {
        return None;
    }
    view = view.limit(u32::from(u16::from_be_bytes([l0, l1])));
    if flags & 0x07 != 0 {
        let [_, _, _, mut next] = *take::<4>(&mut view)?;
        for _ in 0..GTP_EXTENSIONS_MAX {
            if flags & 0x04 == 0 || next == 0 {
                break;
            }
            let bytes = usize::from(view.head::<1>().ok()?[0]) * 4;
            next = *view.data.get(..bytes)?.last()?;
            view = view.skip(bytes).ok()?;
        }
    }
    Some(Inside::new(At::Ip, view))
}

/// A data message of version 2; length, sequence numbers and offset are there if their bits say so (RFC 2661, 3.1).
fn l2tp(mut view: View<'_>) -> Option<Inside<'_>> {
    let [f0, f1] = *take::<2>(&mut view)?;
    if f0 & 0x80 != 0 || f1 & 0x0f != 2 {
        return None;
    }
    if f0 & 0x40 != 0 {
        take::<2>(&mut view)?;
    }
    take::<4>(&mut view)?;
    if f0 & 0x08 != 0 {
        take::<4>(&mut view)?;
    }
    if f0 & 0x02 != 0 {
        let offset = usize::from(u16::from_be_bytes(*take::<2>(&mut view)?));
        view = view.skip(offset).ok()?;
    }
    Some(Inside::new(At::Ppp, view))
}

#[cfg(test)]
mod tests;

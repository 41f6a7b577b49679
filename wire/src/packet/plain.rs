//! What nearly every packet of a plant is, read in one pass: TCP in IPv4 on Ethernet, at most one tag, nothing unusual.
//!
//! [`Plain::read`] says what [`super::parse`] says, or nothing at all; then that one reads the frame.

use super::{ETHERTYPE_IPV4, LinkType, PROTOCOL_TCP, TcpFlags, Vlans};
use crate::source::Frame;

/// A customer's tag (IEEE 802.1Q, 9.5).
const ETHERTYPE_TAG: [u8; 2] = [0x81, 0x00];
const TCP_HEAD_BYTES: usize = 20;

/// A TCP segment that was captured whole, its IP header without options, no fragment.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Destination, then source.
    pub macs: &'a [u8; 12],
    pub vlans: Vlans,
    pub source: u32,
    pub destination: u32,
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: TcpFlags,
    pub hop_limit: u8,
    pub identification: u16,
    /// Header and payload of TCP.
    pub ip_payload_bytes: u32,
    pub tcp: &'a [u8; TCP_HEAD_BYTES],
    pub payload: &'a [u8],
}

impl<'a> Plain<'a> {
    #[inline]
    #[must_use]
    pub fn read(frame: &Frame<'a>) -> Option<Self> {
        if frame.link != LinkType::Ethernet || frame.vlan.is_some() {
            return None;
        }
        let (macs, after) = frame.data.split_first_chunk::<12>()?;
        let (ethertype, mut after) = after.split_first_chunk::<2>()?;
        let mut vlans = Vlans::default();
        if *ethertype != ETHERTYPE_IPV4.to_be_bytes() {
            let ([t0, t1, e0, e1], inside) = after.split_first_chunk::<4>()?;
            if *ethertype != ETHERTYPE_TAG || [*e0, *e1] != ETHERTYPE_IPV4.to_be_bytes() {
                return None;
            }
            let _ = vlans.push(u16::from_be_bytes([*t0, *t1])); // The first always fits.
            after = inside;
        }
        let (head, _) = after.split_first_chunk::<20>()?;
        let [first, _, l0, l1, i0, i1, f0, f1, hop_limit, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *head;
        let total = u16::from_be_bytes([l0, l1]);
        if first != 0x45 || protocol != PROTOCOL_TCP || u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
            return None;
        }
        let segment = after.get(20..usize::from(total))?;
        let tcp = segment.first_chunk::<TCP_HEAD_BYTES>()?;
        let [p0, p1, q0, q1, n0, n1, n2, n3, a0, a1, a2, a3, offset, flags, ..] = *tcp;
        let header_bytes = usize::from(offset >> 4) * 4;
        if header_bytes < TCP_HEAD_BYTES {
            return None;
        }
        let payload = segment.get(header_bytes..)?;
        Some(Self {
            macs,
            vlans,
            source: u32::from_be_bytes([s0, s1, s2, s3]),
            destination: u32::from_be_bytes([d0, d1, d2, d3]),
            source_port: u16::from_be_bytes([p0, p1]),
            destination_port: u16::from_be_bytes([q0, q1]),
            sequence: u32::from_be_bytes([n0, n1, n2, n3]),
            acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
            flags: TcpFlags(flags),
            hop_limit,
            identification: u16::from_be_bytes([i0, i1]),
            ip_payload_bytes: u32::from(total) - 20,
            tcp,
            payload,
        })
    }
}

//! What nearly every packet of a plant is, read in one pass: TCP in IPv4 on Ethernet, at most one tag, nothing unusual.
//!
//! [`Plain::read`] says what [`super::parse`] says, or nothing at all; then that one reads the frame.

use super::{LinkType, PROTOCOL_TCP, TcpFlags, Vlans};
use crate::source::Frame;

const IP_HEAD_BYTES: usize = 20;
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
    /// Where that begins in the frame.
    pub payload_at: u16,
}

/// Version 4 behind its EtherType, the header without options; and what of the word is something else.
const IPV4: u32 = u32::from_be_bytes([0x08, 0x00, 0x45, 0]);
const IPV4_MASK: u32 = u32::from_be_bytes([0xff, 0xff, 0xff, 0]);
/// No fragment, of TCP: flags and offset but for Don't Fragment, time to live, protocol (RFC 791, 3.1).
const TCP: u32 = u32::from_be_bytes([0, 0, 0, PROTOCOL_TCP]);
const TCP_MASK: u32 = u32::from_be_bytes([0x3f, 0xff, 0, 0xff]);
/// From the EtherType to the end of a TCP header without options.
const HEADS_BYTES: usize = 2 + IP_HEAD_BYTES + TCP_HEAD_BYTES;

impl<'a> Plain<'a> {
    #[inline(always)]
    #[must_use]
    pub fn read(frame: &Frame<'a>) -> Option<Self> {
        if frame.link != LinkType::Ethernet || frame.vlan.is_some() {
            return None;
        }
        let (macs, mut after) = frame.data.split_first_chunk::<12>()?;
        let mut vlans = Vlans::default();
        if let Some(([0x81, 0x00, t0, t1], inside)) = after.split_first_chunk() {
            let _ = vlans.push(u16::from_be_bytes([*t0, *t1])); // The first always fits.
            after = inside;
        }
        let heads = after.first_chunk::<HEADS_BYTES>()?;
        let [e0, e1, first, dscp, l0, l1, i0, i1, f0, f1, hop_limit, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3, ..] = *heads;
        let is_ipv4 = u32::from_be_bytes([e0, e1, first, dscp]) & IPV4_MASK == IPV4;
        let is_tcp = u32::from_be_bytes([f0, f1, hop_limit, protocol]) & TCP_MASK == TCP;
        if !(is_ipv4 && is_tcp) {
            return None;
        }
        let tcp = heads.last_chunk::<TCP_HEAD_BYTES>()?;
        let [p0, p1, q0, q1, n0, n1, n2, n3, a0, a1, a2, a3, offset, flags, ..] = *tcp;
        let total = u16::from_be_bytes([l0, l1]);
        let header_bytes = usize::from(offset >> 4) * 4;
        if header_bytes < TCP_HEAD_BYTES {
            return None;
        }
        // One that is shorter than its own headers begins behind its end.
        let before = 2 + IP_HEAD_BYTES + header_bytes;
        let payload = after.get(before..2 + usize::from(total))?;
        let outside = macs.len() + 4 * vlans.as_slice().len();
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
            ip_payload_bytes: u32::from(total) - IP_HEAD_BYTES as u32,
            tcp,
            payload,
            payload_at: (outside + before) as u16,
        })
    }
}

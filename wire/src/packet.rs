//! One frame's headers, read in place: link, tags, addresses, ports and where the payload lies.
//!
//! Nothing is copied or allocated; every slice borrows from the frame. Three lengths differ and all are kept apart:
//! what the frame holds here (`data.len()`), what it held on the wire (`wire_len`), and
//! what the IP header says. Ethernet pads short frames to 60 bytes (IEEE 802.3, 3.2.7), so the payload ends where IP
//! says, never where the frame does; a snap length ends the frame early, so a payload can be longer on the wire than
//! here, and the difference (`cut`) is bytes that were sent but not seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod link;
pub mod plain;
pub mod tunnel;

/// Tags kept per frame, outermost first; a deeper stack is refused as [`Malformed::VlanDepth`].
pub const VLANS_MAX: usize = 4;
/// Extension headers followed per packet (RFC 8200, 4.1 lists seven, one of them twice).
pub const EXTENSIONS_MAX: usize = 8;
/// Headers between link and network read per frame: tags, MPLS labels, provider backbone and fabric headers.
pub const LINK_LAYERS_MAX: usize = 16;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// What a frame starts with: the LINKTYPE_ value of the capture file, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    Ethernet,
    /// BSD loopback: a four-byte address family in the order of the machine that wrote the file.
    Null,
    /// OpenBSD loopback: the same in network order.
    Loop,
    /// IP with no link header, version told by its first nibble.
    Raw,
    Ipv4,
    Ipv6,
    LinuxSll,
    LinuxSll2,
    /// PPP, with or without HDLC-like framing (RFC 1661, RFC 1662).
    Ppp,
    /// PPP in HDLC-like framing, or Cisco's HDLC.
    PppHdlc,
    /// PPPoE from its session header on (RFC 2516).
    PppEther,
    CiscoHdlc,
    /// Serial line IP (RFC 1055) behind the 16 bytes in which libpcap says the direction.
    Slip,
    /// IEEE 802.11, and the same behind a radiotap header.
    Wlan,
    Radiotap,
    /// What netfilter logs: attributes, one of which is the packet (linux/netfilter/nfnetlink_log.h).
    Nflog,
    /// A link type with no reader here.
    Other(u16),
}

impl LinkType {
    /// The link type for a LINKTYPE_ or DLT_ number (12, 14 and 101 all mean raw IP on some system).
    pub fn from_number(number: u16) -> LinkType {
        match number {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            8 => LinkType::Slip,
            9 => LinkType::Ppp,
            12 | 14 | 101 => LinkType::Raw,
            50 => LinkType::PppHdlc,
            51 => LinkType::PppEther,
            104 => LinkType::CiscoHdlc,
            105 => LinkType::Wlan,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            127 => LinkType::Radiotap,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            239 => LinkType::Nflog,
            276 => LinkType::LinuxSll2,
            other => LinkType::Other(other),
        }
    }
}

/// VLAN identifiers of one frame, outermost first (IEEE 802.1Q, 9.6); priority bits are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vlans {
    ids: [u16; VLANS_MAX],
    count: u8,
}

impl Vlans {
    /// Those of a stack, as far as they are kept.
    #[cfg(test)]
    pub(crate) fn of(ids: &[u16]) -> Vlans {
        let mut vlans = Vlans::default();
        for id in ids {
            let _ = vlans.push(*id);
        }
        vlans
    }

    pub fn as_slice(&self) -> &[u16] {
        self.ids.get(..usize::from(self.count)).unwrap_or(&[])
    }

    #[must_use]
    fn push(&mut self, tag: u16) -> bool {
        match self.ids.get_mut(usize::from(self.count)) {
            Some(slot) => {
                *slot = tag & 0x0fff;
                self.count += 1;
                true
            }
            None => false,
        }
    }
}

/// What one frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer<'a> {
    Ip(Packet<'a>),
    /// A part of an IP packet; only all of them together have a transport header that can be trusted.
    Fragment(Fragment<'a>),
    /// No IP inside. `ethertype` up to 1,500 is an IEEE 802.3 length: an LLC frame.
    /// Links without MAC addresses say zeros.
    NotIp {
        ethertype: u16,
        source_mac: [u8; 6],
        destination_mac: [u8; 6],
        vlans: Vlans,
    },
}

/// One IP packet, tags outside it and transport inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub vlans: Vlans,
    /// Which network the addresses belong to, a number of [`crate::contexts`]; this module leaves it 0.
    pub context: u32,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The transport protocol, after IPv6 extension headers and AH.
    pub protocol: u8,
    pub transport: Transport<'a>,
    /// IP payload from the transport header on, as far as it was captured.
    pub ip_payload: &'a [u8],
    /// Length of that payload on the wire.
    pub ip_payload_bytes: u32,
    /// What its sender numbered it with (RFC 6864; RFC 8200, 4.5): 0 says nothing, and a whole IPv6 packet has none.
    pub identification: u16,
    /// Time to live, or hop limit: every router takes one off.
    pub hop_limit: u8,
    /// The IPv4 header with its options; empty for IPv6.
    ipv4_header: &'a [u8],
    /// The addresses are not those of the pseudo-header (source routes: RFC 791, 3.1; RFC 8200, 8.1).
    routed: bool,
}

/// A fragment and where it lies in its packet (RFC 791, 3.2; RFC 8200, 4.5). An atomic one (RFC 6946) is a whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    pub vlans: Vlans,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv4: the protocol. IPv6: the header after the fragment header, which counts in the first fragment only.
    pub protocol: u8,
    pub identification: u32,
    pub offset_bytes: u16,
    pub more: bool,
    pub hop_limit: u8,
    /// What of the packet's payload is here, as far as it was captured.
    pub payload: &'a [u8],
    /// Its length by the IP header, which is more than the frame held if the frame was shortened.
    pub payload_bytes: u32,
    ipv4_header: &'a [u8],
}

impl Fragment<'static> {
    /// What all fragments of one packet have in common.
    pub(crate) fn of_packet(source: IpAddr, destination: IpAddr, protocol: u8, identification: u32, hop_limit: u8) -> Fragment<'static> {
        Fragment {
            vlans: Vlans::default(),
            source,
            destination,
            protocol,
            identification,
            offset_bytes: 0,
            more: false,
            hop_limit,
            payload: &[],
            payload_bytes: 0,
            ipv4_header: &[],
        }
    }
}

impl Fragment<'_> {
    pub fn first(&self) -> bool {
        self.offset_bytes == 0
    }

    /// Whether the checksum of the IPv4 header holds; IPv6 has none.
    pub fn header_checksum_ok(&self) -> bool {
        self.ipv4_header.is_empty() || fold(sum(self.ipv4_header)) == 0xffff
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    Tcp(Tcp<'a>),
    Udp(Udp<'a>),
    /// Any other protocol; `bytes` is the IP payload on the wire.
    Other {
        protocol: u8,
        bytes: u32,
    },
}

/// A TCP segment (RFC 9293, 3.1). `payload.len() + cut` is `payload_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: TcpFlags,
    pub window: u16,
    /// Payload as captured.
    pub payload: &'a [u8],
    /// Payload on the wire.
    pub payload_bytes: u32,
    /// Payload bytes at the end that were sent but not captured.
    pub cut: u32,
}

/// The control bits of a segment (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;

    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

/// A UDP datagram (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: &'a [u8],
    pub payload_bytes: u32,
    pub cut: u32,
}

/// Why a frame could not be read. Each reason is counted on its own; [`Malformed::index`] orders the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Malformed {
    /// The snap length ended inside the headers: the frame was whole on the wire, only not here.
    HeadersCut,
    /// The frame ended inside its headers on the wire.
    FrameShort,
    LinkType,
    VlanDepth,
    LinkDepth,
    IpVersion,
    Ipv4HeaderLength,
    Ipv4TotalLength,
    Ipv6Extension,
    TcpDataOffset,
    UdpLength,
}

impl Malformed {
    pub const ALL: [Malformed; 11] = [
        Malformed::HeadersCut,
        Malformed::FrameShort,
        Malformed::LinkType,
        Malformed::VlanDepth,
        Malformed::LinkDepth,
        Malformed::IpVersion,
        Malformed::Ipv4HeaderLength,
        Malformed::Ipv4TotalLength,
        Malformed::Ipv6Extension,
        Malformed::TcpDataOffset,
        Malformed::UdpLength,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Malformed::HeadersCut => "headers_cut",
            Malformed::FrameShort => "frame_short",
            Malformed::LinkType => "link_type",
            Malformed::VlanDepth => "vlan_depth",
            Malformed::LinkDepth => "link_depth",
            Malformed::IpVersion => "ip_version",
            Malformed::Ipv4HeaderLength => "ipv4_header_length",
            Malformed::Ipv4TotalLength => "ipv4_total_length",
            Malformed::Ipv6Extension => "ipv6_extension",
            Malformed::TcpDataOffset => "tcp_data_offset",
            Malformed::UdpLength => "udp_length",
        }
    }
}

/// Captured bytes and how many there were on the wire; `wire >= data.len()` always.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) wire: u32,
}

impl<'a> View<'a> {
    pub(crate) fn new(data: &'a [u8], wire: u32) -> View<'a> {
        View { data, wire: wire.max(data.len() as u32) }
    }

    /// The first `N` bytes, or why they are not there.
    pub(crate) fn head<const N: usize>(&self) -> Result<&'a [u8; N], Malformed> {
        self.data.first_chunk::<N>().ok_or_else(|| self.short(N))
    }

    #[cold]
    fn short(&self, wanted: usize) -> Malformed {
        if (self.wire as usize) < wanted { Malformed::FrameShort } else { Malformed::HeadersCut }
    }

    /// All after the first `count` bytes.
    pub(crate) fn skip(&self, count: usize) -> Result<View<'a>, Malformed> {
        match self.data.get(count..) {
            Some(data) => Ok(View { data, wire: self.wire.saturating_sub(count as u32) }),
            None => Err(self.short(count)),
        }
    }

    /// The first `wire` bytes of it on the wire, and what of them is here. A length beyond the frame is a false one:
    /// nobody received more than the frame.
    pub(crate) fn limit(&self, wire: u32) -> View<'a> {
        let wire = wire.min(self.wire);
        let captured = self.data.len().min(wire as usize);
        View { data: self.data.get(..captured).unwrap_or(self.data), wire }
    }

    fn cut(&self) -> u32 {
        self.wire.saturating_sub(self.data.len() as u32)
    }
}

/// Reads the headers of one frame.
///
/// `wire_len`: length of the frame when it was sent. `stripped_vlan`: the tag that the network card or the kernel took
/// out of the frame (its TCI); it goes back as the outermost one.
///
/// # Errors
/// The frame is too short for its headers or contradicts itself; the caller counts the reason.
pub fn parse(link: LinkType, frame: &[u8], wire_len: u32, stripped_vlan: Option<u16>) -> Result<Layer<'_>, Malformed> {
    let view = View::new(frame, wire_len);
    let mut vlans = Vlans::default();
    if let Some(tag) = stripped_vlan {
        let _ = vlans.push(tag); // The first of VLANS_MAX always fits.
    }
    match link {
        LinkType::Ethernet => ethernet(view, vlans),
        LinkType::LinuxSll => {
            let head = view.head::<16>()?;
            let macs = ([head[6], head[7], head[8], head[9], head[10], head[11]], [0; 6]);
            by_ethertype(u16::from_be_bytes([head[14], head[15]]), view.skip(16)?, vlans, macs)
        }
        LinkType::LinuxSll2 => {
            let head = view.head::<20>()?;
            let macs = ([head[12], head[13], head[14], head[15], head[16], head[17]], [0; 6]);
            by_ethertype(u16::from_be_bytes([head[0], head[1]]), view.skip(20)?, vlans, macs)
        }
        LinkType::Null | LinkType::Loop => {
            let [a, b, c, d] = *view.head::<4>()?;
            // Families fit one byte, so either byte order has it in exactly one end.
            let family = if a == 0 && b == 0 { u16::from_be_bytes([c, d]) } else { u16::from_le_bytes([a, b]) };
            let rest = view.skip(4)?;
            match family {
                2 => ipv4(rest, vlans),
                // IPv6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
                10 | 24 | 28 | 30 => ipv6(rest, vlans),
                // Some serial captures are declared as loopback and keep Cisco's HDLC header, which no family begins with.
                15 if b == 0 => link::cisco_hdlc(view, vlans),
                _ => Ok(not_ip(0, vlans)),
            }
        }
        LinkType::Raw => by_version(view, vlans),
        LinkType::Ipv4 => ipv4(view, vlans),
        LinkType::Ipv6 => ipv6(view, vlans),
        LinkType::Ppp => link::ppp(view, vlans),
        LinkType::PppHdlc => link::ppp_hdlc(view, vlans),
        LinkType::PppEther => link::pppoe(view, vlans),
        LinkType::CiscoHdlc => link::cisco_hdlc(view, vlans),
        LinkType::Slip => link::slip(view, vlans),
        LinkType::Wlan => link::wlan(view, vlans),
        LinkType::Radiotap => link::radiotap(view, vlans),
        LinkType::Nflog => link::nflog(view, vlans),
        LinkType::Other(_) => Err(Malformed::LinkType),
    }
}

fn ethernet(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *view.head::<14>()?;
    let macs = ([s0, s1, s2, s3, s4, s5], [d0, d1, d2, d3, d4, d5]);
    by_ethertype(u16::from_be_bytes([t0, t1]), view.skip(14)?, vlans, macs)
}

fn by_version(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    match view.head::<1>()?[0] >> 4 {
        4 => ipv4(view, vlans),
        6 => ipv6(view, vlans),
        _ => Err(Malformed::IpVersion),
    }
}

fn not_ip<'a>(ethertype: u16, vlans: Vlans) -> Layer<'a> {
    Layer::NotIp { ethertype, source_mac: [0; 6], destination_mac: [0; 6], vlans }
}

#[inline]
fn by_ethertype<'a>(ethertype: u16, view: View<'a>, vlans: Vlans, macs: ([u8; 6], [u8; 6])) -> Result<Layer<'a>, Malformed> {
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(view, vlans),
        ETHERTYPE_IPV6 => ipv6(view, vlans),
        _ => link::layers(ethertype, view, vlans, macs),
    }
}

fn ipv4(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let head = view.head::<20>()?;
    if head[0] >> 4 != 4 {
        return Err(Malformed::IpVersion);
    }
    let header_bytes = usize::from(head[0] & 0x0f) * 4;
    if header_bytes < 20 {
        return Err(Malformed::Ipv4HeaderLength);
    }
    let total = match u16::from_be_bytes([head[2], head[3]]) {
        // Segmentation offload writes 0 for packets above 65,535 bytes, seen where they are captured before the card.
        0 => view.wire,
        total => u32::from(total),
    };
    if (total as usize) < header_bytes {
        return Err(Malformed::Ipv4TotalLength);
    }
    let packet = view.limit(total);
    let ipv4_header = packet.data.get(..header_bytes).ok_or_else(|| view.short(header_bytes))?;
    let flags = u16::from_be_bytes([head[6], head[7]]);
    let rest = packet.skip(header_bytes)?;
    let protocol = head[9];
    let source = IpAddr::V4(Ipv4Addr::new(head[12], head[13], head[14], head[15]));
    let destination = IpAddr::V4(Ipv4Addr::new(head[16], head[17], head[18], head[19]));
    // An offset, or more to follow.
    if flags & 0x3fff != 0 {
        return Ok(Layer::Fragment(Fragment {
            vlans,
            source,
            destination,
            protocol,
            identification: u32::from(u16::from_be_bytes([head[4], head[5]])),
            offset_bytes: (flags & 0x1fff) << 3,
            more: flags & 0x2000 != 0,
            hop_limit: head[8],
            payload: rest.data,
            payload_bytes: total - header_bytes as u32,
            ipv4_header,
        }));
    }
    let identification = u16::from_be_bytes([head[4], head[5]]);
    after_ipv4(protocol, rest, vlans, (source, destination, head[8]), identification, ipv4_header)
}

/// What follows an IPv4 header, or is the payload of a packet put together from fragments, which has no `header`.
#[inline]
fn after_ipv4<'a>(
    mut protocol: u8,
    mut rest: View<'a>,
    vlans: Vlans,
    (source, destination, hop_limit): (IpAddr, IpAddr, u8),
    identification: u16,
    header: &'a [u8],
) -> Result<Layer<'a>, Malformed> {
    if protocol == 51 {
        (protocol, rest) = authentication(rest)?;
    }
    Ok(Layer::Ip(Packet {
        vlans,
        context: 0,
        source,
        destination,
        protocol,
        transport: transport(protocol, rest)?,
        ip_payload: rest.data,
        ip_payload_bytes: rest.wire,
        identification,
        hop_limit,
        ipv4_header: header,
        routed: header.len() > 20,
    }))
}

fn ipv6(view: View<'_>, vlans: Vlans) -> Result<Layer<'_>, Malformed> {
    let head = view.head::<40>()?;
    if head[0] >> 4 != 6 {
        return Err(Malformed::IpVersion);
    }
    let mut rest = view.skip(40)?;
    let length = u32::from(u16::from_be_bytes([head[4], head[5]]));
    // 0 is a jumbogram (RFC 2675) or offload, unless no header follows at all (59).
    if length != 0 || head[6] == 59 {
        rest = rest.limit(length);
    }
    let (sources, destinations) = head.split_at(8).1.split_at(16);
    let (source, destination) = (IpAddr::V6(address(sources)), IpAddr::V6(address(destinations)));
    after_ipv6(head[6], rest, length, vlans, (source, destination, head[7]))
}

/// What follows an IPv6 header, or is the payload of a packet put together from fragments. `length` is the payload's by
/// the IP header.
fn after_ipv6<'a>(
    mut protocol: u8,
    mut rest: View<'a>,
    length: u32,
    vlans: Vlans,
    (source, destination, hop_limit): (IpAddr, IpAddr, u8),
) -> Result<Layer<'a>, Malformed> {
    let whole = rest.wire;
    let mut routed = false;
    let mut headers = 0;
    while matches!(protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        headers += 1;
        if headers > EXTENSIONS_MAX {
            return Err(Malformed::Ipv6Extension);
        }
        if protocol == 51 {
            (protocol, rest) = authentication(rest)?;
            continue;
        }
        let [next, units, o0, o1, i0, i1, i2, i3] = *rest.head::<8>()?;
        if protocol == 44 {
            rest = rest.skip(8)?;
            let offset = u16::from_be_bytes([o0, o1]);
            if offset & 0xfff9 != 0 {
                return Ok(Layer::Fragment(Fragment {
                    vlans,
                    source,
                    destination,
                    protocol: next,
                    identification: u32::from_be_bytes([i0, i1, i2, i3]),
                    offset_bytes: offset & 0xfff8,
                    more: offset & 1 != 0,
                    hop_limit,
                    payload: rest.data,
                    payload_bytes: length.saturating_sub(whole - rest.wire).max(rest.wire),
                    ipv4_header: &[],
                }));
            }
        } else {
            // Segments left stands where a fragment header has its offset (RFC 8200, 4.4).
            routed |= protocol == 43 && o1 != 0;
            rest = rest.skip((usize::from(units) + 1) * 8)?;
        }
        protocol = next;
    }
    Ok(Layer::Ip(Packet {
        vlans,
        context: 0,
        source,
        destination,
        protocol,
        transport: transport(protocol, rest)?,
        ip_payload: rest.data,
        ip_payload_bytes: rest.wire,
        identification: 0,
        hop_limit,
        ipv4_header: &[],
        routed,
    }))
}

/// The packet that fragments made: `payload` is what is known of it from its beginning on, `wire` its whole length.
///
/// # Errors
/// As [`parse`].
pub(crate) fn whole<'a>(fragment: &Fragment<'_>, payload: &'a [u8], wire: u32) -> Result<Layer<'a>, Malformed> {
    let (rest, vlans) = (View::new(payload, wire), Vlans::default());
    let ends = (fragment.source, fragment.destination, fragment.hop_limit);
    let identification = fragment.identification as u16;
    if !fragment.source.is_ipv6() {
        return after_ipv4(fragment.protocol, rest, vlans, ends, identification, &[]);
    }
    let mut layer = after_ipv6(fragment.protocol, rest, wire, vlans, ends);
    if let Ok(Layer::Ip(packet)) = &mut layer {
        packet.identification = identification;
    }
    layer
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(bytes.first_chunk::<16>().copied().unwrap_or_default())
}

/// What follows an Authentication Header, whose length counts 4-byte units less two (RFC 4302, 2.2).
fn authentication(view: View<'_>) -> Result<(u8, View<'_>), Malformed> {
    let [next, length] = *view.head::<2>()?;
    Ok((next, view.skip((usize::from(length) + 2) * 4)?))
}

#[inline]
fn transport(protocol: u8, view: View<'_>) -> Result<Transport<'_>, Malformed> {
    match protocol {
        PROTOCOL_TCP => tcp(view),
        PROTOCOL_UDP => udp(view),
        _ => Ok(Transport::Other { protocol, bytes: view.wire }),
    }
}

fn tcp(view: View<'_>) -> Result<Transport<'_>, Malformed> {
    let head = view.head::<20>()?;
    let header_bytes = u32::from(head[12] >> 4) * 4;
    if header_bytes < 20 || header_bytes > view.wire {
        return Err(Malformed::TcpDataOffset);
    }
    // Options may be cut away with the payload; ports and sequence number still tell how much was.
    let payload = View { data: view.data.get(header_bytes as usize..).unwrap_or(&[]), wire: view.wire - header_bytes };
    Ok(Transport::Tcp(Tcp {
        source_port: u16::from_be_bytes([head[0], head[1]]),
        destination_port: u16::from_be_bytes([head[2], head[3]]),
        sequence: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        acknowledgment: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        flags: TcpFlags(head[13]),
        window: u16::from_be_bytes([head[14], head[15]]),
        payload: payload.data,
        payload_bytes: payload.wire,
        cut: payload.cut(),
    }))
}

fn udp(view: View<'_>) -> Result<Transport<'_>, Malformed> {
    let [s0, s1, d0, d1, l0, l1, _, _] = *view.head::<8>()?;
    let datagram = match u32::from(u16::from_be_bytes([l0, l1])) {
        // 0 is a jumbogram (RFC 2675, 4): the IP length rules.
        0 => view,
        length if length < 8 => return Err(Malformed::UdpLength),
        length => view.limit(length),
    };
    let payload = datagram.skip(8)?;
    Ok(Transport::Udp(Udp {
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port: u16::from_be_bytes([d0, d1]),
        payload: payload.data,
        payload_bytes: payload.wire,
        cut: payload.cut(),
    }))
}

/// Whether the IPv4, TCP and UDP checksums hold (RFC 1071); None where that cannot be told: cut packets,
/// source routes, UDP that was sent without one (RFC 768), other protocols over IPv6.
///
/// Packets captured on the machine that sends them are often wrong before the network card completes them.
pub fn checksum_ok(packet: &Packet<'_>) -> Option<bool> {
    let is_ipv4 = packet.source.is_ipv4();
    // A packet put together from fragments has no header of its own; theirs were looked at one by one.
    if !packet.ipv4_header.is_empty() && fold(sum(packet.ipv4_header)) != 0xffff {
        return Some(false);
    }
    let segment = packet.ip_payload;
    let captured_whole = segment.len() == packet.ip_payload_bytes as usize;
    if packet.routed || !captured_whole {
        return None;
    }
    let length = match packet.transport {
        Transport::Tcp(_) => segment.len(),
        Transport::Udp(udp) => {
            // UDP may end before IP does; a checksum of 0 says that there is none.
            if is_ipv4 && segment.get(6..8) == Some(&[0, 0]) {
                return None;
            }
            udp.payload.len() + 8
        }
        Transport::Other { .. } => return is_ipv4.then_some(true),
    };
    let covered = segment.get(..length)?;
    let addresses = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        _ => return None,
    };
    let pseudo_header = addresses + u64::from(packet.protocol) + (length as u64 >> 16) + (length as u64 & 0xffff);
    Some(fold(pseudo_header + sum(covered)) == 0xffff)
}

fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks_exact(2);
    let last = pairs.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
    pairs.fold(last, |total, pair| match pair {
        [high, low] => total + u64::from(u16::from_be_bytes([*high, *low])),
        _ => total,
    })
}

fn fold(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total
}

#[cfg(test)]
mod tests;

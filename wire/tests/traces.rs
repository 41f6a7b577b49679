//! Every capture of a folder of captures gives the frames that tshark counted, and the conversations it saw.
//!
//! The folder is HOPWATCH_TRACES or `shared/traces` beside the repository, each capture with its `.truth.json`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use hopwatch_wire::packet::{Layer, Malformed, Transport, checksum_ok, parse};
use hopwatch_wire::source::{FileSource, Source, Step};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("HOPWATCH_TRACES").map(PathBuf::from);
    let beside =
        ["../../shared/traces", "../../../shared/traces"].into_iter().map(|relative| Path::new(env!("CARGO_MANIFEST_DIR")).join(relative));
    named.into_iter().chain(beside).find(|path| path.is_dir())
}

fn captures(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder is readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_capture = path.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng");
            let truth = path.with_extension("truth.json");
            if is_capture && truth.exists() {
                let truth = fs::read(truth).expect("truth is readable");
                found.push((path, serde_json::from_slice(&truth).expect("truth is JSON")));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[test]
fn every_capture_has_the_frames_and_bytes_that_tshark_counted() {
    let Some(folder) = folder() else {
        println!("no folder of captures here: set HOPWATCH_TRACES");
        return;
    };
    let captures = captures(&folder);
    let (mut same, mut packets_total, mut differences) = (0, 0, Vec::new());
    for (path, truth) in &captures {
        let (mut packets, mut bytes, mut captured) = (0u64, 0u64, 0u64);
        let mut failure = None;
        match FileSource::open(path) {
            Ok(mut source) => loop {
                match source.read() {
                    Ok(Step::Frame(frame)) => {
                        packets += 1;
                        bytes += u64::from(frame.wire_len);
                        captured += frame.data.len() as u64;
                        let _ = parse(frame.link, frame.data, frame.wire_len, frame.vlan);
                    }
                    Ok(_) => break,
                    Err(error) => {
                        failure = Some(error.to_string());
                        break;
                    }
                }
            },
            Err(error) => failure = Some(error.to_string()),
        }
        packets_total += packets;
        let expected = &truth["capture"];
        let count = |field: &str| expected[field].as_u64().unwrap_or(0);
        let tshark_stopped = truth["tshark_messages"].as_array().is_some_and(|messages| !messages.is_empty());
        let equal = (packets, bytes, captured) == (count("packets"), count("bytes"), count("captured_bytes"));
        if equal && failure.is_some() == tshark_stopped {
            same += 1;
        } else {
            differences.push(format!(
                "{}: {packets} frames, {bytes}/{captured} bytes, {failure:?}; tshark {} frames, {}/{} bytes, {}",
                path.display(),
                count("packets"),
                count("bytes"),
                count("captured_bytes"),
                truth["tshark_messages"],
            ));
        }
    }
    println!("{same} of {} captures the same, {packets_total} frames", captures.len());
    for difference in &differences {
        println!("{difference}");
    }
    // Among damaged files tshark takes other wire lengths (signed, below the captured one, less an ATM header), gives
    // the piece of a cut frame, and refuses link types that are given as unknown ones here.
    let unexplained = differences.iter().filter(|text| !text.contains("/malformed/"));
    assert_eq!(unexplained.count(), 0);
    assert!(differences.len() <= 8);
}

/// Where tshark goes deeper or counts otherwise: the file, and what lies around the IP packet or what differs.
const OTHERWISE: [(&str, &str); 4] = [
    ("zeek__dns-edns-ecs-bad.pcap", "a UDP length beyond its packet, taken at its word"),
    ("flowlab__gre-15_gre_mpls_ipv4_udp.pcap", "GRE"),
    ("flowlab__gre-24_outer_vlan_mpls_mpls_gre_inner_ipv4_tcp_tls_client_hello.pcap", "GRE"),
    ("zeek__cisco-fabric-path.pcap", "datagrams behind Cisco FabricPath, which tshark reads no further"),
];

/// Packets and payload bytes each way, keyed by the ends of a conversation.
type Conversations = HashMap<(&'static str, String, u16, String, u16), (u64, u64)>;

#[test]
fn addresses_ports_and_payload_lengths_are_those_that_tshark_saw() {
    let Some(folder) = folder() else {
        println!("no folder of captures here: set HOPWATCH_TRACES");
        return;
    };
    let mut reasons: HashMap<Malformed, u64> = HashMap::new();
    let (mut compared, mut same, mut different, mut conversations) = (0, 0, Vec::new(), 0);
    let (mut checksum_good, mut checksum_bad) = (0u64, 0u64);
    for (path, truth) in captures(&folder) {
        let is_malformed = path.components().any(|part| part.as_os_str() == "malformed");
        let listed = truth["conversations"].as_array().cloned().unwrap_or_default();
        let count = |field: &str| truth["capture"][field].as_u64().unwrap_or(0);
        // Inside tunnels, fragments and ICMP errors tshark sees conversations that lie deeper than this parser goes.
        let plain = listed.iter().all(|conversation| conversation["encap"].is_null())
            && count("tunnelled_packets") == 0
            && count("ip_fragments") == 0
            && count("icmp_errors_with_inner") == 0;
        let mut seen: Conversations = HashMap::new();
        let Ok(mut source) = FileSource::open(&path) else {
            continue;
        };
        while let Ok(Step::Frame(frame)) = source.read() {
            let packet = match parse(frame.link, frame.data, frame.wire_len, frame.vlan) {
                Ok(Layer::Ip(packet)) => packet,
                Ok(_) => continue,
                Err(reason) => {
                    if !is_malformed {
                        *reasons.entry(reason).or_default() += 1;
                    }
                    continue;
                }
            };
            let (protocol, source_port, destination_port, payload) = match packet.transport {
                Transport::Tcp(tcp) => ("tcp", tcp.source_port, tcp.destination_port, tcp.payload_bytes),
                Transport::Udp(udp) => ("udp", udp.source_port, udp.destination_port, udp.payload_bytes),
                Transport::Other { .. } => continue,
            };
            match checksum_ok(&packet) {
                Some(true) => checksum_good += 1,
                Some(false) => checksum_bad += 1,
                None => {}
            }
            let key = (protocol, packet.source.to_string(), source_port, packet.destination.to_string(), destination_port);
            let entry = seen.entry(key).or_default();
            entry.0 += 1;
            entry.1 += u64::from(payload);
        }
        let is_otherwise = OTHERWISE.iter().any(|(name, _)| path.ends_with(name));
        if is_malformed || !plain || is_otherwise {
            continue;
        }
        let mut wanted: Conversations = HashMap::new();
        for conversation in &listed {
            let text = |field: &str| conversation[field].as_str().unwrap_or("").to_owned();
            let number = |field: &str| conversation[field].as_u64().unwrap_or(0);
            let protocol = if text("proto") == "tcp" { "tcp" } else { "udp" };
            let (a, b) = (text("a"), text("b"));
            let (a_port, b_port) = (number("a_port") as u16, number("b_port") as u16);
            for (one, one_port, other, other_port, way) in [(&a, a_port, &b, b_port, "ab"), (&b, b_port, &a, a_port, "ba")] {
                let packets = number(&format!("packets_{way}"));
                if packets > 0 {
                    let key = (protocol, one.clone(), one_port, other.clone(), other_port);
                    let entry = wanted.entry(key).or_default();
                    entry.0 += packets;
                    entry.1 += number(&format!("payload_bytes_{way}"));
                }
            }
        }
        compared += 1;
        conversations += wanted.len();
        if wanted == seen {
            same += 1;
        } else {
            let first = wanted
                .iter()
                .find(|(key, value)| seen.get(*key) != Some(*value))
                .map(|(key, value)| format!("{key:?}: tshark {value:?}, here {:?}", seen.get(key)))
                .unwrap_or_else(|| {
                    let extra = seen.iter().find(|(key, _)| !wanted.contains_key(*key));
                    format!("only here: {extra:?}")
                });
            different.push(format!("{}: {first}", path.display()));
        }
    }
    println!("{same} of {compared} captures the same, {conversations} directions; refused: {reasons:?}");
    println!("checksums: {checksum_good} good, {checksum_bad} bad");
    for difference in &different {
        println!("{difference}");
    }
    assert_eq!(different.len(), 0);
}

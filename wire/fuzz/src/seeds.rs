//! The first corpus, made from the recordings under `tests/data`.

use crate::targets::{self, RECORDINGS};
use crate::{input, properties};
use hopwatch_wire::protocols::Recognition;
use hopwatch_wire::protocols::testing::{CLIENT, Recording, recognise};
use hopwatch_wire::windows::Side;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Bytes of a seed: mutations of longer ones are mostly of bodies that are skipped.
const SEED_BYTES_MAX: usize = 4096;

pub fn write(folder: &Path) {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).expect("a folder for the seeds");
        fs::write(folder.join(format!("seed-{name}")), bytes).expect("a seed is written");
    };
    for recording in RECORDINGS.iter() {
        let name = recording.name.split('.').next().unwrap_or_default();
        let seed = conversation(recording);
        for (target, protocol, _) in targets::decoders().iter().filter(|(_, p, _)| p.name == recording.protocol) {
            if matches!(recognise(protocol, &recording.script), Recognition::Yes { .. }) {
                put(target, &format!("{}-{name}", recording.protocol), &seed);
            }
        }
        put("packets", &format!("{}-{name}", recording.protocol), &frames(recording));
    }
    for which in 0..u8::try_from(RECORDINGS.len()).unwrap_or(u8::MAX) {
        if which % 4 == 0 {
            put("secrets", &which.to_string(), &[which, 0, 0, 200, 0, 90, 10, 0, 40, 100, 1, 200]);
        }
    }
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06mes-db\x05plant\x07example\0\0\x01\0\x01";
    let answer = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x06mes-db\x05plant\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\x14\x01\x15";
    let (mut stream, mut datagrams) = (vec![0], vec![0]);
    for (control, message) in [(0, question.as_slice()), (1, answer.as_slice())] {
        let length = u16::try_from(message.len()).unwrap_or(0).to_be_bytes();
        input::put(control, &[&length[..], message].concat(), &mut stream);
        input::put(control, message, &mut datagrams);
    }
    put("dns", "lookup", &stream);
    // A ClientHello that a server of HTTP answers, as any of the two protocols may be cut.
    let hello = RECORDINGS.iter().find(|r| r.protocol == "tls").and_then(|r| r.script.first()).expect("a recording of TLS");
    let mut refused = vec![2];
    input::put(0, &hello.1, &mut refused);
    input::put(1, b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwrong\r\n0\r\n\r\n", &mut refused);
    put("tls", "http-answer", &refused);
    put("dns-2", "lookup", &datagrams);
    for (at, text) in SQL.iter().enumerate() {
        put("sql", &at.to_string(), &[b"\x02", text.as_bytes()].concat());
    }
    put("stream", "order", &[0, 4, 0, 0, 1, 1, 9, 4, 0, 20, 0, 2, 9, 4, 0, 9, 0, 3, 11, 0x20, 0, 29, 0, 0, 0, 4, 0, 29, 2, 1, 4]);

    for (name, edits) in LINES {
        let mut seed = vec![3, 0];
        edits.iter().for_each(|(control, edit)| input::put(*control, edit, &mut seed));
        put("lines", name, &seed);
    }
    for (name, payloads) in PAYLOADS {
        let mut seed = Vec::new();
        payloads.iter().for_each(|(topic, payload)| input::put(*topic, payload, &mut seed));
        put("payloads", name, &seed);
    }

    let some = RECORDINGS.iter().find(|r| r.protocol == "mqtt").expect("a recording of MQTT");
    put("packets", "two-vlans", &frames_on_two_vlans(some));
    let (pcap, pcapng) = (pcap(some), pcapng(some));
    put("pcap", "mqtt", &pcap[4..]);
    put("pcapng", "mqtt", &pcapng[4..]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&pcap).expect("it compresses");
    put("gzip", "pcap", &gzip.finish().expect("it compresses")[2..]);
    let zstd = ruzstd::encoding::compress_to_vec(pcapng.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    put("zstd", "pcapng", &zstd[4..]);
    // A frame of one block that repeats a byte 128 KiB times, over and over.
    put("zstd", "bomb", &[&[0, 0x58][..], &[0x02, 0x00, 0x10, 0].repeat(60), &[0x03, 0x00, 0x10, 0]].concat());
    let _ = properties::PLANTED;
}

const LINES: &[(&str, Payloads)] = &[
    ("number", &[(3, b"\x05\0\0"), (3, b"\x06\0\x0012")]),
    ("identity", &[(3, b"\x01\0\0\"c01d\"")]),
    ("objects", &[(2, b"\x20\0\0[]"), (3, b"\x21\0\x00-7")]),
    ("time", &[(3, b"\x08\0\0\"2028-02-29T23:59:59.5Z\"")]),
];

/// Pieces by control byte: payloads as `properties::payloads` counts them, edits as `lines::alike` takes them.
type Payloads = &'static [(u8, &'static [u8])];

const PAYLOADS: &[(&str, Payloads)] = &[
    (
        "sparkplug",
        &[
            (1, b"\x08\x05\x12\x0e\x0a\x04Temp\x10\x07\x5d\0\0\0\0\x12\x0a\x0a\x02On\x10\x08\x70\x01"),
            (3, b"\x12\x04\x10\x07\x50\x15\x12\x10\x10\x08\x8a\x01\x0b\x12\x01a\x22\x06\x0a\x02\x08\x01\x0a\0"),
            (4, b"\x12\x13\x0a\x01P\x92\x01\x0d\x12\x05\x0a\x01r\x50\x01\x1a\x04\x0a\x02sz"),
            (2, b"\x12\x0b\x0a\x09algorithm\x22\x12SPBV1.0_COMPRESSED\x2a\x02xx"),
        ],
    ),
    (
        "pubsub",
        &[
            (5, b"{\"MessageId\":\"x\",\"Messages\":[{\"DataSetWriterId\":1,\"Payload\":{\"a\":{\"Body\":[1]},\"b\":null}}]}"),
            (5, b"[{\"a\": \"\\\"\", \"b\": true}, {\"MessageType\": \"ua-keepalive\"}]"),
            (6, b"\x51\x07\x02\x01\0\x02\0\x07\0\x07\0\x01\x02\0\x01\x01\x01\x01\x01\x02\0\x01\x01\x01\x01"),
            (6, b"\xd1\x13\x05\0\x01\x01\0\x01\x01\0\0\0\x02nn\x01\x01\0\x01\x01ssss"),
            (7, b"\x41\x01\x01\0\x81\x05\x01\0\x02\0\x01\x01\0\x01\x01"),
        ],
    ),
];

const SQL: &[&str] = &[
    "SET NOCOUNT ON SELECT TOP 5 a FROM [x] WITH (NOLOCK) IF 1 = 1 EXEC sp_executesql N'SELECT b FROM y' ELSE EXECUTE AS USER = 'z'",
    "SELECT id, part FROM mes.genealogy g JOIN mes.orders o USING (id) WHERE g.serial = 'X-1' AND o.n > $1",
    "COPY (SELECT * FROM mes.genealogy) TO STDOUT WITH (FORMAT csv, HEADER)",
    "INSERT INTO t (a, b) VALUES ('x', E'it\\'s'), ($1, $$dollar$$) ON CONFLICT DO NOTHING RETURNING a",
    "WITH RECURSIVE w AS (SELECT 1 UNION ALL SELECT n + 1 FROM w) UPDATE a.b SET c = w.n FROM w WHERE d IN (SELECT e FROM f)",
    "CREATE ROLE joe LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA mes TO joe; SET ROLE joe; /* c /* d */ */ DELETE FROM x -- y",
    "DECLARE c CURSOR FOR SELECT * FROM ONLY (t); FETCH 5 FROM c; MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1",
    "CREATE TABLE b AS TABLE mes.a; SELECT json_agg(x), lo_export(y, '/x') INTO TEMP c FROM mes.a; ALTER TABLE c RENAME TO d; COPY d TO PROGRAM 'x'",
    "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password $p$x$p$); SELECT dblink_exec('x://u:p@h', 'y'), query_to_xml('z') FROM a INTO OUTFILE '/x'",
];

fn conversation(recording: &Recording) -> Vec<u8> {
    let mut seed = vec![2];
    for (side, bytes) in &recording.script {
        let kept = bytes.get(..bytes.len().min(1500)).unwrap_or_default();
        if seed.len() + kept.len() > SEED_BYTES_MAX {
            break;
        }
        input::put(u8::from(*side != CLIENT), kept, &mut seed);
    }
    seed
}

/// The conversation as Ethernet frames of a TCP connection, handshake and end included.
fn ethernet(recording: &Recording) -> Vec<Vec<u8>> {
    let mut numbers = [100_u32, 500];
    let mut frames = Vec::new();
    let mut say = |side: Side, flags: u8, payload: &[u8]| {
        let (me, other) = (side as usize, 1 - side as usize);
        let ends = [(10_u8, 50_000_u16), (20, 4000)];
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload.len()).unwrap_or(0).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, ends[me].0, 10, 0, 0, ends[other].0]);
        frame.extend(ends[me].1.to_be_bytes());
        frame.extend(ends[other].1.to_be_bytes());
        frame.extend(numbers[me].to_be_bytes());
        frame.extend(numbers[other].to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        numbers[me] = numbers[me].wrapping_add(u32::try_from(payload.len()).unwrap_or(0) + u32::from(flags & 3 != 0));
        frames.push(frame);
    };
    say(Side::Client, 2, b"");
    say(Side::Server, 0x12, b"");
    let mut sum = 0;
    for (side, bytes) in &recording.script {
        for part in bytes.chunks(1400) {
            sum += part.len();
            if sum < SEED_BYTES_MAX {
                say(*side, 0x18, part);
            }
        }
    }
    say(Side::Client, 0x11, b"");
    say(Side::Server, 0x11, b"");
    frames
}

fn frames(recording: &Recording) -> Vec<u8> {
    let mut seed = Vec::new();
    for frame in ethernet(recording) {
        input::put(0x20, &frame, &mut seed);
    }
    seed
}

/// The same with a tag for each direction: two contexts that the handshake pairs.
fn frames_on_two_vlans(recording: &Recording) -> Vec<u8> {
    let mut seed = Vec::new();
    for frame in ethernet(recording) {
        // The last byte of the source address is the client's or the server's.
        let tag = if frame.get(29) == Some(&10) { 120 } else { 220 };
        let (macs, rest) = frame.split_at(12);
        input::put(0x20, &[macs, &[0x81, 0, 0, tag], rest].concat(), &mut seed);
    }
    seed
}

fn pcap(recording: &Recording) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (at, frame) in (0_u32..).zip(ethernet(recording)) {
        let length = u32::try_from(frame.len()).unwrap_or(0).to_le_bytes();
        file.extend([1_775_000_000_u32.to_le_bytes(), at.to_le_bytes(), length, length].concat());
        file.extend(frame);
    }
    file
}

fn pcapng(recording: &Recording) -> Vec<u8> {
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = [body, &vec![0; (4 - body.len() % 4) % 4]].concat();
        let length = u32::try_from(padded.len() + 12).unwrap_or(0).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &padded, &length].concat()
    }
    let mut file = block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    file.extend(block(1, &[&[1, 0, 0, 0, 0, 0, 4, 0, 2, 0, 3, 0][..], b"lo0\0", &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]].concat()));
    for (at, frame) in (0_u32..).zip(ethernet(recording)) {
        let length = u32::try_from(frame.len()).unwrap_or(0).to_le_bytes();
        file.extend(block(6, &[&[0, 0, 0, 0, 0, 0, 1, 0][..], &at.to_le_bytes(), &length, &length, &frame].concat()));
    }
    file.extend(block(5, &[0, 0, 0, 0, 0, 0, 1, 0, 9, 0, 0, 0, 5, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    file
}

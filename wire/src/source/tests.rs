use std::io::Write;

use super::*;

/// Gives its bytes in pieces of one size.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.min(target.len()).min(self.bytes.len() - self.at);
        target[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Time, data, wire length and interface name of every frame, and how it ended.
type Told = (Vec<(i64, Vec<u8>, u32, Option<String>)>, Option<SourceError>);

fn tell(bytes: &[u8], piece: usize) -> Told {
    let reader = Pieces { bytes: bytes.to_vec(), at: 0, piece };
    let mut frames = Vec::new();
    let mut source = match FileSource::from_reader("test", Box::new(reader), None) {
        Ok(source) => source,
        Err(error) => return (frames, Some(error)),
    };
    loop {
        let (frame, interface) = match source.read() {
            Ok(Step::Frame(frame)) => ((frame.time_ns, frame.data.to_vec(), frame.wire_len), frame.interface),
            Ok(_) => return (frames, None),
            Err(error) => {
                assert_eq!(source.read().ok(), Some(Step::End), "an error is the end");
                return (frames, Some(error));
            }
        };
        let name = source.interface_name(interface).map(str::to_owned);
        frames.push((frame.0, frame.1, frame.2, name));
    }
}

/// The same, read several at a time.
fn tell_some(bytes: &[u8], piece: usize) -> (Told, usize) {
    let reader = Pieces { bytes: bytes.to_vec(), at: 0, piece };
    let (mut frames, mut most) = (Vec::new(), 0);
    let mut source = match FileSource::from_reader("test", Box::new(reader), None) {
        Ok(source) => source,
        Err(error) => return ((frames, Some(error)), most),
    };
    loop {
        let mut lent = Vec::new();
        let turn = source.read_some(FRAMES_MAX, &mut |frames| {
            assert!(frames.iter().all(|frame| frame.interface == frames[0].interface), "all of one interface");
            lent.extend(frames.iter().map(|frame| (frame.time_ns, frame.data.to_vec(), frame.wire_len, frame.interface)));
        });
        most = most.max(lent.len());
        frames.extend(lent.into_iter().map(|(time_ns, data, wire_len, interface)| {
            let name = source.interface_name(interface).map(str::to_owned);
            (time_ns, data, wire_len, name)
        }));
        match turn {
            Ok(Turn::Frames(_)) => {}
            Ok(_) => return ((frames, None), most),
            Err(error) => return ((frames, Some(error)), most),
        }
    }
}

#[test]
fn frames_lent_together_are_those_lent_one_by_one() {
    let mut files = vec![pcap(0xa1b2_c3d4, true, 1, &[(7, 5, b"abc".as_slice(), 60); 50])];
    for little in [true, false] {
        let mut file = section(little);
        for link in [1, 101] {
            file.extend(interface(little, link, 0, &[]));
        }
        // Runs of one interface, other blocks between them, and one that takes its time from the packet before it.
        for number in 0..150_u32 {
            file.extend(enhanced(little, (number / 40) % 2, u64::from(number) << 20, &[number as u8; 5][..number as usize % 6], 60));
            if number % 50 == 49 {
                file.extend(block(3, little, &[&self::number(5, little)[..], b"simpl\0\0\0"].concat()));
            }
        }
        files.push([file, pcapng()].concat());
    }
    for file in files {
        let (whole, most) = tell_some(&file, 1 << 20);
        assert_eq!(most, FRAMES_MAX);
        assert_eq!(format!("{whole:?}"), format!("{:?}", tell(&file, 1 << 20)));
        for cut in (0..file.len()).step_by(7) {
            let cut = &file[..cut];
            assert_eq!(format!("{:?}", tell_some(cut, 50).0), format!("{:?}", tell(cut, 50)), "cut at {}", cut.len());
        }
        for at in (0..file.len()).step_by(11) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x5a;
            assert_eq!(format!("{:?}", tell_some(&damaged, 1 << 20).0), format!("{:?}", tell(&damaged, 1 << 20)), "damaged at {at}");
        }
    }
}

fn number(value: u32, little: bool) -> [u8; 4] {
    if little { value.to_le_bytes() } else { value.to_be_bytes() }
}

fn short(value: u16, little: bool) -> [u8; 2] {
    if little { value.to_le_bytes() } else { value.to_be_bytes() }
}

fn pcap(magic: u32, little: bool, link: u32, frames: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let mut file = number(magic, little).to_vec();
    file.extend_from_slice(&short(2, little));
    file.extend_from_slice(&short(4, little));
    for value in [0, 0, 262_144, link] {
        file.extend_from_slice(&number(value, little));
    }
    for (seconds, ticks, data, wire_len) in frames {
        for value in [*seconds, *ticks, data.len() as u32, *wire_len] {
            file.extend_from_slice(&number(value, little));
        }
        if magic == 0xa1b2_cd34 {
            file.extend_from_slice(&[0; 8]);
        }
        file.extend_from_slice(data);
    }
    file
}

fn block(kind: u32, little: bool, body: &[u8]) -> Vec<u8> {
    let padding = (4 - body.len() % 4) % 4;
    let size = (12 + body.len() + padding) as u32;
    let mut block = number(kind, little).to_vec();
    block.extend_from_slice(&number(size, little));
    block.extend_from_slice(body);
    block.extend_from_slice(&[0; 3][..padding]);
    block.extend_from_slice(&number(size, little));
    block
}

fn section(little: bool) -> Vec<u8> {
    let mut body = number(0x1a2b_3c4d, little).to_vec();
    body.extend_from_slice(&short(1, little));
    body.extend_from_slice(&short(0, little));
    body.extend_from_slice(&[0xff; 8]);
    block(0x0a0d_0d0a, little, &body)
}

fn option(code: u16, little: bool, value: &[u8]) -> Vec<u8> {
    let mut option = short(code, little).to_vec();
    option.extend_from_slice(&short(value.len() as u16, little));
    option.extend_from_slice(value);
    option.resize(option.len().div_ceil(4) * 4, 0);
    option
}

fn interface(little: bool, link: u16, snap: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let mut body = short(link, little).to_vec();
    body.extend_from_slice(&[0; 2]);
    body.extend_from_slice(&number(snap, little));
    body.extend_from_slice(&options.concat());
    block(1, little, &body)
}

fn enhanced(little: bool, interface: u32, ticks: u64, data: &[u8], wire_len: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for value in [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, wire_len] {
        body.extend_from_slice(&number(value, little));
    }
    body.extend_from_slice(data);
    block(6, little, &body)
}

/// Two sections of either order, three interfaces, every kind of packet block and one unknown block.
fn pcapng() -> Vec<u8> {
    let mut file = Vec::new();
    for little in [true, false] {
        file.extend(section(little));
        file.extend(interface(little, 1, 0, &[option(2, little, b"eth0"), option(9, little, &[9])]));
        let offset = if little { 100i64.to_le_bytes() } else { 100i64.to_be_bytes() };
        file.extend(interface(little, 101, 4, &[option(14, little, &offset), option(2, little, b"tun7")]));
        file.extend(interface(little, 1, 0, &[option(9, little, &[0x80 | 10])]));
        file.extend(enhanced(little, 0, 1_700_000_000_123_456_789, b"abcde", 60));
        file.extend(block(0x0bad, little, b"skip"));
        file.extend(enhanced(little, 1, 1_700_000_000_000_001, b"", 9));
        file.extend(enhanced(little, 2, 1536, b"xyz", 3));
        file.extend(block(3, little, &[&number(5, little)[..], b"simpl"].concat()));
        let mut old = short(1, little).to_vec();
        old.extend_from_slice(&short(0, little));
        for value in [0, 5, 2, 2] {
            old.extend_from_slice(&number(value, little));
        }
        old.extend_from_slice(b"pb");
        file.extend(block(2, little, &old));
        let mut statistics = number(0, little).to_vec();
        statistics.extend_from_slice(&[0; 8]);
        let dropped = if little { 3u64.to_le_bytes() } else { 3u64.to_be_bytes() };
        statistics.extend(option(5, little, &dropped));
        file.extend(block(5, little, &statistics));
    }
    file
}

#[test]
fn every_pcap_magic_gives_the_same_frames() {
    let cases = [
        (0xa1b2_c3d4, 500_000, true),
        (0xa1b2_c3d4, 500_000, false),
        (0xa1b2_3c4d, 500_000_000, true),
        (0xa1b2_3c4d, 500_000_000, false),
        (0xa1b2_cd34, 500_000, true),
        (0xa1b2_cd34, 500_000, false),
    ];
    for (magic, half, little) in cases {
        let file = pcap(magic, little, 1, &[(7, half, b"abc", 60), (u32::MAX, 0, b"", 0)]);
        let (frames, error) = tell(&file, 1 << 20);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames[0], (7_500_000_000, b"abc".to_vec(), 60, None), "{magic:x} {little}");
        assert_eq!(frames[1].0, i64::from(u32::MAX) * 1_000_000_000, "after 2038");
        assert_eq!(frames.len(), 2);
    }
}

#[test]
fn pcapng_sections_interfaces_resolutions_and_packet_blocks_are_read() {
    let (frames, error) = tell(&pcapng(), 1 << 20);
    assert!(error.is_none(), "{error:?}");
    let eth = Some("eth0".to_owned());
    let tun = Some("tun7".to_owned());
    let section = [
        (1_700_000_000_123_456_789, b"abcde".to_vec(), 60, eth.clone()),
        (1_700_000_100_000_001_000, Vec::new(), 9, tun.clone()),
        (1_500_000_000, b"xyz".to_vec(), 3, None),
        (1_500_000_000, b"simpl".to_vec(), 5, eth),
        (100_000_005_000, b"pb".to_vec(), 2, tun),
    ];
    assert_eq!(frames, [section.clone(), section].concat());
}

#[test]
fn lost_frames_of_every_section_are_added_up() {
    let reader = io::Cursor::new(pcapng());
    let mut source = FileSource::from_reader("test", Box::new(reader), None).expect("pcapng");
    let mut lost = Vec::new();
    while let Ok(Step::Frame(_)) = source.read() {
        lost.push(source.lost_total());
    }
    assert_eq!(lost.first(), Some(&0));
    assert_eq!(source.lost_total(), 6);
    assert!(lost.is_sorted());
}

#[test]
fn a_simple_packet_is_as_long_as_its_snap_length() {
    let mut file = section(true);
    file.extend(interface(true, 1, 4, &[]));
    file.extend(block(3, true, &[&9u32.to_le_bytes()[..], b"abcd"].concat()));
    let (frames, error) = tell(&file, 1 << 20);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames, [(0, b"abcd".to_vec(), 9, None)]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn pieces_of_any_size_and_any_compression_give_the_same_frames() {
    let classic = pcap(0xa1b2_c3d4, true, 1, &[(7, 1, b"abc", 60), (8, 2, &[5; 400], 400), (9, 3, b"", 0)]);
    for plain in [classic, pcapng()] {
        let whole = tell(&plain, 1 << 20).0;
        assert!(whole.len() >= 3);
        let (half, rest) = plain.split_at(plain.len() / 2);
        let files = [
            plain.clone(),
            gzip(&plain),
            [gzip(half), gzip(rest)].concat(),
            zstd(&plain),
            // Skippable frames may stand anywhere (RFC 8878, 3.1.2).
            [zstd(half), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(rest)].concat(),
        ];
        for (index, file) in files.iter().enumerate() {
            for piece in [1, 2, 3, 7, 64, 1 << 20] {
                let (frames, error) = tell(file, piece);
                assert!(error.is_none(), "file {index}, pieces of {piece}: {error:?}");
                assert_eq!(frames, whole, "file {index}, pieces of {piece}");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_frames_and_then_says_truncated() {
    let classic = pcap(0xa1b2_c3d4, false, 1, &[(7, 1, b"abc", 60), (8, 2, &[5; 40], 40), (9, 3, b"z", 1)]);
    for plain in [classic, pcapng()] {
        let whole = tell(&plain, 1 << 20).0;
        let (mut clean, mut given) = (0, 0);
        for end in 1..plain.len() {
            let (frames, error) = tell(&plain[..end], 1 << 20);
            assert_eq!(frames, whole[..frames.len()]);
            assert!(frames.len() >= given, "a longer file gives no fewer frames");
            given = frames.len();
            match error {
                None => clean += 1,
                Some(SourceError::Truncated { offset, .. }) => assert_eq!(offset, end as u64),
                // Not even the header of a capture.
                Some(SourceError::NoCapture(_)) => assert!(end < 24 && given == 0),
                Some(other) => panic!("cut at {end}: {other}"),
            }
        }
        assert!(clean >= whole.len(), "between records the end is clean");
    }
}

#[test]
fn a_compressed_file_that_breaks_off_gives_what_came_before() {
    let data: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let frames: Vec<_> = (0..20).map(|second| (second, 0, &data[..], 60_000)).collect();
    let plain = pcap(0xa1b2_c3d4, true, 1, &frames);
    for file in [gzip(&plain), zstd(&plain)] {
        let (frames, error) = tell(&file[..file.len() * 3 / 4], 1 << 20);
        assert!(matches!(error, Some(SourceError::Truncated { .. })), "{error:?}");
        assert!(frames.len() >= 10, "{} frames of 20", frames.len());
    }
}

#[test]
fn damaged_compression_is_an_error_not_an_end() {
    let plain = pcap(0xa1b2_c3d4, true, 1, &[(7, 1, &[9; 3000], 3000)]);
    for mut file in [gzip(&plain), zstd(&plain)] {
        let last = file.len() - 5;
        file[last] ^= 0xff;
        let (_, error) = tell(&file, 1 << 20);
        assert!(error.is_some());
    }
}

#[test]
fn frames_at_the_bound_are_read_and_longer_ones_are_refused() {
    let largest = vec![1; FRAME_BYTES_MAX];
    let (frames, error) = tell(&pcap(0xa1b2_c3d4, true, 1, &[(1, 0, &largest, 0)]), 1 << 20);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames[0].2 as usize, FRAME_BYTES_MAX, "the wire held at least what the file holds");
    let longer = vec![1; FRAME_BYTES_MAX + 1];
    let (_, error) = tell(&pcap(0xa1b2_c3d4, true, 1, &[(1, 0, &longer, 0)]), 1 << 20);
    let text = error.expect("an error").to_string();
    assert_eq!(text, "test: frame of 1048577 bytes at offset 32, expected at most 1048576");
}

#[test]
fn errors_name_place_offset_and_expectation() {
    let text = |bytes: &[u8]| tell(bytes, 1 << 20).1.map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(text(b""), "test: ends at offset 0 within the magic number");
    assert_eq!(text(b"GIF89a, surely"), "test: magic number 47494638 at offset 0, expected a pcap or pcapng file, plain, gzip or zstd");
    let mut wrong = pcapng();
    let at = section(true).len() + 4;
    wrong[at..at + 4].copy_from_slice(&8u32.to_le_bytes());
    assert_eq!(text(&wrong), format!("test: block length 8 at offset {at}, expected 12 to 16777216"));
    let mut unknown = section(true);
    unknown.extend(enhanced(true, 0, 0, b"a", 1));
    assert_eq!(text(&unknown), "test: interface 0 at offset 36, expected one of the 0 described");
    let missing = FileSource::open(Path::new("/nonexistent/file")).err().map(|error| error.to_string());
    assert!(missing.is_some_and(|text| text.starts_with("/nonexistent/file: No such file")));
}

#[test]
fn upper_bits_of_the_link_type_are_not_part_of_it() {
    let (frames, error) = tell(&pcap(0xa1b2_c3d4, true, 0x3000_0001, &[(1, 0, b"a", 1)]), 1 << 20);
    assert!(error.is_none() && frames.len() == 1);
}

#[test]
fn unknown_link_types_are_given_by_their_number() {
    let file = pcap(0xa1b2_c3d4, true, 147, &[(1, 0, b"a", 1)]);
    let mut source = FileSource::from_reader("test", Box::new(io::Cursor::new(file)), None).expect("pcap");
    let Ok(Step::Frame(frame)) = source.read() else {
        panic!("no frame");
    };
    assert_eq!(frame.link, LinkType::Other(147));
}

/// Seconds and data of the frames of several files, and how it ended.
fn merged(files: &[&[u8]], name: &str) -> (Vec<(i64, Vec<u8>)>, Option<String>) {
    let folder = std::env::temp_dir().join(format!("hopwatch-merge-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    let paths: Vec<_> = (0..files.len()).map(|number| folder.join(format!("{number}.pcap"))).collect();
    for (path, file) in paths.iter().zip(files) {
        std::fs::write(path, file).expect("written");
    }
    let mut source = merge::Merged::open(&paths);
    let mut frames = Vec::new();
    let error = loop {
        match source.read() {
            Ok(Step::Frame(frame)) => frames.push((frame.time_ns / 1_000_000_000, frame.data.to_vec())),
            Ok(_) => break None,
            Err(error) => break Some(error.to_string().rsplit('/').next().unwrap_or_default().to_owned()),
        }
    };
    assert_eq!(source.read().ok(), Some(Step::End));
    let total: usize = files.iter().map(|file| file.len()).sum();
    assert!(error.is_some() || (source.bytes_read(), source.bytes_total()) == (total as u64, Some(total as u64)));
    std::fs::remove_dir_all(&folder).expect("removed");
    (frames, error)
}

fn seconds(frames: &[(i64, Vec<u8>)]) -> Vec<(i64, u8)> {
    frames.iter().map(|frame| (frame.0, frame.1[0])).collect()
}

#[test]
fn captures_of_one_moment_are_merged_by_time_and_those_of_different_ones_follow_one_another() {
    let file = |frames: &[(u32, &[u8])]| {
        let frames: Vec<_> = frames.iter().map(|(second, data)| (*second, 0, *data, 1)).collect();
        pcap(0xa1b2_c3d4, true, 1, &frames)
    };
    let (there, back) = (file(&[(1, b"a"), (3, b"a"), (4, b"a")]), file(&[(2, b"b"), (4, b"b"), (5, b"b")]));
    let (frames, error) = merged(&[&there, &back], "overlap");
    assert_eq!((seconds(&frames), error), (vec![(1, b'a'), (2, b'b'), (3, b'a'), (4, b'a'), (4, b'b'), (5, b'b')], None));
    let (first, second, empty) = (file(&[(1, b"a"), (2, b"a")]), file(&[(7, b"b"), (6, b"b")]), file(&[]));
    let (frames, error) = merged(&[&second, &empty, &first], "pieces");
    assert_eq!((seconds(&frames), error), (vec![(1, b'a'), (2, b'a'), (7, b'b'), (6, b'b')], None), "within a file as it is");
}

#[test]
fn a_capture_that_fails_hides_no_other_and_is_the_error_at_the_end() {
    let good = pcap(0xa1b2_c3d4, true, 1, &[(1, 0, b"a", 1), (5, 0, b"a", 1)]);
    let cut = pcap(0xa1b2_c3d4, true, 1, &[(2, 0, b"b", 1), (3, 0, b"bbbb", 4)]);
    let (frames, error) = merged(&[&cut[..cut.len() - 2], &good, b"GIF89a, surely"], "failing");
    assert_eq!(seconds(&frames), [(1, b'a'), (2, b'b'), (5, b'a')]);
    let magic = "2.pcap: magic number 47494638 at offset 0, expected a pcap or pcapng file, plain, gzip or zstd";
    assert_eq!(error.as_deref(), Some(magic), "the first that was found to fail");
    let (frames, error) = merged(&[&cut[..cut.len() - 2], &good], "cut");
    assert_eq!((frames.len(), error.as_deref()), (3, Some("0.pcap: ends at offset 59 within a frame")));
}

#[test]
fn more_files_than_are_opened_at_once_are_all_read() {
    let files: Vec<_> = (0..merge::FILES_OPEN_MAX as u32 + 40)
        .map(|number| pcap(0xa1b2_c3d4, true, 1, &[(1, 0, b"a", 1), (number + 2, 0, b"b", 1)]))
        .collect();
    let files: Vec<_> = files.iter().map(Vec::as_slice).collect();
    let (frames, error) = merged(&files, "many");
    assert_eq!((frames.len(), error), (2 * files.len(), None));
}

#[test]
fn no_flipped_byte_makes_the_readers_panic() {
    for plain in [pcapng(), pcap(0xa1b2_c3d4, true, 1, &[(7, 1, b"abc", 60), (8, 2, &[5; 40], 40)])] {
        for file in [plain.clone(), gzip(&plain), zstd(&plain)] {
            for at in 0..file.len() {
                for value in [0, 0xff] {
                    let mut mutated = file.clone();
                    mutated[at] = value;
                    let (frames, _) = tell(&mutated, 1 << 20);
                    assert!(frames.len() <= 100);
                }
            }
        }
    }
}

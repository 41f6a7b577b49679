//! Rounds against the same messages one by one.

use super::super::tests::{complete, message, opened, opened_in, row, say, selected};
use super::*;
use crate::protocols::testing::{CLIENT, Random, SERVER, Script, Step, assert_conserved, play, sums};
use crate::protocols::{Decoder, Options};
use crate::windows::Windows;

const TEXTS: [&str; 9] = [
    "SELECT id FROM mes.a",
    "SELECT id, b FROM mes.b WHERE id = $1",
    "UPDATE mes.a SET b = $1",
    "INSERT INTO mes.c VALUES ($1, $2)",
    "DELETE FROM mes.a",
    "BEGIN",
    "SELECT 1",
    "SET search_path = erp",
    "",
];

fn parse(name: &str, text: &str, types: u16) -> Vec<u8> {
    let types = [types.to_be_bytes().to_vec(), vec![0; 4 * usize::from(types)]].concat();
    message(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0", &types].concat())
}

fn bind(portal: &str, name: &str, values: usize) -> Vec<u8> {
    message(b'B', &[portal.as_bytes(), b"\0", name.as_bytes(), &vec![0; 7 + values]].concat())
}

fn described(column: &str) -> Vec<u8> {
    message(b'T', &[&[0, 1][..], column.as_bytes(), &[0; 19]].concat())
}

/// What a driver may send in one segment, mostly a round.
fn request(random: &mut Random) -> Vec<u8> {
    let name = ["", "", "", "s1", "s2"][random.below(5)];
    let mut said = Vec::new();
    if name.is_empty() || random.below(3) == 0 {
        said.extend(parse(name, TEXTS[random.below(TEXTS.len())], [0, 0, 2][random.below(3)]));
    }
    if random.below(12) > 0 {
        said.extend(bind(["", "", "", "p"][random.below(4)], name, random.below(700)));
    }
    match random.below(4) {
        0 => {}
        1 => said.extend(message(b'D', &[b"S", name.as_bytes(), b"\0"].concat())),
        _ => said.extend(message(b'D', b"P\0")),
    }
    said.extend(message(b'E', &[0; 5]).repeat([1, 1, 1, 1, 1, 2][random.below(6)]));
    if random.below(12) > 0 {
        said.extend(message(b'S', b""));
    }
    said
}

/// What a server may answer, mostly what fits.
fn answer(random: &mut Random, asked: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let mut rest = asked;
    while let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk() {
        match tag {
            b'P' => said.extend(message(b'1', b"")),
            b'B' => said.extend(message(b'2', b"")),
            b'D' if random.below(2) == 0 => said.extend(message(b'n', b"")),
            b'D' => said.extend(described(["id", "id", "id", "other"][random.below(4)])),
            b'E' => {
                said.extend(row().repeat(random.below(4)));
                let tag = ["SELECT 3", "SELECT 1", "UPDATE 2", "INSERT 0 5", "DELETE 1", "BEGIN", "ROLLBACK"][random.below(7)];
                match random.below(12) {
                    0 => said.extend(message(b'E', b"SERROR\0C42P01\0\0")),
                    1 => said.extend(message(b's', b"")),
                    _ => said.extend(message(b'C', format!("{tag}\0").as_bytes())),
                }
            }
            b'S' => said.extend(message(b'Z', [b"I", b"T", b"E"][random.below(3)])),
            _ => {}
        }
        rest = &rest[1 + u32::from_be_bytes([a, b, c, d]) as usize..];
    }
    if random.below(10) == 0 {
        said.extend(message(b'N', b"SNOTICE\0\0"));
    }
    said
}

fn conversation(random: &mut Random) -> Script {
    let mut script = opened();
    for _ in 0..60 {
        let asked = request(random);
        let answered = answer(random, &asked);
        script.push((CLIENT, asked));
        // Sometimes two requests come before their answers.
        if random.below(10) > 0 {
            script.push((SERVER, answered));
        }
    }
    script
}

#[test]
fn rounds_are_counted_as_their_messages_are_one_by_one() {
    let of = |facts| Box::new(Postgresql::new(Options { facts, midstream: false })) as Box<dyn Decoder>;
    for seed in 1..=400 {
        let mut random = Random(seed);
        let script = conversation(&mut random);
        let whole: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        // One who gathers facts goes no rounds.
        let (quick, slow) = (play(of(false), &whole), play(of(true), &whole));
        assert_eq!(quick.error, slow.error, "seed {seed}");
        assert_eq!(quick.events, slow.events, "seed {seed}");
        assert_conserved(&quick);
        let mut cut = Vec::new();
        for (side, bytes) in &script {
            let (head, tail) = bytes.split_at(random.below(2) * random.below(bytes.len()));
            cut.extend([head, tail].into_iter().filter(|part| !part.is_empty()).map(|part| Step::Data(*side, part)));
        }
        assert_eq!(sums(&play(of(false), &cut).events), sums(&slow.events), "cut, seed {seed}");
    }
}

#[test]
fn a_lost_piece_between_two_halves_of_a_round_is_what_it_is_one_by_one() {
    let of = |facts| Box::new(Postgresql::new(Options { facts, midstream: false })) as Box<dyn Decoder>;
    for seed in 1..=200 {
        let mut random = Random(seed);
        let script = conversation(&mut random);
        let mut steps: Vec<_> = script.iter().map(|(side, bytes)| Step::Data(*side, bytes)).collect();
        for _ in 0..3 {
            let at = 2 + random.below(script.len() - 2);
            steps[at] = Step::Gap(script[at].0, script[at].1.len() as u64);
        }
        assert_eq!(play(of(false), &steps).events, play(of(true), &steps).events, "seed {seed}");
    }
}

#[test]
fn a_known_statement_is_asked_and_answered_in_a_round() {
    let mut windows = Windows::new("north", "test");
    let id = opened_in(&mut windows, 50_000);
    let mut decoder = Postgresql::new(Options::default());
    let asked = [parse("", TEXTS[0], 0), bind("", "", 0), message(b'D', b"P\0"), message(b'E', &[0; 5]), message(b'S', b"")].concat();
    let answered = [message(b'1', b""), message(b'2', b""), selected(2)].concat();
    say(&mut windows, id, &mut decoder, &opened());
    for known in [false, true, true] {
        say(&mut windows, id, &mut decoder, &[(CLIENT, asked.clone())]);
        assert_eq!((decoder.round.is_some(), decoder.requests.len()), if known { (true, 0) } else { (false, 5) });
        say(&mut windows, id, &mut decoder, &[(SERVER, answered.clone())]);
        assert_eq!((decoder.round.is_some(), decoder.requests.len()), (false, 0));
        assert!(decoder.at_rest);
    }
    // What does not fit is read one by one.
    say(&mut windows, id, &mut decoder, &[(CLIENT, asked), (SERVER, [message(b'1', b""), message(b'2', b"")].concat())]);
    assert_eq!((decoder.round.is_some(), decoder.requests.len()), (false, 3));
    say(&mut windows, id, &mut decoder, &[(SERVER, [message(b'n', b""), complete("SELECT 0")].concat())]);
    assert!(decoder.at_rest);
}

/// Results of many rows, and what is copied out, of queries that name tables and of some that name none.
fn long_answer(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let asked = |text: &str| message(b'Q', &[text.as_bytes(), b"\0"].concat());
    let rows = |random: &mut Random, tag, least: usize| {
        let mut said = Vec::new();
        for _ in 0..random.below(200) {
            let most = [3, 60, 300][random.below(3)];
            said.extend(message(tag, &vec![b'x'; least + random.below(most)]));
        }
        said
    };
    match random.below(5) {
        0 => {
            let text = ["COPY mes.a TO STDOUT", "COPY mes.b TO STDOUT (HEADER)", "COPY mes.c TO STDOUT (FORMAT binary)"][random.below(3)];
            let head = message(b'H', &[u8::from(text.contains("binary")), 0, 0]);
            (asked(text), [head, rows(random, b'd', 0), message(b'c', b""), complete("COPY 7")].concat())
        }
        1 => (asked("SELECT 1"), [described("id"), rows(random, b'D', 2), complete("SELECT 7")].concat()),
        2 => {
            let asked = [parse("", TEXTS[1], 0), bind("", "", 0), message(b'D', b"P\0"), message(b'E', &[0; 5]), message(b'S', b"")];
            let heads = [message(b'1', b""), message(b'2', b""), described("id")].concat();
            (asked.concat(), [heads, rows(random, b'D', 2), complete("SELECT 7")].concat())
        }
        3 => {
            let answers = [described("id"), rows(random, b'D', 2), message(b'N', b"SNOTICE\0\0"), rows(random, b'D', 2)].concat();
            (asked(TEXTS[0]), [answers, complete("SELECT 7")].concat())
        }
        _ => (asked("UPDATE mes.a SET b = 1 RETURNING b"), [described("b"), rows(random, b'D', 2), complete("UPDATE 7")].concat()),
    }
}

#[test]
fn segments_in_the_midst_of_rows_are_counted_as_their_messages_are_one_by_one() {
    let of = |facts| Box::new(Postgresql::new(Options { facts, midstream: false })) as Box<dyn Decoder>;
    for seed in 1..=300 {
        let mut random = Random(seed);
        let mut script = opened();
        for _ in 0..8 {
            let (asked, answered) = long_answer(&mut random);
            script.extend([(CLIENT, asked), (SERVER, answered)]);
        }
        let most = [8, 100, 1448, 9000][random.below(4)];
        let mut steps = Vec::new();
        for (side, bytes) in &script {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(1 + random.below(most)));
                let is_lost = steps.len() > 4 && seed % 3 == 0 && random.below(60) == 0;
                steps.push(if is_lost { Step::Gap(*side, piece.len() as u64) } else { Step::Data(*side, piece) });
                rest = after;
            }
        }
        let (quick, slow) = (play(of(false), &steps), play(of(true), &steps));
        assert_eq!(quick.error, slow.error, "seed {seed}");
        assert_eq!(quick.events, slow.events, "seed {seed}");
        assert_conserved(&quick);
    }
}

#[test]
fn a_segment_in_the_midst_of_rows_is_read_at_once() {
    let mut windows = Windows::new("north", "test");
    let id = opened_in(&mut windows, 50_000);
    let mut decoder = Postgresql::new(Options::default());
    say(&mut windows, id, &mut decoder, &opened());
    let text = [TEXTS[0].as_bytes(), b"\0"].concat();
    let rows = row().repeat(10);
    let (begun, rest) = rows.split_at(30);
    say(&mut windows, id, &mut decoder, &[(CLIENT, message(b'Q', &text)), (SERVER, [&described("id")[..], begun].concat())]);
    let mut out = windows.recorder(id, 0);
    out.arrived(SERVER, rest.len() as u64);
    assert!(!decoder.read_rows(&[rest, &complete("SELECT 10")].concat(), &mut out), "its end is read message by message");
    assert!(decoder.read_rows(rest, &mut out));
}

#[test]
fn a_text_that_is_expected_is_another_statement_once_it_is_read_otherwise() {
    let mut windows = Windows::new("north", "test");
    let id = opened_in(&mut windows, 50_000);
    let mut decoder = Postgresql::new(Options::default());
    say(&mut windows, id, &mut decoder, &opened());
    let text = "SELECT id FROM a";
    let asked = [parse("", text, 0), bind("", "", 0), message(b'E', &[0; 5]), message(b'S', b"")].concat();
    let answered = [message(b'1', b""), message(b'2', b""), complete("SELECT 0")].concat();
    for _ in 0..3 {
        say(&mut windows, id, &mut decoder, &[(CLIENT, asked.clone()), (SERVER, answered.clone())]);
    }
    assert!(decoder.entries.expected(text.as_bytes()).is_some());
    assert!(decoder.entries.expected(b"SELECT id FROM b").is_none());
    let other = message(b'Q', b"SET search_path = erp\0");
    say(&mut windows, id, &mut decoder, &[(CLIENT, other), (SERVER, complete("SET"))]);
    assert!(decoder.entries.expected(text.as_bytes()).is_none());
    for _ in 0..3 {
        say(&mut windows, id, &mut decoder, &[(CLIENT, asked.clone()), (SERVER, answered.clone())]);
    }
    windows.finish();
    let events: Vec<serde_json::Value> = windows.take().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let objects: Vec<_> = events.iter().flat_map(|event| event["objects"].as_array().cloned().unwrap_or_default()).collect();
    let asked = |name: &str| -> u64 {
        let named = objects.iter().filter(|set| set["names"][0] == name);
        named.map(|set| set["messages"].as_u64().unwrap_or(0)).sum()
    };
    assert_eq!((asked("a"), asked("erp.a")), (3, 3), "{objects:?}");
}

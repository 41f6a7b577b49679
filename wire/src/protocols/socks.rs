//! SOCKS 5 (RFC 1928), with a name and password (RFC 1929): who asks a relay for which destination.
//!
//! Both directions are read by themselves: what the client sends next shows which method the server has picked. What
//! follows a request that was granted is found out as a connection's first bytes are; what follows anything else is
//! counted. Every byte of the handshake is `connect`, but an answer that refuses. The password is passed over.

use super::http::LEVELS_MAX;
use super::inner::Inner;
use super::{DecodeError, Decoder, Heads, Options, Protocol, Recognition, UNDECIDED_BYTES_MAX};
use crate::windows::{Counts, Depth, Facts, Movement, Name, Operation, Recorder, Side};
use serde_json::json;
use std::net::{Ipv4Addr, Ipv6Addr};

const VERSION: u8 = 5;
/// Of the negotiation of a name and password (RFC 1929, 2).
const LOGIN_VERSION: u8 = 1;
/// The methods that are read (RFC 1928, 3): none, and a name with a password; and that none was acceptable.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_FITS: u8 = 0xff;
/// The commands (RFC 1928, 4).
const CONNECT: u8 = 1;
const BIND: u8 = 2;
/// A reply: not allowed by the rule set (RFC 1928, 6).
const NOT_ALLOWED: u8 = 2;
/// Bytes kept of a direction: the longest message has a name and a password of 255 bytes each.
const MESSAGE_BYTES_MAX: usize = 513;

pub const SOCKS: Protocol = Protocol { name: "socks", recognise, decoder };

#[must_use]
pub fn decoder(options: Options) -> Box<dyn Decoder> {
    within(options, LEVELS_MAX)
}

/// A relay behind relays; `levels` bounds how deep that goes.
pub(super) fn within(options: Options, levels: u8) -> Box<dyn Decoder> {
    let tunnel: Option<Box<dyn Decoder>> =
        if options.midstream { Some(Box::new(Inner::opaque(Options { midstream: false, ..options }))) } else { None };
    Box::new(Socks { options, levels, tunnel, ..Socks::default() })
}

/// A greeting and the answer to it. Either alone is too little: three bytes may be anything.
fn recognise(heads: &Heads<'_>) -> Recognition {
    if heads.midstream {
        return Recognition::No;
    }
    let mut more = heads.client.is_empty() && heads.server.is_empty();
    for (client, server, side) in [(heads.client, heads.server, Side::Client), (heads.server, heads.client, Side::Server)] {
        match greeted(client, server) {
            Some(true) => return Recognition::Yes { client: side },
            None => more = true,
            Some(false) => {}
        }
    }
    if more { Recognition::More } else { Recognition::No }
}

/// Whether they are a greeting and its answer; `None` if they may be.
fn greeted(client: &[u8], server: &[u8]) -> Option<bool> {
    let &[VERSION, ref rest @ ..] = client else { return if client.is_empty() && server.is_empty() { None } else { Some(false) } };
    let Some((&count, rest)) = rest.split_first() else { return if server.is_empty() { None } else { Some(false) } };
    let (methods, after) = rest.split_at(rest.len().min(usize::from(count)));
    let fits = count > 0 && methods.iter().all(|&m| m < 0x0a || (0x80..NONE_FITS).contains(&m));
    if !fits || after.first().is_some_and(|&byte| byte != VERSION && byte != LOGIN_VERSION) {
        return Some(false);
    }
    match server {
        [] | [VERSION] => None,
        &[VERSION, method, ..] => Some(method == NONE_FITS || methods.contains(&method)),
        _ => Some(false),
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Greeting,
    /// Of the client a login or the request, of the server what it says of the login.
    Login,
    /// Of the server what it says of the request.
    Reply,
    Over,
}

#[derive(Default)]
struct Half {
    stage: Stage,
    /// A message, as far as it is there.
    carried: Vec<u8>,
}

#[derive(Default)]
struct Socks {
    options: Options,
    levels: u8,
    halves: [Half; 2],
    command: Option<u8>,
    /// What the client sends before its request was answered.
    waiting: Vec<u8>,
    tunnel: Option<Box<dyn Decoder>>,
    requests: u64,
    refused: u64,
}

impl Socks {
    /// Takes one message of the handshake from the front of `bytes`; what is left of them.
    fn handshake<'a>(&mut self, sender: Side, bytes: &'a [u8], out: &mut Recorder<'_>) -> Result<&'a [u8], DecodeError> {
        let half = &mut self.halves[sender as usize];
        let mut rest = bytes;
        loop {
            let length = length(sender, half.stage, &half.carried)?;
            if length == Some(half.carried.len()) {
                break;
            }
            let wanted = length.map_or(1, |length| length - half.carried.len()).min(MESSAGE_BYTES_MAX);
            if rest.is_empty() {
                break;
            }
            let (taken, left) = rest.split_at(wanted.min(rest.len()));
            half.carried.extend_from_slice(taken);
            rest = left;
        }
        if length(sender, half.stage, &half.carried)? != Some(half.carried.len()) {
            return Ok(rest);
        }
        out.protocol("socks", Depth::Decoded);
        // A message is what it says, and whose it says, from its first byte.
        let message = std::mem::take(&mut half.carried);
        let bytes = message.len() as u64;
        if sender == Side::Client {
            let asks = self.asked(&message, out);
            out.add(&Movement::new(Operation::Connect, Side::Client), sender, bytes, Counts::messages(u64::from(asks)));
        } else {
            let refused = self.answered(&message, out);
            let operation = if refused { Operation::Refused } else { Operation::Connect };
            out.add(&Movement::new(operation, Side::Client), sender, bytes, Counts::messages(u64::from(refused)));
            self.refused += u64::from(refused);
        }
        Ok(rest)
    }

    /// A message of the client; whether it is the request.
    fn asked(&mut self, message: &[u8], out: &mut Recorder<'_>) -> bool {
        let half = &mut self.halves[Side::Client as usize];
        if half.stage == Stage::Greeting {
            half.stage = Stage::Login;
            return false;
        }
        if message.first() == Some(&LOGIN_VERSION) {
            let length = message.get(1).map_or(0, |&length| usize::from(length));
            let account = message.get(2..2 + length).and_then(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty());
            if let Some(account) = account.map(str::to_owned) {
                out.login(|identity| {
                    identity.account = Some(account);
                    identity.account_from = Some("startup");
                });
            }
            out.protect(|p| p.authentication = Some("password".into()));
            return false;
        }
        half.stage = Stage::Over;
        self.command = message.get(1).copied();
        self.requests += 1;
        // Behind a relay the name that the first one was asked for stays: the data goes there.
        if self.levels == LEVELS_MAX {
            out.asked(destination(message).as_ref());
        }
        true
    }

    /// A message of the server; whether it refuses.
    fn answered(&mut self, message: &[u8], out: &mut Recorder<'_>) -> bool {
        let half = &mut self.halves[Side::Server as usize];
        let said = message.get(1).copied().unwrap_or(NONE_FITS);
        match half.stage {
            Stage::Greeting => {
                half.stage = if said == PASSWORD { Stage::Login } else { Stage::Reply };
                if said != PASSWORD && said != NO_LOGIN {
                    self.opaque(out);
                }
                said == NONE_FITS
            }
            Stage::Login => {
                half.stage = Stage::Reply;
                if said != 0 {
                    self.opaque(out);
                }
                said != 0
            }
            _ if said != 0 => {
                self.opaque(out);
                said == NOT_ALLOWED
            }
            // Of a BIND there is another one when somebody has come (RFC 1928, 4).
            _ if self.command == Some(BIND) => {
                self.command = Some(CONNECT);
                false
            }
            _ => {
                if self.command.is_none_or(|command| command == CONNECT) {
                    self.tunnel = Some(Box::new(Inner::unknown(self.options, self.levels)));
                } else {
                    self.opaque(out);
                }
                false
            }
        }
    }

    /// From here on bytes are counted.
    fn opaque(&mut self, out: &mut Recorder<'_>) {
        out.depth(Depth::Sizes);
        self.tunnel = Some(Box::new(Inner::opaque(self.options)));
    }

    /// What waited is the tunnel's.
    fn pour(&mut self, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let waiting = std::mem::take(&mut self.waiting);
        match &mut self.tunnel {
            Some(tunnel) if !waiting.is_empty() => tunnel.data(Side::Client, &waiting, out),
            _ => Ok(()),
        }
    }
}

/// How long the message is that begins like this; `None` if that is not said yet.
fn length(sender: Side, stage: Stage, carried: &[u8]) -> Result<Option<usize>, DecodeError> {
    let at = |place: usize| carried.get(place).map(|&byte| usize::from(byte));
    let Some(&version) = carried.first() else { return Ok(None) };
    let expected = match (sender, stage) {
        (Side::Server, Stage::Login) => version == LOGIN_VERSION,
        (Side::Client, Stage::Login) => version == LOGIN_VERSION || version == VERSION,
        _ => version == VERSION,
    };
    if !expected {
        return Err(DecodeError::new("version", u64::from(version), "5, or 1 of a login"));
    }
    Ok(match (sender, stage) {
        (Side::Client, Stage::Greeting) => at(1).map(|methods| 2 + methods),
        (Side::Client, Stage::Login) if version == LOGIN_VERSION => at(1).and_then(|name| at(2 + name).map(|password| 3 + name + password)),
        (Side::Server, Stage::Greeting | Stage::Login) => Some(2),
        _ => match at(3) {
            None => None,
            Some(1) => Some(10),
            Some(3) => at(4).map(|name| 7 + name),
            Some(4) => Some(22),
            Some(kind) => return Err(DecodeError::new("type of an address", kind as u64, "1, 3 or 4")),
        },
    })
}

/// What a request asks for (RFC 1928, 5).
fn destination(message: &[u8]) -> Option<Name> {
    let (kind, rest) = message.get(3..)?.split_first()?;
    let (address, port) = rest.split_at_checked(rest.len().checked_sub(2)?)?;
    let name = match kind {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(),
        4 => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(),
        _ => {
            let name = std::str::from_utf8(address.get(1..)?).ok()?;
            // A name that is none is nobody's.
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
            plain.then(|| name.to_ascii_lowercase())?
        }
    };
    Some(Name { name, by: "socks", port: Some(u16::from_be_bytes(port.try_into().ok()?)) })
}

impl Decoder for Socks {
    fn data(&mut self, sender: Side, bytes: &[u8], out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(tunnel) = &mut self.tunnel {
                return tunnel.data(sender, rest, out);
            }
            if sender == Side::Client && self.halves[0].stage == Stage::Over {
                self.waiting.extend_from_slice(rest);
                if self.waiting.len() > UNDECIDED_BYTES_MAX {
                    // Nobody answers, or the answer is not seen.
                    self.opaque(out);
                    return self.pour(out);
                }
                return Ok(());
            }
            rest = self.handshake(sender, rest, out)?;
            if self.tunnel.is_some() {
                self.pour(out)?;
            }
        }
        Ok(())
    }

    fn gap(&mut self, sender: Side, length: u64, out: &mut Recorder<'_>) -> Result<(), DecodeError> {
        if self.tunnel.is_none() {
            self.opaque(out);
            self.pour(out)?;
        }
        match &mut self.tunnel {
            Some(tunnel) => tunnel.gap(sender, length, out),
            None => Ok(()),
        }
    }

    fn close(&mut self, out: &mut Recorder<'_>) {
        if self.tunnel.is_none() && !self.waiting.is_empty() {
            self.opaque(out);
            // A parser that gives up now leaves bytes that the windows settle.
            let _ = self.pour(out);
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.close(out);
        }
    }

    fn facts(&self, into: &mut Facts) {
        if !self.options.facts {
            return;
        }
        if let Some(tunnel) = &self.tunnel {
            tunnel.facts(into);
        }
        into.insert("socks", json!({"requests": self.requests, "refused": self.refused}));
    }

    fn memory_bytes(&self) -> usize {
        let halves: usize = self.halves.iter().map(|half| half.carried.capacity()).sum();
        size_of::<Self>() + halves + self.waiting.capacity() + self.tunnel.as_ref().map_or(0, |tunnel| tunnel.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, CLIENT, Played, SERVER, Script};
    use super::*;
    use serde_json::Value;

    const WHOLE: Options = Options { facts: true, midstream: false };
    const GREETED: [u8; 2] = [5, 0];

    fn greeting(methods: &[u8]) -> Vec<u8> {
        [&[5, u8::try_from(methods.len()).unwrap()], methods].concat()
    }

    fn login(name: &str, password: &str) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![1], text(name), text(password)].concat()
    }

    fn request(command: u8, name: &str, port: u16) -> Vec<u8> {
        let head = [5, command, 0, 3, u8::try_from(name.len()).unwrap()];
        [&head, name.as_bytes(), &port.to_be_bytes()].concat()
    }

    fn reply(code: u8) -> Vec<u8> {
        [&[5, code, 0, 1, 10, 30, 0, 40], &49_152_u16.to_be_bytes()[..]].concat()
    }

    fn get() -> Vec<u8> {
        b"GET /raw/day HTTP/1.1\r\nHost: lake.example\r\n\r\n".to_vec()
    }

    fn got() -> Vec<u8> {
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde".to_vec()
    }

    fn session() -> Script {
        vec![
            (CLIENT, greeting(&[0, 2])),
            (SERVER, vec![5, 2]),
            (CLIENT, login("svc_lake", "not-a-secret")),
            (SERVER, vec![1, 0]),
            (CLIENT, request(CONNECT, "Lake.Example", 80)),
            (SERVER, reply(0)),
            (CLIENT, get()),
            (SERVER, got()),
        ]
    }

    fn play(script: &Script) -> Played {
        let played = testing::play_script(decoder(WHOLE), script);
        testing::assert_conserved(&played);
        assert_eq!(played.error, None);
        played
    }

    fn operations(played: &Played) -> Vec<&str> {
        played.events.iter().map(|e| e["operation"].as_str().unwrap()).collect()
    }

    #[test]
    fn shared_checks_hold() {
        testing::shared_checks(&SOCKS, &session(), &["not-a-secret"]);
        let plain = vec![
            (CLIENT, greeting(&[0])),
            (SERVER, GREETED.to_vec()),
            (CLIENT, [&[5, 1, 0, 1, 203, 0, 113, 10], &443_u16.to_be_bytes()[..]].concat()),
            (SERVER, reply(0)),
            (CLIENT, b"\x07\x07 what nobody knows".to_vec()),
            (SERVER, b"\x08\x08 nor this".to_vec()),
        ];
        testing::shared_checks(&SOCKS, &plain, &[]);
    }

    #[test]
    fn the_destination_and_the_account_are_told_and_what_goes_through_is_read() {
        let played = play(&session());
        let told: Vec<_> = played.events.iter().filter(|e| e["operation"] == "get").collect();
        assert_eq!(told.len(), 1);
        let asked = json!({"name": "lake.example", "by": "socks", "port": 80});
        let names = |e: &Value| [e["source"]["names"].clone(), e["destination"]["names"].clone()];
        assert!(names(told[0]).iter().any(|names| names.as_array().unwrap().contains(&asked)), "{}", told[0]);
        let first = &played.events[0];
        assert_eq!((&first["account"], &first["protection"]["authentication"]), (&json!("svc_lake"), &json!("password")));
        // Who reads the login must know by whose rules it says the password.
        assert_eq!((&first["protocol"], &first["depth"]), (&json!("socks"), &json!("decoded")));
        assert_eq!((&told[0]["protocol"], &told[0]["depth"]), (&json!("http"), &json!("decoded")));
        assert_eq!(played.facts["socks"]["requests"], 1);
    }

    #[test]
    fn an_address_of_either_version_is_the_destination() {
        for (kind, address, text) in [(1, vec![203, 0, 113, 10], "203.0.113.10"), (4, Ipv6Addr::LOCALHOST.octets().to_vec(), "::1")] {
            let message = [&[5, 1, 0, kind][..], &address, &443_u16.to_be_bytes()].concat();
            assert_eq!(destination(&message), Some(Name { name: text.into(), by: "socks", port: Some(443) }));
        }
        assert_eq!(destination(&request(CONNECT, "a\nb", 1)), None);
    }

    #[test]
    fn what_is_not_allowed_is_refused_and_what_cannot_be_reached_is_not() {
        for (code, refused) in [(NOT_ALLOWED, true), (4, false)] {
            let script = vec![
                (CLIENT, greeting(&[0])),
                (SERVER, GREETED.to_vec()),
                (CLIENT, request(CONNECT, "x.example", 1)),
                (SERVER, reply(code)),
            ];
            assert_eq!(operations(&play(&script)).contains(&"refused"), refused, "{code}");
        }
        let wrong = vec![(CLIENT, greeting(&[2])), (SERVER, vec![5, 2]), (CLIENT, login("svc_lake", "wrong")), (SERVER, vec![1, 1])];
        assert!(operations(&play(&wrong)).contains(&"refused"));
        let nothing = vec![(CLIENT, greeting(&[1])), (SERVER, vec![5, 0xff])];
        assert!(operations(&play(&nothing)).contains(&"refused"));
    }

    #[test]
    fn what_is_sent_before_the_answer_is_the_tunnels() {
        let early = [greeting(&[0]), request(CONNECT, "lake.example", 80), get()].concat();
        let played = play(&vec![(CLIENT, early), (SERVER, [GREETED.to_vec(), reply(0), got()].concat())]);
        assert!(operations(&played).contains(&"get"));
        let flood = [greeting(&[0]), request(CONNECT, "lake.example", 80), vec![7; 3 * UNDECIDED_BYTES_MAX]].concat();
        let flooded = play(&vec![(CLIENT, flood)]);
        assert!(flooded.memory_bytes_max < 8 * UNDECIDED_BYTES_MAX, "{}", flooded.memory_bytes_max);
        assert!(operations(&flooded).contains(&"transfer"));
    }

    #[test]
    fn a_relay_behind_a_relay_is_read_and_one_too_many_is_counted() {
        let step =
            || [(CLIENT, greeting(&[0])), (SERVER, GREETED.to_vec()), (CLIENT, request(CONNECT, "next.example", 1080)), (SERVER, reply(0))];
        let script: Script = (0..=LEVELS_MAX + 2).flat_map(|_| step()).collect();
        let played = play(&script);
        assert!(operations(&played).contains(&"transfer"));
    }

    #[test]
    fn a_greeting_alone_is_not_enough_and_other_bytes_are_refused() {
        let asked = |client: &[u8], server: &[u8]| recognise(&Heads { client, server, ports: (50_000, 1080), midstream: false });
        assert_eq!(asked(&[5, 1, 0], &[]), Recognition::More);
        assert_eq!(asked(&[5, 1, 0], &[5, 0]), Recognition::Yes { client: Side::Client });
        assert_eq!(asked(&[5, 0], &[5, 1, 0]), Recognition::Yes { client: Side::Server });
        assert_eq!(asked(&[5, 1, 0], &[5, 2]), Recognition::No);
        assert_eq!(asked(&[5, 1, 0, 9], &[]), Recognition::No);
        assert_eq!(asked(b"SSH-2.0", &[]), Recognition::No);
    }
}

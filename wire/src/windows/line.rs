//! One line of JSON, written piece by piece into a buffer that is used again: what a window costs is mostly this.

use std::io::Write;
use std::net::IpAddr;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A line that is being written. Names of fields are given with their punctuation (`,"bytes":`).
#[derive(Default)]
pub struct Line(pub Vec<u8>);

impl Line {
    /// What was written.
    pub fn into_text(self) -> Box<str> {
        String::from_utf8(self.0).unwrap_or_default().into()
    }

    #[inline]
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A string (RFC 8259, 7), escaped where it must be.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'"');
        let mut rest = text.as_bytes();
        loop {
            let (plain, special) = rest.split_at(plain_bytes(rest));
            if special.is_empty() {
                break;
            }
            self.0.extend_from_slice(plain);
            let byte = special.first().copied().unwrap_or(0);
            let short = match byte {
                b'"' | b'\\' => byte,
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0c => b'f',
                _ => 0,
            };
            if short == 0 {
                self.raw("\\u00").hex(&[byte]);
            } else {
                self.0.extend_from_slice(&[b'\\', short]);
            }
            rest = special.get(1..).unwrap_or_default();
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
        self
    }

    /// A string, or `null`.
    pub fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.raw("null"),
        }
    }

    /// A string of letters and signs that need no escape, or `null`.
    pub fn word(&mut self, word: Option<&'static str>) -> &mut Self {
        match word {
            Some(word) => self.raw("\"").raw(word).raw("\""),
            None => self.raw("null"),
        }
    }

    /// Strings, as an array.
    pub fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.each(texts, |line, text| {
            line.text(text);
        })
    }

    /// An array.
    pub fn each<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) -> &mut Self {
        self.0.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write(self, item);
        }
        self.0.push(b']');
        self
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    pub fn number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(from..).unwrap_or_default());
        self
    }

    pub fn signed(&mut self, number: i64) -> &mut Self {
        if number < 0 {
            self.0.push(b'-');
        }
        self.number(number.unsigned_abs())
    }

    pub fn hex<const N: usize>(&mut self, bytes: &[u8; N]) -> &mut Self {
        let fours = bytes.chunks_exact(4);
        let rest = fours.remainder();
        for four in fours {
            self.0.extend_from_slice(&four.first_chunk().map_or([0; 8], |four| digits(u32::from_be_bytes(*four))));
        }
        for byte in rest {
            self.0.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        self
    }

    /// A string of the address.
    pub fn address(&mut self, address: IpAddr) -> &mut Self {
        self.raw("\"").host(address).raw("\"")
    }

    /// The address, as the standard library writes it (RFC 5952).
    pub fn host(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(v4) => {
                let (mut text, mut length) = ([0; 16], 0);
                let mut put = |byte: u8| {
                    text[length & 15] = byte;
                    length += 1;
                };
                for (index, octet) in v4.octets().into_iter().enumerate() {
                    if index > 0 {
                        put(b'.');
                    }
                    if octet >= 100 {
                        put(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        put(b'0' + octet / 10 % 10);
                    }
                    put(b'0' + octet % 10);
                }
                self.0.extend_from_slice(text.get(..length).unwrap_or_default());
            }
            // Writing into memory cannot fail.
            IpAddr::V6(v6) => write!(self.0, "{v6}").unwrap_or_default(),
        }
        self
    }

    /// RFC 3339 in UTC with as many digits as the time has (0, 3, 6 or 9).
    pub fn time(&mut self, time_ns: i64) -> &mut Self {
        let seconds = time_ns.div_euclid(1_000_000_000);
        let fraction = time_ns.rem_euclid(1_000_000_000) as u64;
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u64);
        // Civil from days (proleptic Gregorian calendar), with the year beginning in March.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u64;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        // A time of 64 bits lies between the years 1677 and 2262.
        let year = (year_of_era + era * 400 + i64::from(month <= 2)) as u64;
        self.padded(year, 4).raw("-").padded(month as u64, 2).raw("-").padded(day, 2);
        self.raw("T").padded(second / 3600, 2).raw(":").padded(second / 60 % 60, 2).raw(":").padded(second % 60, 2);
        self.fraction(fraction)
    }

    /// The same, where many times are of the same second.
    pub fn time_by(&mut self, clock: &mut Clock, time_ns: i64) -> &mut Self {
        let seconds = time_ns.div_euclid(1_000_000_000);
        if seconds != clock.seconds {
            // The least time is in a second that does not begin.
            let Some(start_ns) = seconds.checked_mul(1_000_000_000) else { return self.time(time_ns) };
            let mut line = Line::default();
            line.time(start_ns);
            line.0.pop();
            *clock = Clock { seconds, text: line.0 };
        }
        self.0.extend_from_slice(&clock.text);
        self.fraction(time_ns.rem_euclid(1_000_000_000) as u64)
    }

    /// What follows the seconds.
    fn fraction(&mut self, fraction: u64) -> &mut Self {
        match fraction {
            0 => self,
            f if f % 1_000_000 == 0 => self.raw(".").padded(f / 1_000_000, 3),
            f if f % 1000 == 0 => self.raw(".").padded(f / 1000, 6),
            f => self.raw(".").padded(f, 9),
        }
        .raw("Z")
    }

    /// A number with zeros in front, at most nine digits.
    fn padded(&mut self, mut number: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 9];
        for digit in digits.iter_mut().take(width).rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.0.extend_from_slice(digits.get(..width).unwrap_or_default());
        self
    }
}

/// The second that was written last.
pub struct Clock {
    seconds: i64,
    text: Vec<u8>,
}

impl Default for Clock {
    /// Of no second: a time in nanoseconds has none so early.
    fn default() -> Self {
        Self { seconds: i64::MIN, text: Vec::new() }
    }
}

/// The eight digits of a number: each half of a byte in a byte of its own, and all of them written together.
fn digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut halves = u64::from(number);
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (halves + ONES * 6) >> 4 & ONES;
    (halves + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

/// How many of the first bytes a string holds as they are (RFC 8259, 7): eight are looked at together.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let mut rest = text;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_ne_bytes(*eight);
        // Subtracting borrows into the high bit of a byte that is less, if the bit was not set. What borrows further only makes
        // another byte be looked at.
        let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
        let special = less(word, 0x20) | less(word ^ (ONES * u64::from(b'"')), 1) | less(word ^ (ONES * u64::from(b'\\')), 1);
        if special & HIGH != 0 {
            break;
        }
        rest = after;
    }
    text.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line) -> &mut Line) -> String {
        let mut line = Line::default();
        write(&mut line);
        String::from_utf8(line.0).unwrap()
    }

    #[test]
    fn text_is_what_serde_writes() {
        let all: String = (0..0x250).filter_map(char::from_u32).collect();
        for text in ["", "plain", "a\"b\\c", "\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}", "línea ä 日本 \u{fffd}", &all] {
            assert_eq!(written(|line| line.text(text)), serde_json::to_string(text).unwrap());
        }
        assert_eq!(written(|line| line.optional(None).raw(",").texts(&["a".into(), "\"".into()])), r#"null,["a","\""]"#);
    }

    #[test]
    fn times_by_a_clock_are_the_same_times() {
        let mut clock = Clock::default();
        for time_ns in
            [0, 1, 999_999_999, 1_000_000_000, 1_000_500_000, -1, -1_000_000_000, 1_700_000_000_000_000_000, i64::MAX, i64::MIN, 0]
        {
            assert_eq!(written(|line| line.time_by(&mut clock, time_ns)), written(|line| line.time(time_ns)));
        }
    }

    #[test]
    fn hexadecimal_digits_are_what_the_standard_library_writes() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, 0x90a9_0f9f, u32::MAX] {
            assert_eq!(written(|line| line.hex(&number.to_be_bytes())), format!("{number:08x}"));
            assert_eq!(written(|line| line.hex(&[number as u8])), format!("{:02x}", number as u8));
        }
    }

    #[test]
    fn numbers_and_addresses_are_what_the_standard_library_writes() {
        for number in [0, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|line| line.number(number)), number.to_string());
        }
        for number in [0, -1, 7, i64::MIN, i64::MAX] {
            assert_eq!(written(|line| line.signed(number)), number.to_string());
        }
        for address in ["10.0.0.1", "255.255.255.255", "1.20.109.99", "0.0.0.0", "::", "2001:db8::1", "fe80::1:0:0:9"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(written(|line| line.address(address)), format!("\"{address}\""));
        }
    }
}

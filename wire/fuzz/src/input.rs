//! What the fuzzer's bytes mean: a list of pieces, each with one byte of its own, a length, and content.

use hopwatch_wire::protocols::testing::{CLIENT, SERVER, Step};

/// One piece: its control byte and its content. A length beyond the end takes what is left.
pub struct Pieces<'a>(pub &'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [control, low, high, rest @ ..] = self.0 else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, after) = rest.split_at(length);
        self.0 = after;
        Some((*control, content))
    }
}

pub fn put(control: u8, content: &[u8], into: &mut Vec<u8>) {
    for part in content.chunks(usize::from(u16::MAX)) {
        into.push(control);
        into.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
        into.extend(part);
    }
}

/// A conversation: the lowest bit of a piece's control byte is the sender, the next says that it was lost.
pub fn steps(data: &[u8]) -> Vec<Step<'_>> {
    Pieces(data)
        .filter(|(_, content)| !content.is_empty())
        .map(|(control, content)| {
            let side = if control & 1 == 0 { CLIENT } else { SERVER };
            if control & 2 == 0 { Step::Data(side, content) } else { Step::Gap(side, content.len() as u64) }
        })
        .collect()
}

/// The same bytes in other pieces, drawn from `seed`.
pub fn split<'a>(steps: &[Step<'a>], seed: u64) -> Vec<Step<'a>> {
    let mut random = hopwatch_wire::protocols::testing::Random(seed | 1);
    let mut most = [1, 3, 20, 300][random.below(4)];
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Data(side, bytes) => {
                let mut rest = *bytes;
                while !rest.is_empty() {
                    let (head, tail) = rest.split_at(1 + random.below(rest.len().min(most)));
                    out.push(Step::Data(*side, head));
                    rest = tail;
                    // An input of many bytes would take as many calls.
                    most = if out.len() > 2000 { 4000 } else { most };
                }
            }
            gap => out.push(*gap),
        }
    }
    out
}

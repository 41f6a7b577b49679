//! Events that are ready: one after the other in one piece of memory. A hundred thousand connections that end say more than they
//! held, and a piece for each event would leave the memory of all of them in pieces.

use super::line::Line;

/// Bytes that are kept to be written again when the events were taken.
const KEPT_BYTES: usize = 2 << 20;

/// Lines of JSON in the order in which they were written.
#[derive(Default)]
pub struct Ready {
    lines: Line,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Ready {
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.lines.0.get(start..*end).unwrap_or_default())
    }

    /// Where the next line is written; [`Ready::ended`] when it is.
    pub(super) fn next(&mut self) -> &mut Line {
        &mut self.lines
    }

    pub(super) fn ended(&mut self) {
        self.ends.push(self.lines.0.len());
    }

    pub(super) fn clear(&mut self) {
        self.lines.0.clear();
        self.lines.0.shrink_to(KEPT_BYTES);
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_were_written_and_the_next_ones_begin_anew() {
        let mut ready = Ready::default();
        for turn in 0..2 {
            for text in ["one", "", "three"] {
                ready.next().raw(text).number(turn);
                ready.ended();
            }
            let lines: Vec<_> = ready.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            assert_eq!(lines, [format!("one{turn}"), format!("{turn}"), format!("three{turn}")]);
            assert_eq!(ready.len(), 3);
            ready.clear();
            assert!(ready.is_empty() && ready.iter().next().is_none());
        }
    }
}

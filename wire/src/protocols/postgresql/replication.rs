//! What a logical replication stream carries (PostgreSQL documentation, 55.4 to 55.5): one message a changed row.
//!
//! A message of the output plugin comes in XLogData. `pgoutput` names a table once, in a Relation message, and then by
//! its number; `test_decoding` writes a line that begins with the table's name. Other plugins' messages are no rows here.

use super::{be32, cstring, text};
use crate::sql::{Decoding, UNKNOWN};
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::collections::HashMap;
use std::sync::Arc;

/// Of a CopyData message this much is read: XLogData's 25 bytes, then the change's first ones, or a Relation.
pub const CHANGE_BYTES_MAX: usize = 4 << 10;
/// Bytes of the tables that a stream has named; the rows of further ones are `unknown`.
pub const RELATIONS_BYTES_MAX: usize = 256 << 10;
/// XLogData: tag, start, end, time (PostgreSQL, 55.4).
const XLOG_DATA_BYTES: usize = 25;
/// Columns of a Relation that are named; of a wider one they are `*`.
const COLUMNS_MAX: usize = 64;

/// One logical stream.
pub struct Changes {
    decoding: Decoding,
    relations: HashMap<u32, Arc<Movement>>,
    /// Text plugins name the table in each change.
    named: HashMap<String, Arc<Movement>>,
    bytes: usize,
    /// Between Stream Start and Stream Stop every message has a transaction's number after its tag (55.9).
    streaming: bool,
    unknown: Arc<Movement>,
    /// Tables that were not kept because of [`RELATIONS_BYTES_MAX`].
    pub dropped_total: u64,
}

impl Changes {
    pub fn new(decoding: Decoding) -> Self {
        let unknown = movement(UNKNOWN.into(), vec!["*".into()]);
        Self { decoding, relations: HashMap::new(), named: HashMap::new(), bytes: 0, streaming: false, unknown, dropped_total: 0 }
    }

    /// The row that a CopyData message brings, as what it moves; `None` for anything that is no row.
    pub fn row(&mut self, head: &[u8]) -> Option<Arc<Movement>> {
        let message = head.strip_prefix(b"w").and_then(|_| head.get(XLOG_DATA_BYTES..))?;
        match self.decoding {
            Decoding::Pgoutput => self.pgoutput(message),
            Decoding::Other => self.line(message),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn pgoutput(&mut self, message: &[u8]) -> Option<Arc<Movement>> {
        let (tag, body) = message.split_first()?;
        let body = if self.streaming { body.get(4..).unwrap_or(&[]) } else { body };
        match tag {
            b'S' => self.streaming = true,
            b'E' => self.streaming = false,
            b'R' => self.relation(body, message.len() + XLOG_DATA_BYTES < CHANGE_BYTES_MAX),
            b'I' | b'U' | b'D' => {
                let known = be32(body, 0).and_then(|number| self.relations.get(&number));
                return Some(Arc::clone(known.unwrap_or(&self.unknown)));
            }
            _ => {}
        }
        None
    }

    /// Relation: number, schema (empty for `pg_catalog`), name, replica identity, columns (55.9).
    fn relation(&mut self, body: &[u8], whole: bool) {
        let Some(number) = be32(body, 0) else { return };
        let (schema, rest) = cstring(body.get(4..).unwrap_or(&[]));
        let (name, rest) = cstring(rest);
        let schema = if schema.is_empty() { "pg_catalog".into() } else { text(schema) };
        let columns = if whole { columns(rest) } else { None };
        let made = movement(format!("{schema}.{}", text(name)), columns.unwrap_or_else(|| vec!["*".into()]));
        let size = size(&made);
        if let Some(old) = self.relations.remove(&number) {
            self.bytes -= self::size(&old);
        }
        if self.bytes + size > RELATIONS_BYTES_MAX {
            self.dropped_total += 1;
            return;
        }
        self.bytes += size;
        self.relations.insert(number, made);
    }

    /// test_decoding: `table SCHEMA.NAME: INSERT: …`.
    fn line(&mut self, message: &[u8]) -> Option<Arc<Movement>> {
        let rest = message.strip_prefix(b"table ")?;
        let name = &rest[..rest.windows(2).position(|pair| pair == b": ")?];
        let verb = &rest[name.len() + 2..];
        if ![&b"INSERT:"[..], b"UPDATE:", b"DELETE:"].iter().any(|wanted| verb.starts_with(wanted)) {
            return None;
        }
        let name = text(name);
        if let Some(known) = self.named.get(&name) {
            return Some(Arc::clone(known));
        }
        let made = movement(name.clone(), vec!["*".into()]);
        let size = size(&made) + name.len();
        if self.bytes + size > RELATIONS_BYTES_MAX {
            self.dropped_total += 1;
            return Some(Arc::clone(&self.unknown));
        }
        self.bytes += size;
        self.named.insert(name, Arc::clone(&made));
        Some(made)
    }
}

fn movement(name: String, columns: Vec<String>) -> Arc<Movement> {
    let objects = ObjectSet { names: vec![name], columns, statement: None, ..ObjectSet::default() };
    Arc::new(Movement::of(Operation::Replicate, Side::Server, Arc::new(objects)))
}

fn size(movement: &Movement) -> usize {
    let strings = movement.objects.iter().flat_map(|objects| objects.names.iter().chain(&objects.columns));
    256 + strings.map(|name| name.len() + 32).sum::<usize>()
}

/// Columns of a Relation: flags, name, type, modifier each.
fn columns(rest: &[u8]) -> Option<Vec<String>> {
    let count = usize::from(u16::from_be_bytes(rest.get(1..3)?.try_into().ok()?));
    let mut rest = &rest[3..];
    let mut names = Vec::new();
    if count > COLUMNS_MAX {
        return None;
    }
    for _ in 0..count {
        let (name, after) = cstring(rest.get(1..)?);
        names.push(text(name));
        rest = after.get(8..)?;
    }
    Some(names)
}

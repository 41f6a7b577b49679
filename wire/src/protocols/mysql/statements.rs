//! Statements, read once for all connections of a sensor, and what the answers' column definitions add to them.

use crate::protocols::mysql::packets::{Read, column, text};
use crate::protocols::texts::{Many, Moves, Texts, fingerprint, under};
use crate::sql::{self, Effect, Statement, UNKNOWN};
use crate::table::Seeded;
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// One statement, its names under one default database.
pub(crate) struct Known {
    moves: Moves,
}

impl Deref for Known {
    type Target = Moves;

    fn deref(&self) -> &Moves {
        &self.moves
    }
}

impl Known {
    pub fn new(mut statement: Statement, database: Option<&str>) -> Self {
        for table in statement.tables.iter_mut().filter(|table| !table.qualified) {
            if let Some(database) = database {
                table.name = format!("{database}.{}", table.name);
                table.qualified = true;
            }
        }
        Self { moves: Moves::new(statement) }
    }

    /// A statement that was not seen.
    pub fn unseen() -> Arc<Self> {
        static KNOWN: LazyLock<Arc<Known>> =
            LazyLock::new(|| Arc::new(Known::new(Statement::unknown(Operation::Transfer, Side::Client), None)));
        Arc::clone(&KNOWN)
    }

    /// One that moves nothing.
    pub fn empty() -> Arc<Self> {
        static KNOWN: LazyLock<Arc<Known>> = LazyLock::new(|| Arc::new(Known::new(Moves::nothing(), None)));
        Arc::clone(&KNOWN)
    }

    /// Rows that it returns are counted: those of other commands are words about what they did.
    pub fn returns(&self) -> bool {
        !matches!(self.statement.operation, Operation::Connect | Operation::Ddl | Operation::Admin)
    }

    /// What its rows are, with the tables and columns of their definitions (each with its length in front).
    pub fn rows(&self, definitions: &[u8], whole: bool) -> Arc<Movement> {
        if !self.returns() {
            return Arc::clone(&self.named);
        }
        self.described(definitions, whole, || self.described_as(definitions, whole))
    }

    fn described_as(&self, definitions: &[u8], whole: bool) -> ObjectSet {
        let statement = &self.statement;
        let (mut tables, mut columns, mut made) = (Vec::new(), Vec::new(), false);
        let mut read = Read(definitions);
        let mut legible = whole;
        while !read.0.is_empty() {
            let Some(definition) = read.u16().and_then(|length| read.take(usize::from(length))) else { break };
            let Some(column) = column(definition) else {
                legible = false;
                continue;
            };
            // Of a value that is computed the name is the text that computes it, literals and all: it is not told.
            if column.table.is_empty() || column.name.is_empty() {
                made = true;
                continue;
            }
            let name = text(column.name);
            if !columns.contains(&name) {
                columns.push(name);
            }
            // Tables that the server makes for itself have no schema.
            if !column.schema.is_empty() && !matches!(column.table[0], b'(' | b'<' | b'#' | b'*') {
                let table = format!("{}.{}", text(column.schema), text(column.table));
                if !tables.contains(&table) && tables.len() < sql::TABLES_MAX {
                    tables.push(table);
                }
            }
        }
        let known = self.named.objects.as_deref().cloned().unwrap_or_default();
        let mut names = tables;
        for name in known.names {
            // The server's spelling of a name is better than the text's.
            let same = |full: &String| {
                full.eq_ignore_ascii_case(&name)
                    || full.rsplit('.').next().is_some_and(|last| !name.contains('.') && last.eq_ignore_ascii_case(&name))
            };
            let placeholder = name == CATALOGUE || (name == UNKNOWN && statement.operation == Operation::Transfer);
            if !names.iter().any(same) && (!placeholder || names.is_empty()) {
                names.push(name);
            }
        }
        if statement.operation == Operation::Transfer && names.is_empty() {
            names.push(UNKNOWN.into());
        }
        if made && statement.operation == Operation::Select && statement.columns != ["*"] {
            add_new(&mut columns, &statement.columns);
        }
        add_new(&mut columns, &statement.reads);
        if columns.is_empty() || !legible || columns.len() > sql::COLUMNS_MAX {
            columns = vec!["*".into()];
        }
        ObjectSet { names, columns, statement: known.statement, marks: known.marks }
    }
}

/// Adds the columns that are not there yet, in whatever case.
fn add_new(columns: &mut Vec<String>, more: &[String]) {
    let new: Vec<_> = more.iter().filter(|name| !columns.iter().any(|known| known.eq_ignore_ascii_case(name))).cloned().collect();
    sql::add_names(columns, &new);
}

/// What the reader calls a catalogue whose tables the answer names.
pub(super) use crate::sql::mysql::CATALOGUE;

/// The statements of a text under a mode and a default database, known or read now.
pub(super) fn of(texts: &mut Texts<Known>, text: &[u8], whole: bool, mode: sql::mysql::Mode, database: Option<&str>) -> Many<Known> {
    let key = under(fingerprint(text), Seeded::default().hash_one((whole, mode, database)));
    texts.of(key, || read(text, whole, mode, database))
}

/// The statements of a text; a USE in it holds for those behind it.
fn read(text: &[u8], whole: bool, mode: sql::mysql::Mode, database: Option<&str>) -> Vec<Arc<Known>> {
    let mut database = database.map(str::to_owned);
    let mut known = Vec::new();
    for statement in sql::mysql::read(text, whole, mode) {
        let effect = statement.effect.clone();
        known.push(Arc::new(Known::new(statement, database.as_deref())));
        if let Effect::Path(path) = effect {
            database = path.and_then(|path| path.into_iter().next());
        }
    }
    known
}

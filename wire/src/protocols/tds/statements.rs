//! Statements, read once for all connections of a sensor, and what the names of an answer's columns add to them.

use super::types::{Read, text};
use crate::protocols::texts::{Moves, Texts, Weighed, fingerprint, under};
use crate::sql::tsql::{self, Quotes};
use crate::sql::{self, Effect, Statement, Table, UNKNOWN};
use crate::table::Seeded;
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// Schemas of the server's own catalogue, which every database has.
const CATALOGUES: [&str; 2] = ["sys", "information_schema"];

/// One statement, its names under one database.
pub(crate) struct Known {
    moves: Moves,
    /// It names no object at all, though it was read.
    pub tableless: bool,
}

impl Deref for Known {
    type Target = Moves;

    fn deref(&self) -> &Moves {
        &self.moves
    }
}

impl Known {
    pub fn new(mut statement: Statement, database: Option<&str>) -> Self {
        for table in &mut statement.tables {
            qualify(table, database);
        }
        let tableless = statement.tableless() && statement.operation == Operation::Select;
        Self { moves: Moves::new(statement), tableless }
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

    pub fn is_unseen(&self) -> bool {
        self.statement.operation == Operation::Transfer
    }

    /// Rows that it returns are counted: those of other commands are words about what they did.
    pub fn returns(&self) -> bool {
        !matches!(self.statement.operation, Operation::Connect | Operation::Ddl | Operation::Admin | Operation::Backup)
    }

    /// It may well return rows.
    pub fn may_return(&self) -> bool {
        matches!(self.statement.operation, Operation::Select | Operation::Call | Operation::Transfer)
    }

    /// The rows that it returns, with the columns of their description (each name behind its length).
    pub fn rows(&self, names: &[u8], whole: bool) -> Arc<Movement> {
        if !self.returns() {
            return Arc::clone(&self.named);
        }
        self.described(names, whole, || self.described_as(names, whole))
    }

    /// The same as they were described before, where that is not repeated.
    pub fn rows_as_before(&self) -> Arc<Movement> {
        self.described_first().unwrap_or_else(|| self.rows(&[], false))
    }

    fn described_as(&self, described: &[u8], whole: bool) -> ObjectSet {
        let mut known = self.named.objects.as_deref().cloned().unwrap_or_default();
        if self.is_unseen() {
            known.names = vec![UNKNOWN.into()];
        }
        let mut columns: Vec<String> = Vec::new();
        let mut read = Read(described);
        // A name is the column's or an alias; what has none is computed.
        let mut made = false;
        while let Ok(name) = read.u16().and_then(|length| read.take(usize::from(length))) {
            let name = text(name).to_lowercase();
            if name.is_empty() {
                made = true;
            } else if !columns.contains(&name) {
                columns.push(name);
            }
        }
        if made && self.statement.columns != ["*"] {
            sql::add_names(&mut columns, &self.statement.columns);
        }
        sql::add_names(&mut columns, &self.statement.reads);
        if columns.is_empty() || !whole || columns.len() > sql::COLUMNS_MAX {
            columns = vec!["*".into()];
        }
        ObjectSet { columns, ..known }
    }

    /// The same objects under another operation: what is changed through a cursor.
    pub fn positioned(&self, operation: Operation) -> Self {
        let mut statement = self.statement.clone();
        (statement.operation, statement.from) = (operation, Side::Client);
        statement.columns = vec!["*".into()];
        statement.effect = Effect::None;
        Self::new(statement, None)
    }
}

/// `schema.table` becomes `database.schema.table`, `table` becomes `database..table`: the schema that an account has by
/// itself is not seen.
fn qualify(table: &mut Table, database: Option<&str>) {
    let Some(database) = database else { return };
    let temporary = table.name.starts_with('#');
    let (schema, dots) = (table.name.split('.').next().unwrap_or_default(), table.name.matches('.').count());
    if temporary || dots > 1 || (dots == 1 && CATALOGUES.contains(&schema)) {
        return;
    }
    table.name = format!("{database}.{}{}", if dots == 0 { "." } else { "" }, table.name);
    table.qualified = true;
}

/// Statements that are asked for together.
pub(crate) struct Texted {
    pub list: Vec<Arc<Known>>,
    /// Where not all of them need run: what is returned, inserted, updated or deleted is of all of that operation.
    merged: Vec<Arc<Known>>,
    pub branches: bool,
    pub quotes: Option<Quotes>,
}

impl Texted {
    pub fn one(known: Arc<Known>) -> Arc<Self> {
        Arc::new(Self { list: vec![known], merged: Vec::new(), branches: false, quotes: None })
    }

    /// Statements one after the other.
    pub fn of(list: Vec<Arc<Known>>, quotes: Option<Quotes>) -> Self {
        Self { list, merged: Vec::new(), branches: false, quotes }
    }

    /// Statements of which not all need run.
    pub fn without_order(list: Vec<Arc<Known>>, quotes: Option<Quotes>) -> Self {
        let mut merged = Vec::new();
        list.iter().for_each(|known| merge(&mut merged, &known.statement));
        let merged = merged.into_iter().map(|statement| Arc::new(Known::new(statement, None))).collect();
        Self { list, merged, branches: true, quotes }
    }

    /// All statements of an operation, as one.
    pub fn merged(&self, operation: Operation) -> Option<Arc<Known>> {
        self.merged.iter().find(|known| known.statement.operation == operation).map(Arc::clone)
    }

    pub fn main(&self) -> Option<&Arc<Known>> {
        self.list.iter().find(|known| known.statement.operation != Operation::Connect).or(self.list.first())
    }

    /// It changes what the session means.
    pub fn changes_session(&self) -> bool {
        self.quotes.is_some() || self.list.iter().any(|known| !matches!(known.statement.effect, Effect::None | Effect::Begin))
    }
}

impl Weighed for Texted {
    fn size_bytes(&self) -> usize {
        64 + self.list.iter().chain(&self.merged).map(|known| known.size_bytes).sum::<usize>()
    }
}

/// The statements of a text, known or read now.
pub(super) fn of(texts: &mut Texts<Texted>, text: &str, whole: bool, quotes: Quotes, database: Option<&str>) -> Arc<Texted> {
    let key = under(fingerprint(text.as_bytes()), Seeded::default().hash_one((whole, quotes, database)));
    let known = texts.of(key, || vec![Arc::new(read(text, whole, quotes, database))]);
    known.first().map_or_else(|| Texted::one(Known::unseen()), Arc::clone)
}

/// The statements of a text; a USE in it holds for those behind it.
fn read(text: &str, whole: bool, quotes: Quotes, database: Option<&str>) -> Texted {
    let batch = tsql::read(text.as_bytes(), whole, quotes);
    let mut database = database.map(str::to_owned);
    let mut list = Vec::new();
    for statement in batch.statements {
        let effect = statement.effect.clone();
        list.push(Arc::new(Known::new(statement, database.as_deref())));
        if let Effect::Path(path) = effect {
            database = path.and_then(|path| path.into_iter().next());
        }
    }
    if batch.branches { Texted::without_order(list, batch.quotes) } else { Texted::of(list, batch.quotes) }
}

fn merge(merged: &mut Vec<Statement>, statement: &Statement) {
    let Some(known) = merged.iter_mut().find(|known| known.operation == statement.operation) else {
        merged.push(statement.clone());
        return;
    };
    for table in &statement.tables {
        if !known.tables.contains(table) && known.tables.len() < sql::TABLES_MAX {
            known.tables.push(table.clone());
        }
    }
    known.readable &= statement.readable && known.tables.len() < sql::TABLES_MAX;
    sql::add_names(&mut known.names, &statement.names);
    sql::add_names(&mut known.columns, &statement.columns);
    sql::add_names(&mut known.reads, &statement.reads);
    known.marks.extend(statement.marks.iter().filter(|mark| !known.marks.contains(mark)).copied().collect::<Vec<_>>());
    known.effect = Effect::None;
}

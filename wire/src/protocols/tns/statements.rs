//! Statements, read once for all connections of a sensor.

use crate::protocols::texts::{Moves, Texts, fingerprint, under};
use crate::sql::{self, Statement};
use crate::windows::{Movement, ObjectSet, Operation, Side};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// One statement.
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
    fn new(statement: Statement) -> Self {
        Self { moves: Moves::new(statement) }
    }

    /// Rows of a cursor whose statement was not seen.
    pub fn unseen() -> Arc<Self> {
        static KNOWN: LazyLock<Arc<Known>> = LazyLock::new(|| Arc::new(Known::new(Statement::unknown(Operation::Select, Side::Server))));
        Arc::clone(&KNOWN)
    }

    /// Rows that it returns are counted, or those that it changed.
    pub fn has_rows(&self) -> bool {
        use Operation::{Delete, Insert, Select, Update};
        matches!(self.statement.operation, Select | Insert | Update | Delete)
    }

    pub fn is_query(&self) -> bool {
        self.statement.operation == Operation::Select
    }

    /// What its rows are, where the text says only that it takes all columns and the server names them.
    pub(super) fn rows(&self, columns: &[super::rows::Column]) -> Arc<Movement> {
        let all = self.is_query() && self.statement.readable && self.statement.columns == ["*"];
        if !all || columns.is_empty() || columns.len() > sql::COLUMNS_MAX {
            return Arc::clone(&self.named);
        }
        let names: Option<Vec<String>> = columns.iter().map(|column| column.name.clone()).collect();
        let Some(mut columns) = names.filter(|_| !self.statement.reads.iter().any(|name| name == "*")) else {
            return Arc::clone(&self.named);
        };
        sql::add_names(&mut columns, &self.statement.reads);
        let known = self.named.objects.as_deref().cloned().unwrap_or_default();
        Arc::new(Movement::of(Operation::Select, Side::Server, Arc::new(ObjectSet { columns, ..known })))
    }
}

/// The statement of a text, known or read now.
pub(super) fn of(texts: &mut Texts<Known>, text: &[u8], whole: bool) -> Arc<Known> {
    let key = under(fingerprint(text), u64::from(whole));
    let known = texts.of(key, || vec![Arc::new(Known::new(sql::oracle::read(text, whole)))]);
    known.first().map_or_else(Known::unseen, Arc::clone)
}

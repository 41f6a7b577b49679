//! SQL as MySQL and MariaDB write it, where that differs: quotes, comments, modifiers, and the commands that PostgreSQL
//! has not (MySQL 8.0 Reference Manual, 9 and 13; MariaDB Knowledge Base, "SQL Statements").
//!
//! Names keep their case: tables are files, and the server tells how it spells them.

use super::marks::{FOREIGN, SECRET_CONNECTION, SECRET_PASSWORD};
use super::{
    COLUMNS_MAX, CopyOptions, Effect, Kind, Operation, Reader, Side, Statement, TABLES_MAX, Token, cut, is_word, number_or_symbol,
    statements, text_of,
};

/// What the session says of its quotes (`sql_mode`), as every answer repeats it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// `"` quotes names (ANSI_QUOTES).
    pub ansi_quotes: bool,
    /// `\` is a character like any other (NO_BACKSLASH_ESCAPES).
    pub plain_backslash: bool,
}

/// What SHOW, DESCRIBE and their like read, where the answer does not name the table of the catalogue.
pub const CATALOGUE: &str = "information_schema.show";
/// Texts in a text: PREPARE and EXECUTE IMMEDIATE carry a statement as a literal; one of those in it is not read.
const NESTED_MAX: u8 = 1;

/// Words before a table or a select list that name nothing.
const MODIFIERS: &[&str] = &[
    "low_priority",
    "high_priority",
    "delayed",
    "concurrent",
    "quick",
    "ignore",
    "all",
    "distinct",
    "distinctrow",
    "straight_join",
    "sql_small_result",
    "sql_big_result",
    "sql_buffer_result",
    "sql_cache",
    "sql_no_cache",
    "sql_calc_found_rows",
];

/// Words of expressions that are no columns, beside those of PostgreSQL.
const OPERATORS: &[&str] = &["binary", "div", "mod", "regexp", "rlike", "xor", "separator", "against", "utc_timestamp", "unknown"];

/// Units behind INTERVAL (MySQL 8.0, 9.5).
const UNITS: &[&str] = &["microsecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"];

/// Reads a text of one or several statements; see [`super::read`].
#[must_use]
pub fn read(text: &[u8], whole: bool, mode: Mode) -> Vec<Statement> {
    read_nested(text, whole, mode, 0)
}

fn read_nested(text: &[u8], whole: bool, mode: Mode, nested: u8) -> Vec<Statement> {
    let tokens = tokenize(text, mode);
    statements(text, &tokens, whole, statement_end, |one, cut| {
        let mut reader = Reader::new(text, one, cut);
        reader.mysql = Some(mode);
        reader.nested = nested;
        reader
    })
}

/// Where the first statement ends: at a semicolon outside parentheses. A routine's body has semicolons of its own, and nothing
/// stands behind it.
fn statement_end(text: &[u8], tokens: &[Token]) -> usize {
    let word = |at: usize| tokens.get(at).filter(|t| t.kind == Kind::Word).map_or(&b""[..], |t| &text[t.start..t.end]);
    let is = |at: usize, words: &[&str]| words.iter().any(|w| word(at).eq_ignore_ascii_case(w.as_bytes()));
    let made = || (1..tokens.len().min(24)).any(|at| is(at, &["procedure", "function", "trigger", "event", "package"]));
    if (is(0, &["create", "alter"]) && made()) || (is(0, &["begin"]) && is(1, &["not"])) {
        return tokens.len();
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match (token.kind, &text[token.start..token.end]) {
            (Kind::Symbol, b"(") => depth += 1,
            (Kind::Symbol, b")") => depth = depth.saturating_sub(1),
            (Kind::Symbol, b";") if depth == 0 => return at,
            _ => {}
        }
    }
    tokens.len()
}

/// The tokens of a text (MySQL 8.0, 9.1 to 9.7). What stands in `/*! … */` is run, so it is read.
fn tokenize(text: &[u8], mode: Mode) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 6 + 4);
    let (mut at, mut run_comments) = (0, 0_u32);
    while let Some(&byte) = text.get(at) {
        let start = at;
        let next = text.get(at + 1).copied().unwrap_or(0);
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0 => {
                at += 1;
                continue;
            }
            b'#' => {
                at = line_end(text, at);
                continue;
            }
            // Two dashes are a comment only with space behind them.
            b'-' if next == b'-' && text.get(at + 2).is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_control()) => {
                at = line_end(text, at);
                continue;
            }
            b'/' if next == b'*' => {
                let rest = text.get(at + 2..).unwrap_or(&[]);
                let marker = if rest.starts_with(b"!") { 1 } else { 2 * usize::from(rest.starts_with(b"M!")) };
                if marker > 0 {
                    run_comments += 1;
                    at += 2 + marker;
                    at += text.get(at..).unwrap_or(&[]).iter().take(6).take_while(|b| b.is_ascii_digit()).count();
                } else {
                    at = memchr::memmem::find(rest, b"*/").map_or(text.len(), |n| at + 2 + n + 2);
                }
                continue;
            }
            b'*' if next == b'/' && run_comments > 0 => {
                run_comments -= 1;
                at += 2;
                continue;
            }
            b'\'' => {
                at = quoted_end(text, at + 1, b'\'', !mode.plain_backslash).0;
                Kind::Literal
            }
            b'"' if mode.ansi_quotes => {
                let (end, finished) = quoted_end(text, at + 1, b'"', false);
                at = end;
                if finished { Kind::Quoted } else { Kind::Odd }
            }
            b'"' => {
                at = quoted_end(text, at + 1, b'"', !mode.plain_backslash).0;
                Kind::Literal
            }
            b'`' => {
                let (end, finished) = quoted_end(text, at + 1, b'`', false);
                at = end;
                if finished { Kind::Quoted } else { Kind::Odd }
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if next == b'\'' => {
                at = quoted_end(text, at + 2, b'\'', !mode.plain_backslash).0;
                Kind::Literal
            }
            b'?' => {
                at += 1;
                Kind::Parameter
            }
            // A variable, or the host behind an account's name.
            b'@' => {
                at += 1 + usize::from(next == b'@');
                at = match text.get(at) {
                    Some(&quote @ (b'\'' | b'"' | b'`')) => quoted_end(text, at + 1, quote, quote != b'`' && !mode.plain_backslash).0,
                    _ => at + text.get(at..).unwrap_or(&[]).iter().take_while(|b| is_word(**b) || **b == b'.' || **b == b'%').count(),
                };
                Kind::Parameter
            }
            _ if is_word(byte) && !byte.is_ascii_digit() => {
                at += text[at..].iter().take_while(|b| is_word(**b)).count();
                Kind::Word
            }
            b'.' if behind_name(&tokens, start) => {
                at += 1;
                Kind::Symbol
            }
            _ => {
                let (kind, end) = number_or_symbol(text, at);
                at = end;
                kind
            }
        };
        tokens.push(Token { kind, start, end: at.min(text.len()) });
    }
    tokens
}

/// `t.1st`: the dot joins names, whatever comes behind it.
fn behind_name(tokens: &[Token], start: usize) -> bool {
    tokens.last().is_some_and(|t| t.end == start && matches!(t.kind, Kind::Word | Kind::Quoted))
}

fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |n| at + n)
}

/// After the closing quote, and whether there is one.
fn quoted_end(text: &[u8], mut at: usize, quote: u8, backslash: bool) -> (usize, bool) {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if backslash => at += 2,
            _ if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            _ if byte == quote => return (at + 1, true),
            _ => at += 1,
        }
    }
    (text.len(), false)
}

impl Reader<'_> {
    /// Whether a word of an expression is none of the column names of this dialect.
    pub(super) fn is_operator(&self, at: usize) -> bool {
        self.mysql.is_some()
            && (self.any(at, MODIFIERS)
                || self.any(at, OPERATORS)
                || (at > 0 && self.any(at - 1, &["using", "collate"]))
                || (self.is(at, "interval") && !matches!(self.kind(at + 1), None | Some(Kind::Symbol)))
                || (at > 1 && self.is(at - 2, "interval") && self.any(at, UNITS)))
    }

    /// Past the words that may stand before a table or a select list.
    pub(super) fn modifiers(&self, at: usize) -> usize {
        match (self.mysql, self.tsql) {
            (Some(_), _) => self.skip(at, MODIFIERS),
            (_, Some(_)) => self.tsql_modifiers(at),
            _ => at,
        }
    }

    /// Where the tables of a DELETE or UPDATE begin: `DELETE a, b FROM a JOIN b` names in front what its FROM lists.
    pub(super) fn deleted_from(&self, at: usize) -> usize {
        let first = self.modifiers(at);
        if self.is(first, "from") {
            return first + 1;
        }
        self.outside(first, "from").map_or(first, |from| from + 1)
    }

    /// Behind INTO: a file, or variables.
    pub(super) fn is_no_table(&self, at: usize) -> bool {
        self.any(at, &["outfile", "dumpfile"]) || self.kind(at) == Some(Kind::Parameter)
    }

    pub(super) fn is_straight_join(&self, at: usize, in_from: bool) -> bool {
        self.mysql.is_some() && in_from && self.is(at, "straight_join")
    }

    /// What a statement does that PostgreSQL has not, or means otherwise; false where both mean the same.
    pub(super) fn mysql_statement(&mut self, verb: &str) -> bool {
        match verb {
            "replace" => self.query(0),
            "explain" | "describe" | "desc" | "analyze" if self.explained().is_some() => {
                self.query(self.explained().unwrap_or(0));
                self.out.columns = vec!["*".into()];
                self.out.reads = Vec::new();
            }
            // What they return belongs to the catalogue; the answer says to which of its tables.
            "describe" | "desc" | "explain" | "show" | "help" => {
                self.set(Operation::Select, Side::Server);
                self.out.names = vec![CATALOGUE.into()];
            }
            "use" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = Effect::Path(self.name(1).map(|name| vec![name]));
            }
            "set" => self.mysql_setting(),
            "load" if self.any(1, &["data", "xml"]) => self.load(),
            "handler" => self.handler(),
            "do" => {
                self.set(Operation::Call, Side::Client);
                self.walk(1, false);
            }
            "prepare" => {
                self.set(Operation::Connect, Side::Client);
                let name = self.name(1);
                self.nested_statement(3);
                self.out.effect = name.map_or(Effect::None, Effect::Prepare);
            }
            "execute" if self.is(1, "immediate") => self.nested_statement(2),
            "drop" if self.is(1, "prepare") => self.set(Operation::Connect, Side::Client),
            "begin" if self.is(1, "not") => {
                self.set(Operation::Call, Side::Client);
                self.out.readable = false;
            }
            "xa" | "unlock" | "kill" | "flush" | "deallocate" => self.set(Operation::Connect, Side::Client),
            "rename" if self.is(1, "user") => self.accounts("rename", 2),
            "rename" => {
                self.set(Operation::Ddl, Side::Client);
                let tables = self.skip(1, &["table", "tables", "if", "exists"]);
                for at in tables..self.tokens.len() {
                    if at == tables || self.is(at - 1, "to") || self.symbol(at - 1, b',') {
                        if let Some((parts, _)) = self.qualified(at) {
                            self.add_table(&parts);
                        }
                    }
                }
            }
            "optimize" | "repair" | "check" | "checksum" | "analyze" => {
                self.set(Operation::Ddl, Side::Client);
                self.relations(self.skip(1, &["no_write_to_binlog", "local", "table", "tables"]));
            }
            "truncate" => {
                self.set(Operation::Ddl, Side::Client);
                self.relations(self.skip(1, &["table"]));
            }
            "create" | "alter" | "drop" => self.mysql_definition(verb),
            "grant" | "revoke" => self.mysql_grant(verb == "revoke"),
            "change" | "reset" | "purge" | "stop" | "install" | "uninstall" | "cache" | "import" | "shutdown" | "restart" | "backup"
            | "clone" => self.set(Operation::Ddl, Side::Client),
            "start" if !self.is(1, "transaction") => self.set(Operation::Ddl, Side::Client),
            "listen" | "notify" | "copy" | "declare" | "fetch" | "close" | "discard" | "end" | "abort" | "move" | "vacuum" | "reindex"
            | "cluster" | "refresh" | "comment" | "security" | "reassign" | "merge" => self.out.readable = false,
            _ => return false,
        }
        true
    }

    /// The table of `INSERT t SELECT …` and `REPLACE t SELECT …`, where INTO is left out.
    pub(super) fn filled_without_into(&self) -> Option<String> {
        if (self.mysql.is_none() && self.tsql.is_none()) || !self.any(0, &["insert", "replace"]) {
            return None;
        }
        let at = self.modifiers(1);
        if self.is(at, "into") { None } else { self.qualified(at).map(|(parts, _)| parts.join(".")) }
    }

    /// Secrets in clear: `IDENTIFIED BY 'x'`, `PASSWORD('x')`, `SET PASSWORD = 'x'`, a source's password, a table of another server.
    pub(super) fn mark_mysql(&mut self) {
        let tokens = 1..self.tokens.len();
        let hashed = |content: &[u8]| content.len() == 41 && content.first() == Some(&b'*');
        let clear = |at: usize| !self.content(at).is_empty() && !hashed(self.content(at));
        let admin = self.out.operation == Operation::Admin;
        let password = tokens.clone().any(|at| {
            (self.is(at, "by") && clear(at + 1))
                || (self.is(at, "password") && self.symbol(at + 1, b'(') && clear(at + 2))
                || (self.is(0, "set") && self.symbol(at, b'=') && clear(at + 1))
        });
        let source = |at: usize| self.any(at, &["master_password", "source_password"]) && self.symbol(at + 1, b'=') && clear(at + 2);
        let connects = self.is(0, "create")
            && tokens
                .clone()
                .any(|at| self.is(at, "connection") && self.kind(at + 1 + usize::from(self.symbol(at + 1, b'='))) == Some(Kind::Literal));
        let said = tokens.clone().any(source) || (connects && tokens.clone().any(|at| self.holds_password(at)));
        let reaches = connects || (self.is(0, "change") && self.any(1, &["master", "replication"]));
        if admin && password {
            self.add_mark(SECRET_PASSWORD);
        }
        if reaches {
            self.add_mark(FOREIGN);
        }
        if said {
            self.add_mark(SECRET_CONNECTION);
        }
    }

    /// Where the statement stands that EXPLAIN or ANALYZE is of.
    fn explained(&self) -> Option<usize> {
        let at = self.skip(1, &["extended", "partitions", "analyze", "verbose"]);
        let at = if self.is(at, "format") { at + 3 } else { at };
        let verb = self.any(at, &["select", "with", "insert", "update", "delete", "replace", "table", "values"]) || self.symbol(at, b'(');
        verb.then_some(at)
    }

    /// A statement in a literal, at `at`.
    fn nested_statement(&mut self, at: usize) {
        let fingerprint = self.out.fingerprint.clone();
        let text = (self.nested < NESTED_MAX).then(|| self.literal(at)).flatten();
        let mode = self.mysql.unwrap_or_default();
        let read = text.map(|text| read_nested(text.as_bytes(), true, mode, self.nested + 1)).unwrap_or_default();
        match read.into_iter().next() {
            Some(statement) => self.out = statement,
            None => {
                self.set(Operation::Call, Side::Client);
                self.out.readable = false;
            }
        }
        self.out.fingerprint = fingerprint;
    }

    fn mysql_setting(&mut self) {
        self.set(Operation::Connect, Side::Client);
        if self.is(1, "role") {
            self.out.effect = self.role(2, "none");
        } else if self.is(1, "default") && self.is(2, "role") {
            self.accounts("alter", self.find(3, "to").or_else(|| self.find(3, "for")).map_or(3, |to| to + 1));
        } else if self.is(1, "password") {
            let named = self.is(2, "for");
            self.accounts("alter", if named { 3 } else { self.tokens.len() });
            if !named {
                self.out.names.push("account:current_user".into());
                self.out.readable = true;
            }
            if self.out.columns.last().is_none_or(|last| last != "password") {
                self.out.columns.push("password".into());
            }
        } else if self.is(1, "statement") && self.find(2, "for").is_some() {
            // The statement behind FOR is what runs (MariaDB, SET STATEMENT).
            let at = self.find(2, "for").map_or(2, |at| at + 1);
            let fingerprint = self.out.fingerprint.clone();
            let mut inner = Reader::new(self.text, self.tokens.get(at..).unwrap_or(&[]), self.cut);
            (inner.mysql, inner.nested) = (self.mysql, self.nested);
            self.out = inner.statement();
            self.out.fingerprint = fingerprint;
        } else if self.find(1, "select").is_some() {
            self.set(Operation::Select, Side::Server);
            self.walk(1, false);
        }
    }

    /// LOAD DATA [LOCAL] INFILE: the file is the client's only if LOCAL is said.
    fn load(&mut self) {
        self.set(Operation::Copy, Side::Client);
        let local = self.any(self.skip(2, &["low_priority", "concurrent"]), &["local"]);
        self.out.copy = Some(CopyOptions { inward: true, server_side: !local, ..CopyOptions::default() });
        let Some(table) = self.find(2, "table") else {
            self.out.readable = false;
            return;
        };
        let Some((parts, end)) = self.qualified(table + 1) else {
            self.out.readable = false;
            return;
        };
        self.add_table(&parts);
        // A list of columns is the last parenthesis outside SET.
        let last = self.outside(end, "set").unwrap_or(self.tokens.len());
        let mut at = end;
        while at < last {
            if self.symbol(at, b'(') && !self.is(at - 1, "partition") {
                let closing = self.closing(at);
                let names: Vec<_> = (at + 1..closing.saturating_sub(1)).filter_map(|at| self.name(at)).take(COLUMNS_MAX).collect();
                if !names.is_empty() {
                    self.out.columns = names;
                }
                at = closing;
            } else {
                at += 1;
            }
        }
    }

    /// HANDLER t OPEN | READ … | CLOSE: a table read row by row.
    fn handler(&mut self) {
        let Some((parts, end)) = self.qualified(1) else {
            self.out.readable = false;
            return;
        };
        if self.is(end, "read") {
            self.set(Operation::Select, Side::Server);
            self.add_table(&parts);
        } else {
            self.set(Operation::Connect, Side::Client);
        }
    }

    fn mysql_definition(&mut self, verb: &str) {
        const KINDS: &[&str] = &[
            "table",
            "view",
            "sequence",
            "procedure",
            "function",
            "trigger",
            "event",
            "package",
            "database",
            "schema",
            "index",
            "server",
            "tablespace",
            "user",
            "role",
            "instance",
            "logfile",
        ];
        let kind = (1..self.tokens.len().min(16)).find(|at| self.any(*at, KINDS)).unwrap_or(1);
        let after = self.skip(kind + 1, &["body", "if", "not", "exists"]);
        if self.any(kind, &["user", "role"]) {
            self.accounts(verb, after);
            return;
        }
        self.set(Operation::Ddl, Side::Client);
        let name = self.name(kind).unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "table" | "view" | "sequence" => {
                self.relations(after);
                if verb == "create" && name != "sequence" {
                    // AS may be left out.
                    let behind_as = |at: usize| self.any(at, &["with", "values", "table"]) && self.is(at - 1, "as");
                    if let Some(query) = (after + 1..self.tokens.len()).find(|at| self.is(*at, "select") || behind_as(*at)) {
                        let inside = self.symbol(query - 1, b'(');
                        self.walk(if inside { query - 1 } else { query }, true);
                    } else if self.is(after + 1, "like") {
                        self.relations(after + 2);
                    }
                }
            }
            "index" | "trigger" => match self.find(after, "on") {
                Some(on) => self.relations(on + 1),
                None => self.other(&name, after),
            },
            _ => {
                self.other(&name, after);
                if matches!(name.as_str(), "database" | "schema") {
                    self.out.names.iter_mut().for_each(|n| *n = n.replacen("database:", "schema:", 1));
                }
            }
        }
    }

    /// CREATE, ALTER, DROP, RENAME USER | ROLE, SET PASSWORD: accounts from `at`, each perhaps with its host.
    fn accounts(&mut self, verb: &str, at: usize) {
        self.set(Operation::Admin, Side::Client);
        let mut columns = vec![verb.to_owned()];
        let (mut at, mut expect) = (at, true);
        while at < self.tokens.len() && self.out.names.len() < TABLES_MAX {
            if self.symbol(at, b',') || (verb == "rename" && self.is(at, "to")) {
                expect = true;
            } else if expect {
                self.out.names.extend(self.value(at).map(|name| format!("account:{name}")));
                expect = false;
            } else if self.any(at, &["identified", "password"]) && !columns.iter().any(|c| c == "password") {
                columns.push("password".into());
            } else if self.any(at, &["require", "with", "comment", "attribute"]) {
                // What follows are options, no accounts.
                expect = false;
                if (at..self.tokens.len()).any(|at| self.symbol(at, b',')) && !self.is(at, "with") {
                    break;
                }
            }
            at = if self.symbol(at, b'(') { self.closing(at) } else { at + 1 };
        }
        self.out.readable &= !self.out.names.is_empty();
        self.out.columns = columns;
    }

    /// GRANT and REVOKE, of privileges and of roles.
    fn mysql_grant(&mut self, revoke: bool) {
        self.set(Operation::Admin, Side::Client);
        let action = if revoke { "revoke" } else { "grant" };
        let to = self.outside(1, if revoke { "from" } else { "to" }).unwrap_or(self.tokens.len());
        let on = (1..to).find(|at| self.is(*at, "on")).unwrap_or(to);
        let mut columns = Vec::new();
        let mut item = 1;
        while item < on && columns.len() < COLUMNS_MAX {
            columns.extend(self.value(item).map(|name| format!("{action}:{}", name.to_lowercase())));
            while item < on && !self.symbol(item, b',') {
                item = if self.symbol(item, b'(') { self.closing(item) } else { item + 1 };
            }
            item += 1;
        }
        self.accounts(action, to + 1);
        // IDENTIFIED BY sets a password besides (until MySQL 8, and MariaDB).
        if self.out.columns.iter().any(|c| c == "password") {
            columns.push("password".into());
        }
        self.out.columns = columns;
    }

    /// The columns of `INSERT INTO t (a, b) …` and `INSERT t SET a = 1, b = 2`.
    pub(super) fn mysql_insert_columns(&self) -> Option<Vec<String>> {
        let first = self.find(0, "insert").or_else(|| self.find(0, "replace"))?;
        let at = self.modifiers(first + 1);
        let at = at + usize::from(self.is(at, "into"));
        let (_, end) = self.qualified(at)?;
        let end = if self.is(end, "partition") { self.closing(end + 1) } else { end };
        if !self.is(end, "set") {
            return self.column_list(end);
        }
        let mut columns = Vec::new();
        let mut at = end + 1;
        while at < self.tokens.len() && !self.any(at, &["on", "as", "returning"]) {
            columns.push(self.qualified(at)?.0.pop()?);
            while at < self.tokens.len() && !self.symbol(at, b',') && !self.any(at, &["on", "as", "returning"]) {
                at = if self.symbol(at, b'(') { self.closing(at) } else { at + 1 };
            }
            at += usize::from(self.symbol(at, b','));
        }
        (columns.len() <= COLUMNS_MAX).then_some(columns)
    }

    /// A literal's text without its quotes and escapes.
    pub(super) fn mysql_literal(&self, at: usize) -> Option<String> {
        let part = self.part(at);
        let quote = *part.first().filter(|b| matches!(b, b'\'' | b'"'))?;
        let backslash = !self.mysql.unwrap_or_default().plain_backslash;
        let inner = part.get(1..part.len().checked_sub(1)?)?;
        let mut plain = Vec::with_capacity(inner.len());
        let mut bytes = inner.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' if backslash => match bytes.next() {
                    Some(b'n') => plain.push(b'\n'),
                    Some(b't') => plain.push(b'\t'),
                    other => plain.extend(other),
                },
                _ if byte == quote => {
                    plain.push(byte);
                    bytes.next();
                }
                _ => plain.push(byte),
            }
        }
        Some(text_of(&plain))
    }
}

/// A name in backquotes, or in double quotes under ANSI_QUOTES.
pub(super) fn unquoted(part: &[u8]) -> Option<String> {
    let quote = char::from(*part.first()?);
    let inner = part.get(1..part.len().checked_sub(1)?)?;
    Some(cut(text_of(inner).replace(&format!("{quote}{quote}"), &quote.to_string())))
}

#[cfg(test)]
mod tests;

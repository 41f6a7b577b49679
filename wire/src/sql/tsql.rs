//! SQL as SQL Server and its clients write it (Transact-SQL reference): brackets, variables, statements without semicolons,
//! procedures that carry statements, and the commands that PostgreSQL has not.
//!
//! Names are told in lower case: nearly every server compares them so, and none says how it spells them.

use super::marks::{FOLDED, FOREIGN, SECRET_CONNECTION, SECRET_PASSWORD, TO_FILE, TO_PROGRAM, TO_SERVER};
use super::{
    COLUMNS_MAX, CopyOptions, Effect, Kind, Operation, Reader, STATEMENTS_MAX, Side, Statement, TABLES_MAX, Token, UNKNOWN, comment_end,
    cut, number_end, number_or_symbol, text_of,
};

/// Texts in a text: EXEC ('…') and sp_executesql carry statements as a literal; those in one of those are not read.
const NESTED_MAX: u8 = 1;

/// What `"` quotes (QUOTED_IDENTIFIER).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quotes {
    /// Names, as nearly every client has it.
    #[default]
    Names,
    Literals,
    /// It was not seen which: what stands in them is not told.
    Unknown,
}

/// The statements of a text.
#[derive(Debug, Default)]
pub struct Batch {
    pub statements: Vec<Statement>,
    /// Not all of them need run, or not once, or not in their order.
    pub branches: bool,
    /// What it leaves `"` to mean.
    pub quotes: Option<Quotes>,
}

/// Words that a statement begins with; all but the last three are reserved, so that they are no names unless quoted.
const STARTERS: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "exec",
    "execute",
    "set",
    "declare",
    "if",
    "else",
    "while",
    "begin",
    "end",
    "create",
    "alter",
    "drop",
    "truncate",
    "use",
    "print",
    "return",
    "waitfor",
    "commit",
    "rollback",
    "save",
    "grant",
    "revoke",
    "deny",
    "backup",
    "restore",
    "bulk",
    "dbcc",
    "kill",
    "open",
    "fetch",
    "close",
    "deallocate",
    "raiserror",
    "goto",
    "break",
    "continue",
    "revert",
    "reconfigure",
    "shutdown",
    "checkpoint",
    "writetext",
    "updatetext",
    "readtext",
    "throw",
];

/// Hints that may stand in parentheses behind a table, without WITH.
const HINTS: &[&str] = &[
    "nolock",
    "holdlock",
    "updlock",
    "readpast",
    "tablock",
    "tablockx",
    "xlock",
    "rowlock",
    "paglock",
    "nowait",
    "readuncommitted",
    "readcommitted",
    "repeatableread",
    "serializable",
    "snapshot",
    "index",
    "noexpand",
    "forceseek",
    "forcescan",
];

/// Words of expressions that are no columns, beside those of PostgreSQL.
const OPERATORS: &[&str] = &[
    "top",
    "percent",
    "ties",
    "between",
    "exists",
    "over",
    "apply",
    "pivot",
    "unpivot",
    "contains",
    "freetext",
    "escape",
    "within",
    "rows",
    "range",
    "unbounded",
    "preceding",
    "following",
    "row",
    "current",
    "output",
    "identitycol",
    "rowguidcol",
    "max",
];

/// Functions that stand where a table would and read elsewhere.
const ELSEWHERE: &[&str] = &["openquery", "openrowset", "opendatasource"];

/// Reads a text of one or several statements; see [`super::read`].
#[must_use]
pub fn read(text: &[u8], whole: bool, quotes: Quotes) -> Batch {
    read_nested(text, whole, quotes, 0)
}

fn read_nested(text: &[u8], whole: bool, quotes: Quotes, nested: u8) -> Batch {
    let tokens = tokenize(text, quotes);
    let mut batch = Batch::default();
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let end = Walk { text, tokens: rest }.statement_end();
        let cut = !whole && end == rest.len();
        let (one, after) = rest.split_at(end);
        let semicolon = after.first().is_some_and(|t| t.kind == Kind::Symbol && &text[t.start..t.end] == b";");
        rest = after.get(usize::from(semicolon)..).unwrap_or(&[]);
        if one.is_empty() {
            continue;
        }
        if batch.statements.len() == STATEMENTS_MAX {
            let mut unread = Statement::unknown(Operation::Call, Side::Client);
            unread.bounded = true;
            batch.statements.push(unread);
            break;
        }
        let mut reader = Reader::new(text, one, cut);
        reader.tsql = Some(quotes);
        reader.nested = nested;
        batch.branches |= reader.any(0, &["if", "while", "goto", "else"]) || (reader.is(0, "begin") && reader.any(1, &["try", "catch"]));
        if reader.is(0, "set") && reader.any(1, &["quoted_identifier", "ansi_defaults"]) {
            batch.quotes = Some(if reader.is(2, "off") { Quotes::Literals } else { Quotes::Names });
        }
        // A procedure may be called by its name alone where nothing stands before it.
        let bare = batch.statements.is_empty() && !reader.any(0, STARTERS) && !reader.is(0, "with");
        if bare && reader.name(0).is_some() {
            reader.set(Operation::Call, Side::Client);
            reader.procedure(0);
            reader.mark();
            batch.statements.push(reader.out);
        } else {
            batch.statements.push(reader.statement());
        }
        if !whole && !cut && rest.is_empty() {
            batch.statements.push(Statement::unknown(Operation::Call, Side::Client));
        }
    }
    batch
}

/// A call of a procedure by its name, with those of its parameters that are texts.
#[must_use]
pub fn call(procedure: &str, texts: &[Option<String>]) -> Statement {
    let mut text = String::from("EXEC ");
    text.push_str(procedure);
    for (at, value) in texts.iter().enumerate() {
        text.push_str(if at == 0 { " " } else { ", " });
        match value {
            Some(value) => {
                text.push_str("N'");
                text.push_str(&value.replace('\'', "''"));
                text.push('\'');
            }
            None => text.push_str("@p"),
        }
    }
    let mut read = read_nested(text.as_bytes(), true, Quotes::Names, 0).statements;
    if read.len() == 1 { read.remove(0) } else { Statement::unknown(Operation::Call, Side::Client) }
}

struct Walk<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

impl Walk<'_> {
    fn is(&self, at: usize, words: &[&str]) -> bool {
        let Some(token) = self.tokens.get(at).filter(|t| t.kind == Kind::Word) else { return false };
        words.iter().any(|word| self.text[token.start..token.end].eq_ignore_ascii_case(word.as_bytes()))
    }

    fn symbol(&self, at: usize, symbol: u8) -> bool {
        self.tokens.get(at).is_some_and(|t| t.kind == Kind::Symbol && self.text[t.start] == symbol)
    }

    /// Where the first statement ends: at a semicolon, or before the word that begins another one.
    fn statement_end(&self) -> usize {
        // A module's body is the rest of its batch.
        if self.is(0, &["create", "alter"]) {
            let kind = 1 + 2 * usize::from(self.is(1, &["or"]) && self.is(2, &["alter"]));
            if self.is(kind, &["procedure", "proc", "function", "trigger", "view"]) {
                return self.tokens.len();
            }
        }
        let (mut depth, mut cases) = (0_usize, 0_usize);
        // The verb that a WITH is in front of; the rows that an INSERT is given; the SET of an UPDATE.
        let (mut main, mut source, mut sets) = (!self.is(0, &["with"]), false, false);
        for at in 0..self.tokens.len() {
            if self.symbol(at, b'(') {
                depth += 1;
            } else if self.symbol(at, b')') {
                depth = depth.saturating_sub(1);
            } else if self.symbol(at, b';') && depth == 0 {
                // EXEC procedure;2 is one of several of that name.
                if self.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Number) {
                    continue;
                }
                return at;
            }
            if depth > 0 || (at > 0 && self.symbol(at - 1, b'.')) {
                continue;
            }
            if self.is(at, &["case"]) {
                cases += 1;
            } else if cases > 0 && self.is(at, &["end"]) {
                cases -= 1;
                continue;
            } else if cases > 0 && self.is(at, &["else"]) {
                continue;
            }
            source |= self.is(at, &["values", "default"]);
            if at == 0 || !self.is(at, STARTERS) {
                continue;
            }
            if self.goes_on(at, &mut main, &mut source, &mut sets) {
                continue;
            }
            return at;
        }
        self.tokens.len()
    }

    /// Whether a word that may begin a statement is part of the one at hand.
    fn goes_on(&self, at: usize, main: &mut bool, source: &mut bool, sets: &mut bool) -> bool {
        let verb = |words: &[&str]| self.is(0, words);
        let before = |words: &[&str]| self.is(at - 1, words);
        // GRANT SELECT, INSERT ON …; DENY ALTER ON …; WITH GRANT OPTION.
        if verb(&["grant", "deny", "revoke"]) {
            let until = (1..at).any(|at| self.is(at, &["to", "from"]));
            return !until || before(&["with", "to", "from"]);
        }
        if self.is(at, &["if"]) {
            return verb(&["drop", "create", "alter"]) && self.is(at + 1, &["exists", "not"]);
        }
        if self.is(at, &["select"]) {
            if before(&["union", "all", "except", "intersect", "for", "as"]) {
                return true;
            }
            if !*main || (verb(&["insert"]) && !*source) {
                *main = true;
                *source = true;
                return true;
            }
            return false;
        }
        if self.is(at, &["insert", "update", "delete", "merge"]) {
            if before(&["then", "for", "on", "of", "after", "instead", "bulk"]) || self.symbol(at - 1, b',') {
                return true;
            }
            return !std::mem::replace(main, true);
        }
        if self.is(at, &["set"]) {
            let updates = (0..at).any(|at| self.is(at, &["update"]));
            if updates && !*sets {
                *sets = !verb(&["merge"]);
                return true;
            }
            return verb(&["alter", "create", "backup", "restore"]) || before(&["delete", "update", "then"]);
        }
        if self.is(at, &["exec", "execute"]) {
            if verb(&["insert"]) && !*source {
                *source = true;
                return true;
            }
            return before(&["with"]);
        }
        if self.is(at, &["alter", "drop"]) {
            // ALTER TABLE … ALTER COLUMN, DROP CONSTRAINT; ALTER ROLE … DROP MEMBER.
            return verb(&["alter"]);
        }
        if self.is(at, &["fetch"]) {
            return before(&["rows", "row"]);
        }
        if self.is(at, &["insert", "bulk"]) && before(&["insert"]) {
            return true;
        }
        // BEGIN TRAN; DECLARE c CURSOR … FOR UPDATE; WITH EXECUTE AS …; PERCENTILE … WITHIN …; OPEN SYMMETRIC KEY.
        self.is(at, &["save", "backup", "restore", "checkpoint"]) && verb(&["alter", "create"])
            || self.is(at, &["close", "open"]) && verb(&["alter", "create", "backup"])
            || self.is(at, &["revert", "throw"]) && !self.symbol(at + 1, b';') && at + 1 < self.tokens.len() && before(&["as"])
            || before(&["as"]) && !self.is(at, &["begin", "select"])
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'#' | b'@') || byte >= 0x80
}

/// The tokens of a text.
fn tokenize(text: &[u8], quotes: Quotes) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 6 + 4);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        let next = text.get(at + 1).copied().unwrap_or(0);
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0 => {
                at += 1;
                continue;
            }
            b'-' if next == b'-' => {
                at = text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |n| at + n);
                continue;
            }
            b'/' if next == b'*' => {
                at = comment_end(text, at);
                continue;
            }
            b'\'' => {
                at = quoted_end(text, at + 1, b'\'').0;
                Kind::Literal
            }
            b'n' | b'N' if next == b'\'' => {
                at = quoted_end(text, at + 2, b'\'').0;
                Kind::Literal
            }
            b'"' => {
                let (end, finished) = quoted_end(text, at + 1, b'"');
                at = end;
                match quotes {
                    Quotes::Literals => Kind::Literal,
                    Quotes::Names if finished => Kind::Quoted,
                    _ => Kind::Odd,
                }
            }
            b'[' => {
                let (end, finished) = quoted_end(text, at + 1, b']');
                at = end;
                if finished { Kind::Quoted } else { Kind::Odd }
            }
            // A variable, or one of the server's; where a driver leaves the mark of a parameter.
            b'@' | b'?' => {
                at += 1 + text[at + 1..].iter().take_while(|b| is_word(**b)).count();
                Kind::Parameter
            }
            _ if is_word(byte) && !byte.is_ascii_digit() && byte != b'$' => {
                at += text[at..].iter().take_while(|b| is_word(**b)).count();
                Kind::Word
            }
            // Money.
            b'$' if next.is_ascii_digit() => {
                at = number_end(text, at + 1);
                Kind::Number
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

/// After the closing quote, and whether there is one; two of them stand for one.
fn quoted_end(text: &[u8], mut at: usize, quote: u8) -> (usize, bool) {
    while let Some(&byte) = text.get(at) {
        if byte == quote {
            if text.get(at + 1) != Some(&quote) {
                return (at + 1, true);
            }
            at += 1;
        }
        at += 1;
    }
    (text.len(), false)
}

/// A name in brackets or in quotes.
pub(super) fn unquoted(part: &[u8]) -> Option<String> {
    let close = if part.first()? == &b'[' { "]" } else { "\"" };
    let inner = part.get(1..part.len().checked_sub(1)?)?;
    Some(cut(text_of(inner).replace(&close.repeat(2), close).to_lowercase()))
}

impl Reader<'_> {
    /// Behind TOP (n) PERCENT WITH TIES, ALL, DISTINCT.
    pub(super) fn tsql_modifiers(&self, at: usize) -> usize {
        let mut at = self.skip(at, &["all", "distinct"]);
        if self.is(at, "top") {
            at = if self.symbol(at + 1, b'(') { self.closing(at + 1) } else { at + 2 };
            at += usize::from(self.is(at, "percent"));
            at += if self.is(at, "with") && self.is(at + 1, "ties") { 2 } else { 0 };
        }
        at
    }

    /// Whether the parenthesis at `at`, behind a table, holds hints.
    pub(super) fn is_hint(&self, at: usize) -> bool {
        self.tsql.is_some() && self.symbol(at, b'(') && self.any(at + 1, HINTS) && matches!(self.part(at + 2), b")" | b"," | b"(" | b"=")
    }

    /// Whether a word of an expression is no column of this dialect.
    pub(super) fn is_tsql_operator(&self, at: usize) -> bool {
        self.tsql.is_some()
            && (self.any(at, OPERATORS)
                || self.any(at, HINTS)
                || (at > 1 && self.symbol(at - 1, b'(') && self.any(at - 2, &["convert", "try_convert", "datepart", "dateadd", "datediff", "datename"]))
                // `alias = value`.
                || (self.symbol(at + 1, b'=') && at > 0 && (self.symbol(at - 1, b',') || self.any(at - 1, &["select", "distinct"]))))
    }

    /// What a statement does; false where it is as in PostgreSQL.
    pub(super) fn tsql_statement(&mut self, verb: &str) -> bool {
        match verb {
            "select" | "with" | "update" | "delete" | "merge" if verb != "update" || !self.is(1, "statistics") => {
                self.query(0);
                self.drop_alias();
                self.tsql_sources();
            }
            "update" => {
                self.set(Operation::Ddl, Side::Client);
                self.relations(2);
            }
            "insert" if self.is(1, "bulk") => self.bulk(2, false),
            "insert" => {
                self.query(0);
                self.tsql_sources();
                if let Some(exec) = self.outside(1, "exec").or_else(|| self.outside(1, "execute")) {
                    let (operation, columns) = (self.out.operation, self.out.columns.clone());
                    self.procedure(exec + 1);
                    self.set(operation, Side::Client);
                    self.out.columns = columns;
                }
            }
            "bulk" => self.bulk(self.skip(1, &["insert"]), true),
            "exec" | "execute" if self.is(1, "as") => self.impersonate(),
            "exec" | "execute" => self.tsql_execute(),
            "revert" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = Effect::Role(None);
            }
            "setuser" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = Effect::Role(self.value(1));
            }
            "use" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = Effect::Path(self.name(1).map(|name| vec![name]));
            }
            "declare" if (1..self.tokens.len().min(8)).any(|at| self.is(at, "cursor")) => self.tsql_cursor(),
            "fetch" => self.tsql_fetch(),
            "close" | "deallocate" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = self.name(self.skip(1, &["global"])).map_or(Effect::None, Effect::CloseCursor);
            }
            "begin" | "set" | "declare" | "if" | "else" | "while" | "end" | "print" | "return" | "waitfor" | "commit" | "rollback"
            | "save" | "kill" | "open" | "raiserror" | "throw" | "goto" | "break" | "continue" | "checkpoint" => {
                self.set(Operation::Connect, Side::Client);
            }
            "backup" => self.backup(),
            "restore" | "dbcc" | "reconfigure" | "shutdown" | "disable" | "enable" => {
                self.set(Operation::Ddl, Side::Client);
                if verb == "restore" {
                    self.out.names.extend(self.name(2).map(|name| format!("database:{name}")));
                }
            }
            "truncate" => {
                self.set(Operation::Ddl, Side::Client);
                self.relations(self.skip(1, &["table"]));
            }
            "writetext" | "updatetext" | "readtext" => {
                let at = self.skip(1, &["bulk"]);
                let reads = verb == "readtext";
                self.set(if reads { Operation::Select } else { Operation::Update }, if reads { Side::Server } else { Side::Client });
                match self.qualified(at) {
                    Some((mut parts, _)) if parts.len() > 1 => {
                        self.out.columns = parts.pop().into_iter().collect();
                        self.add_table(&parts);
                    }
                    _ => self.out.readable = false,
                }
            }
            "create" | "alter" | "drop" => self.tsql_definition(verb),
            "grant" | "revoke" | "deny" => self.tsql_grant(verb),
            _ => self.out.readable = false,
        }
        true
    }

    /// `UPDATE a … FROM t AS a`: the name in front is no table.
    fn drop_alias(&mut self) {
        if !self.is(0, "update") && self.out.operation != Operation::Update {
            return;
        }
        let Some(verb) = self.outside(0, "update") else { return };
        let target = self.tsql_modifiers(verb + 1);
        let (Some((parts, end)), Some(from)) = (self.qualified(target), self.outside(verb, "from")) else { return };
        let [name] = parts.as_slice() else { return };
        let aliases = (from.max(end) + 2..self.tokens.len()).any(|at| {
            self.name(at).as_ref() == Some(name)
                && !self.symbol(at + 1, b'.')
                && !self.symbol(at - 1, b'.')
                && (self.is(at - 1, "as")
                    || self.symbol(at - 1, b')')
                    || (self.name(at - 1).is_some() && !self.any(at - 1, &["from", "join", "apply"])))
        });
        if aliases {
            self.out.tables.retain(|table| table.qualified || table.name != *name);
        }
    }

    /// What stands where a table would and reads from elsewhere; a table of another server.
    fn tsql_sources(&mut self) {
        for at in 1..self.tokens.len() {
            if self.any(at, ELSEWHERE) && self.symbol(at + 1, b'(') {
                let bulk = self.is(at + 2, "bulk");
                if self.is(at, "openquery") {
                    self.out.names.extend(self.name(at + 2).map(|name| format!("server:{name}")));
                }
                // A file of the server, or what is asked of another: neither is a name here.
                self.out.readable = false;
                if !bulk {
                    self.add_mark(TO_SERVER);
                }
                if (at + 2..self.closing(at + 1)).any(|at| self.holds_tsql_password(at)) {
                    self.add_mark(SECRET_CONNECTION);
                }
            }
        }
        if self.out.tables.iter().any(|table| table.name.matches('.').count() == 3) {
            self.add_mark(TO_SERVER);
        }
        if let Some(at) = (1..self.tokens.len()).find(|at| self.is(*at, "for") && self.any(at + 1, &["json", "xml"])) {
            if !self.is(at + 2, "schema") && self.out.operation == Operation::Select {
                self.add_mark(FOLDED);
            }
        }
    }

    /// A connection string with a password in it: `Pwd=…`, or as PostgreSQL writes it.
    fn holds_tsql_password(&self, at: usize) -> bool {
        let lower = self.content(at).to_ascii_lowercase();
        self.holds_password(at)
            || memchr::memmem::find(&lower, b"pwd=").is_some_and(|found| lower.get(found + 4).is_some_and(|b| *b != b';'))
    }

    /// BULK INSERT t FROM 'file' (the server's), INSERT BULK t (the client's rows follow).
    fn bulk(&mut self, at: usize, server_side: bool) {
        self.set(Operation::Copy, Side::Client);
        self.out.copy = Some(CopyOptions { inward: true, server_side, ..CopyOptions::default() });
        let Some((parts, end)) = self.qualified(at) else {
            self.out.readable = false;
            return;
        };
        self.add_table(&parts);
        if self.symbol(end, b'(') {
            // A name stands first in each definition; its type may have parentheses of its own.
            let (mut names, mut at, closing) = (Vec::new(), end + 1, self.closing(end).saturating_sub(1));
            while at < closing && names.len() < COLUMNS_MAX {
                names.extend(self.name(at));
                while at < closing && !self.symbol(at, b',') {
                    at = if self.symbol(at, b'(') { self.closing(at) } else { at + 1 };
                }
                at += 1;
            }
            if !names.is_empty() {
                self.out.columns = names;
            }
        }
    }

    /// EXECUTE AS USER | LOGIN = 'name', AS CALLER.
    fn impersonate(&mut self) {
        self.set(Operation::Connect, Side::Client);
        let role = if self.is(2, "caller") { None } else { Some(self.literal(4).unwrap_or_else(|| UNKNOWN.into())) };
        self.out.effect = Effect::Role(role);
    }

    fn tsql_execute(&mut self) {
        self.set(Operation::Call, Side::Client);
        if self.symbol(1, b'(') {
            // One literal alone is a text that can be read.
            let only = self.kind(2) == Some(Kind::Literal) && self.symbol(3, b')');
            let elsewhere = self.is(self.closing(1), "at");
            self.carried(if only && !elsewhere { Some(2) } else { None });
            if elsewhere {
                self.out.names.extend(self.name(self.closing(1) + 1).map(|name| format!("server:{name}")));
                self.add_mark(TO_SERVER);
            }
            return;
        }
        let at = if self.kind(1) == Some(Kind::Parameter) && self.symbol(2, b'=') { 3 } else { 1 };
        self.procedure(at);
    }

    /// A procedure's call from its name on.
    fn procedure(&mut self, at: usize) {
        let Some((parts, end)) = self.qualified(at) else {
            self.out.readable = false;
            return;
        };
        let end = if self.symbol(end, b';') { end + 2 } else { end };
        let last = parts.last().cloned().unwrap_or_default();
        if last == "sp_executesql" || last == "sp_prepexec" {
            let at = self.argument(end, 0, &["stmt", "statement"]);
            self.carried(at);
            return;
        }
        self.out.names.push(format!("function:{}", parts.join(".")));
        if parts.len() == 4 {
            self.add_mark(TO_SERVER);
        }
        let said = |reader: &Self, place: usize, names: &[&str]| reader.argument(end, place, names).and_then(|at| reader.value(at));
        let account = |name: Option<String>| name.map(|name| format!("account:{name}"));
        let (names, columns): (Option<String>, Vec<String>) = match last.as_str() {
            "xp_cmdshell" | "sp_oacreate" | "sp_oamethod" | "sp_execute_external_script" | "sp_start_job" => {
                self.add_mark(TO_PROGRAM);
                return;
            }
            "sp_addlinkedserver" | "sp_addserver" | "sp_serveroption" => {
                self.add_mark(FOREIGN);
                return;
            }
            "sp_addlinkedsrvlogin" => {
                self.add_mark(FOREIGN);
                if self.argument(end, 4, &["rmtpassword"]).is_some_and(|at| !self.content(at).is_empty()) {
                    self.add_mark(SECRET_CONNECTION);
                }
                return;
            }
            "sp_send_dbmail" => {
                self.add_mark(TO_SERVER);
                return;
            }
            "sp_setapprole" => {
                self.set(Operation::Connect, Side::Client);
                let role = said(self, 0, &["rolename"]).unwrap_or_else(|| UNKNOWN.into());
                self.out.effect = Effect::Role(Some(role));
                self.out.names.clear();
                return;
            }
            "sp_addrolemember" | "sp_droprolemember" => {
                let action = if last == "sp_addrolemember" { "grant" } else { "revoke" };
                let role = said(self, 0, &["rolename"]).map(|role| format!("{action}:{role}"));
                (account(said(self, 1, &["membername"])), role.into_iter().collect())
            }
            "sp_addsrvrolemember" | "sp_dropsrvrolemember" => {
                let action = if last == "sp_addsrvrolemember" { "grant" } else { "revoke" };
                let role = said(self, 1, &["rolename"]).map(|role| format!("{action}:{role}"));
                (account(said(self, 0, &["loginame"])), role.into_iter().collect())
            }
            "sp_addlogin" | "sp_password" => {
                let add = last == "sp_addlogin";
                let place = if add { (0, 1) } else { (2, 1) };
                if self.argument(end, place.1, &["passwd", "new"]).is_some_and(|at| !self.content(at).is_empty()) {
                    self.add_mark(SECRET_PASSWORD);
                }
                let verb = if add { "create" } else { "alter" };
                (account(said(self, place.0, &["loginame"])), vec![verb.into(), "password".into()])
            }
            "sp_grantlogin" | "sp_adduser" | "sp_grantdbaccess" | "sp_addrole" | "sp_addapprole" | "sp_addsrvrole" => {
                (account(said(self, 0, &["loginame", "rolename"])), vec!["create".into()])
            }
            "sp_revokelogin" | "sp_droplogin" | "sp_dropuser" | "sp_revokedbaccess" | "sp_droprole" | "sp_dropapprole" | "sp_denylogin" => {
                (account(said(self, 0, &["loginame", "rolename", "name_in_db"])), vec!["drop".into()])
            }
            "sp_change_users_login" | "sp_changedbowner" | "sp_defaultdb" => (account(said(self, 0, &["loginame"])), vec!["alter".into()]),
            _ => return,
        };
        self.set(Operation::Admin, Side::Client);
        self.out.names = names.into_iter().collect();
        self.out.readable &= !self.out.names.is_empty();
        self.out.columns = if columns.is_empty() { vec!["*".into()] } else { columns };
    }

    /// Where a procedure's argument stands: by its place, or by its name.
    fn argument(&self, from: usize, place: usize, names: &[&str]) -> Option<usize> {
        let (mut at, mut count) = (from, 0);
        let mut found = None;
        while at < self.tokens.len() {
            let named = self.kind(at) == Some(Kind::Parameter) && self.symbol(at + 1, b'=');
            if named {
                let name = text_of(self.part(at).get(1..).unwrap_or_default()).to_lowercase();
                if names.contains(&name.as_str()) {
                    return Some(at + 2);
                }
            } else if count == place && found.is_none() {
                found = Some(at);
            }
            while at < self.tokens.len() && !self.symbol(at, b',') {
                at += 1;
            }
            at += 1;
            count += 1;
        }
        found
    }

    /// The statements of a text that is carried as a literal: one of them takes the place of what carries it.
    fn carried(&mut self, at: Option<usize>) {
        let fingerprint = self.out.fingerprint.clone();
        let at = at.filter(|at| self.nested < NESTED_MAX && self.kind(*at) == Some(Kind::Literal));
        let quotes = self.tsql.unwrap_or_default();
        let text = at.map(|at| text_of(self.content(at)).replace("''", "'"));
        let read = text.map(|text| read_nested(text.as_bytes(), !self.cut, quotes, self.nested + 1).statements).unwrap_or_default();
        let moves = |statement: &&Statement| statement.operation != Operation::Connect;
        if read.iter().filter(moves).count() == 1 {
            if let Some(one) = read.iter().find(moves) {
                self.out = one.clone();
            }
        } else {
            self.set(Operation::Call, Side::Client);
            self.out.readable = !read.is_empty() && read.iter().all(|one| one.readable);
            for one in &read {
                one.tables.iter().filter(|table| !self.out.tables.contains(table)).cloned().collect::<Vec<_>>().into_iter().for_each(
                    |table| {
                        if self.out.tables.len() < TABLES_MAX {
                            self.out.tables.push(table);
                        } else {
                            self.out.readable = false;
                        }
                    },
                );
                for mark in &one.marks {
                    self.add_mark(mark);
                }
            }
        }
        self.out.fingerprint = fingerprint;
    }

    fn tsql_cursor(&mut self) {
        let Some(query) = self.outside(1, "for") else {
            self.set(Operation::Connect, Side::Client);
            return;
        };
        self.query(query + 1);
        self.tsql_sources();
        self.out.effect = self.name(1).map_or(Effect::None, Effect::Declare);
    }

    /// FETCH [direction] [FROM] [GLOBAL] cursor [INTO variables].
    fn tsql_fetch(&mut self) {
        let into = self.find(1, "into");
        self.set(if into.is_some() { Operation::Connect } else { Operation::Select }, Side::Server);
        if into.is_some() {
            self.set(Operation::Connect, Side::Client);
            return;
        }
        self.out.readable = false;
        let last = into.unwrap_or(self.tokens.len()).checked_sub(1);
        self.out.effect = last.and_then(|at| self.name(at)).map_or(Effect::None, Effect::Fetch);
    }

    fn backup(&mut self) {
        self.set(Operation::Backup, Side::Server);
        self.out.names.extend(self.name(2).filter(|_| self.any(1, &["database", "log"])).map(|name| format!("database:{name}")));
        let away = (1..self.tokens.len()).any(|at| self.is(at, "url") || self.content(at).starts_with(b"\\\\"));
        self.add_mark(if away { TO_SERVER } else { TO_FILE });
    }

    fn tsql_definition(&mut self, verb: &str) {
        let at = 1 + 2 * usize::from(self.is(1, "or") && self.is(2, "alter"));
        let server = self.is(at, "server") && self.is(at + 1, "role");
        let application = self.is(at, "application") && self.is(at + 1, "role");
        let at = at + usize::from(server || application);
        if self.any(at, &["login", "user", "role"]) {
            self.tsql_account(verb, at + 1);
            return;
        }
        self.set(Operation::Ddl, Side::Client);
        let skipped = [
            "unique",
            "clustered",
            "nonclustered",
            "columnstore",
            "external",
            "database",
            "primary",
            "spatial",
            "xml",
            "or",
            "alter",
            "partition",
        ];
        let kind_at = if self.is(at, "database") && !self.any(at + 1, &["scoped", "audit"]) { at } else { self.skip(at, &skipped) };
        let kind = self.name(kind_at).unwrap_or_default();
        let after = self.skip(kind_at + 1, &["if", "not", "exists"]);
        match kind.as_str() {
            "table" | "view" => {
                self.relations(after);
                if verb != "drop" && kind == "view" {
                    if let Some(query) = self.outside(after, "as") {
                        self.walk(query + 1, true);
                    }
                }
            }
            "index" | "trigger" | "statistics" => match self.find(after, "on") {
                Some(on) => self.relations(on + 1),
                None => self.other(&kind, after),
            },
            "synonym" => {
                self.relations(after);
                if let Some(of) = self.find(after, "for") {
                    self.relations(of + 1);
                }
            }
            "proc" => self.other("procedure", after),
            _ => self.other(&kind, after),
        }
        let reaches = (kind == "data" && self.is(kind_at + 1, "source")) || kind == "endpoint";
        let secret = |at: usize| self.is(at, "secret") && self.symbol(at + 1, b'=') && !self.content(at + 2).is_empty();
        let says = (1..self.tokens.len()).any(secret);
        if reaches {
            self.add_mark(FOREIGN);
        }
        if says {
            self.add_mark(SECRET_CONNECTION);
        }
    }

    /// CREATE, ALTER, DROP LOGIN | USER | [SERVER | APPLICATION] ROLE.
    fn tsql_account(&mut self, verb: &str, at: usize) {
        self.set(Operation::Admin, Side::Client);
        let at = self.skip(at, &["if", "exists"]);
        let mut columns = vec![verb.to_owned()];
        let name = self.value(at);
        let member = |at: usize| self.any(at, &["add", "drop"]) && self.is(at + 1, "member");
        if let Some(found) = (at..self.tokens.len()).find(|at| member(*at)) {
            let action = if self.is(found, "add") { "grant" } else { "revoke" };
            columns = name.iter().map(|role| format!("{action}:{role}")).collect();
            self.out.names.extend(self.value(found + 2).map(|name| format!("account:{name}")));
        } else {
            self.out.names.extend(name.map(|name| format!("account:{name}")));
        }
        for at in at..self.tokens.len() {
            if self.is(at, "password") && self.symbol(at + 1, b'=') {
                if !columns.iter().any(|column| column == "password") {
                    columns.push("password".into());
                }
                if !self.content(at + 2).is_empty() {
                    self.add_mark(SECRET_PASSWORD);
                }
            } else if self.is(at, "name") && self.symbol(at + 1, b'=') {
                self.out.names.extend(self.value(at + 2).map(|name| format!("account:{name}")));
            }
        }
        self.out.readable &= !self.out.names.is_empty();
        self.out.columns = columns;
    }

    /// GRANT, REVOKE and DENY of permissions.
    fn tsql_grant(&mut self, verb: &str) {
        self.set(Operation::Admin, Side::Client);
        let word = if verb == "revoke" { "from" } else { "to" };
        let to = self.outside(1, word).or_else(|| self.outside(1, "to")).unwrap_or(self.tokens.len());
        let on = (1..to).find(|at| self.is(*at, "on")).unwrap_or(to);
        let mut columns = Vec::new();
        let mut item = self.skip(1, &["grant", "option", "for"]);
        while item < on && columns.len() < COLUMNS_MAX {
            let mut words = Vec::new();
            while item < on && !self.symbol(item, b',') {
                words.extend(self.name(item));
                item = if self.symbol(item, b'(') { self.closing(item) } else { item + 1 };
            }
            if !words.is_empty() {
                columns.push(format!("{verb}:{}", words.join(" ")));
            }
            item += 1;
        }
        self.out.names = self.list_of_names(to + 1).into_iter().map(|name| format!("account:{name}")).collect();
        self.out.readable &= !self.out.names.is_empty();
        self.out.columns = columns;
    }
}

#[cfg(test)]
mod tests;

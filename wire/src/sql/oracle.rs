//! SQL and PL/SQL as Oracle writes it, where that differs: quotes, binds, links to other databases, and the commands that
//! PostgreSQL has not (Oracle Database SQL Language Reference, "Literals", "Database Object Names and Qualifiers").
//!
//! Names are told as the data dictionary holds them: in upper case unless they are quoted. A call of the protocol runs one
//! statement or one block. What a block does is read only where it is a single call; all else in it is `unknown`.

use super::marks::{FOREIGN, SECRET_PASSWORD};
use super::{
    Kind, NO_COLUMNS, Operation, Reader, Side, Statement, Token, is_word, is_word_start, literal_end, number_or_symbol, quoted_end,
};

/// Words of expressions that are no columns, beside those of PostgreSQL.
const OPERATORS: &[&str] = &[
    "sysdate",
    "systimestamp",
    "rownum",
    "level",
    "prior",
    "uid",
    "minus",
    "unique",
    "dbtimezone",
    "sessiontimezone",
    "date",
    "timestamp",
];

/// Words of expressions that a value ends with.
const VALUES: &[&str] = &["end", "null", "sysdate", "systimestamp", "rownum", "user", "level", "uid"];
/// Words, beside those that can be no column, behind which another value stands.
const BEFORE_VALUES: &[&str] = &["select", "between", "by", "over", "escape", "of", "connect", "interval", "partition", "within", "keep"];

/// Reads a text; see [`super::read`].
#[must_use]
pub fn read(text: &[u8], whole: bool) -> Statement {
    let (mut tokens, linked, secret) = tokenize(text);
    let is_block = tokens.first().is_some_and(|first| {
        let word = text.get(first.start..first.end).unwrap_or_default();
        first.kind == Kind::Word && [&b"begin"[..], b"declare"].iter().any(|verb| word.eq_ignore_ascii_case(verb))
    });
    if !is_block {
        while tokens.last().is_some_and(|last| last.kind == Kind::Symbol && text.get(last.start) == Some(&b';')) {
            tokens.pop();
        }
    }
    let mut reader = Reader::new(text, &tokens, !whole);
    reader.oracle = true;
    let mut statement = reader.statement();
    for (holds, mark) in [(linked, FOREIGN), (secret, SECRET_PASSWORD)] {
        if holds && !statement.marks.contains(&mark) {
            statement.marks.push(mark);
        }
    }
    statement
}

/// The tokens, whether one of them names another database, and whether a password stood among them. It stands there as a
/// name would (`IDENTIFIED BY tiger`): from here on it is a literal.
fn tokenize(text: &[u8]) -> (Vec<Token>, bool, bool) {
    let mut tokens: Vec<Token> = Vec::with_capacity(text.len() / 6 + 4);
    let (mut at, mut linked, mut secret) = (0, false, false);
    while let Some(&byte) = text.get(at) {
        let start = at;
        let next = text.get(at + 1).copied().unwrap_or(0);
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0 => {
                at += 1;
                continue;
            }
            b'-' if next == b'-' => {
                at = text.get(at..).unwrap_or_default().iter().position(|b| *b == b'\n').map_or(text.len(), |n| at + n);
                continue;
            }
            b'/' if next == b'*' => {
                at = memchr::memmem::find(text.get(at + 2..).unwrap_or_default(), b"*/").map_or(text.len(), |n| at + 2 + n + 2);
                continue;
            }
            b'\'' => {
                at = literal_end(text, at + 1, false);
                Kind::Literal
            }
            b'q' | b'Q' if next == b'\'' => {
                at = chosen_end(text, at + 2);
                Kind::Literal
            }
            b'n' | b'N' if matches!(next, b'q' | b'Q') && text.get(at + 2) == Some(&b'\'') => {
                at = chosen_end(text, at + 3);
                Kind::Literal
            }
            b'n' | b'N' if next == b'\'' => {
                at = literal_end(text, at + 2, false);
                Kind::Literal
            }
            b'"' => {
                let (end, finished) = quoted_end(text, at + 1);
                at = end;
                if finished { Kind::Quoted } else { Kind::Odd }
            }
            b':' if is_word(next) => {
                at += 1 + text.get(at + 1..).unwrap_or_default().iter().take_while(|b| is_word(**b)).count();
                Kind::Parameter
            }
            b'?' => {
                at += 1;
                Kind::Parameter
            }
            b'@' if is_word_start(next) || next == b'"' => {
                linked = true;
                at += 1;
                if next == b'"' {
                    at = quoted_end(text, at + 1).0;
                } else {
                    at += text.get(at..).unwrap_or_default().iter().take_while(|b| is_name(**b) || matches!(b, b'.' | b'@')).count();
                }
                continue;
            }
            _ if is_word_start(byte) => {
                at += text.get(at..).unwrap_or_default().iter().take_while(|b| is_name(**b)).count();
                Kind::Word
            }
            _ => {
                let (kind, end) = number_or_symbol(text, at);
                at = end;
                kind
            }
        };
        let end = at.min(text.len());
        let is = |back: usize, word: &[u8]| {
            let token = tokens.len().checked_sub(back).and_then(|i| tokens.get(i));
            token.is_some_and(|t| t.kind == Kind::Word && text.get(t.start..t.end).is_some_and(|w| w.eq_ignore_ascii_case(word)))
        };
        let says = text.get(start..end).unwrap_or_default();
        let behind_by = is(2, b"identified") && is(1, b"by") && !says.eq_ignore_ascii_case(b"values");
        let before = is(4, b"identified") && is(3, b"by") && is(1, b"replace");
        let is_secret = (behind_by || before) && !matches!(kind, Kind::Symbol | Kind::Parameter);
        secret |= is_secret;
        tokens.push(Token { kind: if is_secret { Kind::Literal } else { kind }, start, end });
    }
    (tokens, linked, secret)
}

fn is_name(byte: u8) -> bool {
    is_word(byte) || byte == b'#'
}

/// After a literal whose author chose its quotes (`q'[it's]'`); `at`: the first of them.
fn chosen_end(text: &[u8], at: usize) -> usize {
    let Some(&opens) = text.get(at) else { return text.len() };
    let closes = match opens {
        b'[' => b']',
        b'(' => b')',
        b'{' => b'}',
        b'<' => b'>',
        same => same,
    };
    memchr::memmem::find(text.get(at + 1..).unwrap_or_default(), &[closes, b'\'']).map_or(text.len(), |n| at + 1 + n + 2)
}

impl Reader<'_> {
    pub(super) fn is_oracle_operator(&self, at: usize) -> bool {
        self.oracle && self.any(at, OPERATORS)
    }

    /// Whether a word of a select list is the new name of the value before it: AS may be left out.
    pub(super) fn is_oracle_alias(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).filter(|_| self.oracle && !self.symbol(at + 1, b'.') && !self.symbol(at + 1, b'(')) else {
            return false;
        };
        match self.kind(before) {
            Some(Kind::Symbol) => self.symbol(before, b')'),
            Some(Kind::Word) => {
                let joins = self.any(before, NO_COLUMNS) || self.any(before, OPERATORS) || self.any(before, BEFORE_VALUES);
                self.any(before, VALUES) || !joins
            }
            Some(Kind::Odd) | None => false,
            Some(_) => true,
        }
    }

    /// What a statement does that PostgreSQL has not, or means otherwise; false where both mean the same.
    pub(super) fn oracle_statement(&mut self, verb: &str) -> bool {
        match verb {
            "begin" | "declare" => self.block(),
            "explain" => {
                self.set(Operation::Call, Side::Client);
                self.walk(self.outside(1, "for").map_or(1, |at| at + 1), true);
            }
            "alter" if self.is(1, "session") => self.set(Operation::Connect, Side::Client),
            "alter" if self.any(1, &["system", "database"]) => self.set(Operation::Ddl, Side::Client),
            "create" | "alter" | "drop" if self.links().is_some() => {
                self.set(Operation::Ddl, Side::Client);
                let name = self.links().and_then(|at| self.qualified(at)).map(|(parts, _)| format!("link:{}", parts.join(".")));
                self.out.names.extend(name);
                if verb != "drop" {
                    self.add_mark(FOREIGN);
                }
            }
            "create" | "alter" if self.is(1, "user") => {
                self.definition();
                if self.find(2, "identified").is_some() && !self.out.columns.iter().any(|column| column == "password") {
                    self.out.columns.push("password".into());
                }
            }
            "set" | "commit" | "rollback" | "savepoint" | "lock" => self.set(Operation::Connect, Side::Client),
            "rename" => {
                self.set(Operation::Ddl, Side::Client);
                self.relations(1);
            }
            "purge" | "flashback" | "analyze" | "audit" | "noaudit" | "associate" | "disassociate" | "administer" => {
                self.set(Operation::Ddl, Side::Client);
            }
            "listen" | "notify" | "copy" | "fetch" | "close" | "discard" | "end" | "abort" | "move" | "vacuum" | "reindex" | "cluster"
            | "refresh" | "security" | "reassign" | "reset" | "show" | "prepare" | "execute" | "do" | "table" | "values" => {
                self.out.readable = false;
            }
            _ => return false,
        }
        true
    }

    /// Where the name of a link to another database stands.
    fn links(&self) -> Option<usize> {
        let at = self.skip(1, &["public", "shared"]);
        let at = self.skip(at, &["public"]);
        (self.is(at, "database") && self.is(at + 1, "link")).then_some(at + 2)
    }

    /// A block that is one call (`BEGIN p(…); END;`, `BEGIN :1 := f(…); END;`).
    fn block(&mut self) {
        self.set(Operation::Call, Side::Client);
        let assigns = self.kind(1) == Some(Kind::Parameter) && self.symbol(2, b':') && self.symbol(3, b'=');
        let at = if assigns { 4 } else { 1 };
        let called = self.qualified(at).and_then(|(parts, end)| {
            let end = if self.symbol(end, b'(') { self.closing(end) } else { end };
            let ends = self.symbol(end, b';') && self.is(end + 1, "end") && self.tokens.len() <= end + 3;
            let plain = !(at..end).any(|inside| self.any(inside, &["select", "execute"]));
            (self.is(0, "begin") && ends && plain).then(|| format!("function:{}", parts.join(".")))
        });
        match called {
            Some(name) if !self.any(at, &["null", "commit", "rollback", "return", "raise"]) => self.out.names = vec![name],
            Some(_) => {}
            None => self.out.readable = false,
        }
    }

    /// Columns of a query: those that are read, or all.
    pub(super) fn oracle_columns(&self) -> Option<Vec<String>> {
        let (from, to) = self.list?;
        let to = to.min(self.tokens.len());
        let star = (from..to).any(|at| {
            self.symbol(at, b'*')
                && (at == from || self.symbol(at - 1, b',') || self.symbol(at - 1, b'.'))
                && (at + 1 == to || self.symbol(at + 1, b','))
        });
        let reads = &self.out.reads;
        (!star && !reads.is_empty() && !reads.iter().any(|name| name == "*")).then(|| reads.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> (Operation, Vec<String>, Vec<String>) {
        let statement = read(text.as_bytes(), true);
        let objects = statement.objects(None);
        (statement.operation, objects.names, objects.columns)
    }

    fn is(text: &str, operation: Operation, tables: &[&str], columns: &[&str]) {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(text), (operation, owned(tables), owned(columns)), "{text}");
    }

    #[test]
    fn names_are_those_of_the_dictionary() {
        is("select serial, \"Part\" from mes.genealogy g where g.x = :1", Operation::Select, &["MES.GENEALOGY"], &["SERIAL", "Part"]);
        is("select * from a, b where a.x = b.x(+)", Operation::Select, &["A", "B"], &["*"]);
        is("select user from dual", Operation::Select, &[], &["*"]);
        is("select * from \"dual\"", Operation::Select, &["dual"], &["*"]);
        is("select upper(p.name) n from p minus select q.c from q", Operation::Select, &["P", "Q"], &["NAME", "C"]);
        is("select a b, case when c then d end e, :1 f, g.h \"I\" from g", Operation::Select, &["G"], &["A", "C", "D", "H"]);
        is("insert into mes.lots (id, note) values (:1, q'[it's]')", Operation::Insert, &["MES.LOTS"], &["ID", "NOTE"]);
        is("insert all into a values (1) into b values (2) select x from c", Operation::Insert, &["A", "B", "C"], &["*"]);
        is("delete mes.lots where id = :id", Operation::Delete, &["MES.LOTS"], &["*"]);
        is("merge into t using s on (t.a = s.a) when matched then update set b = 1", Operation::Update, &["T", "S"], &["*"]);
        is("truncate table mes.lots", Operation::Ddl, &["MES.LOTS"], &["*"]);
        is("alter session set time_zone='+02:00'", Operation::Connect, &[], &["*"]);
    }

    #[test]
    fn blocks_name_the_one_thing_that_they_call() {
        is("BEGIN DBMS_OUTPUT.DISABLE; END;", Operation::Call, &["function:DBMS_OUTPUT.DISABLE"], &["*"]);
        is("begin :1 := mes.next_lot(:2, 'x'); end;", Operation::Call, &["function:MES.NEXT_LOT"], &["*"]);
        is("begin a(1); b(2); end;", Operation::Call, &["unknown"], &["*"]);
        is("declare x number; begin delete from t; end;", Operation::Call, &["unknown"], &["*"]);
        is("call mes.close_lot(:1)", Operation::Call, &["function:MES.CLOSE_LOT"], &["*"]);
    }

    #[test]
    fn links_to_other_databases_are_marked() {
        let statement = read(b"select a from mes.lots@cloud.example where x = 1", true);
        assert_eq!((statement.tables[0].name.as_str(), statement.marks.as_slice()), ("MES.LOTS", &[FOREIGN][..]));
        let made = read(b"create public database link out connect to joe identified by tiger using 'cloud'", true);
        assert_eq!(made.operation, Operation::Ddl);
        assert_eq!((made.names, made.marks), (vec!["link:OUT".to_owned()], vec![FOREIGN, SECRET_PASSWORD]));
    }

    #[test]
    fn password_is_a_literal_wherever_it_stands() {
        let one = read(b"create user joe identified by tiger", true);
        let other = read(b"create user joe identified by \"Swordfish 1\"", true);
        assert_eq!(one.fingerprint, other.fingerprint);
        assert_eq!((one.operation, one.names.clone()), (Operation::Admin, vec!["account:JOE".to_owned()]));
        assert_eq!((one.columns, one.marks), (vec!["create".to_owned(), "password".to_owned()], vec![SECRET_PASSWORD]));
        let changed = read(b"alter user joe identified by a replace b", true);
        assert_eq!(changed.fingerprint, read(b"alter user joe identified by c replace d", true).fingerprint);
        assert_eq!(read(b"create user joe identified by values 'S:1A'", true).marks, Vec::<&str>::new());
    }
}

//! SQL as far as a monitor needs it: what a statement does and what it touches, without its literals.
//!
//! One pass turns the text into tokens, a second walks them. It is no grammar: it knows where PostgreSQL allows a
//! table to stand (after FROM, JOIN, INTO, UPDATE, USING, in a comma list), which names are common table expressions
//! there, and what a few commands mean. What it cannot follow is marked unreadable instead of guessed. Literals end
//! at the tokenizer: nothing that this module returns holds one, except the values of four settings (role,
//! search_path, application_name, a claimed user), which name who acts and where.

use crate::windows::{ObjectSet, Operation, Side, hex};
use sha2::{Digest, Sha256};

pub mod marks;
pub mod mysql;
pub mod oracle;
pub mod tsql;

/// Statements read from one text; one more stands for what follows and is unreadable.
pub const STATEMENTS_MAX: usize = 64;
/// Nested parentheses followed; deeper ones make the statement unreadable.
pub const DEPTH_MAX: usize = 64;
/// Tables and columns kept for one statement; beyond them it is unreadable, or its columns are `*`.
pub const TABLES_MAX: usize = 64;
pub const COLUMNS_MAX: usize = 256;
/// Bytes of an identifier: PostgreSQL cuts at 63 (NAMEDATALEN); a longer one is cut here.
pub const NAME_BYTES_MAX: usize = 128;

/// The object name of what could not be read.
pub const UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name as written: `schema.table`, `database.schema.table` or `table`, folded as PostgreSQL folds it.
    pub name: String,
    pub qualified: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// The data comes from the client (COPY FROM STDIN).
    pub inward: bool,
    /// A file or program of the server: no row crosses the connection.
    pub server_side: bool,
    pub format: CopyFormat,
    pub header: bool,
}

/// What a statement changes in its session, once the server has confirmed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    #[default]
    None,
    /// `None` is the account itself again.
    Role(Option<String>),
    /// `None`: no longer known.
    Path(Option<Vec<String>>),
    Application(String),
    OnBehalfOf(String),
    ResetPath,
    ResetAll,
    DiscardAll,
    Begin,
    Declare(String),
    Fetch(String),
    CloseCursor(String),
    Prepare(String),
    Execute(String),
    Listen(String),
    /// A logical replication stream begins.
    Replicate(Decoding),
}

/// How a logical replication stream writes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// The binary messages of PostgreSQL, 55.9.
    Pgoutput,
    /// Some other plugin's.
    Other,
}

/// One statement, read.
#[derive(Clone, Debug)]
pub struct Statement {
    /// 32 hex digits over the tokens, literals and parameters replaced, lists of them folded.
    pub fingerprint: String,
    pub operation: Operation,
    pub from: Side,
    pub tables: Vec<Table>,
    /// Names that follow no search path: `account:NAME`, `slot:NAME`, `function:NAME`.
    pub names: Vec<String>,
    /// Columns that the text names; `*` when it does not tell.
    pub columns: Vec<String>,
    /// What a returned value may be made of, whatever name it is returned under (`secret AS shown`, `upper(secret)`).
    pub reads: Vec<String>,
    /// Every table it names is in `tables`.
    pub readable: bool,
    /// It is not, because a bound was reached.
    pub bounded: bool,
    pub copy: Option<CopyOptions>,
    pub effect: Effect,
    /// The effect ends with the transaction (SET LOCAL).
    pub local: bool,
    /// What it does besides, by kind.
    pub marks: Vec<&'static str>,
    /// A row may take another's place (MySQL: REPLACE, ON DUPLICATE KEY UPDATE).
    pub replaces: bool,
}

impl Statement {
    /// A statement of which nothing is known.
    #[must_use]
    pub fn unknown(operation: Operation, from: Side) -> Self {
        Self {
            fingerprint: String::new(),
            operation,
            from,
            tables: Vec::new(),
            names: Vec::new(),
            columns: vec!["*".into()],
            reads: Vec::new(),
            readable: false,
            bounded: false,
            copy: None,
            effect: Effect::None,
            local: false,
            marks: Vec::new(),
            replaces: false,
        }
    }

    /// The objects under a search path (`None`: not seen, so unqualified names stay so).
    ///
    /// The first schema of the path that is named stands for it; `"$user"` names none. `pg_` tables are
    /// `pg_catalog`'s, which PostgreSQL searches first.
    #[must_use]
    pub fn objects(&self, path: Option<&[String]>) -> ObjectSet {
        let schema = path.and_then(|p| p.iter().find(|s| *s != "$user"));
        let mut names: Vec<String> = self.names.clone();
        for table in &self.tables {
            let name = match schema {
                Some(_) if !table.qualified && table.name.starts_with("pg_") => format!("pg_catalog.{}", table.name),
                Some(schema) if !table.qualified => format!("{schema}.{}", table.name),
                _ => table.name.clone(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !self.readable {
            names.push(UNKNOWN.into());
        }
        ObjectSet {
            names,
            columns: self.columns.clone(),
            statement: (!self.fingerprint.is_empty()).then(|| self.fingerprint.clone()),
            marks: self.marks.clone(),
        }
    }

    /// Names no object at all, though it was read.
    #[must_use]
    pub fn tableless(&self) -> bool {
        self.readable && self.tables.is_empty() && self.names.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Literal,
    Number,
    Parameter,
    Symbol,
    /// An identifier or literal that is not finished, or one with Unicode escapes (`U&"…"`).
    Odd,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Reads a text of one or several statements. `whole` is false when the text goes on beyond what is given;
/// `backslash` when `standard_conforming_strings` is off, so that `\'` does not end a literal (PostgreSQL, 4.1.2.1).
#[must_use]
pub fn read(text: &[u8], whole: bool, backslash: bool) -> Vec<Statement> {
    let tokens = tokenize(text, backslash);
    statements(text, &tokens, whole, statement_end, |one, cut| Reader::new(text, one, cut))
}

/// The statements of a text, each ending where `end` says. Only the last can be cut, and not behind its semicolon.
fn statements<'a>(
    text: &[u8],
    tokens: &'a [Token],
    whole: bool,
    end: impl Fn(&[u8], &[Token]) -> usize,
    reader: impl Fn(&'a [Token], bool) -> Reader<'a>,
) -> Vec<Statement> {
    let (mut statements, mut rest) = (Vec::new(), tokens);
    while !rest.is_empty() {
        let end = end(text, rest);
        let cut = !whole && end == rest.len();
        let (one, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or(&[]);
        if one.is_empty() {
            continue;
        }
        if statements.len() == STATEMENTS_MAX {
            let mut unread = Statement::unknown(Operation::Call, Side::Client);
            unread.bounded = true;
            statements.push(unread);
            break;
        }
        statements.push(reader(one, cut).statement());
        if !whole && !cut && rest.is_empty() {
            // Statements may follow of which nothing is seen.
            statements.push(Statement::unknown(Operation::Call, Side::Client));
        }
    }
    statements
}

/// Where the first statement of `tokens` ends: at a semicolon outside parentheses and of BEGIN ATOMIC bodies.
fn statement_end(text: &[u8], tokens: &[Token]) -> usize {
    let (mut depth, mut atomic) = (0_usize, false);
    for (at, token) in tokens.iter().enumerate() {
        match (token.kind, &text[token.start..token.end]) {
            (Kind::Symbol, b"(") => depth += 1,
            (Kind::Symbol, b")") => depth = depth.saturating_sub(1),
            (Kind::Symbol, b";") if depth == 0 && !atomic => return at,
            (Kind::Word, word) if word.eq_ignore_ascii_case(b"atomic") => atomic = true,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// The tokens of a text; comments and space leave none (PostgreSQL, 4.1).
fn tokenize(text: &[u8], backslash: bool) -> Vec<Token> {
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
                at = text[at..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(text.len(), |n| at + n);
                continue;
            }
            b'/' if next == b'*' => {
                at = comment_end(text, at);
                continue;
            }
            b'\'' => {
                at = literal_end(text, at + 1, backslash);
                Kind::Literal
            }
            b'"' => {
                let (end, finished) = quoted_end(text, at + 1);
                at = end;
                if finished { Kind::Quoted } else { Kind::Odd }
            }
            b'e' | b'E' if next == b'\'' => {
                at = literal_end(text, at + 2, true);
                Kind::Literal
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if next == b'\'' => {
                at = literal_end(text, at + 2, backslash);
                Kind::Literal
            }
            b'u' | b'U' if next == b'&' && text.get(at + 2) == Some(&b'\'') => {
                at = literal_end(text, at + 3, backslash);
                Kind::Literal
            }
            b'u' | b'U' if next == b'&' && text.get(at + 2) == Some(&b'"') => {
                at = quoted_end(text, at + 3).0;
                Kind::Odd
            }
            b'$' if next.is_ascii_digit() => {
                at += 1 + text[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                Kind::Parameter
            }
            b'$' => match dollar_end(text, at) {
                Some(end) => {
                    at = end;
                    Kind::Literal
                }
                None => {
                    at += 1;
                    Kind::Symbol
                }
            },
            _ if is_word_start(byte) => {
                at += text[at..].iter().take_while(|b| is_word(**b)).count();
                Kind::Word
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

/// What every dialect has where nothing else begins: a number, or a lone symbol; its kind and its end.
fn number_or_symbol(text: &[u8], at: usize) -> (Kind, usize) {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    if digit(at) || (text.get(at) == Some(&b'.') && digit(at + 1)) {
        return (Kind::Number, number_end(text, at));
    }
    (Kind::Symbol, at + 1)
}

fn number_end(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        let exponent_sign = matches!(byte, b'+' | b'-') && matches!(text[at - 1], b'e' | b'E');
        if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || exponent_sign) {
            break;
        }
        at += 1;
    }
    at
}

/// Block comments nest (PostgreSQL, 4.1.5).
fn comment_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start + 2, 1_u32);
    while depth > 0 && at < text.len() {
        match (text[at], text.get(at + 1)) {
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
            }
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    at
}

/// Where a name stands, as far as it matters for what is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clause {
    /// A select list, RETURNING, VALUES, or arguments inside them.
    List,
    From,
    /// What chooses or sorts rows.
    Rows,
    Other,
}

/// What a parenthesis inside FROM opens.
enum Opens {
    /// A join with a list of its own.
    Join,
    Arguments,
    /// New names for the columns of a table, or of what stands in parentheses.
    Names {
        of_table: bool,
    },
}

/// Functions that stand where a table would and list what the server itself knows, nothing that anybody has stored: drivers call them
/// (`DatabaseMetaData.getSQLKeywords`).
const CATALOGUES: &[&str] =
    &["pg_get_keywords", "pg_available_extensions", "pg_available_extension_versions", "pg_timezone_names", "pg_timezone_abbrevs"];

/// Whether a function's name is one of them; PostgreSQL looks in `pg_catalog` first.
fn is_catalogue(parts: &[String]) -> bool {
    match parts {
        [name] => CATALOGUES.contains(&name.as_str()),
        [schema, name] => schema == "pg_catalog" && CATALOGUES.contains(&name.as_str()),
        _ => false,
    }
}

/// Words of expressions that can be no column's name unless quoted (PostgreSQL, appendix C).
const NO_COLUMNS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "both",
    "case",
    "collate",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "desc",
    "distinct",
    "else",
    "end",
    "false",
    "from",
    "full",
    "ilike",
    "in",
    "inner",
    "is",
    "isnull",
    "lateral",
    "leading",
    "left",
    "like",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "right",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "then",
    "to",
    "trailing",
    "true",
    "user",
    "variadic",
    "when",
    "with",
];

/// Adds the names that are not there yet; of too many nothing is told apart.
pub fn add_names(columns: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    if columns.len() > 2 * COLUMNS_MAX {
        *columns = vec!["*".into()];
    }
}

/// After the closing quote; an unfinished literal takes the rest of the text, so that none of it is read as names.
fn literal_end(text: &[u8], mut at: usize, backslash: bool) -> usize {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if backslash => at += 2,
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn quoted_end(text: &[u8], mut at: usize) -> (usize, bool) {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' if text.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return (at + 1, true),
            _ => at += 1,
        }
    }
    (text.len(), false)
}

/// `$tag$ … $tag$` (PostgreSQL, 4.1.2.4).
fn dollar_end(text: &[u8], start: usize) -> Option<usize> {
    let tag = 1 + text[start + 1..].iter().take_while(|b| is_word_start(**b) || b.is_ascii_digit()).count();
    if text.get(start + tag) != Some(&b'$') {
        return None;
    }
    let delimiter = &text[start..=start + tag];
    let body = start + delimiter.len();
    Some(memchr::memmem::find(&text[body..], delimiter).map_or(text.len(), |n| body + n + delimiter.len()))
}

/// Two texts that differ in literals, case of keywords, space or comments have the same fingerprint.
fn fingerprint(text: &[u8], tokens: &[Token]) -> String {
    let mut plain: Vec<u8> = Vec::with_capacity(tokens.len() * 6);
    for token in tokens {
        let part = &text[token.start..token.end];
        match token.kind {
            Kind::Literal | Kind::Number | Kind::Parameter => {
                // The sign of a number belongs to it, and a list of literals is as one.
                if plain.ends_with(b"( - ") || plain.ends_with(b", - ") {
                    plain.truncate(plain.len() - 2);
                }
                if plain.ends_with(b"? , ") {
                    plain.truncate(plain.len() - 4);
                }
                plain.push(b'?');
            }
            Kind::Symbol if part == b")" => {
                // VALUES (?), (?) is VALUES (?).
                if plain.ends_with(b"( ? ) , ( ? ") {
                    plain.truncate(plain.len() - 8);
                }
                plain.push(b')');
            }
            Kind::Word => plain.extend(part.iter().map(u8::to_ascii_lowercase)),
            Kind::Odd => plain.push(b'"'),
            Kind::Quoted | Kind::Symbol => plain.extend_from_slice(part),
        }
        plain.push(b' ');
    }
    hex(&Sha256::digest(&plain)[..16])
}

/// One parenthesis level of the walk.
#[derive(Default)]
struct Level {
    /// A verb may stand here.
    start: bool,
    /// Arguments of a function: a FROM in it names no table.
    arguments: bool,
    in_from: bool,
    expect: bool,
    recursive: bool,
    /// Inside a WITH list: a name is expected, or the body of `pending` is.
    with: bool,
    pending: Option<String>,
    body: bool,
    ctes: usize,
    /// The parenthesis holds the body of a common table expression.
    is_cte: bool,
    deletes: bool,
    merges: bool,
}

struct Reader<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    /// The text goes on behind the last token.
    cut: bool,
    out: Statement,
    /// Range of the first select list, for its columns.
    list: Option<(usize, usize)>,
    /// A data-modifying common table expression.
    modifies: Option<Operation>,
    /// The dialect is MySQL's, with these quotes.
    mysql: Option<mysql::Mode>,
    /// The dialect is Oracle's.
    oracle: bool,
    /// The dialect is SQL Server's, with these quotes.
    tsql: Option<tsql::Quotes>,
    /// How many texts this one stands in as a literal.
    nested: u8,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], tokens: &'a [Token], cut: bool) -> Self {
        let mut out = Statement::unknown(Operation::Call, Side::Client);
        out.readable = !tokens.iter().any(|t| t.kind == Kind::Odd);
        out.fingerprint = fingerprint(text, tokens);
        Self { text, tokens, cut, out, list: None, modifies: None, mysql: None, oracle: false, tsql: None, nested: 0 }
    }

    fn part(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).map_or(&[], |t| &self.text[t.start..t.end])
    }

    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|t| t.kind)
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(Kind::Word) && self.part(at).eq_ignore_ascii_case(word.as_bytes())
    }

    fn any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    fn symbol(&self, at: usize, symbol: u8) -> bool {
        self.kind(at) == Some(Kind::Symbol) && self.part(at) == [symbol]
    }

    /// An identifier, folded unless quoted: to lower case, by Oracle to upper case.
    fn name(&self, at: usize) -> Option<String> {
        let part = self.part(at);
        let name = match self.kind(at)? {
            Kind::Word if self.mysql.is_some() => text_of(part),
            Kind::Quoted if self.mysql.is_some() => mysql::unquoted(part)?,
            Kind::Word if self.oracle => String::from_utf8_lossy(part).to_uppercase(),
            Kind::Quoted if self.tsql.is_some() => tsql::unquoted(part)?,
            Kind::Word => String::from_utf8_lossy(part).to_lowercase(),
            Kind::Quoted => String::from_utf8_lossy(part.get(1..part.len() - 1)?).replace("\"\"", "\""),
            _ => return None,
        };
        Some(cut(name))
    }

    /// `a.b.c` from `at`: its parts and where it ends.
    fn qualified(&self, at: usize) -> Option<(Vec<String>, usize)> {
        let mut parts = vec![self.name(at)?];
        let mut end = at + 1;
        while self.symbol(end, b'.') && parts.len() < 4 {
            if self.tsql.is_some() && self.symbol(end + 1, b'.') && parts.len() < 3 {
                // `database..table`: in the schema that the account has by itself.
                parts.push(String::new());
                end += 1;
                continue;
            }
            let Some(next) = self.name(end + 1) else { break };
            parts.push(next);
            end += 2;
        }
        Some((parts, end))
    }

    fn add_table(&mut self, parts: &[String]) {
        let table = Table { name: parts.join("."), qualified: parts.len() > 1 };
        if self.out.tables.contains(&table) {
            return;
        }
        if self.out.tables.len() == TABLES_MAX {
            self.out.readable = false;
            self.out.bounded = true;
            return;
        }
        self.out.tables.push(table);
    }

    fn skip(&self, mut at: usize, words: &[&str]) -> usize {
        while self.any(at, words) {
            at += 1;
        }
        at
    }

    fn find(&self, from: usize, word: &str) -> Option<usize> {
        (from..self.tokens.len()).find(|at| self.is(*at, word))
    }

    /// Where a word first stands from `at` on, parentheses passed over.
    fn outside(&self, mut at: usize, word: &str) -> Option<usize> {
        while at < self.tokens.len() {
            if self.is(at, word) {
                return Some(at);
            }
            at = if self.symbol(at, b'(') { self.closing(at) } else { at + 1 };
        }
        None
    }

    /// After the parenthesis that opens at `at`.
    fn closing(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for end in at..self.tokens.len() {
            if self.symbol(end, b'(') {
                depth += 1;
            } else if self.symbol(end, b')') {
                depth -= 1;
                if depth == 0 {
                    return end + 1;
                }
            }
        }
        self.tokens.len()
    }

    fn statement(mut self) -> Statement {
        let verb = String::from_utf8_lossy(self.part(0)).to_ascii_lowercase();
        match verb.as_str() {
            _ if self.symbol(0, b'(') => self.query(0),
            verb if self.mysql.is_some() && self.mysql_statement(verb) => {}
            verb if self.oracle && self.oracle_statement(verb) => {}
            verb if self.tsql.is_some() && self.tsql_statement(verb) => {}
            "select" | "with" | "values" | "table" | "insert" | "update" | "delete" | "merge" => self.query(0),
            "explain" => self.explain(),
            "copy" => self.copy(),
            "declare" => self.declare(),
            "fetch" => self.fetch(),
            "prepare" if !self.is(1, "transaction") => self.prepare(),
            "execute" => {
                self.set(Operation::Call, Side::Client);
                self.out.effect = self.name(1).map_or(Effect::None, Effect::Execute);
            }
            "close" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = self.name(1).map_or(Effect::None, Effect::CloseCursor);
            }
            "set" => self.setting(),
            "reset" => self.reset(),
            "begin" | "start" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = Effect::Begin;
            }
            "commit" | "rollback" | "end" | "abort" | "savepoint" | "release" | "prepare" | "deallocate" | "show" | "unlisten"
            | "checkpoint" | "load" | "move" | "lock" => {
                self.set(Operation::Connect, Side::Client);
            }
            "discard" => {
                self.set(Operation::Connect, Side::Client);
                self.out.effect = if self.is(1, "all") { Effect::DiscardAll } else { Effect::None };
            }
            "listen" => {
                self.set(Operation::Subscribe, Side::Server);
                self.out.names.extend(self.name(1));
            }
            "notify" => {
                self.set(Operation::Publish, Side::Client);
                self.out.names.extend(self.name(1));
            }
            "call" => {
                self.set(Operation::Call, Side::Client);
                self.out.names.extend(self.qualified(1).map(|(parts, _)| format!("function:{}", parts.join("."))));
                self.walk(1, false);
            }
            // The body of DO is a literal in a procedural language.
            "do" => {
                self.set(Operation::Call, Side::Client);
                self.out.readable = false;
            }
            "grant" | "revoke" => self.grant(0),
            "create" | "alter" | "drop" => self.definition(),
            "truncate" | "vacuum" | "analyze" | "reindex" | "cluster" | "refresh" | "comment" | "security" | "import" | "reassign" => {
                self.maintenance();
            }
            "start_replication"
            | "create_replication_slot"
            | "drop_replication_slot"
            | "read_replication_slot"
            | "timeline_history"
            | "identify_system" => self.replication(&verb),
            "base_backup" => self.set(Operation::Backup, Side::Server),
            _ => self.out.readable = false,
        }
        self.mark();
        if self.cut {
            self.out.readable &= self.ends_in_values();
            self.out.bounded |= !self.out.readable;
        }
        self.out
    }

    /// `INSERT INTO t … VALUES`: the rest of a VALUES list holds no table; of anything else it may.
    fn ends_in_values(&self) -> bool {
        let Some((_, mut at)) = self.find(0, "into").and_then(|into| self.qualified(into + 1)) else { return false };
        if self.is(at, "as") {
            at += 2;
        }
        if self.symbol(at, b'(') {
            at = self.closing(at);
        }
        let at = self.skip(at, &["overriding", "system", "user", "value"]);
        self.out.operation == Operation::Insert && self.is(at, "values")
    }

    fn set(&mut self, operation: Operation, from: Side) {
        self.out.operation = operation;
        self.out.from = from;
    }

    /// A query from `at` to the end: operation, tables and columns.
    fn query(&mut self, at: usize) {
        self.walk(at, true);
        let verb = self.main_verb(at);
        let (operation, from) = match verb {
            "insert" | "replace" => (Operation::Insert, Side::Client),
            "update" | "merge" => (Operation::Update, Side::Client),
            "delete" => (Operation::Delete, Side::Client),
            _ => self.modifies.map_or((Operation::Select, Side::Server), |op| (op, Side::Client)),
        };
        self.set(operation, from);
        self.out.replaces = self.mysql.is_some() && (verb == "replace" || self.outside(at, "duplicate").is_some());
        self.out.columns = match verb {
            "insert" | "replace" if self.mysql.is_some() || self.tsql.is_some() => self.mysql_insert_columns(),
            "insert" => self.insert_columns(),
            "update" => self.update_columns(),
            "delete" | "merge" => None,
            _ if self.oracle => None,
            _ => self.list.and_then(|(from, to)| self.select_columns(from, to)),
        }
        .unwrap_or_else(|| vec!["*".into()]);
        self.out.reads = self.reads(at);
        if self.oracle && operation == Operation::Select {
            self.out.columns = self.oracle_columns().unwrap_or_else(|| vec!["*".into()]);
        } else if operation == Operation::Select && self.out.columns != ["*"] {
            add_names(&mut self.out.columns, &self.out.reads);
        }
        self.setting_by_function(at);
    }

    /// The names in every select list and RETURNING from `at`, in subqueries and in arguments of functions in FROM, but not in what
    /// only chooses or sorts rows. An alias hides none of them, because it is the name behind AS that is left out.
    ///
    /// Names that tables or their aliases bear stand for a whole row, and a table whose columns are named anew
    /// (`t AS v (a, b)`) could be any of them: both are `*`.
    fn reads(&self, start: usize) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut tables: Vec<String> = Vec::new();
        let mut every = false;
        // The clause, and whether this level is of arguments, in which no clause begins.
        let mut levels = vec![(Clause::Other, false)];
        for at in start..self.tokens.len() {
            let Some(&(clause, arguments)) = levels.last() else { break };
            if self.symbol(at, b'(') {
                if levels.len() == DEPTH_MAX {
                    return vec!["*".into()];
                }
                levels.push(if clause == Clause::Rows {
                    (Clause::Rows, true)
                } else if self.any(at + 1, &["select", "with", "values", "table", "insert", "update", "delete", "merge"]) {
                    (Clause::Other, false)
                } else if clause == Clause::From {
                    match self.opens_in_from(start, at) {
                        Opens::Join => (Clause::From, false),
                        Opens::Arguments => (Clause::List, true),
                        Opens::Names { of_table } => {
                            every |= of_table;
                            (Clause::Other, true)
                        }
                    }
                } else {
                    (clause, true)
                });
                continue;
            }
            if self.symbol(at, b')') {
                if levels.len() > 1 {
                    levels.pop();
                }
                continue;
            }
            let behind_dot = at > start && self.symbol(at - 1, b'.');
            if !arguments && !behind_dot {
                if let Some(next) = self.clause(clause, start, at) {
                    if let Some(level) = levels.last_mut() {
                        level.0 = next;
                    }
                    continue;
                }
            }
            let Some(name) = self.name(at) else { continue };
            let aliased = at > start && (self.is(at - 1, "as") || (!arguments && self.is_oracle_alias(at)));
            let cast = at > start + 1 && self.symbol(at - 1, b':') && self.symbol(at - 2, b':');
            if self.symbol(at + 1, b'.')
                || self.symbol(at + 1, b'(')
                || (!behind_dot
                    && (self.any(at, NO_COLUMNS)
                        || self.idiom(at)
                        || self.is_operator(at)
                        || self.is_oracle_operator(at)
                        || self.is_tsql_operator(at)))
            {
                continue;
            }
            match clause {
                Clause::List if !aliased && !cast && !found.contains(&name) => found.push(name),
                // What stands in parentheses was read inside them, whatever it is called.
                Clause::From if !tables.contains(&name) && !self.named_anew(start, at) => tables.push(name),
                _ => {}
            }
            if found.len() > COLUMNS_MAX || tables.len() > COLUMNS_MAX {
                return vec!["*".into()];
            }
        }
        if every || found.iter().any(|name| tables.contains(name)) {
            found.push("*".into());
        }
        found
    }

    /// Whether the word is the new name of a subquery or of a function's result.
    fn named_anew(&self, start: usize, at: usize) -> bool {
        let before = if at > start && self.is(at - 1, "as") { at - 1 } else { at };
        before > start && self.symbol(before - 1, b')')
    }

    /// The clause that begins at a word; only what can be no column's name ends a list (PostgreSQL, appendix C).
    fn clause(&self, now: Clause, start: usize, at: usize) -> Option<Clause> {
        if self.any(at, &["select", "returning"]) || (self.is(at, "values") && now != Clause::List) {
            return Some(Clause::List);
        }
        let distinct = at >= start + 2 && self.is(at - 1, "distinct") && self.any(at - 2, &["is", "not"]);
        if self.any(at, &["from", "join"]) {
            return (!distinct).then_some(Clause::From);
        }
        let rows = ["where", "on", "using", "having", "group", "order", "limit", "offset", "window", "fetch", "for"];
        if self.any(at, &rows) || (self.tsql.is_some() && self.is(at, "option")) {
            return Some(Clause::Rows);
        }
        self.any(at, &["into", "union", "intersect", "except"]).then_some(Clause::Other)
    }

    /// Whether a word is part of `AT TIME ZONE`, `PARTITION BY`, `ORDER BY` or `INTERVAL '…'`.
    fn idiom(&self, at: usize) -> bool {
        let behind = |word| at > 0 && self.is(at - 1, word);
        (self.is(at, "at") && self.is(at + 1, "time"))
            || (self.is(at, "time") && behind("at"))
            || (self.is(at, "zone") && behind("time"))
            || (self.is(at, "partition") && self.is(at + 1, "by"))
            || (self.is(at, "by") && (behind("partition") || behind("order")))
            || (self.is(at, "interval") && self.kind(at + 1) == Some(Kind::Literal))
    }

    /// What the parenthesis at `at` opens inside FROM.
    fn opens_in_from(&self, start: usize, at: usize) -> Opens {
        let mut first = at;
        while first > start && self.name(first - 1).is_some() {
            first -= 1;
            if first > start && self.symbol(first - 1, b'.') {
                first -= 1;
            } else {
                break;
            }
        }
        if first == at || self.any(first, NO_COLUMNS) || self.any(first, &["from", "join", "lateral", "only"]) {
            return Opens::Join;
        }
        let mut before = first.checked_sub(1);
        if before.is_some_and(|b| self.is(b, "as")) {
            before = before.and_then(|b| b.checked_sub(1));
        }
        match before {
            Some(b) if b >= start && self.symbol(b, b')') => Opens::Names { of_table: false },
            Some(b) if b >= start && self.name(b).is_some() && !self.any(b, &["from", "join", "lateral", "only"]) => {
                Opens::Names { of_table: true }
            }
            _ => Opens::Arguments,
        }
    }

    /// The verb of a query: behind the WITH list if there is one.
    fn main_verb(&self, at: usize) -> &'static str {
        let verbs = ["insert", "update", "delete", "merge", "select", "values", "table"];
        if self.mysql.is_some() && self.is(at, "replace") {
            return "replace";
        }
        let mut depth = 0_usize;
        for at in at..self.tokens.len() {
            if self.symbol(at, b'(') {
                depth += 1;
            } else if self.symbol(at, b')') {
                depth = depth.saturating_sub(1);
            } else if depth == 0 {
                if let Some(verb) = verbs.into_iter().find(|v| self.is(at, v)) {
                    return verb;
                }
            }
        }
        "select"
    }

    /// Walks the tokens from `at` and gathers the tables that they name. `start`: a verb stands first.
    fn walk(&mut self, at: usize, start: bool) {
        let mut levels = vec![Level { start, ..Level::default() }];
        let mut ctes: Vec<String> = Vec::new();
        let mut at = at;
        while at < self.tokens.len() {
            at = self.step(at, &mut levels, &mut ctes);
        }
        if levels.len() != 1 && !self.cut {
            self.out.readable = false;
        }
        if let Some((from, end)) = &mut self.list {
            if *end == usize::MAX {
                *end = self.tokens.len();
            }
            debug_assert!(*from <= *end);
        }
    }

    fn step(&mut self, at: usize, levels: &mut Vec<Level>, ctes: &mut Vec<String>) -> usize {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return self.tokens.len() };
        if self.symbol(at, b'(') {
            if depth == DEPTH_MAX {
                self.out.readable = false;
                self.out.bounded = true;
                return self.tokens.len();
            }
            let verb = self.any(at + 1, &["select", "with", "values", "table", "insert", "update", "delete", "merge"]);
            // VALUES and TABLE are verbs only where a query may stand, but no harm is done elsewhere: they name what follows.
            let mut inner = Level { ctes: ctes.len(), start: verb, ..Level::default() };
            if level.body {
                inner.start = true;
                inner.is_cte = true;
                level.body = false;
            } else if level.expect {
                // A parenthesis in a FROM list: a subquery, or a join with its own list.
                inner.start = true;
                inner.in_from = !verb;
                inner.expect = !verb;
                level.expect = false;
            } else if level.start {
                inner.start = true;
                level.start = false;
            } else {
                inner.arguments = !verb;
            }
            levels.push(inner);
            return at + 1;
        }
        if self.symbol(at, b')') {
            if depth == 1 {
                self.out.readable = false;
                return at + 1;
            }
            let closed = levels.pop().unwrap_or_default();
            ctes.truncate(closed.ctes);
            if let (true, Some(level)) = (closed.is_cte, levels.last_mut()) {
                if let Some(name) = level.pending.take() {
                    if !level.recursive {
                        ctes.push(name);
                    }
                }
                if self.symbol(at + 1, b',') {
                    level.with = true;
                    return at + 2;
                }
                level.start = true;
            }
            return at + 1;
        }
        if level.with {
            level.recursive |= self.is(at, "recursive") && level.pending.is_none() && !self.is(at + 1, "as");
            if level.recursive && self.is(at, "recursive") && level.pending.is_none() {
                return at + 1;
            }
            let Some(name) = self.name(at) else { return at + 1 };
            level.with = false;
            if level.recursive {
                ctes.push(name.clone());
            }
            level.pending = Some(name);
            let mut next = at + 1;
            if self.symbol(next, b'(') {
                next = self.closing(next);
            }
            let body = self.skip(next, &["as", "not", "materialized"]);
            level.body = self.symbol(body, b'(');
            self.out.readable &= level.body;
            return body;
        }
        if level.expect {
            return self.table(at, levels, ctes);
        }
        if self.symbol(at, b',') {
            level.expect = level.in_from;
            return at + 1;
        }
        if self.kind(at) != Some(Kind::Word) {
            return at + 1;
        }
        if level.start {
            return self.verb(at, levels);
        }
        self.keyword(at, levels)
    }

    /// A word where a verb may stand.
    fn verb(&mut self, at: usize, levels: &mut [Level]) -> usize {
        let top = levels.len() == 1;
        let Some(level) = levels.last_mut() else { return at + 1 };
        if self.is(at, "with") {
            level.with = true;
            return at + 1;
        }
        let modify = [
            ("insert", Operation::Insert),
            ("update", Operation::Update),
            ("delete", Operation::Delete),
            ("merge", Operation::Update),
            ("replace", Operation::Insert),
        ];
        let modify = modify.into_iter().filter(|(verb, _)| *verb != "replace" || self.mysql.is_some());
        if let Some((verb, operation)) = modify.into_iter().find(|(verb, _)| self.is(at, verb)) {
            level.start = false;
            level.deletes = verb == "delete";
            level.merges = verb == "merge";
            if !top {
                self.modifies = Some(operation);
            }
            level.expect = true;
            level.in_from = false;
            if self.mysql.is_some() || self.tsql.is_some() {
                // Several tables may be changed at once.
                level.in_from = matches!(verb, "update" | "delete");
                let first = self.modifiers(at + 1);
                return if verb == "delete" { self.deleted_from(at + 1) } else { first + usize::from(self.is(first, "into")) };
            }
            if self.oracle && self.any(at + 1, &["all", "first"]) {
                // INSERT ALL INTO …: each INTO names a table.
                level.expect = false;
                return at + 2;
            }
            let into = usize::from(self.any(at + 1, &["into", "from"]));
            return at + 1 + into;
        }
        if self.is(at, "select") {
            level.start = false;
            level.in_from = false;
            if top && self.list.is_none() {
                let from = self.modifiers(self.skip(at + 1, &["all", "distinct"]));
                self.list = Some((from, usize::MAX));
            }
        } else if self.is(at, "table") {
            level.start = false;
            level.expect = true;
        } else if self.is(at, "values") {
            level.start = false;
        }
        at + 1
    }

    /// A word that changes what may follow.
    fn keyword(&mut self, at: usize, levels: &mut [Level]) -> usize {
        let top = levels.len() == 1;
        let Some(level) = levels.last_mut() else { return at + 1 };
        // Behind a dot, or before one, it is a name (`t.from`, `"from".x`), never a keyword.
        if at > 0 && self.symbol(at - 1, b'.') {
            return at + 1;
        }
        let ends_list = self.any(
            at,
            &[
                "from",
                "into",
                "where",
                "group",
                "having",
                "order",
                "limit",
                "offset",
                "fetch",
                "for",
                "window",
                "union",
                "intersect",
                "except",
            ],
        );
        let minus = self.oracle && self.is(at, "minus");
        if (ends_list || minus) && top {
            if let Some((_, end)) = self.list.as_mut().filter(|(_, end)| *end == usize::MAX) {
                *end = at;
            }
        }
        if self.is(at, "from") {
            let distinct = at >= 2 && self.is(at - 1, "distinct") && self.any(at - 2, &["is", "not"]);
            if !level.arguments && !distinct {
                level.in_from = true;
                level.expect = true;
            }
        } else if self.mysql.is_some() && self.is(at, "into") && self.is_no_table(at + 1) {
            level.in_from = false;
        } else if self.is(at, "join")
            || self.is_straight_join(at, level.in_from)
            || (self.is(at, "into") && !level.arguments)
            || (level.in_from && self.tsql.is_some() && self.is(at, "apply"))
        {
            level.expect = true;
            // SELECT INTO TABLE name.
            return self.skip(at + 1, &["temporary", "temp", "unlogged", "table"]);
        } else if self.is(at, "using") && (level.deletes || level.merges) && !self.symbol(at + 1, b'(') {
            level.in_from = level.deletes;
            level.expect = true;
        } else if self.is(at, "using") && level.merges {
            level.expect = true;
        } else if self.is(at, "table") && !level.arguments {
            // INSERT INTO name TABLE name.
            level.in_from = false;
            level.expect = true;
        } else if minus || self.any(at, &["union", "intersect", "except"]) {
            level.in_from = false;
            level.start = true;
            return self.skip(at + 1, &["all", "distinct"]);
        } else if ends_list || self.any(at, &["returning", "set"]) {
            level.in_from = false;
        }
        at + 1
    }

    /// What stands where a table is expected.
    fn table(&mut self, at: usize, levels: &mut [Level], ctes: &[String]) -> usize {
        let Some(level) = levels.last_mut() else { return at + 1 };
        if self.any(at, &["only", "lateral"]) && !self.symbol(at + 1, b'.') {
            return at + 1;
        }
        if self.is(at, "rows") && self.is(at + 1, "from") && self.symbol(at + 2, b'(') {
            level.expect = false;
            return at + 2;
        }
        level.expect = false;
        level.start = false;
        if self.tsql.is_some() && self.kind(at) == Some(Kind::Parameter) {
            // A variable that is a table.
            return at + 1;
        }
        let Some((parts, end)) = self.qualified(at) else {
            // A parameter or a literal where a table must stand: not SQL that this follows.
            self.out.readable = false;
            return at + 1;
        };
        let insert = at >= 1 && self.is(at - 1, "into");
        let inserts = self.tsql.is_some() && at >= 1 && self.any(at - 1, &["insert", "top", "percent"]);
        let function = self.symbol(end, b'(') && !insert && !inserts && !self.is_hint(end);
        // Oracle's names are in upper case unless quoted: "dual" may be anybody's.
        let dual = (self.mysql.is_some() && parts[0].eq_ignore_ascii_case("dual")) || (self.oracle && parts[0] == "DUAL");
        let cte = parts.len() == 1 && (ctes.contains(&parts[0]) || dual);
        if !function && !cte {
            self.add_table(&parts);
        } else if function && self.tsql.is_some() {
            // What the server tells of itself: texts of statements, the log, files of audits.
            if parts.iter().rev().nth(1).is_some_and(|schema| schema == "sys") {
                self.add_table(&parts);
            }
        } else if function && is_catalogue(&parts) {
            self.add_table(&["pg_catalog".to_string(), parts[parts.len() - 1].clone()]);
        }
        end
    }

    /// Column names of a select list, as RowDescription would give them; `None` if one is not plain.
    fn select_columns(&self, from: usize, to: usize) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        let mut start = from;
        while start < to {
            let mut end = start;
            while end < to && !self.symbol(end, b',') {
                end = if self.symbol(end, b'(') { self.closing(end) } else { end + 1 };
            }
            let end_of_item = end.min(to);
            columns.push(self.column(start, end_of_item)?);
            if columns.len() > COLUMNS_MAX {
                return None;
            }
            start = end + 1;
        }
        (!columns.is_empty()).then_some(columns)
    }

    fn column(&self, start: usize, end: usize) -> Option<String> {
        if end >= start + 3 && self.is(end - 2, "as") {
            return self.name(end - 1);
        }
        let (parts, after) = self.qualified(start)?;
        let call = self.symbol(after, b'(') && self.closing(after) == end;
        // Not the star of `t.*`, nor an expression.
        if after == end || call { parts.last().cloned() } else { None }
    }

    fn insert_columns(&self) -> Option<Vec<String>> {
        let into = self.find(0, "into")?;
        let (_, mut at) = self.qualified(into + 1)?;
        if self.is(at, "as") {
            at += 2;
        }
        self.column_list(at)
    }

    /// `(a, b)` at `at`.
    fn column_list(&self, at: usize) -> Option<Vec<String>> {
        if !self.symbol(at, b'(') || self.any(at + 1, &["select", "values", "with"]) {
            return None;
        }
        self.select_columns(at + 1, self.closing(at) - 1)
    }

    fn update_columns(&self) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        let mut at = self.find(0, "set")? + 1;
        while at < self.tokens.len() {
            if let Some(list) = self.column_list(at) {
                columns.extend(list);
            } else {
                columns.push(self.name(at)?);
            }
            while at < self.tokens.len() && !self.symbol(at, b',') {
                if self.any(at, &["from", "where", "returning"]) {
                    return Some(columns);
                }
                at = if self.symbol(at, b'(') { self.closing(at) } else { at + 1 };
            }
            at += 1;
        }
        (columns.len() <= COLUMNS_MAX).then_some(columns)
    }

    fn explain(&mut self) {
        let mut at = 1;
        if self.symbol(at, b'(') {
            at = self.closing(at);
        }
        at = self.skip(at, &["analyze", "verbose"]);
        self.query(at);
        // The rows are a plan's lines.
        self.out.columns = vec!["*".into()];
        self.out.reads = Vec::new();
    }

    fn declare(&mut self) {
        let Some(query) = self.find(2, "for") else {
            self.out.readable = false;
            return;
        };
        self.query(query + 1);
        self.out.effect = self.name(1).map_or(Effect::None, Effect::Declare);
    }

    fn prepare(&mut self) {
        let Some(query) = self.find(2, "as") else {
            self.out.readable = false;
            return;
        };
        self.query(query + 1);
        self.out.effect = self.name(1).map_or(Effect::None, Effect::Prepare);
    }

    /// FETCH [direction] [FROM | IN] cursor: the cursor is the last word.
    fn fetch(&mut self) {
        self.set(Operation::Select, Side::Server);
        self.out.readable = false;
        self.out.effect = self.tokens.len().checked_sub(1).and_then(|last| self.name(last)).map_or(Effect::None, Effect::Fetch);
    }

    fn copy(&mut self) {
        let mut options = CopyOptions::default();
        let mut at = 1;
        self.set(Operation::Copy, Side::Server);
        if self.is(at, "binary") {
            options.format = CopyFormat::Binary;
            at += 1;
        }
        if self.symbol(at, b'(') {
            let end = self.closing(at);
            let inner = &self.tokens[at + 1..end.saturating_sub(1).max(at + 1)];
            let mut query = Reader::new(self.text, inner, false);
            query.query(0);
            self.out.readable &= query.out.readable;
            self.out.bounded |= query.out.bounded;
            self.out.tables = query.out.tables;
            self.out.columns = query.out.columns;
            at = end;
        } else if let Some((parts, end)) = self.qualified(at) {
            self.add_table(&parts);
            at = end;
            if let Some(columns) = self.column_list(at) {
                self.out.columns = columns;
                at = self.closing(at);
            }
        } else {
            self.out.readable = false;
        }
        options.inward = self.is(at, "from");
        options.server_side = !self.any(at + 1, &["stdin", "stdout"]);
        if options.inward {
            self.out.from = Side::Client;
        }
        for at in at + 2..self.tokens.len() {
            if self.is(at, "csv") || (self.is(at, "format") && self.names_value(at + 1, "csv")) {
                options.format = CopyFormat::Csv;
            } else if self.is(at, "binary") || (self.is(at, "format") && self.names_value(at + 1, "binary")) {
                options.format = CopyFormat::Binary;
            } else if self.is(at, "header") {
                let off = ["false", "off"].into_iter().any(|v| self.names_value(at + 1, v)) || self.part(at + 1) == b"0";
                options.header = !off;
            } else if self.is(at, "where") {
                self.walk(at, false);
                break;
            }
        }
        self.out.copy = Some(options);
    }

    /// `value` as a word or as a literal.
    fn names_value(&self, at: usize, value: &str) -> bool {
        self.is(at, value) || self.literal(at).is_some_and(|v| v.eq_ignore_ascii_case(value))
    }

    /// A plain literal's text. Asked only for settings that name who acts and where.
    fn literal(&self, at: usize) -> Option<String> {
        let part = self.part(at);
        if self.kind(at)? == Kind::Literal && self.mysql.is_some() {
            return self.mysql_literal(at);
        }
        if self.kind(at)? == Kind::Literal && self.tsql.is_some() {
            return Some(cut(text_of(self.content(at)).replace("''", "'")));
        }
        if self.kind(at)? != Kind::Literal || part.first() != Some(&b'\'') {
            return None;
        }
        Some(cut(String::from_utf8_lossy(part.get(1..part.len().checked_sub(1)?)?).replace("''", "'")))
    }

    fn value(&self, at: usize) -> Option<String> {
        self.literal(at).map(cut).or_else(|| self.name(at))
    }

    fn setting(&mut self) {
        self.set(Operation::Connect, Side::Client);
        self.out.local = self.is(1, "local");
        let at = 1 + usize::from(self.any(1, &["local", "session"]) && !self.is(2, "characteristics"));
        let at = if self.is(1, "session") && self.any(2, &["to", "=", "characteristics"]) { 1 } else { at };
        if self.is(at, "role") {
            let value = if self.is(at + 1, "to") || self.symbol(at + 1, b'=') { at + 2 } else { at + 1 };
            self.out.effect = self.role(value, "none");
            return;
        }
        if self.is(1, "session") && self.is(2, "authorization") || self.is(at, "session") && self.is(at + 1, "authorization") {
            let value = if self.is(1, "session") && self.is(2, "authorization") { 3 } else { at + 2 };
            self.out.effect = self.role(value, "default");
            return;
        }
        if self.is(at, "schema") {
            self.out.effect = Effect::Path(self.literal(at + 1).map(|schema| vec![schema]));
            return;
        }
        let Some((parts, end)) = self.qualified(at) else { return };
        let value = end + 1;
        let name = parts.join(".");
        self.out.effect = self.named_setting(&name, value);
    }

    fn named_setting(&self, name: &str, value: usize) -> Effect {
        match name {
            "search_path" if self.is(value, "default") => Effect::ResetPath,
            "search_path" => {
                let schemas: Option<Vec<_>> = (value..self.tokens.len()).step_by(2).take(TABLES_MAX).map(|at| self.value(at)).collect();
                Effect::Path(schemas)
            }
            "application_name" => self.value(value).map_or(Effect::None, Effect::Application),
            "session_authorization" => self.role(value, "default"),
            _ if claims_user(name) => self.value(value).map_or(Effect::None, Effect::OnBehalfOf),
            _ => Effect::None,
        }
    }

    fn role(&self, at: usize, own: &str) -> Effect {
        match self.value(at) {
            Some(name) if self.is(at, own) || name == "none" || self.is(at, "default") => Effect::Role(None),
            Some(name) => Effect::Role(Some(name)),
            None => Effect::Role(Some(UNKNOWN.into())),
        }
    }

    /// `SELECT set_config('role', 'x', false)` sets like SET does; a value that is no literal is not known.
    fn setting_by_function(&mut self, from: usize) {
        let Some(at) = self.find(from, "set_config") else { return };
        let Some(name) = self.literal(at + 2).filter(|_| self.symbol(at + 1, b'(')) else {
            self.out.effect = Effect::Path(None);
            return;
        };
        let value = self.literal(at + 4);
        self.out.effect = match name.to_ascii_lowercase().as_str() {
            "role" | "session_authorization" => match value {
                Some(role) if role == "none" || role == "default" => Effect::Role(None),
                role => Effect::Role(Some(role.unwrap_or_else(|| UNKNOWN.into()))),
            },
            "search_path" => Effect::Path(value.map(|path| path_of(&path))),
            "application_name" => value.map_or(Effect::None, Effect::Application),
            name if claims_user(name) => value.map_or(Effect::None, Effect::OnBehalfOf),
            _ => Effect::None,
        };
    }

    fn reset(&mut self) {
        self.set(Operation::Connect, Side::Client);
        self.out.effect = if self.is(1, "role") || (self.is(1, "session") && self.is(2, "authorization")) {
            Effect::Role(None)
        } else if self.is(1, "search_path") {
            Effect::ResetPath
        } else if self.is(1, "all") {
            Effect::ResetAll
        } else {
            Effect::None
        };
    }

    /// CREATE, ALTER, DROP: an account, or an object.
    fn definition(&mut self) {
        let verb = if self.is(0, "create") {
            "create"
        } else if self.is(0, "alter") {
            "alter"
        } else {
            "drop"
        };
        if self.any(1, &["role", "user", "group"]) && !self.is(2, "mapping") {
            self.account(verb);
            return;
        }
        if self.is(0, "alter") && self.is(1, "default") {
            if let Some(at) = self.find(2, "grant").or_else(|| self.find(2, "revoke")) {
                self.grant(at);
                return;
            }
        }
        self.set(Operation::Ddl, Side::Client);
        let modifiers = [
            "or",
            "replace",
            "global",
            "local",
            "temp",
            "temporary",
            "unlogged",
            "unique",
            "materialized",
            "recursive",
            "foreign",
            "constraint",
        ];
        let at = self.skip(1, &modifiers);
        let kind = self.name(at).unwrap_or_default().to_lowercase();
        let at = self.skip(at + 1, &["concurrently", "if", "not", "exists", "only"]);
        match kind.as_str() {
            "table" | "view" | "sequence" => {
                self.relations(at);
                if verb == "create" {
                    if let Some(query) = self.outside(at, "as") {
                        self.walk(query + 1, true);
                    }
                }
            }
            "index" | "trigger" | "policy" | "rule" => {
                if let Some(on) = self.find(at, "on") {
                    self.relations(self.skip(on + 1, &["only"]));
                } else {
                    self.other(&kind, at);
                }
            }
            _ => self.other(&kind, at),
        }
    }

    fn other(&mut self, kind: &str, at: usize) {
        self.out.names.extend(self.qualified(at).map(|(parts, _)| format!("{kind}:{}", parts.join("."))));
    }

    /// `a, b.c, …`
    fn relations(&mut self, mut at: usize) {
        while let Some((parts, end)) = self.qualified(at) {
            self.add_table(&parts);
            at = self.skip(end + usize::from(self.symbol(end, b'*')), &[]);
            if !self.symbol(at, b',') {
                break;
            }
            at = self.skip(at + 1, &["only"]);
        }
    }

    fn maintenance(&mut self) {
        self.set(Operation::Ddl, Side::Client);
        let mut at = 1;
        if self.symbol(at, b'(') {
            at = self.closing(at);
        }
        let words =
            ["table", "only", "full", "freeze", "verbose", "analyze", "concurrently", "materialized", "view", "index", "on", "column"];
        let at = self.skip(at, &words);
        if !self.any(0, &["security", "import", "reassign"]) {
            self.relations(at);
        }
    }

    /// CREATE, ALTER, DROP ROLE | USER | GROUP.
    fn account(&mut self, verb: &str) {
        self.set(Operation::Admin, Side::Client);
        let mut at = self.skip(2, &["if", "exists"]);
        let mut columns = vec![verb.to_owned()];
        while let Some(name) = self.value(at) {
            self.out.names.push(format!("account:{name}"));
            at += 1;
            if verb != "drop" || !self.symbol(at, b',') || self.out.names.len() >= TABLES_MAX {
                break;
            }
            at += 1;
        }
        if self.out.names.is_empty() {
            self.out.readable = false;
        }
        let attributes = ["superuser", "createdb", "createrole", "replication", "bypassrls", "login"];
        let mut rest = at;
        while rest < self.tokens.len() && !self.any(rest, &["set", "reset"]) {
            let word = self.name(rest).unwrap_or_default();
            if word == "password" {
                columns.push("password".into());
            } else if attributes.contains(&word.as_str()) {
                columns.push(format!("grant:{word}"));
            } else if word.strip_prefix("no").is_some_and(|w| attributes.contains(&w)) {
                columns.push(format!("revoke:{}", &word[2..]));
            } else if word == "rename" {
                self.out.names.extend(self.value(rest + 2).map(|name| format!("account:{name}")));
            } else if (word == "in" && self.any(rest + 1, &["role", "group"])) || (word == "add" && self.is(rest + 1, "user")) {
                let of = self.out.names.first().cloned().unwrap_or_default();
                for name in self.list_of_names(rest + 2) {
                    if word == "in" {
                        columns.push(format!("grant:{name}"));
                    } else {
                        // ALTER GROUP g ADD USER u grants g to u.
                        columns.push(format!("grant:{}", of.trim_start_matches("account:")));
                        self.out.names.push(format!("account:{name}"));
                    }
                }
            }
            rest += 1;
        }
        columns.truncate(COLUMNS_MAX);
        self.out.columns = columns;
    }

    fn list_of_names(&self, mut at: usize) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(name) = self.value(at) {
            names.push(name);
            if !self.symbol(at + 1, b',') || names.len() >= TABLES_MAX {
                break;
            }
            at += 2;
        }
        names
    }

    /// GRANT and REVOKE, of roles and of privileges, from the verb at `at`.
    fn grant(&mut self, at: usize) {
        self.set(Operation::Admin, Side::Client);
        let revoke = self.is(at, "revoke");
        let action = if revoke { "revoke" } else { "grant" };
        let mut item = at + 1;
        if self.any(item, &["grant", "admin", "inherit", "set"]) && self.is(item + 1, "option") {
            item += 3;
        }
        let mut columns = Vec::new();
        let to = (item..self.tokens.len()).find(|i| self.any(*i, &["to", "from"])).unwrap_or(self.tokens.len());
        let on = (item..to).find(|i| self.is(*i, "on")).unwrap_or(to);
        while item < on && columns.len() < COLUMNS_MAX {
            columns.extend(self.value(item).map(|name| format!("{action}:{name}")));
            while item < on && !self.symbol(item, b',') {
                item = if self.symbol(item, b'(') { self.closing(item) } else { item + 1 };
            }
            item += 1;
        }
        let accounts = self.skip(to + 1, &["group"]);
        self.out.names = self.list_of_names(accounts).into_iter().map(|name| format!("account:{name}")).collect();
        self.out.readable &= !self.out.names.is_empty();
        self.out.columns = columns;
    }

    /// The walsender's own commands (PostgreSQL, 55.4).
    fn replication(&mut self, verb: &str) {
        self.set(Operation::Replicate, Side::Server);
        let slot = match verb {
            "start_replication" if self.is(1, "slot") => self.name(2),
            "create_replication_slot" | "drop_replication_slot" | "read_replication_slot" => self.name(1),
            _ => None,
        };
        self.out.names.extend(slot.map(|name| format!("slot:{name}")));
        if verb == "start_replication" && self.is(3, "logical") {
            // pgoutput refuses to begin without its version (PostgreSQL, 55.5.1); no other plugin knows that option.
            let pgoutput = self.find(4, "proto_version").is_some()
                || (4..self.tokens.len()).any(|at| self.name(at).as_deref() == Some("proto_version"));
            self.out.effect = Effect::Replicate(if pgoutput { Decoding::Pgoutput } else { Decoding::Other });
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cut(mut name: String) -> String {
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|n| name.is_char_boundary(*n)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

/// Custom settings by which applications say for whom they act (`SET app.user = …`).
fn claims_user(name: &str) -> bool {
    let last = name.rsplit_once('.').map_or("", |(_, last)| last);
    matches!(last, "user" | "user_name" | "username" | "user_id" | "current_user" | "current_user_id")
}

/// The schemas of a `search_path` value: `"$user", public`.
#[must_use]
pub fn path_of(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .take(TABLES_MAX)
        .map(|s| match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
            Some(quoted) => cut(quoted.replace("\"\"", "\"")),
            None => cut(s.to_lowercase()),
        })
        .collect()
}

#[cfg(test)]
mod tests;

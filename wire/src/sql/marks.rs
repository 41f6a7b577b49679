//! What a statement does besides moving rows over its own session: it fills a table from others, writes to the server's
//! disk, sends to another server, folds many rows into one value, or says a secret in clear. Only the kind is told.
//!
//! Read of the tokens, like everything else of a statement: SQL that a function builds from texts is not seen.

use super::{Kind, Reader, Table};

/// The first name of the objects is filled, or read, from the others: `CREATE TABLE AS`, `SELECT INTO`,
/// `INSERT … SELECT`, `MERGE`, a view, a new name.
pub const FILLS: &str = "fills";
/// To a file of the server, a program that the server runs, or another server.
pub const TO_FILE: &str = "to-file";
pub const TO_PROGRAM: &str = "to-program";
pub const TO_SERVER: &str = "to-server";
/// Another server, or a table of it, becomes reachable from this one.
pub const FOREIGN: &str = "foreign";
/// Any number of rows is returned as one value.
pub const FOLDED: &str = "folded";
/// A password in the text of a statement, or inside a connection string or options of one.
pub const SECRET_PASSWORD: &str = "secret-password";
pub const SECRET_CONNECTION: &str = "secret-connection";

/// The mark of this name, if statements have one.
#[must_use]
pub fn known(name: &str) -> Option<&'static str> {
    let all = [FILLS, TO_FILE, TO_PROGRAM, TO_SERVER, FOREIGN, FOLDED, SECRET_PASSWORD, SECRET_CONNECTION];
    all.into_iter().find(|mark| *mark == name)
}

/// Functions that return many rows, or a whole table, as one value (PostgreSQL, 9.15 and 9.21; others have the last two).
const FOLDING: &[&str] = &[
    "array_agg",
    "json_agg",
    "json_agg_strict",
    "json_arrayagg",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_objectagg",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "string_agg",
    "xmlagg",
    "cursor_to_xml",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "group_concat",
    "listagg",
];

/// Of them, those whose table or query is an argument: what they read is not in the text's own names.
const FOLDING_UNNAMED: &str = "_to_xml";

/// Functions that write a file of the server (PostgreSQL, 35.4; adminpack).
const WRITING: &[&str] = &["lo_export", "pg_file_write"];

/// Functions that ask another host over HTTP (extensions `http` and `pg_net`).
const ASKING: &[&str] = &["http_delete", "http_get", "http_patch", "http_post", "http_put"];

/// Options that hold a secret (PostgreSQL, 34.1.2 and F.38.1; other wrappers).
const SECRET_OPTIONS: &[&str] = &["password", "passwd", "sslpassword", "secret", "secret_access_key", "token", "api_key"];

impl Reader<'_> {
    /// Marks the statement, which has been read.
    pub(super) fn mark(&mut self) {
        let only_planned = self.is(0, "explain") && self.find(1, "analyze").is_none();
        if !only_planned {
            self.mark_functions();
            self.mark_filled();
        }
        if self.out.copy.is_some_and(|copy| copy.server_side && !copy.inward) {
            let program = (1..self.tokens.len()).any(|at| self.is(at, "to") && self.is(at + 1, "program"));
            self.add_mark(if program { TO_PROGRAM } else { TO_FILE });
        }
        if self.any(0, &["create", "alter", "import"]) {
            self.mark_definition();
        }
        if self.mysql.is_some() {
            self.mark_mysql();
        }
    }

    pub(super) fn add_mark(&mut self, mark: &'static str) {
        if !self.out.marks.contains(&mark) {
            self.out.marks.push(mark);
        }
    }

    fn mark_functions(&mut self) {
        let mut connects = false;
        for at in 1..self.tokens.len().saturating_sub(1) {
            if !self.symbol(at + 1, b'(') || !matches!(self.kind(at), Some(Kind::Word | Kind::Quoted)) {
                continue;
            }
            let Some(name) = self.name(at) else { continue };
            // MySQL's names keep their case and Oracle's are in upper case; functions have none.
            let name = if self.mysql.is_some() || self.oracle { name.to_lowercase() } else { name };
            let name = name.as_str();
            if name.starts_with("dblink") {
                self.add_mark(TO_SERVER);
                connects = true;
            } else if FOLDING.contains(&name) || (name == "array" && self.is(at + 2, "select")) {
                self.add_mark(FOLDED);
                self.out.readable &= !name.contains(FOLDING_UNNAMED);
            } else if WRITING.contains(&name) {
                self.add_mark(TO_FILE);
            } else if ASKING.contains(&name) {
                self.add_mark(TO_SERVER);
            }
        }
        if connects && (1..self.tokens.len()).any(|at| self.holds_password(at)) {
            self.add_mark(SECRET_CONNECTION);
        }
    }

    /// Puts the table that is filled first, and marks the statement if there is any that it is filled from.
    fn mark_filled(&mut self) {
        if let Some(filled) = self.filled_without_into() {
            self.fill_first(&filled);
        } else if let Some(into) = (1..self.tokens.len()).find(|at| self.is(*at, "into") && !self.symbol(at - 1, b'.')) {
            if self.any(into + 1, &["outfile", "dumpfile"]) && self.kind(into + 2) == Some(Kind::Literal) {
                // MariaDB's SELECT … INTO OUTFILE: no table stands there.
                self.out.tables.retain(|table| table.qualified || !matches!(table.name.as_str(), "outfile" | "dumpfile"));
                self.add_mark(TO_FILE);
                return;
            }
            let name = self.skip(into + 1, &["temporary", "temp", "unlogged", "table", "only"]);
            let Some((parts, _)) = self.qualified(name) else { return };
            self.fill_first(&parts.join("."));
        } else if self.is(0, "create") && matches!(self.made().as_str(), "table" | "view") && self.takes_a_query() {
            self.mark_if_from_others();
        } else if self.is(0, "alter") && matches!(self.made().as_str(), "table" | "view") && self.out.tables.len() == 1 {
            self.mark_renamed();
        }
    }

    fn fill_first(&mut self, filled: &str) {
        if let Some(at) = self.out.tables.iter().position(|table| table.name == filled) {
            self.out.tables[..=at].rotate_right(1);
            self.mark_if_from_others();
        }
    }

    /// CREATE TABLE t AS SELECT …; MySQL may leave AS out.
    fn takes_a_query(&self) -> bool {
        self.outside(1, "as").is_some() || (self.mysql.is_some() && self.find(1, "select").is_some())
    }

    fn mark_if_from_others(&mut self) {
        if self.out.names.is_empty() && (self.out.tables.len() > 1 || !self.out.readable) {
            self.add_mark(FILLS);
        }
    }

    /// What a CREATE or ALTER is of.
    fn made(&self) -> String {
        let words = ["or", "replace", "global", "local", "temp", "temporary", "unlogged", "materialized", "recursive", "foreign"];
        self.name(self.skip(1, &words)).unwrap_or_default().to_lowercase()
    }

    /// ALTER TABLE … RENAME TO name, … SET SCHEMA name: the same rows under a name that nothing is declared of.
    fn mark_renamed(&mut self) {
        let Some(old) = self.out.tables.first().map(|table| table.name.clone()) else { return };
        let (schema, last) = old.rsplit_once('.').map_or(("", old.as_str()), |(schema, last)| (schema, last));
        let named = |to: &str| self.find(2, to).filter(|_| self.tokens.len() <= 16);
        let renamed = named("rename").filter(|at| self.is(at + 1, "to")).and_then(|at| self.name(at + 2));
        let moved = named("set").filter(|at| self.is(at + 1, "schema")).and_then(|at| self.name(at + 2));
        let new = match (renamed, moved) {
            (Some(name), _) if schema.is_empty() => name,
            (Some(name), _) => format!("{schema}.{name}"),
            (None, Some(schema)) => format!("{schema}.{last}"),
            (None, None) => return,
        };
        self.out.tables.insert(0, Table { qualified: new.contains('.'), name: new });
        self.add_mark(FILLS);
    }

    fn mark_definition(&mut self) {
        let kind = self.made();
        let (foreign, second) = (self.is(1, "foreign"), self.name(1).unwrap_or_default().to_lowercase());
        match second.as_str() {
            _ if self.is(0, "import") && foreign => {
                let server = self.find(2, "server").and_then(|at| self.name(at + 1));
                let into = self.find(2, "into").and_then(|at| self.name(at + 1));
                self.out.names.extend(server.map(|name| format!("server:{name}")));
                self.out.names.extend(into.map(|name| format!("schema:{name}")));
                self.add_mark(FOREIGN);
            }
            "server" => self.add_mark(FOREIGN),
            "extension" => {
                let at = self.skip(2, &["if", "not", "exists"]);
                let is_wrapper = self.name(at).is_some_and(|name| name == "dblink" || name.ends_with("_fdw"));
                if is_wrapper && self.is(0, "create") {
                    self.add_mark(FOREIGN);
                }
            }
            _ if foreign && self.is(0, "create") => self.add_mark(FOREIGN),
            _ => {}
        }
        let (user, mapping) = (self.any(1, &["role", "user", "group"]), self.is(2, "mapping"));
        if user && !mapping && (1..self.tokens.len()).any(|at| self.any(at, &["password", "by"]) && self.is_clear(at + 1)) {
            self.add_mark(SECRET_PASSWORD);
        }
        let reaches = foreign || mapping || matches!(kind.as_str(), "server" | "subscription" | "system");
        if !reaches {
            return;
        }
        let said = (1..self.tokens.len()).any(|at| {
            let option =
                self.kind(at + 1) == Some(Kind::Literal) && self.name(at).is_some_and(|name| SECRET_OPTIONS.contains(&name.as_str()));
            self.holds_password(at) || (option && !self.content(at + 1).is_empty())
        });
        if said {
            self.add_mark(SECRET_CONNECTION);
        }
    }

    /// What stands between the quotes of a literal, as it is written.
    pub(super) fn content(&self, at: usize) -> &[u8] {
        let part = self.part(at);
        if self.kind(at) != Some(Kind::Literal) {
            return &[];
        }
        let quote = match part.first() {
            Some(&quote @ (b'$' | b'"')) => quote,
            _ => b'\'',
        };
        let Some(open) = memchr::memchr(quote, part) else { return &[] };
        let inner = part.get(open + 1..).unwrap_or_default();
        // `$tag$ … $tag$`: what is between its second dollar and its last but one.
        let inner = if quote == b'$' { inner.splitn(2, |b| *b == b'$').nth(1).unwrap_or_default() } else { inner };
        let end = memchr::memrchr(quote, inner).unwrap_or(inner.len());
        let inner = inner.get(..end).unwrap_or_default();
        if quote == b'$' { memchr::memrchr(b'$', inner).map_or(inner, |end| inner.get(..end).unwrap_or_default()) } else { inner }
    }

    /// A password that is neither empty nor hashed as the server stores it (PostgreSQL, CREATE ROLE; `get_password_type`).
    fn is_clear(&self, at: usize) -> bool {
        let password = self.content(at);
        let md5 = password.strip_prefix(b"md5").is_some_and(|hash| hash.len() == 32 && hash.iter().all(u8::is_ascii_hexdigit));
        !(password.is_empty() || md5 || password.starts_with(b"SCRAM-SHA-256$"))
    }

    /// A literal that is a connection string with a password in it: keywords and values, or a URI (PostgreSQL, 34.1.1).
    pub(super) fn holds_password(&self, at: usize) -> bool {
        let text = self.content(at);
        let mut rest = text;
        while let Some(found) = position(rest, b"password") {
            rest = rest.get(found + 8..).unwrap_or_default();
            let value = rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
            if value.is_some_and(|value| !value.is_empty() && !value.starts_with(b"''")) {
                return true;
            }
        }
        let Some(authority) = position(text, b"://").and_then(|at| text.get(at + 3..)) else { return false };
        let user = authority.split(|b| matches!(b, b'/' | b'?')).next().unwrap_or_default();
        let Some(end) = memchr::memrchr(b'@', user) else { return false };
        user.get(..end).and_then(|user| memchr::memchr(b':', user)).is_some_and(|colon| colon + 1 < end)
    }
}

/// Where `word`, in whatever case, first stands.
fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|part| part.eq_ignore_ascii_case(word))
}

//! Statements as clients write them: what is read of each, and that no literal is.

use super::*;
use crate::protocols::testing::Random;

/// The only statement of `text`.
fn one(text: &str) -> Statement {
    only(text, read(text.as_bytes(), true, false))
}

fn tables(statement: &Statement) -> String {
    statement.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The tables of a statement, and what else it names.
pub(super) fn named(statement: &Statement) -> String {
    statement.tables.iter().map(|t| t.name.as_str()).chain(statement.names.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// The only one of the statements of `text`.
pub(super) fn only(text: &str, mut statements: Vec<Statement>) -> Statement {
    assert_eq!(statements.len(), 1, "{text}: {statements:?}");
    statements.remove(0)
}

/// Everything that a statement tells, as text.
fn told(text: &[u8]) -> String {
    let statements = read(text, true, false);
    let objects: Vec<_> = statements.iter().map(|s| s.objects(None)).collect();
    format!("{statements:?} {objects:?}")
}

#[test]
fn tables_are_those_that_the_statement_reads_or_writes() {
    use Operation::{Call, Connect, Copy, Ddl, Delete, Insert, Select, Update};
    let cases: &[(&str, Operation, &str)] = &[
        ("SELECT * FROM mes.orders", Select, "mes.orders"),
        ("select a, b from Orders o, mes.\"Part List\" AS p where o.id = p.id", Select, "orders mes.Part List"),
        ("SELECT * FROM plant.mes.orders", Select, "plant.mes.orders"),
        ("SELECT * FROM ONLY (orders)", Select, "orders"),
        ("SELECT * FROM a JOIN b USING (id) LEFT OUTER JOIN LATERAL (SELECT 1 FROM c WHERE c.id = a.id) x ON true", Select, "a b c"),
        ("SELECT * FROM (a CROSS JOIN b), c", Select, "a b c"),
        ("SELECT * FROM a WHERE id IN (SELECT id FROM b WHERE EXISTS (SELECT FROM c))", Select, "a b c"),
        ("SELECT (SELECT max(id) FROM b), c FROM a", Select, "b a"),
        ("SELECT 1 FROM a UNION ALL SELECT 1 FROM b INTERSECT (SELECT 1 FROM c)", Select, "a b c"),
        ("(SELECT 1 FROM a) EXCEPT SELECT 1 FROM b", Select, "a b"),
        ("TABLE mes.orders", Select, "mes.orders"),
        ("VALUES (1), (2)", Select, ""),
        ("WITH recent AS (SELECT * FROM a) SELECT * FROM recent JOIN b USING (id)", Select, "a b"),
        ("WITH x AS MATERIALIZED (SELECT 1 FROM a), y (n) AS (SELECT n FROM x) SELECT * FROM y", Select, "a"),
        ("WITH RECURSIVE t AS (SELECT 1 FROM a UNION ALL SELECT 1 FROM t JOIN b USING (id)) TABLE t", Select, "a b"),
        // Without RECURSIVE the name inside its own body is the table.
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", Select, "a"),
        // The name of an inner WITH ends with it.
        ("SELECT * FROM (WITH x AS (SELECT 1 FROM a) SELECT * FROM x) s, x", Select, "a x"),
        ("WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone", Delete, "a"),
        ("WITH new AS (SELECT * FROM a) INSERT INTO b SELECT * FROM new", Insert, "b a"),
        ("SELECT extract(year FROM made), substring(part FROM 2 FOR 3), trim(both 'x' FROM part) FROM a", Select, "a"),
        ("SELECT * FROM a WHERE x IS NOT DISTINCT FROM y", Select, "a"),
        ("SELECT * FROM generate_series(1, 3) n, mes.f(1) f, a", Select, "a"),
        ("SELECT * FROM ROWS FROM (f(1), g(2)) r, a", Select, "a"),
        ("SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords()", Select, "pg_catalog.pg_get_keywords"),
        ("SELECT * FROM pg_timezone_names() z, mes.pg_get_keywords() f", Select, "pg_catalog.pg_timezone_names"),
        ("SELECT * INTO TEMP TABLE b FROM a", Select, "b a"),
        ("SELECT * FROM a FOR UPDATE OF a", Select, "a"),
        ("EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM a", Select, "a"),
        ("INSERT INTO a (x, y) VALUES (1, 2) ON CONFLICT (x) DO UPDATE SET y = 3 RETURNING x", Insert, "a"),
        ("INSERT INTO mes.a SELECT * FROM mes.b", Insert, "mes.a mes.b"),
        ("INSERT INTO a (x) (SELECT x FROM b)", Insert, "a b"),
        ("UPDATE ONLY a SET x = b.x FROM b WHERE a.id = b.id", Update, "a b"),
        ("DELETE FROM a USING b, c WHERE a.id = b.id", Delete, "a b c"),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (b.id)", Update, "a b"),
        ("MERGE INTO a USING (SELECT * FROM b) s ON a.id = s.id WHEN MATCHED THEN UPDATE SET x = 1", Update, "a b"),
        ("COPY (SELECT x FROM a JOIN b USING (id)) TO STDOUT", Copy, "a b"),
        ("COPY mes.a (x, y) FROM STDIN WITH (FORMAT csv, HEADER)", Copy, "mes.a"),
        ("CREATE TABLE b AS SELECT * FROM a", Ddl, "b a"),
        ("CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY, x int GENERATED ALWAYS AS (id + 1) STORED)", Ddl, "b"),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM a", Ddl, "v a"),
        ("CREATE INDEX CONCURRENTLY i ON mes.a (x)", Ddl, "mes.a"),
        ("DROP TABLE IF EXISTS a, mes.b CASCADE", Ddl, "a mes.b"),
        ("ALTER TABLE IF EXISTS ONLY a ADD COLUMN x int", Ddl, "a"),
        ("TRUNCATE TABLE a, b", Ddl, "a b"),
        ("VACUUM (FULL, ANALYZE) a", Ddl, "a"),
        ("CALL mes.close_order(7)", Call, ""),
        ("BEGIN", Connect, ""),
    ];
    let mut wrong = Vec::new();
    for (text, operation, expected) in cases {
        let s = one(text);
        if (s.operation, tables(&s).as_str(), s.readable) != (*operation, *expected, true) {
            wrong.push(format!("{text}: {:?} {:?} readable {}", s.operation, tables(&s), s.readable));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_followed_is_unknown() {
    for text in [
        "DO $$ BEGIN DELETE FROM a; END $$",
        "SELECT * FROM $1",
        "SELECT * FROM (a",
        "SELECT * FROM a)",
        "SELECT * FROM U&\"a\"",
        "SELECT * FROM \"a",
        "FROB a",
    ] {
        let s = one(text);
        assert!(!s.readable && s.objects(None).names.contains(&UNKNOWN.to_owned()), "{text}: {s:?}");
    }
}

#[test]
fn columns_are_those_that_the_text_names() {
    let cases = [
        ("SELECT id, o.part, count(*) AS n, max(made) FROM o", "id part n max made"),
        ("SELECT * FROM o", "*"),
        ("SELECT id + 1 FROM o", "*"),
        ("INSERT INTO o (id, \"Part\") VALUES (1, 2)", "id Part"),
        ("INSERT INTO o VALUES (1, 2)", "*"),
        ("UPDATE o SET part = 'x', (a, b) = (1, 2), quantity = f(1, 2) WHERE id = 3", "part a b quantity"),
        ("DELETE FROM o", "*"),
        ("COPY o (id, part) FROM STDIN", "id part"),
        ("COPY (SELECT id, part FROM o) TO STDOUT", "id part"),
    ];
    for (text, expected) in cases {
        assert_eq!(one(text).columns.join(" "), expected, "{text}");
    }
}

/// What a statement does besides moving rows over its session is told by kind.
#[test]
fn marks_say_what_moves_elsewhere_and_what_is_filled_from_what() {
    let cases = [
        // Filled from others: the filled table comes first.
        ("CREATE TABLE b AS SELECT * FROM a", "fills", "b a"),
        ("CREATE TEMP TABLE b ON COMMIT DROP AS (SELECT x FROM a JOIN c USING (x))", "fills", "b a c"),
        ("CREATE OR REPLACE VIEW v (x) AS SELECT x FROM a", "fills", "v a"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT * FROM a", "fills", "v a"),
        ("SELECT * INTO UNLOGGED TABLE b FROM a", "fills", "b a"),
        ("SELECT (SELECT max(x) FROM c) AS x INTO b FROM a", "fills", "b c a"),
        ("INSERT INTO mes.b (x) SELECT x FROM mes.a", "fills", "mes.b mes.a"),
        ("INSERT INTO b TABLE a", "fills", "b a"),
        ("INSERT INTO b VALUES ((SELECT max(x) FROM a))", "fills", "b a"),
        ("WITH n AS (SELECT * FROM a) INSERT INTO b SELECT * FROM n", "fills", "b a"),
        ("WITH n AS (INSERT INTO b SELECT * FROM a RETURNING 1) SELECT * FROM n", "fills", "b a"),
        ("PREPARE p AS INSERT INTO b SELECT * FROM a", "fills", "b a"),
        ("MERGE INTO b USING a ON a.x = b.x WHEN NOT MATCHED THEN INSERT VALUES (a.x)", "fills", "b a"),
        ("EXPLAIN ANALYZE INSERT INTO b SELECT * FROM a", "fills", "b a"),
        ("EXPLAIN INSERT INTO b SELECT * FROM a", "", "b a"),
        ("ALTER TABLE mes.a RENAME TO b", "fills", "mes.b mes.a"),
        ("ALTER TABLE mes.a SET SCHEMA public", "fills", "public.a mes.a"),
        ("ALTER TABLE a RENAME COLUMN x TO y", "", "a"),
        ("ALTER TABLE a ADD COLUMN x int", "", "a"),
        ("CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY)", "", "b"),
        ("INSERT INTO b VALUES (1, 'INTO c')", "", "b"),
        ("INSERT INTO b SELECT 1", "", "b"),
        ("SELECT t.into FROM a t", "", "a"),
        // Elsewhere than over the session.
        ("COPY a TO '/tmp/x'", "to-file", "a"),
        ("COPY (SELECT * FROM a) TO '/tmp/x' CSV", "to-file", "a"),
        ("COPY a TO PROGRAM 'cat > x'", "to-program", "a"),
        ("COPY a TO STDOUT", "", "a"),
        ("COPY a FROM '/tmp/x'", "", "a"),
        ("COPY a FROM PROGRAM 'to program'", "", "a"),
        ("SELECT lo_export(a.data, '/tmp/x') FROM a", "to-file", "a"),
        ("SELECT lo_export FROM a", "", "a"),
        ("SELECT * FROM a INTO OUTFILE '/tmp/x'", "to-file", "a"),
        ("SELECT x INTO outfile FROM a", "fills", "outfile a"),
        ("SELECT dblink_exec('c', 'INSERT INTO t VALUES (' || x || ')') FROM a", "to-server", "a"),
        ("SELECT * FROM public.dblink('c', 'SELECT 1') AS t (x int)", "to-server", ""),
        ("SELECT http_post('http://x', x::text, '') FROM a", "to-server", "a"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'x')", "foreign", ""),
        ("CREATE FOREIGN TABLE f (x int) SERVER s", "foreign", "f"),
        ("IMPORT FOREIGN SCHEMA public FROM SERVER s INTO far", "foreign", ""),
        ("CREATE EXTENSION IF NOT EXISTS postgres_fdw", "foreign", ""),
        ("CREATE EXTENSION dblink", "foreign", ""),
        ("DROP SERVER s", "", ""),
        ("CREATE EXTENSION pg_trgm", "", ""),
        // Many rows as one value.
        ("SELECT json_agg(a) FROM a", "folded", "a"),
        ("SELECT pg_catalog.string_agg(x, ',' ORDER BY x) FROM a", "folded", "a"),
        ("SELECT ARRAY(SELECT x FROM a)", "folded", "a"),
        ("SELECT \"json_agg\"(x) FROM a", "folded", "a"),
        ("COPY (SELECT xmlagg(x) FROM a) TO STDOUT", "folded", "a"),
        ("SELECT row_to_json(a), array[x], sum(x), count(*) FROM a", "", "a"),
        ("SELECT json_agg FROM a", "", "a"),
    ];
    let mut wrong = Vec::new();
    for (text, marks, expected) in cases {
        let s = one(text);
        if (s.marks.join(" ").as_str(), tables(&s).as_str()) != (marks, expected) {
            wrong.push(format!("{text}: {:?} {:?}", s.marks, tables(&s)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What they read is named by a text that is not read.
    for text in ["SELECT query_to_xml('SELECT * FROM a', true, false, '')", "SELECT table_to_xml('a', true, false, '')"] {
        assert!(!one(text).readable && one(text).marks == ["folded"], "{text}");
    }
    assert_eq!(one("IMPORT FOREIGN SCHEMA public FROM SERVER s INTO far").names, ["server:s", "schema:far"]);
}

/// A secret in a text is told by kind; one that is hashed, empty or a parameter is none.
#[test]
fn secrets_in_a_text_are_marked_and_hashes_are_not() {
    let clear = [
        ("CREATE ROLE r LOGIN PASSWORD 'hidden'", "secret-password"),
        ("CREATE USER r ENCRYPTED PASSWORD $$hidden$$ VALID UNTIL '2030-01-01'", "secret-password"),
        ("ALTER ROLE r WITH PASSWORD $t$hid$den$t$", "secret-password"),
        ("alter user r password E'hidden'", "secret-password"),
        ("CREATE USER r IDENTIFIED BY 'hidden'", "secret-password"),
        ("ALTER ROLE r PASSWORD 'md5hidden'", "secret-password"),
        ("CREATE USER MAPPING FOR r SERVER s OPTIONS (user 'u', password 'hidden')", "secret-connection"),
        ("ALTER USER MAPPING FOR r SERVER s OPTIONS (SET password 'hidden')", "secret-connection"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=x password = hidden' PUBLICATION p", "secret-connection"),
        ("CREATE SUBSCRIPTION s CONNECTION 'postgresql://u:hidden@x/db' PUBLICATION p", "secret-connection"),
        ("ALTER SYSTEM SET primary_conninfo = 'host=x PASSWORD=hidden'", "secret-connection"),
        ("SELECT dblink_connect('c', 'host=x user=u password=hidden')", "to-server secret-connection"),
        ("SELECT * FROM dblink('postgres://u:hidden@x', 'SELECT 1') AS t (x int)", "to-server secret-connection"),
    ];
    for (text, marks) in clear {
        assert_eq!(one(text).marks.join(" "), marks, "{text}");
        assert!(!told(text.as_bytes()).contains("hid"), "{text}");
    }
    let none = [
        "CREATE ROLE r LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'",
        "CREATE ROLE r PASSWORD 'md50123456789abcdef0123456789abcdef'",
        "CREATE ROLE r PASSWORD NULL",
        "CREATE ROLE r PASSWORD ''",
        "CREATE ROLE password LOGIN VALID UNTIL '2030-01-01'",
        "DROP ROLE r",
        "CREATE USER MAPPING FOR r SERVER s OPTIONS (user 'u')",
        "CREATE USER MAPPING FOR r SERVER s OPTIONS (user 'u', password '')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=x user=u password='' ''' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION 'postgresql://u@x/db' PUBLICATION p",
        "SELECT dblink_connect('c', 'host=x passfile=/x')",
        "INSERT INTO log VALUES ('GET /?password=hidden')",
        "SELECT password FROM a WHERE password = 'hidden'",
    ];
    for text in none {
        assert!(!one(text).marks.iter().any(|mark| mark.starts_with("secret")), "{text}: {:?}", one(text).marks);
    }
}

/// Whatever name it is returned under, a column that is read is named.
#[test]
fn no_alias_hides_the_column_that_is_returned_under_it() {
    let cases = [
        ("SELECT secret AS lot FROM q.t", "lot secret"),
        ("SELECT t.secret lot, part FROM q.t", "* secret lot part"),
        ("SELECT upper(secret) AS lot FROM q.t", "lot secret"),
        ("SELECT id, secret || '' FROM q.t", "* id secret"),
        ("SELECT lot FROM (SELECT secret AS lot FROM q.t) v", "lot secret"),
        ("WITH c(lot) AS (SELECT secret FROM q.t) SELECT lot FROM c", "lot secret"),
        ("SELECT lot FROM q.t UNION ALL SELECT secret FROM q.t", "lot secret"),
        ("SELECT x AS lot FROM q.t, LATERAL upper(secret) AS x", "lot x secret"),
        ("SELECT x AS lot FROM q.t, unnest(ARRAY[secret]) AS x(n)", "lot x secret"),
        ("SELECT extract(year FROM secret) AS lot FROM q.t", "lot year secret"),
        ("SELECT CAST(secret AS text) AS lot FROM q.t", "lot secret"),
        ("SELECT secret::text AS lot FROM q.t", "lot secret"),
        ("SELECT CASE WHEN id > 1 THEN secret ELSE NULL END AS lot FROM q.t", "lot id secret"),
        ("SELECT a IS DISTINCT FROM secret AS lot FROM q.t", "* a secret"),
        ("SELECT \"Secret\" AS lot FROM q.t", "lot Secret"),
        ("SELECT values AS lot FROM q.t", "lot values"),
        ("SELECT update AS lot, secret AS part FROM q.t", "lot part update secret"),
        ("SELECT first_value(secret) OVER (PARTITION BY id ORDER BY ts) AS lot FROM q.t", "lot secret id ts"),
        ("COPY (SELECT secret AS lot FROM q.t) TO STDOUT", "lot secret"),
        ("DECLARE c CURSOR FOR SELECT secret AS lot FROM q.t", "lot secret"),
        // A row as a value, and columns named anew by their place, could be any column.
        ("SELECT row_to_json(t) AS lot FROM q.inspection t", "lot t *"),
        ("SELECT inspection AS lot FROM q.inspection", "lot inspection *"),
        ("SELECT b AS lot FROM q.t AS v (a, b)", "lot b *"),
        ("SELECT b AS lot FROM q.t v (a, b)", "lot b *"),
    ];
    for (text, expected) in cases {
        let s = one(text);
        let mut told = s.columns.clone();
        add_names(&mut told, &s.reads);
        assert_eq!(told.join(" "), expected, "{text}");
    }
}

/// What only chooses, joins or sorts rows is not returned, and plain lists have nothing to add.
#[test]
fn columns_that_only_choose_rows_are_not_among_those_returned() {
    let cases = [
        "SELECT lot, part FROM q.t WHERE secret = 'x' AND id IN (SELECT secret FROM q.u) ORDER BY secret LIMIT 3",
        "SELECT t.lot, t.part FROM q.t t JOIN q.u u ON u.secret = t.secret LEFT JOIN q.w USING (secret)",
        "SELECT lot, part FROM q.t GROUP BY lot, part HAVING count(*) > 1 FOR UPDATE",
        "SELECT lot, part FROM (q.t JOIN q.u ON t.secret = u.secret)",
    ];
    for text in cases {
        assert_eq!((one(text).reads.join(" "), one(text).columns.join(" ")), ("lot part".into(), "lot part".into()), "{text}");
    }
    assert_eq!(one("UPDATE q.t SET state = 1 WHERE id = 2 RETURNING secret AS lot").reads, ["secret"]);
    assert!(one("UPDATE q.t SET state = secret WHERE id = 2").reads.is_empty());
    assert!(one("EXPLAIN SELECT secret FROM q.t").reads.is_empty());
}

#[test]
fn literals_and_comments_are_not_told() {
    let texts = [
        "SELECT 'hidden' FROM a",
        "SELECT 'it''s hidden' FROM a",
        "SELECT E'x\\'hidden' FROM a",
        "SELECT $$hidden$$, $t$ hidden $$ hidden $t$ FROM a",
        "SELECT U&'hidden', N'hidden', B'0101hidden', X'1Fhidden' FROM a",
        "SELECT 1 FROM a -- hidden",
        "SELECT 1 /* hidden /* hidden */ hidden */ FROM a",
        "SELECT 'hidden",
        "SELECT $$hidden",
        "SELECT /* hidden",
        "CREATE ROLE r LOGIN PASSWORD 'hidden'",
        "CREATE USER r ENCRYPTED PASSWORD 'hidden' VALID UNTIL 'hidden'",
        "ALTER ROLE r WITH PASSWORD $$hidden$$",
        "ALTER ROLE r SET work_mem = 'hidden'",
        "CREATE USER MAPPING FOR r SERVER s OPTIONS (user 'hidden', password 'hidden')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=x password=hidden' PUBLICATION p",
        "SET app.token = 'hidden'",
        "SELECT set_config('app.token', 'hidden', false)",
        "NOTIFY line, 'hidden'",
        "COMMENT ON TABLE a IS 'hidden'",
        "COPY a FROM PROGRAM 'curl hidden'",
        "EXECUTE p ('hidden')",
        "CALL f('hidden')",
        "DO 'hidden'",
    ];
    for text in texts {
        let told = told(text.as_bytes());
        assert!(!told.contains("hidden"), "{text}: {told}");
    }
    // With standard_conforming_strings off, a backslash keeps the literal open.
    let off = read(b"SELECT 'x\\' FROM hidden, ' FROM a", true, true);
    assert_eq!(tables(&off[0]), "a");
}

#[test]
fn fingerprints_differ_only_where_statements_do() {
    let equal = [
        ("SELECT * FROM a WHERE id = 1", "select  *\nFROM a WHERE id = 22 -- x"),
        ("SELECT * FROM a WHERE part = 'x'", "SELECT * FROM a WHERE part = $1"),
        ("SELECT * FROM a WHERE part = E'\\'x'", "SELECT * FROM a WHERE part = $q$long text$q$"),
        ("SELECT * FROM a WHERE bits = B'01'", "SELECT * FROM a WHERE bits = X'1F'"),
        ("SELECT * FROM a WHERE n = 1.5e-3", "SELECT * FROM a WHERE n = .7"),
        ("SELECT * FROM a WHERE id IN (1, 2, 3)", "SELECT * FROM a WHERE id IN ($1, -2)"),
        ("INSERT INTO a VALUES (1, 'x')", "INSERT INTO a VALUES (2, 'y'), (3, 'z'), (4, '')"),
        ("SELECT /* one */ 1 FROM a", "SELECT 1/* two */FROM a"),
    ];
    for (one_text, other) in equal {
        assert_eq!(one(one_text).fingerprint, one(other).fingerprint, "{one_text} / {other}");
    }
    let unequal = [
        ("SELECT x FROM a", "SELECT y FROM a"),
        ("SELECT x FROM a", "SELECT x FROM b"),
        ("SELECT x FROM \"A\"", "SELECT x FROM a"),
        ("SELECT x FROM a WHERE id = 1", "SELECT x FROM a WHERE id > 1"),
        ("SELECT x FROM a WHERE id = 1", "SELECT x FROM a"),
        ("SELECT x - 1 FROM a", "SELECT x FROM a"),
    ];
    for (one_text, other) in unequal {
        assert_ne!(one(one_text).fingerprint, one(other).fingerprint, "{one_text} / {other}");
    }
    assert_eq!(one("SELECT 1").fingerprint.len(), 32);
}

#[test]
fn copy_options_are_read_in_their_old_and_new_syntax() {
    use CopyFormat::{Binary, Csv, Text};
    let cases = [
        ("COPY a TO STDOUT", false, false, Text, false),
        ("COPY a (x, y) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';')", true, false, Csv, true),
        ("COPY a FROM STDIN (FORMAT 'CSV', HEADER true)", true, false, Csv, true),
        ("COPY a FROM STDIN (FORMAT csv, HEADER false)", true, false, Csv, false),
        ("COPY a FROM STDIN (FORMAT csv, HEADER off)", true, false, Csv, false),
        ("COPY a FROM STDIN (FORMAT csv, HEADER 0)", true, false, Csv, false),
        ("COPY a FROM STDIN (FORMAT csv, HEADER MATCH)", true, false, Csv, true),
        ("COPY a FROM STDIN WITH DELIMITER ';' CSV HEADER", true, false, Csv, true),
        ("COPY BINARY a TO STDOUT", false, false, Binary, false),
        ("COPY a TO STDOUT WITH BINARY", false, false, Binary, false),
        ("COPY a TO STDOUT (FORMAT BINARY)", false, false, Binary, false),
        ("COPY (SELECT csv, header FROM a) TO STDOUT", false, false, Text, false),
        ("COPY a TO '/tmp/x' CSV", false, true, Csv, false),
        ("COPY a FROM PROGRAM 'zcat x'", true, true, Text, false),
    ];
    for (text, inward, server_side, format, header) in cases {
        assert_eq!(one(text).copy, Some(CopyOptions { inward, server_side, format, header }), "{text}");
        let from = if inward { Side::Client } else { Side::Server };
        assert_eq!(one(text).from, from, "{text}");
    }
}

#[test]
fn account_statements_name_the_account_and_the_change() {
    let cases = [
        ("CREATE ROLE r", "account:r", "create"),
        (
            "CREATE USER \"R\" WITH LOGIN NOSUPERUSER PASSWORD 'x' IN ROLE a, b",
            "account:R",
            "create grant:login revoke:superuser password grant:a grant:b",
        ),
        ("ALTER USER r WITH SUPERUSER REPLICATION", "account:r", "alter grant:superuser grant:replication"),
        ("ALTER ROLE r RENAME TO s", "account:r account:s", "alter"),
        ("ALTER GROUP g ADD USER r", "account:g account:r", "alter grant:g"),
        ("DROP ROLE IF EXISTS r, s", "account:r account:s", "drop"),
        ("GRANT a, b TO r, s WITH ADMIN OPTION", "account:r account:s", "grant:a grant:b"),
        ("GRANT SELECT (id, part), UPDATE ON mes.orders, b TO r", "account:r", "grant:select grant:update"),
        ("GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA mes TO GROUP r", "account:r", "grant:all"),
        ("REVOKE ADMIN OPTION FOR a FROM r", "account:r", "revoke:a"),
        ("REVOKE GRANT OPTION FOR SELECT ON a FROM r CASCADE", "account:r", "revoke:select"),
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA mes GRANT SELECT ON TABLES TO r", "account:r", "grant:select"),
    ];
    for (text, names, columns) in cases {
        let s = one(text);
        assert_eq!((s.operation, s.names.join(" ").as_str(), s.columns.join(" ").as_str()), (Operation::Admin, names, columns), "{text}");
        assert!(s.readable, "{text}");
    }
}

#[test]
fn settings_that_say_who_acts_and_where_are_effects() {
    let path = |schemas: &[&str]| Effect::Path(Some(schemas.iter().map(ToString::to_string).collect()));
    let cases = [
        ("SET ROLE auditor", Effect::Role(Some("auditor".into()))),
        ("SET LOCAL ROLE 'auditor'", Effect::Role(Some("auditor".into()))),
        ("SET ROLE NONE", Effect::Role(None)),
        ("RESET ROLE", Effect::Role(None)),
        ("SET SESSION AUTHORIZATION auditor", Effect::Role(Some("auditor".into()))),
        ("SET SESSION AUTHORIZATION DEFAULT", Effect::Role(None)),
        ("SELECT set_config('role', 'auditor', false)", Effect::Role(Some("auditor".into()))),
        ("SELECT set_config('role', $1, false)", Effect::Role(Some(UNKNOWN.into()))),
        ("SET search_path TO mes, \"Odd\", public", path(&["mes", "Odd", "public"])),
        ("SET search_path = mes", path(&["mes"])),
        ("SET SCHEMA 'mes'", path(&["mes"])),
        ("SET search_path TO DEFAULT", Effect::ResetPath),
        ("SET application_name = 'report'", Effect::Application("report".into())),
        ("SET app.user = 'kim'", Effect::OnBehalfOf("kim".into())),
        ("RESET ALL", Effect::ResetAll),
        ("DISCARD ALL", Effect::DiscardAll),
        ("START TRANSACTION", Effect::Begin),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Effect::None),
    ];
    for (text, effect) in cases {
        assert_eq!(one(text).effect, effect, "{text}");
    }
    assert!(one("SET LOCAL ROLE a").local && !one("SET ROLE a").local);
}

#[test]
fn prepared_statements_and_cursors_are_known_by_name() {
    let cases = [
        ("PREPARE p (int) AS SELECT * FROM a", Effect::Prepare("p".into()), "a"),
        ("EXECUTE p (1)", Effect::Execute("p".into()), ""),
        ("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM a", Effect::Declare("c".into()), "a"),
        ("FETCH FORWARD 10 FROM c", Effect::Fetch("c".into()), ""),
        ("CLOSE c", Effect::CloseCursor("c".into()), ""),
        ("LISTEN line", Effect::None, ""),
    ];
    for (text, effect, expected) in cases {
        let s = one(text);
        assert_eq!((&s.effect, tables(&s).as_str()), (&effect, expected), "{text}");
    }
    assert_eq!(one("CALL mes.close_order(7)").names, ["function:mes.close_order"]);
    assert_eq!(one("NOTIFY line, 'x'").names, ["line"]);
    assert_eq!(one("START_REPLICATION SLOT \"tap\" LOGICAL 0/0 (proto_version '1')").names, ["slot:tap"]);
    assert_eq!(one("BASE_BACKUP (LABEL 'x', PROGRESS)").operation, Operation::Backup);
}

#[test]
fn several_statements_are_told_apart_outside_literals_and_bodies() {
    let several =
        "BEGIN; SELECT ';' FROM a; ; INSERT INTO b VALUES ($$;$$); CREATE RULE r AS ON DELETE TO c DO (SELECT 1; SELECT 2); COMMIT;";
    let read = read(several.as_bytes(), true, false);
    let operations: Vec<_> = read.iter().map(|s| s.operation).collect();
    assert_eq!(operations, [Operation::Connect, Operation::Select, Operation::Insert, Operation::Ddl, Operation::Connect]);
    let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END";
    assert_eq!(super::read(body.as_bytes(), true, false).len(), 1);
    let many = super::read("SELECT 1;".repeat(200).as_bytes(), true, false);
    assert_eq!(many.len(), STATEMENTS_MAX + 1);
    assert_eq!(many.iter().filter(|s| !s.readable && s.bounded).count(), 1);
}

#[test]
fn unqualified_names_follow_the_search_path() {
    let s = one("SELECT * FROM orders, mes.b, pg_class");
    let names = |path: Option<&[&str]>| {
        let path = path.map(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>());
        s.objects(path.as_deref()).names.join(" ")
    };
    assert_eq!(names(Some(&["$user", "plant"])), "plant.orders mes.b pg_catalog.pg_class");
    assert_eq!(names(None), "orders mes.b pg_class");
    assert_eq!(path_of("\"$user\", Public,\"a\"\"b\" ,,"), ["$user", "public", "a\"b"]);
}

#[test]
fn a_text_that_is_cut_is_unknown_unless_only_values_are_missing() {
    let cut = |text: &str| read(text.as_bytes(), false, false).pop().expect("one statement").readable;
    assert!(!cut("SELECT * FROM a WHERE x = 'unfini"));
    assert!(!cut("SELECT * FROM a"));
    assert!(cut("INSERT INTO a VALUES (1, 'x'), (2, 'unfini"));
    assert!(cut("INSERT INTO a VALUES (1, 'x'), (2"));
    assert!(cut("INSERT INTO a (x, y) OVERRIDING SYSTEM VALUE VALUES (1, 2), "));
    // Behind a semicolon a whole statement may be missing.
    assert!(!cut("INSERT INTO a VALUES (1, 'x');"));
    // What is selected for an INSERT may name more tables behind the cut.
    assert!(!cut("INSERT INTO a SELECT * FROM b"));
}

#[test]
fn nesting_and_lists_have_bounds() {
    let nested = |n: usize| format!("SELECT {}1{} FROM a", "(".repeat(n), ")".repeat(n));
    assert!(one(&nested(DEPTH_MAX - 1)).readable);
    assert!(!one(&nested(DEPTH_MAX)).readable && one(&nested(DEPTH_MAX)).bounded);
    assert!(!one(&nested(8000)).readable);
    assert!(!one(&format!("SELECT {}", "/*".repeat(8000))).fingerprint.is_empty());
    let many = (0..200).map(|n| format!("t{n}")).collect::<Vec<_>>().join(", ");
    let s = one(&format!("SELECT * FROM {many}"));
    assert_eq!((s.tables.len(), s.readable, s.bounded), (TABLES_MAX, false, true));
    let s = one(&format!("SELECT {} FROM a", (0..2000).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ")));
    assert_eq!(s.columns, ["*"]);
    assert_eq!(one(&format!("TABLE {}", "é".repeat(200))).tables[0].name.len(), NAME_BYTES_MAX);
}

#[test]
fn hostile_text_never_panics() {
    let words = [
        "select",
        "with",
        "x",
        "as",
        "(",
        ")",
        ",",
        "from",
        "insert",
        "into",
        "values",
        "update",
        "set",
        "merge",
        "using",
        "copy",
        "to",
        "stdout",
        "grant",
        "on",
        "role",
        "create",
        "alter",
        "drop",
        "user",
        "password",
        "'",
        "\"",
        "$$",
        "$1",
        "1",
        ".",
        "--",
        "/*",
        "*/",
        ";",
        "e'",
        "u&\"",
        "\\",
        "=",
        "recursive",
        "fetch",
        "set_config",
        "é",
        "prepare",
        "explain",
        "default",
        "\n",
        "header",
        "search_path",
        "\"\"",
        "add",
        "rename",
        "in",
        "default",
        "option",
        "session",
        "authorization",
        "local",
        "start_replication",
        "slot",
        "index",
        "rows",
        "outfile",
        "dblink(",
        "json_agg(",
        "foreign",
        "table",
        "server",
        "subscription",
        "schema",
        "'x://u:p@y password=z'",
        "$a$p$a$",
    ];
    for seed in 1..=3000 {
        let mut random = Random(seed);
        let mut text = Vec::new();
        for _ in 0..random.below(40) {
            text.extend_from_slice(words[random.below(words.len())].as_bytes());
            if random.below(3) > 0 {
                text.push(b' ');
            }
            if random.below(20) == 0 {
                text.push(random.draw().to_le_bytes()[0]);
            }
        }
        let _ = told(&text);
        let _ = read(&text, false, true);
    }
    for seed in 1..=200 {
        let mut random = Random(seed);
        let text: Vec<u8> = (0..random.below(600)).map(|_| random.draw().to_le_bytes()[0]).collect();
        let _ = told(&text);
    }
    for whole in ["SELECT ", "(", ")", "WITH a AS (", "a,", "'", "\"", "$a$", "((((SELECT 1 FROM (", "x.", "INSERT INTO a VALUES (1),"] {
        let long = whole.repeat((16 << 10) / whole.len());
        let _ = told(long.as_bytes());
    }
}

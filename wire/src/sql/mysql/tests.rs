//! Statements as MySQL's clients write them: what is read of each, and that no literal is.

use super::*;
use crate::sql::tests::{named as tables, only};

fn one(text: &str) -> Statement {
    only(text, read(text.as_bytes(), true, Mode::default()))
}

#[test]
fn tables_are_those_that_the_statement_reads_or_writes() {
    use Operation::{Admin, Call, Connect, Copy, Ddl, Delete, Insert, Select, Update};
    let cases: &[(&str, Operation, &str)] = &[
        ("SELECT * FROM Orders", Select, "Orders"),
        ("SELECT `a b`, c FROM `my db`.`odd ``name``` WHERE d = \"a 'literal'\"", Select, "my db.odd `name`"),
        ("select 1 from a # , secret\n, b -- c\n, d--1", Select, "a b d"),
        ("SELECT /*!40001 SQL_NO_CACHE */ * FROM `genealogy`", Select, "genealogy"),
        ("SELECT * FROM a /*! JOIN b */ /* JOIN c */ /*M!100100 JOIN d */", Select, "a b d"),
        ("SELECT STRAIGHT_JOIN * FROM a STRAIGHT_JOIN b ON a.i = b.i", Select, "a b"),
        ("SELECT a FROM t LIMIT 5, 10", Select, "t"),
        ("SELECT 1 FROM DUAL", Select, ""),
        ("SELECT id, part INTO OUTFILE '/tmp/x' FIELDS TERMINATED BY ',' FROM genealogy", Select, "genealogy"),
        ("SELECT max(id) INTO @most FROM genealogy", Select, "genealogy"),
        ("SELECT @@version, @x := 5", Select, ""),
        ("SELECT * FROM t USE INDEX (i, j) WHERE a REGEXP 'x' LOCK IN SHARE MODE", Select, "t"),
        ("WITH x AS (SELECT * FROM a) SELECT * FROM x JOIN b USING (id)", Select, "a b"),
        ("EXPLAIN FORMAT=JSON SELECT * FROM a", Select, "a"),
        ("ANALYZE SELECT * FROM a", Select, "a"),
        ("SHOW TABLES FROM mes", Select, CATALOGUE),
        ("DESC genealogy", Select, CATALOGUE),
        ("HANDLER orders READ FIRST", Select, "orders"),
        ("HANDLER orders OPEN", Connect, ""),
        ("SET STATEMENT max_statement_time = 5 FOR SELECT * FROM a", Select, "a"),
        ("SET @n = (SELECT count(*) FROM a)", Select, "a"),
        ("EXECUTE IMMEDIATE 'SELECT * FROM a WHERE b = \\'x\\''", Select, "a"),
        ("INSERT IGNORE INTO a (x, y) VALUES (1, 2) ON DUPLICATE KEY UPDATE y = VALUES(y)", Insert, "a"),
        ("INSERT a SET x = 1, y = (SELECT max(y) FROM b)", Insert, "a b"),
        ("REPLACE INTO a SELECT * FROM b", Insert, "a b"),
        ("REPLACE LOW_PRIORITY a VALUES ROW(1, 2)", Insert, "a"),
        ("UPDATE LOW_PRIORITY a, b SET a.x = b.x WHERE a.i = b.i", Update, "a b"),
        ("UPDATE a JOIN b USING (i) SET a.x = 1", Update, "a b"),
        ("DELETE QUICK FROM a WHERE x = 1 LIMIT 3", Delete, "a"),
        ("DELETE x, y FROM a AS x JOIN b AS y ON x.i = y.i", Delete, "a b"),
        ("DELETE FROM a USING a JOIN b ON a.i = b.i", Delete, "a b"),
        (
            "LOAD DATA LOCAL INFILE 'x.csv' REPLACE INTO TABLE mes.lots FIELDS TERMINATED BY ',' IGNORE 1 LINES (id, @skip, note)",
            Copy,
            "mes.lots",
        ),
        ("CREATE TABLE b SELECT * FROM a", Ddl, "b a"),
        ("CREATE TABLE b (id int, KEY (id)) AS SELECT * FROM a", Ddl, "b a"),
        ("CREATE TABLE b LIKE a", Ddl, "b a"),
        ("CREATE TABLE b (id int DEFAULT 5) ENGINE=InnoDB PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (6))", Ddl, "b"),
        ("CREATE OR REPLACE ALGORITHM = MERGE DEFINER = joe@'%' SQL SECURITY DEFINER VIEW v AS SELECT * FROM a", Ddl, "v a"),
        ("CREATE DEFINER=`root`@`localhost` PROCEDURE p(n int) BEGIN SELECT 1 FROM a; DELETE FROM b; END", Ddl, "procedure:p"),
        ("DROP TABLE IF EXISTS a, mes.b", Ddl, "a mes.b"),
        ("RENAME TABLE a TO mes.b, c TO d", Ddl, "a mes.b c d"),
        ("OPTIMIZE LOCAL TABLE a, b", Ddl, "a b"),
        ("CREATE DATABASE IF NOT EXISTS mes", Ddl, "schema:mes"),
        ("CALL mes.report(5)", Call, "function:mes.report"),
        ("USE mes", Connect, ""),
        ("LOCK TABLES a READ, b WRITE", Connect, ""),
        ("CREATE USER IF NOT EXISTS 'joe'@'10.%' IDENTIFIED BY 'x', `ann`@localhost", Admin, "account:joe account:ann"),
        ("GRANT SELECT (a, b), UPDATE ON mes.* TO joe@'%' IDENTIFIED BY 'x' WITH GRANT OPTION", Admin, "account:joe"),
        ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM joe, ann@'%'", Admin, "account:joe account:ann"),
        ("SET PASSWORD = PASSWORD('x')", Admin, "account:current_user"),
        ("SET DEFAULT ROLE auditor FOR joe", Admin, "account:joe"),
        ("DROP ROLE IF EXISTS auditor", Admin, "account:auditor"),
        ("RENAME USER a@x TO b@y", Admin, "account:a account:b"),
    ];
    let mut wrong = Vec::new();
    for (text, operation, expected) in cases {
        let s = one(text);
        if (s.operation, tables(&s).as_str(), s.readable) != (*operation, *expected, true) {
            wrong.push(format!("{text}: {:?} {:?} {}, readable {}", s.operation, tables(&s), expected, s.readable));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn columns_are_those_of_the_text_without_words_that_are_none() {
    let of = |text: &str| (one(text).columns.join(" "), one(text).reads.join(" "));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(of("INSERT INTO a (x, `y`) VALUES (1, 2)"), pair("x y", ""));
    assert_eq!(of("INSERT a SET x = f(1, 2), y = 2 ON DUPLICATE KEY UPDATE y = 3"), pair("x y", ""));
    assert_eq!(of("SELECT SQL_NO_CACHE DISTINCT a DIV b AS c, made - INTERVAL 1 DAY FROM t").1, "a b made");
    assert_eq!(of("LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a, b)").0, "a b");
}

#[test]
fn quotes_follow_the_sessions_mode() {
    let text = b"SELECT \"a\" FROM \"b\" WHERE c = 'x\\'";
    let ansi = read(text, true, Mode { ansi_quotes: true, plain_backslash: true });
    assert_eq!((tables(&ansi[0]).as_str(), ansi[0].columns.as_slice(), ansi[0].readable), ("b", &["a".to_owned()][..], true));
    assert!(!read(text, true, Mode::default())[0].readable);
}

#[test]
fn no_literal_is_told_and_none_ends_early() {
    let texts = [
        "SELECT 'it\\'s sekret', \"sekret\" FROM a WHERE b = 'sekret''s' AND c = _utf8'sekret'",
        "INSERT INTO a VALUES ('sekret', x'73656b726574', N'sekret')",
        "CREATE USER joe IDENTIFIED BY 'sekret' REQUIRE SUBJECT 'sekret'",
        "PREPARE s FROM 'SELECT \\'sekret\\' FROM a'",
        "CHANGE MASTER TO MASTER_PASSWORD='sekret'",
        "SET @x = 'sekret', @`sekret` = \"sekret",
        "/* sekret */ SELECT 1 # sekret",
    ];
    for text in texts {
        let read = read(text.as_bytes(), true, Mode::default());
        let objects: Vec<_> = read.iter().map(|s| s.objects(None)).collect();
        assert!(!format!("{read:?} {objects:?}").contains("sekret"), "{text}: {read:?}");
    }
}

#[test]
fn several_statements_are_read_and_a_routines_body_is_one() {
    let operations = |text: &str| read(text.as_bytes(), true, Mode::default()).iter().map(|s| s.operation).collect::<Vec<_>>();
    assert_eq!(
        operations("SELECT 1; DELETE FROM a;;INSERT INTO b VALUES (';')"),
        [Operation::Select, Operation::Delete, Operation::Insert]
    );
    assert_eq!(operations("CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.x = 1; DELETE FROM b; END"), [Operation::Ddl]);
    assert_eq!(operations("BEGIN NOT ATOMIC SELECT 1; SELECT 2; END"), [Operation::Call]);
}

#[test]
fn effects_are_those_of_the_session() {
    assert_eq!(one("USE `mes`").effect, Effect::Path(Some(vec!["mes".into()])));
    assert_eq!(one("SET ROLE auditor").effect, Effect::Role(Some("auditor".into())));
    assert_eq!(one("SET ROLE NONE").effect, Effect::Role(None));
    assert_eq!(one("PREPARE s FROM 'SELECT 1 FROM a'").effect, Effect::Prepare("s".into()));
    assert_eq!(one("EXECUTE s USING @a").effect, Effect::Execute("s".into()));
}

#[test]
fn marks_say_what_is_filled_what_leaves_and_what_is_said_in_clear() {
    let of = |text: &str| one(text).marks.join(" ");
    let cases = [
        ("INSERT a SELECT * FROM b", "fills"),
        ("REPLACE INTO a SELECT * FROM b", "fills"),
        ("CREATE TABLE a SELECT * FROM b", "fills"),
        ("INSERT INTO a VALUES (1)", ""),
        ("RENAME TABLE a TO b", ""),
        ("SELECT * INTO OUTFILE '/x' FROM a", "to-file"),
        ("SELECT GROUP_CONCAT(x) FROM a", "folded"),
        ("CREATE USER joe IDENTIFIED BY 'sekret'", "secret-password"),
        ("GRANT SELECT ON a TO joe IDENTIFIED BY \"sekret\"", "secret-password"),
        ("SET PASSWORD FOR joe = PASSWORD('sekret')", "secret-password"),
        ("SET PASSWORD FOR joe = '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'", ""),
        ("DROP USER joe", ""),
        ("CHANGE MASTER TO MASTER_HOST = 'x', MASTER_PASSWORD = 'sekret'", "foreign secret-connection"),
        ("CREATE TABLE a (x int) ENGINE=FEDERATED CONNECTION='mysql://u:sekret@h/d/t'", "foreign secret-connection"),
    ];
    let wrong: Vec<_> = cases.iter().filter(|(text, marks)| of(text) != *marks).map(|(text, _)| format!("{text}: {}", of(text))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Statements as SQL Server's clients write them: what is read of each, and that no literal is.

use super::*;
use crate::protocols::testing::Random;
use crate::sql::tests::{named as tables, only};

fn batch(text: &str) -> Vec<Statement> {
    read(text.as_bytes(), true, Quotes::Names).statements
}

fn one(text: &str) -> Statement {
    only(text, batch(text))
}

#[test]
fn tables_are_those_that_the_statement_reads_or_writes() {
    use Operation::{Admin, Backup, Call, Connect, Copy, Ddl, Delete, Insert, Select, Update};
    let cases: &[(&str, Operation, &str)] = &[
        ("SELECT TOP 10 a, b FROM Orders WITH (NOLOCK) WHERE c = 'x'", Select, "orders"),
        ("SELECT TOP (5) PERCENT WITH TIES a FROM [MES].[dbo].[Part List] AS p", Select, "mes.dbo.part list"),
        ("SELECT * FROM [odd ]] name], \"Quoted\" q", Select, "odd ] name quoted"),
        ("SELECT a FROM mes..orders", Select, "mes..orders"),
        ("SELECT a FROM orders (NOLOCK) JOIN parts p (nolock, index(1)) ON p.i = orders.i", Select, "orders parts"),
        ("SELECT a.x, j.v FROM a CROSS APPLY OPENJSON(a.doc) j OUTER APPLY (SELECT 1 AS y FROM b WHERE b.i = a.i) k", Select, "a b"),
        ("SELECT * FROM a CROSS APPLY sys.dm_exec_sql_text(a.h)", Select, "a sys.dm_exec_sql_text"),
        ("SELECT * FROM mes.sys.fn_dblog(NULL, NULL)", Select, "mes.sys.fn_dblog"),
        ("SELECT * INTO #work FROM dbo.a", Select, "#work dbo.a"),
        ("SELECT @n = max(id) FROM a", Select, "a"),
        ("SELECT * FROM @t t JOIN a ON a.i = t.i", Select, "a"),
        ("SELECT @@VERSION", Select, ""),
        ("WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y JOIN b ON b.i = y.i", Select, "a b"),
        ("WITH x AS (SELECT * FROM a) UPDATE x SET n = 1", Update, "a"),
        ("SELECT a FROM t ORDER BY b OFFSET 10 ROWS FETCH NEXT 5 ROWS ONLY OPTION (RECOMPILE)", Select, "t"),
        ("SELECT CASE WHEN a = 1 THEN 2 ELSE 3 END AS n FROM t", Select, "t"),
        ("SELECT a FROM t PIVOT (sum(n) FOR q IN ([1], [2])) AS p", Select, "t"),
        ("INSERT INTO a (x, y) OUTPUT inserted.id INTO @ids VALUES (1, N'x')", Insert, "a"),
        ("INSERT a (x) SELECT x FROM b UNION ALL SELECT x FROM c", Insert, "a b c"),
        ("INSERT INTO a EXEC dbo.report 1", Insert, "a function:dbo.report"),
        ("INSERT INTO a DEFAULT VALUES", Insert, "a"),
        ("UPDATE o SET o.n = 1 FROM dbo.orders AS o JOIN b ON b.i = o.i", Update, "dbo.orders b"),
        ("UPDATE TOP (5) orders SET n = 1 WHERE i = 2", Update, "orders"),
        ("DELETE o FROM orders o WHERE o.i = 1", Delete, "orders"),
        ("DELETE orders WHERE i = 1", Delete, "orders"),
        ("DELETE FROM orders OUTPUT deleted.i WHERE i IN (SELECT i FROM b)", Delete, "orders b"),
        (
            "MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET n = b.n WHEN NOT MATCHED THEN INSERT (i) VALUES (b.i);",
            Update,
            "a b",
        ),
        ("BULK INSERT mes.dbo.lots FROM '\\\\share\\x.csv' WITH (FIRSTROW = 2)", Copy, "mes.dbo.lots"),
        ("INSERT BULK dbo.lots ([id] int, [note] nvarchar(60) COLLATE Latin1_General_CI_AS) WITH (TABLOCK)", Copy, "dbo.lots"),
        ("EXEC dbo.report @n = 5, @who = 'x'", Call, "function:dbo.report"),
        ("EXECUTE @r = [dbo].[Report] 5", Call, "function:dbo.report"),
        ("sp_who2 'active'", Call, "function:sp_who2"),
        ("EXEC sp_executesql N'SELECT a FROM t WHERE b = @b', N'@b int', @b = 5", Select, "t"),
        ("EXEC ('DELETE FROM t WHERE n = ''x''')", Delete, "t"),
        ("CREATE PROCEDURE p AS BEGIN SELECT 1 FROM a; DELETE FROM b END", Ddl, "procedure:p"),
        ("CREATE OR ALTER VIEW v AS SELECT * FROM a", Ddl, "v a"),
        ("CREATE UNIQUE NONCLUSTERED INDEX i ON dbo.a (x)", Ddl, "dbo.a"),
        ("CREATE TABLE #t (id int PRIMARY KEY, n nvarchar(max))", Ddl, "#t"),
        ("ALTER TABLE a ALTER COLUMN n bigint", Ddl, "a"),
        ("DROP TABLE IF EXISTS a, b", Ddl, "a b"),
        ("TRUNCATE TABLE a", Ddl, "a"),
        ("BACKUP DATABASE mes TO DISK = 'x.bak'", Backup, "database:mes"),
        ("USE [mes]", Connect, ""),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Connect, ""),
        ("BEGIN TRAN", Connect, ""),
        ("CREATE LOGIN Joe WITH PASSWORD = 'x'", Admin, "account:joe"),
        ("ALTER ROLE db_owner ADD MEMBER [PLANT\\joe]", Admin, "account:plant\\joe"),
        ("ALTER SERVER ROLE sysadmin DROP MEMBER joe", Admin, "account:joe"),
        ("EXEC sp_addrolemember 'db_datareader', 'joe'", Admin, "account:joe"),
        ("EXEC master..sp_addsrvrolemember @loginame = N'joe', @rolename = N'sysadmin'", Admin, "account:joe"),
        ("GRANT SELECT, VIEW DEFINITION ON dbo.a TO joe WITH GRANT OPTION", Admin, "account:joe"),
        ("DENY EXECUTE TO joe, jim", Admin, "account:joe account:jim"),
    ];
    for (text, operation, names) in cases {
        let statement = one(text);
        assert_eq!((statement.operation, tables(&statement).as_str()), (*operation, *names), "{text}");
        let made = matches!(*text, "CREATE PROCEDURE p AS BEGIN SELECT 1 FROM a; DELETE FROM b END");
        assert!(statement.readable || made, "{text}");
    }
}

#[test]
fn statements_need_nothing_between_them() {
    let cases: &[(&str, &[&str])] = &[
        ("SET NOCOUNT ON SELECT a FROM t", &["", "t"]),
        ("set transaction isolation level read committed set implicit_transactions off ", &["", ""]),
        ("SELECT a FROM t\nSELECT b FROM u WHERE c IN (SELECT d FROM v)", &["t", "u v"]),
        ("DECLARE @x int = 5\nINSERT INTO a (x) VALUES (@x)\nUPDATE a SET x = 2 DELETE FROM b", &["", "a", "a", "b"]),
        ("BEGIN TRAN UPDATE a SET n = 1 WHERE i = 2; INSERT b SELECT * FROM c COMMIT", &["", "a", "b c", ""]),
        ("IF EXISTS (SELECT 1 FROM a) UPDATE a SET n = 1 ELSE INSERT INTO b (n) VALUES (1)", &["", "a", "", "b"]),
        ("BEGIN TRY SELECT a FROM t END TRY BEGIN CATCH THROW; END CATCH", &["", "t", "", "", "", ""]),
        ("USE mes SELECT a FROM t", &["", "t"]),
        ("EXEC dbo.p 1 EXEC dbo.q", &["function:dbo.p", "function:dbo.q"]),
        ("EXEC [mes]..p;2 NULL, N'dbo'; SELECT a FROM t", &["function:mes..p", "t"]),
        ("WITH x AS (SELECT 1 AS n FROM a) SELECT * FROM x SELECT * FROM b", &["a", "b"]),
        ("EXECUTE AS USER = 'joe' SELECT a FROM t REVERT", &["", "t", ""]),
        ("SELECT a FROM t UNION SELECT b FROM u EXCEPT SELECT c FROM v", &["t u v"]),
        ("INSERT INTO a VALUES (1) SELECT SCOPE_IDENTITY()", &["a", ""]),
        ("DECLARE c CURSOR FAST_FORWARD FOR SELECT a FROM t OPEN c FETCH NEXT FROM c CLOSE c DEALLOCATE c", &["t", "", "", "", ""]),
    ];
    for (text, names) in cases {
        let found: Vec<_> = batch(text).iter().map(tables).collect();
        let without_end: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(&without_end, names, "{text}");
    }
    assert!(read(b"IF 1 = 1 SELECT a FROM t", true, Quotes::Names).branches);
    assert!(!read(b"SELECT a FROM t; SELECT b FROM u", true, Quotes::Names).branches);
    assert_eq!(read(b"SET QUOTED_IDENTIFIER OFF", true, Quotes::Names).quotes, Some(Quotes::Literals));
}

#[test]
fn columns_are_those_that_are_named_or_written() {
    let columns = |text: &str| one(text).columns.join(" ");
    assert_eq!(columns("SELECT TOP 3 id, p.part AS shown FROM parts p"), "id shown part");
    assert_eq!(columns("SELECT * FROM parts"), "*");
    assert_eq!(columns("INSERT parts (id, part) VALUES (1, 'x')"), "id part");
    assert_eq!(columns("UPDATE parts SET part = 'x', n = n + 1 WHERE id = 3"), "part n");
    assert_eq!(columns("INSERT BULK lots ([id] decimal(9, 2), [note] nvarchar(max))"), "id note");
    assert_eq!(columns("ALTER ROLE db_owner ADD MEMBER joe"), "grant:db_owner");
    assert_eq!(columns("EXEC sp_droprolemember 'db_owner', 'joe'"), "revoke:db_owner");
    assert_eq!(columns("CREATE LOGIN joe WITH PASSWORD = 'x', CHECK_POLICY = OFF"), "create password");
    assert_eq!(columns("DENY SELECT, VIEW DEFINITION ON a TO joe"), "deny:select deny:view definition");
    assert_eq!(one("SELECT CONVERT(varchar, secret) AS shown FROM t WHERE hidden = 1").reads, ["secret"]);
    assert_eq!(one("SELECT shown = upper(secret) FROM t").reads, ["secret"]);
}

#[test]
fn what_moves_past_the_session_is_marked() {
    let marks = |text: &str| one(text).marks;
    assert_eq!(marks("SELECT * INTO copied FROM genealogy"), ["fills"]);
    assert_eq!(marks("INSERT INTO a SELECT * FROM b"), ["fills"]);
    assert_eq!(marks("SELECT * FROM OPENQUERY(far, 'SELECT * FROM t')"), [TO_SERVER]);
    assert_eq!(marks("INSERT INTO far.mes.dbo.t SELECT * FROM a"), [TO_SERVER, "fills"]);
    assert_eq!(marks("SELECT * FROM OPENROWSET('MSOLEDBSQL', 'Server=x;Uid=u;Pwd=p', 'SELECT 1')"), [TO_SERVER, SECRET_CONNECTION]);
    assert!(marks("SELECT * FROM OPENROWSET(BULK 'c:\\x.csv', SINGLE_CLOB) AS d").is_empty());
    assert!(!one("SELECT * FROM OPENROWSET(BULK 'c:\\x.csv', SINGLE_CLOB) AS d").readable);
    assert_eq!(marks("EXEC xp_cmdshell 'bcp mes.dbo.genealogy out x.dat'"), [TO_PROGRAM]);
    assert_eq!(marks("EXEC ('SELECT 1') AT far"), [TO_SERVER]);
    assert_eq!(marks("BACKUP DATABASE mes TO URL = 'https://x'"), [TO_SERVER]);
    assert_eq!(marks("BACKUP LOG mes TO DISK = 'd:\\x.trn'"), [TO_FILE]);
    assert_eq!(marks("EXEC sp_addlinkedserver @server = 'far'"), [FOREIGN]);
    assert_eq!(marks("EXEC sp_addlinkedsrvlogin 'far', 'false', NULL, 'u', 'p'"), [FOREIGN, SECRET_CONNECTION]);
    assert_eq!(marks("SELECT id FROM t FOR JSON PATH"), [FOLDED]);
    assert_eq!(marks("SELECT STRING_AGG(part, ',') FROM t"), [FOLDED]);
    assert_eq!(marks("CREATE LOGIN joe WITH PASSWORD = 'clear'"), [SECRET_PASSWORD]);
    assert!(marks("CREATE LOGIN joe WITH PASSWORD = 0x0200AB HASHED").is_empty());
}

#[test]
fn who_acts_is_told_by_what_is_executed() {
    let effect = |text: &str| one(text).effect;
    assert_eq!(effect("EXECUTE AS USER = 'Joe'"), Effect::Role(Some("Joe".into())));
    assert_eq!(effect("EXEC AS LOGIN = N'sa'"), Effect::Role(Some("sa".into())));
    assert_eq!(effect("EXECUTE AS USER = @who"), Effect::Role(Some(UNKNOWN.into())));
    assert_eq!(effect("REVERT"), Effect::Role(None));
    assert_eq!(effect("EXEC sp_setapprole 'report', 'word'"), Effect::Role(Some("report".into())));
    assert_eq!(effect("USE MES"), Effect::Path(Some(vec!["mes".into()])));
}

#[test]
fn what_cannot_be_followed_is_unknown() {
    for text in
        ["EXEC (@sql)", "EXEC sp_executesql @sql", "SELECT * FROM [unfinished", "FETCH NEXT FROM c", "EXEC ('EXEC (''SELECT a FROM t'')')"]
    {
        assert!(!one(text).readable, "{text}");
    }
    let cut = read(b"SELECT a FROM t WHERE b = ", false, Quotes::Names).statements;
    assert!(cut.iter().any(|statement| !statement.readable));
    // Whether `"` quotes a name or a literal was not seen.
    assert!(!read(b"SELECT \"swordfish\" FROM t", true, Quotes::Unknown).statements[0].readable);
    let literal = &read(b"SELECT \"swordfish\" FROM t", true, Quotes::Literals).statements[0];
    assert!(!format!("{literal:?}").contains("swordfish"));
}

#[test]
fn no_literal_is_told_and_no_text_breaks_it() {
    const PLANTED: &str = "Zq7planted";
    let texts = [
        "SELECT 'Zq7planted', N'Zq7planted' FROM t WHERE a = 'it''s Zq7planted'",
        "EXEC dbo.p 'Zq7planted', @x = N'Zq7planted'",
        "EXEC sp_addlogin 'joe', 'Zq7planted'",
        "EXEC sp_executesql N'SELECT a FROM t WHERE b = ''Zq7planted'''",
        "CREATE LOGIN joe WITH PASSWORD = 'Zq7planted'",
        "ALTER LOGIN joe WITH PASSWORD = 'Zq7planted' OLD_PASSWORD = 'Zq7planted'",
        "SELECT * FROM OPENQUERY(far, 'SELECT Zq7planted')",
        "BULK INSERT t FROM 'Zq7planted'",
        "RAISERROR('Zq7planted', 16, 1)",
        "PRINT 'Zq7planted'",
        "EXEC xp_cmdshell 'Zq7planted'",
    ];
    for text in texts {
        for cut in 0..=text.len() {
            let read = read(&text.as_bytes()[..cut], cut == text.len(), Quotes::Names);
            for statement in read.statements {
                let told = format!("{:?} {:?}", statement.objects(None), statement.effect);
                assert!(!told.contains(PLANTED), "{text}: {told}");
            }
        }
    }
    let words = [
        "SELECT",
        " ",
        "[",
        "]",
        "'",
        "\"",
        "(",
        ")",
        ",",
        ".",
        "a",
        "WITH",
        "BEGIN",
        "END",
        "CASE",
        "EXEC",
        "UPDATE",
        "SET",
        "@x",
        "--",
        "/*",
        "*/",
        "FROM",
        "INSERT",
        "BULK",
        ";",
        "GRANT",
        "TO",
        "sp_password",
        "\u{e9}",
    ];
    for seed in 1..2000 {
        let mut random = Random(seed);
        let text: String = (0..random.below(40)).map(|_| words[random.below(words.len())]).collect();
        let _ = read(text.as_bytes(), random.below(2) == 0, Quotes::Names);
    }
}

//! tokio-postgres.

use crate::{ACCOUNT, Error, Moved, PLACEHOLDER, Told, Where};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub const VERBS: &[&str] = &[
    "simple select",
    "extended select",
    "prepared",
    "cursor",
    "partial Execute",
    "pipelined",
    "COPY out, text",
    "COPY out, CSV",
    "COPY out, binary",
    "COPY in, text",
    "COPY in, CSV",
    "insert, update, delete",
    "merge",
    "function call",
    "account administration",
    "result of 10 MB",
];
const GENEALOGY: &str = "select id, part, station from mes.genealogy";

pub async fn run(verb: &str, at: &Where) -> Told {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&at.address)
        .port(at.port)
        .user(ACCOUNT)
        .password(PLACEHOLDER)
        .dbname("plant");
    let (mut client, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let told = done(&mut client, verb, at).await;
    drop(client);
    let _ = driver.await?;
    told
}

async fn done(client: &mut Client, verb: &str, at: &Where) -> Told {
    Ok(match verb {
        "simple select" => vec![Moved::rows("select", simple(client, GENEALOGY).await?, Some(1))],
        "extended select" => {
            let rows = client.query(&format!("{GENEALOGY} where id > $1"), &[&600_i32]).await?;
            vec![Moved::rows("select", rows.len() as u64, Some(1))]
        }
        "prepared" => {
            let statement = client.prepare(&format!("{GENEALOGY} where id < $1")).await?;
            let mut rows = 0;
            for n in 0..30_i32 {
                rows += client.query(&statement, &[&n]).await?.len() as u64;
            }
            vec![Moved::rows("select", rows, Some(30))]
        }
        "cursor" => {
            let inside = client.transaction().await?;
            inside.batch_execute(&format!("declare walk cursor for {GENEALOGY}")).await?;
            let mut rows = 0;
            loop {
                let page = inside.query("fetch 130 from walk", &[]).await?.len() as u64;
                if page == 0 {
                    break;
                }
                rows += page;
            }
            inside.commit().await?;
            vec![Moved::rows("select", rows, None)]
        }
        "partial Execute" => {
            let inside = client.transaction().await?;
            let portal = inside.bind(GENEALOGY, &[]).await?;
            let mut rows = 0;
            loop {
                let page = inside.query_portal(&portal, 130).await?.len() as u64;
                rows += page;
                if page < 130 {
                    break;
                }
            }
            inside.commit().await?;
            vec![Moved::rows("select", rows, None)]
        }
        "pipelined" => {
            // Requests of one client that are polled together leave before the first is answered.
            let statement = client.prepare(&format!("{GENEALOGY} where id < $1")).await?;
            let numbers: Vec<i32> = (0..40).collect();
            let parameters: Vec<[&(dyn tokio_postgres::types::ToSql + Sync); 1]> = numbers.iter().map(|n| [n as _]).collect();
            let rows = try_join_all(parameters.iter().map(|one| client.query(&statement, one))).await?;
            vec![Moved::rows("select", rows.iter().map(|one| one.len() as u64).sum(), Some(40))]
        }
        "COPY out, text" => copy_out(client, "(format text)").await?,
        "COPY out, CSV" => copy_out(client, "(format csv, header)").await?,
        "COPY out, binary" => copy_out(client, "(format binary)").await?,
        "COPY in, text" => copy_in(client, "(format text)", "", '\t').await?,
        "COPY in, CSV" => copy_in(client, "(format csv, header)", "id,quantity\n", ',').await?,
        "insert, update, delete" => {
            let inserted = client
                .execute("insert into mes.orders select n, -57 from generate_series(1, 50) n", &[])
                .await?;
            let updated = client
                .execute("update mes.orders set quantity = -58 where quantity = $1", &[&-57_i32])
                .await?;
            let returned = client
                .query("delete from mes.orders where quantity = -58 and id <= 20 returning id", &[])
                .await?
                .len() as u64;
            let deleted = client.execute("delete from mes.orders where quantity = -58", &[]).await?;
            vec![
                Moved::rows("insert", inserted, Some(1)),
                Moved::rows("update", updated, Some(1)),
                Moved::rows("delete", deleted + returned, Some(2)),
                Moved::rows("select", returned, None),
            ]
        }
        "merge" => {
            let merged = client
                .execute(
                    "merge into mes.orders o using (select n from generate_series(1, 25) n) s on o.id = -200 - s.n \
                     when matched then delete when not matched then insert values (-200 - s.n, -9)",
                    &[],
                )
                .await?;
            vec![Moved::rows("update", merged, Some(1))]
        }
        "function call" => {
            let rows = client.query("select * from mes.stations($1, $2)", &[&1_i32, &60_i32]).await?.len() as u64;
            let back = client.query("call mes.recount($1)", &[&1_i32]).await?.len() as u64;
            vec![Moved::rows("select", rows + back, None), Moved::messages("call", 1)]
        }
        "account administration" => {
            let name = "rust_contractor";
            let statements = [
                format!("create role {name} login password '{PLACEHOLDER}'"),
                format!("alter role {name} password '{PLACEHOLDER}'"),
                format!("grant select on mes.genealogy to {name}"),
                format!("revoke select on mes.genealogy from {name}"),
                format!("drop role {name}"),
            ];
            // One Query message of several statements.
            client.batch_execute(&statements.join("; ")).await?;
            vec![Moved::messages("admin", statements.len() as u64)]
        }
        "result of 10 MB" => vec![Moved::rows("select", simple(client, &at.more["large"]).await?, Some(1))],
        _ => return Err(format!("no verb {verb}").into()),
    })
}

async fn simple(client: &Client, statement: &str) -> Result<u64, Error> {
    let messages = client.simple_query(statement).await?;
    Ok(messages
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)))
        .count() as u64)
}

/// Rows as the pieces say: the server sends each in a message of its own, binary ones with a header before the first.
async fn copy_out(client: &Client, options: &str) -> Told {
    let stream = client.copy_out(&format!("copy mes.genealogy to stdout {options}")).await?;
    pin_mut!(stream);
    let mut received = Vec::new();
    while let Some(piece) = stream.next().await {
        received.extend_from_slice(&piece?);
    }
    let rows = if options.contains("binary") {
        binary_rows(&received)?
    } else {
        received.iter().filter(|byte| **byte == b'\n').count() as u64 - u64::from(options.contains("header"))
    };
    Ok(vec![Moved::rows("copy", rows, Some(1))])
}

/// Tuples of a binary COPY: a count of fields, then each with its length; -1 ends them.
fn binary_rows(data: &[u8]) -> Result<u64, Error> {
    let (mut at, mut rows) = (19, 0);
    let be = |at: usize, n: usize| data.get(at..at + n).ok_or("the copy breaks off");
    loop {
        let fields = i16::from_be_bytes(be(at, 2)?.try_into()?);
        at += 2;
        if fields < 0 {
            return Ok(rows);
        }
        for _ in 0..fields {
            let size = i32::from_be_bytes(be(at, 4)?.try_into()?);
            at += 4 + usize::try_from(size.max(0))?;
        }
        rows += 1;
    }
}

async fn copy_in(client: &Client, options: &str, head: &str, separator: char) -> Told {
    let sink = client.copy_in::<_, Bytes>(&format!("copy mes.orders from stdin {options}")).await?;
    pin_mut!(sink);
    let lines: String = (0..300).map(|n| format!("{n}{separator}2\n")).collect();
    sink.send(Bytes::from(format!("{head}{lines}"))).await?;
    let rows = sink.finish().await?;
    Ok(vec![Moved::rows("copy", rows, Some(1))])
}

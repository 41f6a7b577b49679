//! The Rust clients of the table. One line in: STACK, VERB, ADDRESS, PORT, then what else the verb needs, parted by tabs.
//! One line out: what the client counted, as a JSON list of ledger entries, or {"error": …}.

mod mqtt;
mod opcua;
mod postgresql;

use std::collections::HashMap;
use std::io::{BufRead, Write};

pub const ACCOUNT: &str = "svc_report";
pub const PLACEHOLDER: &str = "placeholder";

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Told = Result<Vec<Moved>, Error>;

/// Where a verb is done.
pub struct Where {
    pub address: String,
    pub port: u16,
    pub more: HashMap<String, String>,
}

/// What the account moved by one operation; `None` is what this client cannot count.
#[derive(Default)]
pub struct Moved {
    pub operation: &'static str,
    pub rows: Option<u64>,
    pub values: Option<u64>,
    pub messages: Option<u64>,
}

impl Moved {
    pub fn rows(operation: &'static str, rows: u64, messages: Option<u64>) -> Self {
        Self {
            operation,
            rows: Some(rows),
            messages,
            ..Self::default()
        }
    }

    pub fn values(operation: &'static str, values: u64) -> Self {
        Self {
            operation,
            values: Some(values),
            ..Self::default()
        }
    }

    pub fn messages(operation: &'static str, messages: u64) -> Self {
        Self {
            operation,
            messages: Some(messages),
            ..Self::default()
        }
    }

    fn json(&self) -> String {
        let mut text = format!("{{\"account\": \"{ACCOUNT}\", \"operation\": \"{}\"", self.operation);
        for (name, amount) in [("rows", self.rows), ("values", self.values), ("messages", self.messages)] {
            if let Some(amount) = amount {
                text += &format!(", \"{name}\": {amount}");
            }
        }
        text + "}"
    }
}

fn verbs(stack: &str) -> &'static [&'static str] {
    match stack {
        "tokio-postgres" => postgresql::VERBS,
        "rumqttc" => mqtt::VERBS,
        "async-opcua" => opcua::VERBS,
        _ => &[],
    }
}

async fn run(stack: &str, verb: &str, at: &Where) -> Told {
    match stack {
        "tokio-postgres" => postgresql::run(verb, at).await,
        "rumqttc" => mqtt::run(verb, at).await,
        "async-opcua" => opcua::run(verb, at).await,
        _ => Err(format!("no stack {stack}").into()),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        let answer = match words.as_slice() {
            ["verbs", stack] => verbs(stack).join("\t"),
            [stack, verb, address, port, more @ ..] => {
                let pairs = more.iter().filter_map(|pair| pair.split_once('='));
                let more = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let at = Where {
                    address: (*address).to_owned(),
                    port: port.parse()?,
                    more,
                };
                let told = tokio::time::timeout(std::time::Duration::from_secs(30), run(stack, verb, &at)).await;
                match told.unwrap_or_else(|_| Err("no end after 30 s".into())) {
                    Ok(told) => format!("[{}]", told.iter().map(Moved::json).collect::<Vec<_>>().join(", ")),
                    Err(error) => {
                        let text: String = format!("{error} {error:?}")
                            .chars()
                            .filter(|c| !c.is_control() && !"\"\\".contains(*c))
                            .collect();
                        format!("{{\"error\": \"{text}\"}}")
                    }
                }
            }
            _ => "{\"error\": \"too few words\"}".to_owned(),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

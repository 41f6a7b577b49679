//! async-opcua's client. Values are counted as the library hands them over, decoded.

use crate::{ACCOUNT, Error, Moved, PLACEHOLDER, Told, Where};
use opcua::client::{ClientBuilder, DataChangeCallback, HistoryReadAction, HistoryUpdateAction, IdentityToken, Session};
use opcua::types::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const VERBS: &[&str] = &[
    "read",
    "read in chunks",
    "write",
    "browse",
    "browse next",
    "call",
    "history read, continuation points",
    "history read in chunks",
    "history read, processed",
    "history read, at time",
    "history update",
    "subscribe",
    "monitored items modified, deleted",
];

fn node(number: u32) -> NodeId {
    NodeId::new(2, format!("Line/V{number:02}"))
}

fn begin() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("2026-01-01")
}

fn at(seconds: i64) -> DateTime {
    DateTime::from(begin() + chrono::Duration::seconds(seconds))
}

pub async fn run(verb: &str, at: &Where) -> Told {
    let folder = std::env::temp_dir().join(format!("matrix-pki-{}", std::process::id()));
    let mut client = ClientBuilder::new()
        .application_name("matrix")
        .application_uri("urn:plant:rust")
        .pki_dir(&folder)
        .trust_server_certs(true)
        .session_retry_limit(0)
        .max_message_size(16 << 20)
        .max_chunk_count(1000)
        .max_array_length(100_000)
        .client()
        .map_err(|errors| errors.join("; "))?;
    let url = format!("opc.tcp://{}:{}/", at.address, at.port);
    let endpoint: EndpointDescription = (
        url.as_str(),
        "None",
        MessageSecurityMode::None,
        UserTokenPolicy {
            policy_id: "username".into(),
            token_type: UserTokenType::UserName,
            ..Default::default()
        },
    )
        .into();
    let (session, events) = client
        .connect_to_matching_endpoint(endpoint, IdentityToken::new_user_name(ACCOUNT, PLACEHOLDER))
        .await?;
    let driver = events.spawn();
    if !session.wait_for_connection().await {
        return Err("no session".into());
    }
    let told = done(&session, verb, at).await;
    session.disconnect().await?;
    let _ = driver.await;
    let _ = std::fs::remove_dir_all(folder);
    told
}

fn reads(numbers: impl Iterator<Item = u32>) -> Vec<ReadValueId> {
    numbers
        .map(|number| ReadValueId {
            node_id: node(number),
            attribute_id: AttributeId::Value as u32,
            ..Default::default()
        })
        .collect()
}

fn browsing() -> BrowseDescription {
    BrowseDescription {
        node_id: NodeId::new(2, "Line"),
        browse_direction: BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        include_subtypes: true,
        node_class_mask: 0,
        result_mask: 63,
    }
}

async fn done(session: &Arc<Session>, verb: &str, at_server: &Where) -> Told {
    let both = TimestampsToReturn::Both;
    Ok(match verb {
        "read" => {
            let mut values = 0;
            for _ in 0..3 {
                values += session.read(&reads(0..40), both, 0.0).await?.len() as u64;
            }
            vec![Moved::values("read", values)]
        }
        "read in chunks" => {
            let values = session.read(&reads((0..5000).map(|n| n % 40)), both, 0.0).await?;
            vec![Moved::values("read", values.len() as u64)]
        }
        "write" => {
            let mut written = 0;
            for value in [1.0_f64, 2.0] {
                let values: Vec<_> = (20..30)
                    .map(|number| WriteValue {
                        node_id: node(number),
                        attribute_id: AttributeId::Value as u32,
                        value: DataValue::value_only(value),
                        ..Default::default()
                    })
                    .collect();
                written += session.write(&values).await?.iter().filter(|code| code.is_good()).count() as u64;
            }
            vec![Moved::values("write", written)]
        }
        "browse" => {
            session.browse(&[browsing()], 0, None).await?;
            vec![Moved::messages("browse", 2)]
        }
        "browse next" => {
            let mut results = session.browse(&[browsing()], 15, None).await?;
            let mut requests = 1;
            while let Some(point) = results
                .first()
                .map(|one| one.continuation_point.clone())
                .filter(|point| !point.is_null_or_empty())
            {
                results = session.browse_next(false, &[point]).await?;
                requests += 1;
            }
            if requests < 3 {
                return Err(format!("{requests} requests").into());
            }
            vec![Moved::messages("browse", 2 * requests)]
        }
        "call" => {
            for value in [1.0_f64, 2.0, 3.0] {
                let given = Some(vec![Variant::from(value)]);
                let result = session
                    .call_one((NodeId::new(2, "Line"), NodeId::new(2, "Line/Double"), given))
                    .await?;
                if result.output_arguments != Some(vec![Variant::from(2.0 * value)]) {
                    return Err(format!("{result:?}").into());
                }
            }
            vec![Moved::messages("call", 6)]
        }
        "history read, continuation points" => {
            let page = at_server.more.get("page").map_or(Ok(0), |page| page.parse())?;
            raw(session, page).await?
        }
        "history read in chunks" => raw(session, 0).await?,
        "history read, processed" => {
            let details = ReadProcessedDetails {
                start_time: at(0),
                end_time: at(1000),
                processing_interval: 10_000.0,
                aggregate_type: Some(vec![ObjectId::AggregateFunction_Average.into(); 4]),
                aggregate_configuration: AggregateConfiguration {
                    use_server_capabilities_defaults: true,
                    ..Default::default()
                },
            };
            vec![Moved::values(
                "history-read",
                given(session, HistoryReadAction::ReadProcessedDetails(details)).await?,
            )]
        }
        "history read, at time" => {
            let times = (0..60).map(|n| at(7 * n)).collect();
            let details = ReadAtTimeDetails {
                req_times: Some(times),
                use_simple_bounds: true,
            };
            vec![Moved::values(
                "history-read",
                given(session, HistoryReadAction::ReadAtTimeDetails(details)).await?,
            )]
        }
        "history update" => {
            let values: Vec<_> = (0..25_i32)
                .map(|n| DataValue {
                    source_timestamp: Some(at(5000 + i64::from(n))),
                    ..DataValue::value_only(f64::from(n))
                })
                .collect();
            let update = |number| {
                HistoryUpdateAction::UpdateDataDetails(UpdateDataDetails {
                    node_id: node(number),
                    perform_insert_replace: PerformUpdateType::Update,
                    update_values: Some(values.clone()),
                })
            };
            let results = session.history_update(&[update(2), update(3)]).await?;
            let written = results
                .iter()
                .map(|one| one.operation_results.as_ref().map_or(0, Vec::len) as u64)
                .sum();
            for number in [2, 3] {
                let gone = DeleteRawModifiedDetails {
                    node_id: node(number),
                    is_delete_modified: false,
                    start_time: at(5000),
                    end_time: at(6000),
                };
                session
                    .history_update(&[HistoryUpdateAction::DeleteRawModifiedDetails(gone)])
                    .await?;
            }
            vec![Moved::values("history-write", written)]
        }
        "subscribe" => vec![Moved::values("subscribe", subscribed(session, false).await?)],
        "monitored items modified, deleted" => vec![Moved::values("subscribe", subscribed(session, true).await?)],
        _ => return Err(format!("no verb {verb}").into()),
    })
}

async fn raw(session: &Session, page: u32) -> Told {
    let details = ReadRawModifiedDetails {
        is_read_modified: false,
        start_time: at(0),
        end_time: at(86_400),
        num_values_per_node: page,
        return_bounds: false,
    };
    let mut wanted: Vec<_> = (0..4)
        .map(|number| HistoryReadValueId {
            node_id: node(number),
            ..Default::default()
        })
        .collect();
    let (mut values, mut requests) = (0, 0);
    while !wanted.is_empty() {
        let action = HistoryReadAction::ReadRawModifiedDetails(details.clone());
        let results = session.history_read(action, TimestampsToReturn::Both, false, &wanted).await?;
        requests += 1;
        values += counted(&results)?;
        wanted = wanted
            .iter()
            .zip(&results)
            .filter(|(_, result)| !result.continuation_point.is_null_or_empty())
            .map(|(one, result)| HistoryReadValueId {
                continuation_point: result.continuation_point.clone(),
                ..one.clone()
            })
            .collect();
    }
    Ok(vec![Moved {
        messages: Some(2 * requests),
        ..Moved::values("history-read", values)
    }])
}

async fn given(session: &Session, action: HistoryReadAction) -> Result<u64, Error> {
    let wanted: Vec<_> = (0..4)
        .map(|number| HistoryReadValueId {
            node_id: node(number),
            ..Default::default()
        })
        .collect();
    counted(&session.history_read(action, TimestampsToReturn::Both, false, &wanted).await?)
}

fn counted(results: &[HistoryReadResult]) -> Result<u64, Error> {
    let mut values = 0;
    for result in results {
        if !result.status_code.is_good() {
            return Err(format!("{}", result.status_code).into());
        }
        let data = result.history_data.inner_as::<HistoryData>().ok_or("no HistoryData")?;
        values += data.data_values.as_ref().map_or(0, Vec::len) as u64;
    }
    Ok(values)
}

async fn subscribed(session: &Session, change: bool) -> Result<u64, Error> {
    let values = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&values);
    let callback = DataChangeCallback::new(move |_, _| {
        told.fetch_add(1, Ordering::SeqCst);
    });
    let number = session
        .create_subscription(Duration::from_millis(100), 3000, 50, 0, 0, true, callback)
        .await?;
    let items = (8..16)
        .map(|one| MonitoredItemCreateRequest {
            item_to_monitor: ReadValueId {
                node_id: node(one),
                attribute_id: AttributeId::Value as u32,
                ..Default::default()
            },
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                client_handle: one,
                sampling_interval: 50.0,
                queue_size: 10,
                discard_oldest: true,
                ..Default::default()
            },
        })
        .collect();
    let made = session.create_monitored_items(number, TimestampsToReturn::Both, items).await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    if change {
        let slower = MonitoredItemModifyRequest {
            monitored_item_id: made[3].result.monitored_item_id,
            requested_parameters: MonitoringParameters {
                client_handle: 11,
                sampling_interval: 250.0,
                queue_size: 10,
                discard_oldest: true,
                ..Default::default()
            },
        };
        session.modify_monitored_items(number, TimestampsToReturn::Both, &[slower]).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Two that never change: nothing of theirs is on its way.
        let gone = [made[0].result.monitored_item_id, made[1].result.monitored_item_id];
        session.delete_monitored_items(number, &gone).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    session.delete_subscription(number).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(values.load(Ordering::SeqCst))
}

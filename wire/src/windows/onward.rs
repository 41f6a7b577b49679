//! What the flows of a connection have counted, so that another process can go on with them: the same observations then give
//! the same ids, also across the end of a process.

use super::{ConnectionId, Counts, Identity, Movement, Operation, Recorder, Side, Windows};

/// One flow of a connection: the identity's key, and what its ended windows hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub operation: Operation,
    pub from: Side,
    pub account: Option<String>,
    pub role: Option<String>,
    pub application: Option<String>,
    pub account_from: Option<&'static str>,
    pub sequence: u64,
    pub totals: Counts,
    pub total_bytes: u64,
    pub total_bytes_back: u64,
}

impl Windows {
    /// Ends the open windows of a connection, which goes on, and says what its flows have counted.
    pub fn told(&mut self, id: ConnectionId) -> Vec<Told> {
        for flow in 0..self.connection(id).flows.len() {
            self.emit(id, flow, false);
        }
        let told = self.connection(id).flows.iter().map(|flow| Told {
            operation: flow.operation,
            from: flow.from,
            account: flow.identity.value.account.clone(),
            role: flow.identity.value.role.clone(),
            application: flow.identity.value.application.clone(),
            account_from: flow.identity.value.account_from,
            sequence: flow.sequence,
            totals: flow.totals,
            total_bytes: flow.total_bytes,
            total_bytes_back: flow.total_bytes_back,
        });
        told.collect()
    }

    /// Goes on with flows of a connection that was opened as it was then, and has counted nothing yet.
    pub fn go_on(&mut self, id: ConnectionId, time_ns: i64, told: Vec<Told>) {
        for before in told {
            let Told { operation, from, account, role, application, account_from, .. } = before;
            self.recorder(id, time_ns)
                .identify(|identity| *identity = Identity { account, role, application, account_from, on_behalf_of: None });
            let index = self.flow(id, operation, from);
            if let Some(flow) = self.connection(id).flows.get_mut(index) {
                flow.sequence = before.sequence;
                flow.totals = before.totals;
                flow.total_bytes = before.total_bytes;
                flow.total_bytes_back = before.total_bytes_back;
            }
        }
    }
}

impl Recorder<'_> {
    /// Something of `movement` moved that could not be counted: its window is `lossy`.
    pub fn uncounted(&mut self, movement: &Movement) {
        let flow = self.windows.flow(self.connection, movement.operation, movement.from);
        self.windows.window(self.connection, flow, self.time_ns);
        self.connection().flows[flow].uncounted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::{Endpoint, Opening};
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    fn opened(windows: &mut Windows) -> ConnectionId {
        let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port };
        windows.open(Opening {
            client: end(1, 50_000),
            server: end(2, 5432),
            opened_by: Some(Side::Client),
            transport: Arc::from("tcp"),
            tap: None,
            context: None,
            seen_by: "server-log",
            first_ns: 1_000,
        })
    }

    fn moved(windows: &mut Windows, id: ConnectionId, time_ns: i64) {
        let mut out = windows.recorder(id, time_ns);
        out.identify(|identity| identity.account = Some("svc".into()));
        out.add(&Movement::new(Operation::Select, Side::Server), Side::Server, 0, Counts::rows(7));
    }

    #[test]
    fn a_connection_taken_up_by_another_process_goes_on_with_the_same_ids_and_totals() {
        let mut whole = Windows::new("north", "log");
        let id = opened(&mut whole);
        moved(&mut whole, id, 2_000);
        let told = whole.told(id);
        let first = whole.take();
        moved(&mut whole, id, 3_000);
        whole.close(id, 4_000);
        let mut later = Windows::new("north", "log");
        let id = opened(&mut later);
        later.go_on(id, 1_000, told);
        assert!(later.take().is_empty());
        moved(&mut later, id, 3_000);
        later.close(id, 4_000);
        let (kept, again) = (whole.take(), later.take());
        assert_eq!((first.len(), kept.len()), (1, 1));
        assert_eq!(kept, again);
    }

    #[test]
    fn only_the_window_of_what_nobody_counted_is_lossy() {
        let mut windows = Windows::new("north", "log");
        let id = opened(&mut windows);
        moved(&mut windows, id, 2_000);
        windows.recorder(id, 2_000).uncounted(&Movement::new(Operation::Copy, Side::Server));
        windows.told(id);
        moved(&mut windows, id, 2_000);
        windows.finish();
        let states: Vec<_> = windows.take().iter().map(|line| String::from_utf8_lossy(line).contains("\"lossy\"")).collect();
        assert_eq!(states, [false, true, false]);
    }
}

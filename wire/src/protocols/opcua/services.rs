//! The services of OPC UA (Part 4) as grammars: which type of message this is, and where in it the counts and names are.
//!
//! Ids are those of the binary encodings (Part 6, annex A, `NodeIds.csv`).

use super::types::{Op, Tag};

/// What a message is about; request and response share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    HistoryRead,
    HistoryWrite,
    Browse,
    BrowseNext,
    Call,
    Query,
    /// NodeManagement: changes of the address space.
    Manage,
    CreateItems,
    ModifyItems,
    DeleteItems,
    DeleteSubscriptions,
    Publish,
    Republish,
    CreateSession,
    ActivateSession,
    CloseSession,
    Channel,
    Fault,
    Other,
}

/// One message type.
#[derive(Debug)]
pub struct Service {
    pub id: u32,
    pub name: &'static str,
    pub kind: Kind,
    /// The standard's name of the array whose elements are counted for `hopwatch inspect`; empty if there is none.
    pub items: &'static str,
    pub body: &'static [Op],
}

impl Service {
    /// Whether the server sends it.
    #[must_use]
    pub fn response(&self) -> bool {
        !self.name.ends_with("Request")
    }
}

/// The service whose message has this binary encoding id.
#[must_use]
pub fn service(id: u32) -> Option<&'static Service> {
    SERVICES.binary_search_by_key(&id, |s| s.id).ok().and_then(|at| SERVICES.get(at))
}

/// User management (Part 18, 5.2): the methods of the type and of the server's own object, and the word for each.
#[must_use]
pub fn user_management(method: u32) -> Option<&'static str> {
    Some(match method {
        24269 | 24304 => "create",
        24271 | 24306 => "alter",
        24273 | 24308 => "drop",
        24275 | 24310 => "password",
        _ => return None,
    })
}

/// Hello, Acknowledge, Error, ReverseHello (Part 6, 7.1.2).
pub const HELLO: &[Op] = &[Op::Skip(20), Op::Text(Tag::EndpointUrl)];
pub const ACKNOWLEDGE: &[Op] = &[Op::Skip(20)];
pub const ERROR: &[Op] = &[Op::Number(Tag::Status), Op::Bytes];
pub const REVERSE_HELLO: &[Op] = &[Op::Bytes, Op::Text(Tag::EndpointUrl)];
/// The channel and the asymmetric security header (Part 6, 6.7.2.3).
pub const OPEN: &[Op] = &[Op::Skip(4), Op::Text(Tag::Policy), Op::Text(Tag::Certificate), Op::Bytes];
/// A message body: its type, then the service's own grammar.
pub const BODY: &[Op] = &[Op::Service];

/// RequestHeader (Part 4, 7.33).
const REQUEST: &[Op] = &[Op::Node(Tag::Token), Op::Skip(16), Op::Bytes, Op::Skip(4), Op::Extension(&[])];
/// ResponseHeader (Part 4, 7.34).
const RESPONSE: &[Op] = &[Op::Skip(12), Op::Number(Tag::Status), Op::Diagnostic, Op::Array(Tag::None, &[Op::Bytes]), Op::Extension(&[])];
const QUALIFIED_NAME: Op = Op::Ops(&[Op::Skip(2), Op::Bytes]);
const READ_VALUE_ID: Op = Op::Ops(&[Op::Node(Tag::Node), Op::Skip(4), Op::Bytes, QUALIFIED_NAME]);

const FIND_SERVERS: &[Op] = &[Op::Ops(REQUEST), Op::Text(Tag::EndpointUrl)];
const OPEN_CHANNEL: &[Op] = &[Op::Ops(REQUEST), Op::Skip(8), Op::Number(Tag::SecurityMode)];
const CREATE_SESSION: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Text(Tag::ApplicationUri),
    Op::Bytes,
    Op::LocalizedText,
    Op::Skip(4),
    Op::Bytes,
    Op::Bytes,
    Op::Array(Tag::None, &[Op::Bytes]),
    Op::Bytes,
    Op::Text(Tag::EndpointUrl),
];
const CREATE_SESSION_RESPONSE: &[Op] = &[Op::Ops(RESPONSE), Op::Node(Tag::None), Op::Node(Tag::Token)];
/// Identity tokens (Part 4, 7.40). A password or an issued token is never kept.
const TOKENS: &[(u32, &[Op])] = &[(324, &[Op::Bytes, Op::Text(Tag::User)]), (327, &[Op::Bytes, Op::Text(Tag::UserCertificate)])];
const ACTIVATE_SESSION: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Bytes,
    Op::Bytes,
    Op::Array(Tag::None, &[Op::Bytes, Op::Bytes]),
    Op::Array(Tag::None, &[Op::Bytes]),
    Op::Extension(TOKENS),
];

const ADD_NODES: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::End])];
const ADD_REFERENCES: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::End])];
const DELETE_NODES: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::Skip(1)])];
const BROWSE: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Node(Tag::None),
    Op::Skip(16),
    Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::Skip(4), Op::Node(Tag::None), Op::Skip(9)]),
];
const BROWSE_NEXT: &[Op] = &[Op::Ops(REQUEST), Op::Skip(1), Op::Array(Tag::Items, &[Op::Text(Tag::ContinuationPoint)])];
const REFERENCE: &[Op] =
    &[Op::Node(Tag::None), Op::Skip(1), Op::ExpandedNode, QUALIFIED_NAME, Op::LocalizedText, Op::Skip(4), Op::ExpandedNode];
const BROWSE_RESPONSE: &[Op] =
    &[Op::Ops(RESPONSE), Op::Array(Tag::Results, &[Op::Skip(4), Op::Text(Tag::ContinuationPoint), Op::Array(Tag::References, REFERENCE)])];
const TRANSLATE: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::Array(Tag::None, &[Op::Node(Tag::None), Op::Skip(2), QUALIFIED_NAME])]),
];
const REGISTER_NODES: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Node(Tag::Node)])];

const READ: &[Op] = &[Op::Ops(REQUEST), Op::Skip(12), Op::Array(Tag::Items, &[READ_VALUE_ID])];
/// The number of DataValues is written before them.
const READ_RESPONSE: &[Op] = &[Op::Ops(RESPONSE), Op::Count(Tag::Results), Op::End];
const WRITE: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::Skip(4), Op::Bytes, Op::DataValue])];
/// Whatever the details (raw, modified, at times, processed, events, annotations), they say how to read, not what.
const HISTORY_READ: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Extension(&[]),
    Op::Skip(5),
    Op::Array(Tag::Items, &[Op::Node(Tag::Node), Op::Bytes, QUALIFIED_NAME, Op::Bytes]),
];
/// HistoryData, HistoryEvent, HistoryModifiedData, HistoryModifiedEvent (Part 11, 6.6): an array first in each.
const HISTORY: &[(u32, &[Op])] = &[
    (658, &[Op::Count(Tag::HistoryValues)]),
    (661, &[Op::Count(Tag::HistoryValues)]),
    (11227, &[Op::Count(Tag::HistoryValues)]),
    (32825, &[Op::Count(Tag::HistoryValues)]),
];
const HISTORY_READ_RESPONSE: &[Op] =
    &[Op::Ops(RESPONSE), Op::Array(Tag::Results, &[Op::Skip(4), Op::Bytes, Op::Extension(HISTORY)]), Op::End];
/// HistoryUpdateDetails (Part 11, 6.9): values, structures, events; the three that delete carry no values.
const UPDATES: &[(u32, &[Op])] = &[
    (682, &[Op::Node(Tag::Node), Op::Skip(4), Op::Count(Tag::UpdateValues)]),
    (11300, &[Op::Node(Tag::Node), Op::Skip(4), Op::Count(Tag::UpdateValues)]),
    (685, UPDATE_EVENTS),
    (688, &[Op::Node(Tag::Node)]),
    (691, &[Op::Node(Tag::Node)]),
    (694, &[Op::Node(Tag::Node)]),
];
/// UpdateEventDetails: the filter (select clauses, where clause) stands between the node and the events.
const UPDATE_EVENTS: &[Op] = &[
    Op::Node(Tag::Node),
    Op::Skip(4),
    Op::Array(Tag::None, &[Op::Node(Tag::None), Op::Array(Tag::None, &[QUALIFIED_NAME]), Op::Skip(4), Op::Bytes]),
    Op::Array(Tag::None, &[Op::Skip(4), Op::Array(Tag::None, &[Op::Extension(&[])])]),
    Op::Count(Tag::UpdateValues),
];
const HISTORY_UPDATE: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Extension(UPDATES)])];
const CALL: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Array(
        Tag::Items,
        &[Op::Node(Tag::None), Op::Node(Tag::Method), Op::Array(Tag::FirstArgument, &[Op::TextVariant(Tag::FirstArgument)])],
    ),
];

const CREATE_ITEMS: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Number(Tag::Subscription),
    Op::Skip(4),
    Op::Array(Tag::Items, &[READ_VALUE_ID, Op::Skip(4), Op::Number(Tag::Handle), Op::Skip(8), Op::Extension(&[]), Op::Skip(5)]),
];
const ITEMS_RESPONSE: &[Op] = &[
    Op::Ops(RESPONSE),
    Op::Array(Tag::Results, &[Op::Number(Tag::ItemStatus), Op::Number(Tag::ItemId), Op::Skip(12), Op::Extension(&[])]),
];
const MODIFY_ITEMS: &[Op] = &[
    Op::Ops(REQUEST),
    Op::Number(Tag::Subscription),
    Op::Skip(4),
    Op::Array(Tag::Items, &[Op::Number(Tag::ItemId), Op::Number(Tag::Handle), Op::Skip(8), Op::Extension(&[]), Op::Skip(5)]),
];
const DELETE_ITEMS: &[Op] = &[Op::Ops(REQUEST), Op::Number(Tag::Subscription), Op::Array(Tag::Items, &[Op::Number(Tag::ItemId)])];
const DELETE_SUBSCRIPTIONS: &[Op] = &[Op::Ops(REQUEST), Op::Array(Tag::Items, &[Op::Number(Tag::Subscription)])];
const REPUBLISH: &[Op] = &[Op::Ops(REQUEST), Op::Number(Tag::Subscription)];
/// DataChangeNotification and EventNotificationList (Part 4, 7.25).
const NOTIFICATIONS: &[(u32, &[Op])] = &[
    (811, &[Op::Array(Tag::Notifications, &[Op::Number(Tag::Handle), Op::DataValue])]),
    (916, &[Op::Array(Tag::Events, &[Op::Number(Tag::Handle), Op::Array(Tag::None, &[Op::Variant])])]),
];
/// NotificationMessage (Part 4, 7.26).
const NOTIFICATION_MESSAGE: Op = Op::Ops(&[Op::Skip(12), Op::Array(Tag::None, &[Op::Extension(NOTIFICATIONS)])]);
const PUBLISH_RESPONSE: &[Op] =
    &[Op::Ops(RESPONSE), Op::Number(Tag::Subscription), Op::Array(Tag::None, &[Op::Skip(4)]), Op::Skip(1), NOTIFICATION_MESSAGE, Op::End];
const REPUBLISH_RESPONSE: &[Op] = &[Op::Ops(RESPONSE), NOTIFICATION_MESSAGE, Op::End];

const fn s(id: u32, name: &'static str, kind: Kind, items: &'static str, body: &'static [Op]) -> Service {
    Service { id, name, kind, items, body }
}

/// Ordered by id.
static SERVICES: &[Service] = &[
    s(397, "ServiceFault", Kind::Fault, "", RESPONSE),
    s(422, "FindServersRequest", Kind::Other, "", FIND_SERVERS),
    s(425, "FindServersResponse", Kind::Other, "", RESPONSE),
    s(428, "GetEndpointsRequest", Kind::Other, "", FIND_SERVERS),
    s(431, "GetEndpointsResponse", Kind::Other, "", RESPONSE),
    s(437, "RegisterServerRequest", Kind::Other, "", REQUEST),
    s(440, "RegisterServerResponse", Kind::Other, "", RESPONSE),
    s(446, "OpenSecureChannelRequest", Kind::Channel, "", OPEN_CHANNEL),
    s(449, "OpenSecureChannelResponse", Kind::Channel, "", RESPONSE),
    s(452, "CloseSecureChannelRequest", Kind::Channel, "", REQUEST),
    s(455, "CloseSecureChannelResponse", Kind::Channel, "", RESPONSE),
    s(461, "CreateSessionRequest", Kind::CreateSession, "", CREATE_SESSION),
    s(464, "CreateSessionResponse", Kind::CreateSession, "", CREATE_SESSION_RESPONSE),
    s(467, "ActivateSessionRequest", Kind::ActivateSession, "", ACTIVATE_SESSION),
    s(470, "ActivateSessionResponse", Kind::ActivateSession, "", RESPONSE),
    s(473, "CloseSessionRequest", Kind::CloseSession, "", REQUEST),
    s(476, "CloseSessionResponse", Kind::CloseSession, "", RESPONSE),
    s(479, "CancelRequest", Kind::Other, "", REQUEST),
    s(482, "CancelResponse", Kind::Other, "", RESPONSE),
    s(488, "AddNodesRequest", Kind::Manage, "NodesToAdd", ADD_NODES),
    s(491, "AddNodesResponse", Kind::Manage, "", RESPONSE),
    s(494, "AddReferencesRequest", Kind::Manage, "ReferencesToAdd", ADD_REFERENCES),
    s(497, "AddReferencesResponse", Kind::Manage, "", RESPONSE),
    s(500, "DeleteNodesRequest", Kind::Manage, "NodesToDelete", DELETE_NODES),
    s(503, "DeleteNodesResponse", Kind::Manage, "", RESPONSE),
    s(506, "DeleteReferencesRequest", Kind::Manage, "ReferencesToDelete", ADD_REFERENCES),
    s(509, "DeleteReferencesResponse", Kind::Manage, "", RESPONSE),
    s(527, "BrowseRequest", Kind::Browse, "NodesToBrowse", BROWSE),
    s(530, "BrowseResponse", Kind::Browse, "", BROWSE_RESPONSE),
    s(533, "BrowseNextRequest", Kind::BrowseNext, "ContinuationPoints", BROWSE_NEXT),
    s(536, "BrowseNextResponse", Kind::BrowseNext, "", BROWSE_RESPONSE),
    s(554, "TranslateBrowsePathsToNodeIdsRequest", Kind::Browse, "BrowsePaths", TRANSLATE),
    s(557, "TranslateBrowsePathsToNodeIdsResponse", Kind::Browse, "", RESPONSE),
    s(560, "RegisterNodesRequest", Kind::Browse, "NodesToRegister", REGISTER_NODES),
    s(563, "RegisterNodesResponse", Kind::Browse, "", RESPONSE),
    s(566, "UnregisterNodesRequest", Kind::Browse, "NodesToUnregister", REGISTER_NODES),
    s(569, "UnregisterNodesResponse", Kind::Browse, "", RESPONSE),
    s(615, "QueryFirstRequest", Kind::Query, "", REQUEST),
    s(618, "QueryFirstResponse", Kind::Query, "", RESPONSE),
    s(621, "QueryNextRequest", Kind::Query, "", REQUEST),
    s(624, "QueryNextResponse", Kind::Query, "", RESPONSE),
    s(631, "ReadRequest", Kind::Read, "NodesToRead", READ),
    s(634, "ReadResponse", Kind::Read, "", READ_RESPONSE),
    s(664, "HistoryReadRequest", Kind::HistoryRead, "NodesToRead", HISTORY_READ),
    s(667, "HistoryReadResponse", Kind::HistoryRead, "", HISTORY_READ_RESPONSE),
    s(673, "WriteRequest", Kind::Write, "NodesToWrite", WRITE),
    s(676, "WriteResponse", Kind::Write, "", RESPONSE),
    s(700, "HistoryUpdateRequest", Kind::HistoryWrite, "HistoryUpdateDetails", HISTORY_UPDATE),
    s(703, "HistoryUpdateResponse", Kind::HistoryWrite, "", RESPONSE),
    s(712, "CallRequest", Kind::Call, "MethodsToCall", CALL),
    s(715, "CallResponse", Kind::Call, "", RESPONSE),
    s(751, "CreateMonitoredItemsRequest", Kind::CreateItems, "ItemsToCreate", CREATE_ITEMS),
    s(754, "CreateMonitoredItemsResponse", Kind::CreateItems, "", ITEMS_RESPONSE),
    s(763, "ModifyMonitoredItemsRequest", Kind::ModifyItems, "ItemsToModify", MODIFY_ITEMS),
    s(766, "ModifyMonitoredItemsResponse", Kind::ModifyItems, "", RESPONSE),
    s(769, "SetMonitoringModeRequest", Kind::Other, "", REQUEST),
    s(772, "SetMonitoringModeResponse", Kind::Other, "", RESPONSE),
    s(775, "SetTriggeringRequest", Kind::Other, "", REQUEST),
    s(778, "SetTriggeringResponse", Kind::Other, "", RESPONSE),
    s(781, "DeleteMonitoredItemsRequest", Kind::DeleteItems, "", DELETE_ITEMS),
    s(784, "DeleteMonitoredItemsResponse", Kind::DeleteItems, "", RESPONSE),
    s(787, "CreateSubscriptionRequest", Kind::Other, "", REQUEST),
    s(790, "CreateSubscriptionResponse", Kind::Other, "", RESPONSE),
    s(793, "ModifySubscriptionRequest", Kind::Other, "", REQUEST),
    s(796, "ModifySubscriptionResponse", Kind::Other, "", RESPONSE),
    s(799, "SetPublishingModeRequest", Kind::Other, "", REQUEST),
    s(802, "SetPublishingModeResponse", Kind::Other, "", RESPONSE),
    s(826, "PublishRequest", Kind::Publish, "", REQUEST),
    s(829, "PublishResponse", Kind::Publish, "MonitoredItems", PUBLISH_RESPONSE),
    s(832, "RepublishRequest", Kind::Republish, "", REPUBLISH),
    s(835, "RepublishResponse", Kind::Republish, "MonitoredItems", REPUBLISH_RESPONSE),
    s(841, "TransferSubscriptionsRequest", Kind::Other, "", REQUEST),
    s(844, "TransferSubscriptionsResponse", Kind::Other, "", RESPONSE),
    s(847, "DeleteSubscriptionsRequest", Kind::DeleteSubscriptions, "", DELETE_SUBSCRIPTIONS),
    s(850, "DeleteSubscriptionsResponse", Kind::DeleteSubscriptions, "", RESPONSE),
    s(12208, "FindServersOnNetworkRequest", Kind::Other, "", REQUEST),
    s(12209, "FindServersOnNetworkResponse", Kind::Other, "", RESPONSE),
    s(12211, "RegisterServer2Request", Kind::Other, "", REQUEST),
    s(12212, "RegisterServer2Response", Kind::Other, "", RESPONSE),
];

//! What a walk over one message finds: the counts and names that its grammar marks, each kind bounded.

use super::services::{self, Kind, Service};
use super::types::{self, Sink, Tag};
use super::{HANDLES_MAX, NAME_BYTES_MAX, NAMES_MAX, NODES_BYTES_MAX, POINT_BYTES_MAX, POINTS_MAX, TOKEN_BYTES_MAX};

/// NodeIds in their encoding, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nodes {
    pub bytes: Vec<u8>,
    pub ends: Vec<u32>,
    /// More than fitted.
    pub cut: bool,
}

impl Nodes {
    pub fn push(&mut self, encoded: &[u8]) {
        // Once cut, nothing follows: what is kept stays in step with the handles beside it.
        if self.cut || self.size() + encoded.len() > NODES_BYTES_MAX {
            self.cut = true;
            return;
        }
        self.bytes.extend_from_slice(encoded);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    pub fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start as usize..*self.ends.get(index)? as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// What a walk over one message found.
#[derive(Debug, Default)]
pub struct Found {
    pub service: Option<&'static Service>,
    pub token: Vec<u8>,
    pub status: Option<u32>,
    pub nodes: Nodes,
    pub methods: Nodes,
    /// Elements of the request's array, as it says.
    pub items: u32,
    pub values: u64,
    /// HistoryRead: values by each thousand results.
    pub values_by_set: Vec<u64>,
    pub results: u64,
    pub notifications: u64,
    pub handles: Vec<u32>,
    pub item_ids: Vec<(u32, u32)>,
    pub item_status: u32,
    pub subscription: u32,
    pub subscriptions: Vec<u32>,
    /// Continuation points, with the index of their result.
    pub points: Vec<(u64, Vec<u8>)>,
    pub references: u64,
    pub security_mode: Option<u32>,
    pub policy: Option<String>,
    pub certificate: Option<String>,
    pub url: Option<String>,
    pub application: Option<String>,
    pub user: Option<String>,
    pub user_certificate: Option<String>,
    pub identity_token: Option<u32>,
    pub user_change: Option<(&'static str, Option<String>)>,
    pub argument: u32,
    /// Something of the message found no room.
    pub cut: bool,
}

impl Found {
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.nodes.size()
            + self.methods.size()
            + 4 * self.handles.capacity()
            + 8 * self.item_ids.capacity()
            + self.points.iter().map(|(_, p)| 32 + p.len()).sum::<usize>()
    }

    pub fn is(&self, kind: Kind) -> bool {
        self.service.is_some_and(|s| s.kind == kind)
    }
}

impl Sink for Found {
    fn number(&mut self, tag: Tag, value: u32) {
        match tag {
            Tag::Status => self.status = Some(value),
            Tag::SecurityMode => self.security_mode = Some(value),
            Tag::Subscription => {
                self.subscription = value;
                if self.subscriptions.len() < HANDLES_MAX {
                    self.subscriptions.push(value);
                } else {
                    self.cut = true;
                }
            }
            Tag::Handle if self.handles.len() < HANDLES_MAX => self.handles.push(value),
            Tag::ItemStatus => self.item_status = value,
            Tag::ItemId if self.item_ids.len() < HANDLES_MAX => self.item_ids.push((value, self.item_status)),
            Tag::Handle | Tag::ItemId => self.cut = true,
            // The header's AdditionalHeader is an ExtensionObject too; the token is the last one of its message.
            Tag::Extension if self.is(Kind::ActivateSession) => self.identity_token = Some(value),
            _ => {}
        }
    }

    fn text(&mut self, tag: Tag, bytes: &[u8]) {
        let kept = bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes);
        let text = || Some(String::from_utf8_lossy(kept).into_owned()).filter(|t| !t.is_empty());
        match tag {
            Tag::Policy => self.policy = text(),
            Tag::Certificate => self.certificate = common_name(bytes),
            Tag::EndpointUrl => self.url = text(),
            Tag::ApplicationUri => self.application = text(),
            Tag::User => self.user = text(),
            Tag::UserCertificate => self.user_certificate = common_name(bytes),
            Tag::ContinuationPoint => {
                // A request has one in each element, a response may have one in each result.
                let index = self.results.max(1) - 1;
                if bytes.len() <= POINT_BYTES_MAX && self.points.len() < POINTS_MAX {
                    if !bytes.is_empty() {
                        self.points.push((index, bytes.to_vec()));
                    }
                } else {
                    self.cut = true;
                }
            }
            // The first argument names the user, except that of ChangePassword, which is the old password.
            Tag::FirstArgument if self.argument == 1 => {
                if let Some((change, name @ None)) = &mut self.user_change {
                    if *change != "password" {
                        *name = text();
                    }
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, tag: Tag, encoded: &[u8]) {
        match tag {
            Tag::Token if encoded.len() <= TOKEN_BYTES_MAX => self.token = encoded.to_vec(),
            Tag::Token => self.cut = true,
            Tag::Node => self.nodes.push(encoded),
            Tag::Method => {
                self.argument = 0;
                self.nodes.push(encoded);
                if self.user_change.is_none() {
                    let change = types::namespace_0(encoded).and_then(services::user_management);
                    self.user_change = change.map(|word| (word, None));
                }
            }
            _ => {}
        }
    }

    fn array(&mut self, tag: Tag, length: u32) {
        match tag {
            Tag::Items => self.items = length,
            Tag::Results if self.is(Kind::Read) => self.values = length.into(),
            Tag::HistoryValues => {
                let set = usize::try_from(self.results.saturating_sub(1)).unwrap_or(usize::MAX) / NAMES_MAX;
                if set < HANDLES_MAX {
                    if self.values_by_set.len() <= set {
                        self.values_by_set.resize(set + 1, 0);
                    }
                    if let Some(slot) = self.values_by_set.get_mut(set) {
                        *slot += u64::from(length);
                    }
                }
                self.values += u64::from(length);
            }
            Tag::UpdateValues => self.values += u64::from(length),
            Tag::Notifications => self.notifications += u64::from(length),
            Tag::References => self.references += u64::from(length),
            _ => {}
        }
    }

    fn element(&mut self, tag: Tag) {
        match tag {
            Tag::Results => self.results += 1,
            Tag::Notifications | Tag::Events => self.values += 1,
            Tag::Items if self.is(Kind::Write) => self.values += 1,
            Tag::FirstArgument => self.argument += 1,
            _ => {}
        }
    }

    fn service(&mut self, id: u32) -> Option<&'static [types::Op]> {
        self.service = services::service(id);
        self.service.map(|s| s.body)
    }
}

/// The common name of a certificate's subject; the first certificate of a chain (Part 6, 6.2.6).
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

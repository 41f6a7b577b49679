//! hopwatch's packet path: packets in, windows out.
//!
//! `source` or `capture` → `packet` → `sensor` (connections, `stream`) → `protocols` → `windows`.

pub mod capture;
pub mod contexts;
pub mod copies;
pub mod fragments;
pub mod lines;
pub mod packet;
pub mod pairs;
pub mod protocols;
#[cfg(feature = "python")]
mod python;
pub mod quality;
pub mod sensor;
pub mod slow;
mod soon;
pub mod source;
pub mod sql;
pub mod stream;
pub mod table;
pub mod windows;

//! hopwatch's packet path: packets in, windows out.
//!
//! source / capture → packet → connections (`sensor`, `stream`) → `protocols` → `windows`.

pub mod protocols;
pub mod stream;
pub mod windows;

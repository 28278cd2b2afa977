//! What it means that an archive cannot be read.

use std::io;

use super::path::violation;
use crate::error::Error;

/// What a failure to read an archive means: a fault of its bytes, or of the disk under it.
pub fn damaged(error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::failed("cannot read the archive").because(error);
    }
    Error::refused(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the archive is truncated".to_owned(),
        _ if asks_too_much(&error) => {
            "the archive needs more than 128 MiB of memory to be decoded".to_owned()
        }
        _ => format!("the archive is damaged: {}", printable(&error)),
    })
}

/// The same within the data of an entry.
pub fn damaged_entry(name: &[u8], error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return damaged(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => violation(name, "is truncated"),
        _ => violation(name, format!("is damaged: {}", printable(&error))),
    }
}

/// The archive is damaged, and this is how.
pub fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::refused(format!("the archive is damaged: {why}"))
}

/// Whether a decoder was asked for a larger window or dictionary than there may be. That of zstd says so in
/// words alone.
fn asks_too_much(error: &io::Error) -> bool {
    let limit = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    limit == Some(&liblzma::stream::Error::MemLimit)
        || error.to_string() == "Frame requires too much memory for decoding"
}

/// Decoders repeat bytes of the archive, which a terminal might obey.
fn printable(error: &io::Error) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    error.to_string().chars().map(escape).collect()
}

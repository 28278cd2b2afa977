//! Turns read errors of an archive into errors that name the fault.

use std::io;

use super::path::violation;
use crate::error::Error;

/// Returns the error for a failed read: `Failed` if the operating system reports it, `Refused` if the bytes are
/// damaged.
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

/// Returns the error for a failed read in the data of an entry, like [`damaged`].
pub fn damaged_entry(name: &[u8], error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return damaged(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => violation(name, "is truncated"),
        _ => violation(name, format!("is damaged: {}", printable(&error))),
    }
}

/// Returns a `Refused` error for a damaged archive.
pub fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::refused(format!("the archive is damaged: {why}"))
}

/// Returns whether a decoder needs a larger window or dictionary than allowed. The zstd decoder reports this only in
/// its message.
fn asks_too_much(error: &io::Error) -> bool {
    let limit = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    limit == Some(&liblzma::stream::Error::MemLimit)
        || error.to_string() == "Frame requires too much memory for decoding"
}

/// Decoders' messages repeat bytes of the archive, which may be terminal escape sequences.
fn printable(error: &io::Error) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    error.to_string().chars().map(escape).collect()
}

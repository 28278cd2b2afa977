//! Archives of every format, sound, damaged and hostile, through the library as the commands use it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::cast_possible_truncation)]

mod bench;
mod damaged;
mod hostile;
mod make;
mod sound;
mod tools;
mod trees;

//! Valid, damaged and hostile archives of every format, read through the library as the commands do.

#![allow(clippy::cast_possible_truncation, reason = "archives here are small")]

mod bench;
mod damaged;
mod hostile;
mod make;
mod sound;
mod tools;
mod trees;

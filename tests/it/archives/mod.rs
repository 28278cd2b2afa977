//! Archives of every format, sound, damaged and hostile, through the library as the commands use it.

#![allow(clippy::cast_possible_truncation, reason = "archives here are small")]

mod bench;
mod damaged;
mod hostile;
mod make;
mod sound;
mod tools;
mod trees;

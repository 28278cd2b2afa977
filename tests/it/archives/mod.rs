//! Archives of every format, sound, damaged and hostile, through the library as the commands use it.

mod bench;
mod damaged;
mod hostile;
mod make;
mod sound;
mod tools;
mod trees;

//! Tests that need no separate host: the rules of the library, the real binary, and its system calls.
//!
//! Tests that need root, mounts or a terminal are ignored by default. Run them with
//! `cargo test --test it -- --ignored`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]
#![allow(clippy::too_many_lines, reason = "snapshots are long")]

mod archive_names;
mod archives;
mod bad_input;
mod check;
mod completions;
mod console;
mod crash;
mod damage;
mod data;
mod disk;
mod docs;
mod durable;
mod elsewhere;
mod guard;
mod health;
mod hostile;
mod kept;
mod lint;
mod machines;
mod man;
mod manifest;
mod monitoring;
mod owner;
mod pack;
mod paths;
mod planted;
mod power;
mod privilege;
mod product;
mod progress;
mod racing;
mod retry;
mod service;
mod share;
mod shared;
mod stress;
mod structure;
#[path = "../support/mod.rs"]
mod support;
mod transcripts;
mod trial;
mod trust;
mod version;
mod walk;

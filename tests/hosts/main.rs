//! Tests with real services under real init systems, on separate hosts with restarts and power cuts.
//!
//! The tests need root, mmdebstrap and systemd-nspawn. They install each system once, from Debian.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod data;
mod greeter;
mod inits;
mod installed;
mod nginx;
mod otp;
mod own;
mod packages;
mod product;
mod services;
mod services_kinds;
mod services_load;
mod services_more;
#[path = "../support/mod.rs"]
mod support;
mod web;

//! Real services under real inits, on hosts of their own that are restarted and whose power is cut.
//!
//! Needs root, mmdebstrap and systemd-nspawn; the systems are installed once, from Debian.

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

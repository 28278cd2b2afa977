//! Tenure keeps the releases of one service under ROOT/releases and switches between them atomically: no switch
//! leaves a moment without a release.
//!
//! The modules are arranged in floors. A module uses only modules that this file lists above it.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a unit test may"))]

// Floor 0: values and rules, without effects.
pub mod error;
pub mod progress;
pub mod version;
pub mod naming;
pub mod release;
pub mod health;
pub mod requires;
pub mod data;
pub mod manifest;
pub mod settings;
pub mod policy;
pub mod lint;

// Floor 1: plans.
pub mod plan;

// Floor 2: effects.
#[allow(clippy::disallowed_methods, reason = "this floor has effects")]
pub mod clock;
#[allow(clippy::disallowed_methods, reason = "this floor has effects")]
pub mod host_path;
#[allow(clippy::disallowed_methods, reason = "this floor has effects")]
pub mod ownership;
pub mod fs;
pub mod tree;
pub mod archive;
pub mod verify;
#[allow(clippy::disallowed_methods, reason = "this floor has effects")]
pub mod process;
#[allow(clippy::disallowed_methods, reason = "this floor has effects")]
pub mod platform;

// Floor 3: the contents of a root and a service.
pub mod root;
pub mod journal;
pub mod privilege;
pub mod hook;
pub mod service;
pub mod background;

// Floor 4: the execution of plans.
pub mod execute;

// Floor 5: the commands.
pub mod ops;

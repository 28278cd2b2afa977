//! Tenure: the releases of one service, kept under ROOT/releases and switched without a moment in which none
//! is there.
//!
//! The modules stand on floors; each uses only what is listed above it, here.

// Floor 0: values and decisions.
pub mod error;
pub mod watch;
pub mod version;
pub mod naming;
pub mod release;
pub mod manifest;
pub mod policy;

// Floor 1: plans.
pub mod plan;

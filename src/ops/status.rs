//! `status`: everything that is known, also of a root that is out of order.

use serde::Serialize;

use crate::error::Result;
use crate::journal::{self, Found};
use crate::plan::recover;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

/// A command that was cut short, or that is under way.
#[derive(Clone, Debug, Serialize)]
pub struct Unfinished {
    /// The command.
    pub command: String,
    /// Who gave it.
    pub by: String,
    /// When, in RFC 3339.
    pub started: String,
    /// The process that is at it; none where it was cut short.
    pub pid: Option<u32>,
    /// What would be done about it, were it recovered from now.
    pub recovery: crate::plan::Recovery,
}

/// A release and its state.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The release.
    pub version: Version,
    /// Its state.
    pub state: ReleaseState,
}

/// A link or a journal that is out of order.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

/// What is known of a root.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The product, where the settings name it.
    pub name: Option<String>,
    /// The root's path.
    pub root: String,
    /// What runs now.
    pub current: Option<Version>,
    /// What the next start runs.
    pub permanent: Option<Version>,
    /// Whether both differ.
    pub on_trial: bool,
    /// The releases, newest first.
    pub releases: Vec<Standing>,
    /// A command that is not at its end.
    pub unfinished: Option<Unfinished>,
    /// What is out of order.
    pub problems: Vec<Problem>,
}

/// Looks at everything; takes no lock and changes nothing.
///
/// # Errors
/// Where the root cannot be read.
pub fn status(root: &Root) -> Result<Status> {
    let now = root.observe()?;
    let mut problems: Vec<Problem> = now
        .faults()
        .iter()
        .map(|e| Problem { message: e.to_string(), hints: e.hints().into_iter().map(Into::into).collect() })
        .collect();
    let unfinished = match journal::find(root)? {
        Found::Nothing => None,
        Found::Damaged => {
            let message = format!("the journal {} is damaged", root.journal().display());
            problems.push(Problem { message, hints: vec!["the next command sets it aside".into()] });
            None
        }
        Found::Open(record) => Some(Unfinished {
            recovery: recover(&record, &now),
            pid: root.lock_holder().map(|holder| holder.pid),
            command: record.command,
            by: record.by,
            started: record.started,
        }),
    };
    Ok(Status {
        name: root.settings().name.clone(),
        root: root.path().display().to_string(),
        current: now.current.version().cloned(),
        permanent: now.permanent.version().cloned(),
        on_trial: now.trial().is_some(),
        releases: now.states().map(|(version, state)| Standing { version: version.clone(), state }).collect(),
        unfinished,
        problems,
    })
}

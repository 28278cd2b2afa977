//! `verify`: compares installed files with those that were unpacked.

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::progress::{Count, Progress};
use crate::root::Root;
use crate::tree::{Differences, Node, TreeEntry};
use crate::version::Version;

/// The verdict about one release.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum ReleaseVerdict {
    /// The files are the same as unpacked.
    Intact,
    /// The files differ.
    Differs(Differences),
    /// Unknown, because Tenure did not unpack the release.
    Unknown,
}

/// A release and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The release.
    pub version: Version,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: ReleaseVerdict,
}

/// The result of `verify`.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Each compared release, newest first.
    pub releases: Vec<Judged>,
}

impl Verified {
    /// Returns whether no file differs.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.releases.iter().all(|judged| !matches!(judged.verdict, ReleaseVerdict::Differs(_)))
    }
}

/// Compares one release, or all of them. Takes no lock and changes nothing.
///
/// # Errors
/// Returns a `Refused` error if the release is not installed, or if a named release has no record of its files.
/// Returns a `Failed` error if a file cannot be read.
pub fn verify(root: &Root, version: Option<&Version>, progress: &mut dyn Progress) -> Result<Verified> {
    let now = root.observe()?;
    let versions: Vec<&Version> = match version {
        Some(version) if now.releases.contains_key(version) => vec![version],
        Some(version) => {
            return Err(Error::refused(format!("cannot verify {version}: it is not installed"))
                .hint("run `tenure versions` to see the installed releases"));
        }
        None => now.releases.keys().rev().collect(),
    };
    let total = versions.iter().map(|version| bytes(root, version)).sum();
    let mut count = Count::new(progress, total);
    let releases = versions.into_iter().map(|v| judge(root, v, &mut count)).collect::<Result<Vec<_>>>()?;
    match (version, releases.first()) {
        (Some(version), Some(Judged { verdict: ReleaseVerdict::Unknown, .. })) => Err(Error::refused(
            format!("cannot verify {version}: Tenure did not unpack it and has no record of its files"),
        )
        .hint(format!(
            "`tenure unpack --replace {version}` unpacks it from its archive, while it is not in use"
        ))),
        _ => Ok(Verified { releases }),
    }
}

/// Returns the expected number of bytes to read.
fn bytes(root: &Root, version: &Version) -> u64 {
    let size = |entry: TreeEntry| if let Node::File { size, .. } = entry.node { size } else { 0 };
    root.recorded_tree(version).ok().flatten().map_or(0, |tree| tree.map_while(Result::ok).map(size).sum())
}

fn judge(root: &Root, version: &Version, count: &mut Count<'_>) -> Result<Judged> {
    let differences = root.differences(version, &mut |n| count.pass(n));
    let verdict = match differences.context(|| format!("cannot verify {version}"))? {
        None => ReleaseVerdict::Unknown,
        Some(differences) if differences.is_empty() => ReleaseVerdict::Intact,
        Some(differences) => ReleaseVerdict::Differs(differences),
    };
    Ok(Judged { version: version.clone(), verdict })
}

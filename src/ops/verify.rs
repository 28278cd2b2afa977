//! `verify`: compare installed files with what was unpacked.

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::progress::{Count, Progress};
use crate::root::Root;
use crate::tree::{Differences, Node, TreeEntry};
use crate::version::Version;

/// What was found of one release.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum ReleaseVerdict {
    /// It is what was unpacked.
    Intact,
    /// It is not.
    Differs(Differences),
    /// Nobody knows: it was put there by hand.
    Unknown,
}

/// A release and what was found of it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The release.
    pub version: Version,
    /// What was found.
    #[serde(flatten)]
    pub verdict: ReleaseVerdict,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Each release that was looked at, newest first.
    pub releases: Vec<Judged>,
}

impl Verified {
    /// Whether nothing differs from what was unpacked.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.releases.iter().all(|judged| !matches!(judged.verdict, ReleaseVerdict::Differs(_)))
    }
}

/// Compares one release, or all of them; takes no lock and changes nothing.
///
/// # Errors
/// Refused where the release is not there, or where it is asked for by name and nobody knows what was
/// unpacked; failed where it cannot be read.
pub fn verify(root: &Root, version: Option<&Version>, progress: &mut dyn Progress) -> Result<Verified> {
    let now = root.observe()?;
    let versions: Vec<&Version> = match version {
        Some(version) if now.releases.contains_key(version) => vec![version],
        Some(version) => {
            return Err(Error::refused(format!("cannot verify {version}: it is not installed"))
                .hint("`tenure versions` lists the installed releases"));
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

/// How much there should be to read.
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

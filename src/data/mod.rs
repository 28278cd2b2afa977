//! The data of a service: its format, the releases that can start on it, and the result of a migration. Has no side
//! effects.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::version::Version;

/// A data format, by its number from the vendor.
pub type DataFormat = u32;

/// The table `[data]` of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "RawData")]
pub struct Formats {
    /// The format that the release writes.
    pub writes: DataFormat,
    /// The formats that the release can start on, including `writes`.
    pub reads: Vec<DataFormat>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawData {
    writes: DataFormat,
    reads: Option<Vec<DataFormat>>,
}

impl TryFrom<RawData> for Formats {
    type Error = Error;

    fn try_from(RawData { writes, reads }: RawData) -> Result<Self> {
        let reads = reads.unwrap_or_else(|| vec![writes]);
        if reads.contains(&writes) {
            return Ok(Self { writes, reads });
        }
        Err(Error::refused(format!("reads does not hold {writes}, which the release writes")))
    }
}

/// The known state of the data on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDisk {
    /// The formats of the data, or those before an unfinished migration; empty if unknown. There are several after a
    /// downgrade to a release that reads the higher formats and writes a lower one.
    pub formats: BTreeSet<DataFormat>,
    /// The last migration; `None` if there was none.
    pub migration: Option<Migration>,
}

/// A migration of the data by a release's own program, into the format of that release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The name of the migration in its log and among the processes.
    pub id: String,
    /// The release that provides the program.
    pub version: Version,
    /// The release that was permanent before.
    pub old: Option<Version>,
    /// The new format; `None` if the release does not declare one.
    pub to: Option<DataFormat>,
    /// The state of the migration.
    pub stage: Stage,
    /// When it began or was due to begin, in RFC 3339.
    pub started: String,
    /// When it ended, in RFC 3339; `None` if unknown.
    pub ended: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Migration {
    /// Creates a migration that has not begun.
    #[must_use]
    pub fn due(
        id: String,
        started: String,
        version: &Version,
        old: Option<&Version>,
        to: Option<DataFormat>,
    ) -> Self {
        let (version, old) = (version.clone(), old.cloned());
        Self { id, version, old, to, stage: Stage::Due, started, ended: None, error: None }
    }

    fn undone(&self) -> Error {
        Error::refused(format!("a data migration is not done: {self}"))
    }

    /// Returns the error for a command that has to wait for the migration.
    fn held_up(&self) -> Error {
        self.undone().hint(match self.stage {
            Stage::Failed => "run `tenure status` to see the cause; fix it, then run `tenure migrate`",
            _ => "run `tenure migrate` to wait for its end",
        })
    }
}

/// The state of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It has not begun.
    Due,
    /// It is running.
    Running,
    /// The data is in the new format.
    Done,
    /// It failed, and the data may be in either format.
    Failed,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, to, stage, started, .. } = self;
        match to {
            Some(format) => write!(f, "to data format {format} by {version}, ")?,
            None => write!(f, "by {version}, ")?,
        }
        let ended = self.ended.as_deref().unwrap_or("an unknown time");
        match stage {
            Stage::Due => write!(f, "pending since {started}"),
            Stage::Running => write!(f, "running since {started}"),
            Stage::Done => write!(f, "done at {ended}"),
            Stage::Failed => write!(f, "failed at {ended}"),
        }
    }
}

/// What happens to the data once a release is permanent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Becoming {
    /// Nothing.
    Same,
    /// The data is in these formats from then on.
    Formats(BTreeSet<DataFormat>),
    /// The release migrates the data, to this format if it declares one.
    Migrated(Option<DataFormat>),
}

impl OnDisk {
    /// Returns a migration that is not done. It is then unknown which of both formats the data is in.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Migration> {
        self.migration.as_ref().filter(|migration| migration.stage != Stage::Done)
    }

    /// Returns the state after a due or running migration has succeeded.
    #[must_use]
    pub fn foreseen(self) -> Self {
        match self.migration {
            Some(Migration { stage: Stage::Due | Stage::Running, to, .. }) => {
                Self { formats: migrated(to), migration: None }
            }
            _ => self,
        }
    }

    /// Returns a migration that leaves the format of the data unknown. Its target is not declared, and it is not done
    /// or no format is recorded; or it is not done, and the format before it is not recorded.
    fn obscuring(&self) -> Option<&Migration> {
        let was_unsaid = self.formats.is_empty();
        let is_open = self.unfinished().is_some();
        self.migration.as_ref().filter(|migration| match migration.to {
            None => is_open || was_unsaid,
            Some(_) => is_open && was_unsaid,
        })
    }

    /// Returns the data with the format that the permanent release writes, if none is recorded. This does not apply
    /// during a migration, which has yet to produce that format.
    #[must_use]
    pub fn or_of(self, permanent: Option<&Formats>) -> Self {
        match permanent {
            Some(Formats { writes, .. }) if self.formats.is_empty() && self.unfinished().is_none() => {
                Self { formats: BTreeSet::from([*writes]), ..self }
            }
            _ => self,
        }
    }

    /// Returns the formats that the data may be in, including the target of an unfinished migration.
    #[must_use]
    pub fn possible(&self) -> BTreeSet<DataFormat> {
        let made = self.unfinished().and_then(|migration| migration.to);
        self.formats.iter().copied().chain(made).collect()
    }

    /// Returns the formats that another migration starts from; empty if they are not fully known.
    #[must_use]
    pub fn to_migrate(&self) -> BTreeSet<DataFormat> {
        if self.formats.is_empty() { BTreeSet::new() } else { self.possible() }
    }

    /// Returns whether a release that writes this format has nothing to migrate.
    #[must_use]
    pub fn is_only(&self, format: DataFormat) -> bool {
        self.possible().into_iter().eq([format])
    }

    /// Refuses a release that cannot start on the data, or not while a migration is unfinished. `from` is the
    /// permanent release. `migrates` is whether `to` has a migration program.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the formats, or the state of the migration.
    pub fn admits(
        &self,
        from: &Version,
        to: &Version,
        declared: Option<&Formats>,
        migrates: bool,
    ) -> Result<()> {
        self.is_at_rest(from, to)?;
        match self.unfinished() {
            // After a rollback, or for another run of the migration, the release finds data in both formats.
            Some(migration) if to < from || migration.version == *to || migrates => {
                self.readable(from, to, declared).map_err(|e| e.because(migration.undone()))
            }
            Some(migration) => Err(migration.held_up()),
            None => self.readable(from, to, declared),
        }
    }

    /// Refuses a release for the reasons of [`admits`](Self::admits) that do not depend on its declarations.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the state of the migration.
    pub fn is_at_rest(&self, from: &Version, to: &Version) -> Result<()> {
        let holds_up = |migration: &&Migration| {
            migration.stage != Stage::Failed || from <= to && migration.version == *from
        };
        self.unfinished().filter(holds_up).map_or(Ok(()), |migration| Err(migration.held_up()))
    }

    fn readable(&self, from: &Version, release: &Version, declared: Option<&Formats>) -> Result<()> {
        let on_disk = self.possible();
        let is_below = |migration: &&Migration| release < from && *release < migration.version;
        let unsaid = self.obscuring().filter(is_below);
        let says = match declared {
            Some(Formats { reads, .. })
                if unsaid.is_none() && on_disk.iter().all(|format| reads.contains(format)) =>
            {
                return Ok(());
            }
            Some(Formats { reads, .. }) => format!("reads data {} only", named(reads)),
            // Without a declaration, a release is trusted to read earlier data, and data that no migration has
            // changed since.
            None if self.migration.as_ref().filter(is_below).is_none() => return Ok(()),
            None => "does not say which data formats it reads".to_owned(),
        };
        let found = match unsaid {
            Some(Migration { version, to: None, .. }) => {
                format!("the manifest of {version} does not declare the format after its migration")
            }
            Some(Migration { version, .. }) => {
                format!("the format before the migration by {version} is unknown")
            }
            None => format!("{} on disk", are(&on_disk)),
        };
        Err(Error::refused(format!("release {release} cannot start on the data: it {says}, and {found}"))
            .hint(match from < release {
                true => format!(
                    "run `tenure plan {release}` to look for an upgrade path over releases that read the data"
                ),
                false => "install a release that reads the data; or restore a backup and run \
                      `tenure migrate --restored FORMAT`"
                    .to_owned(),
            }))
    }

    /// Returns what happens to the data once `to` replaces `from` as the permanent release. After an upgrade without
    /// a migration program, the release is assumed to rewrite all data. After a downgrade it only adds its own format
    /// to the existing ones.
    #[must_use]
    pub fn becomes(
        &self,
        from: Option<&Version>,
        to: &Version,
        declared: Option<&Formats>,
        migrates: bool,
    ) -> Becoming {
        let Some(from) = from else { return Becoming::Same };
        let writes = declared.map(|formats| formats.writes);
        let is_up = from < to;
        let differs = writes.map_or(is_up, |writes| !self.is_only(writes));
        if migrates && (differs || self.unfinished().is_some()) {
            return Becoming::Migrated(writes);
        }
        let formats = match writes {
            // While a migration is not done, only the migrating release brings all data into one format.
            Some(writes) if is_up && self.unfinished().is_none() => BTreeSet::from([writes]),
            // If the existing formats are unknown, the result is unknown.
            Some(writes) if !is_up && !self.formats.is_empty() => &self.formats | &BTreeSet::from([writes]),
            _ => self.formats.clone(),
        };
        // If the release declares these formats, its manifest tells them; during a migration, the record does.
        let is_told = || self.unfinished().is_some() || formats.iter().copied().eq(writes);
        if formats.is_empty() || formats == self.formats && is_told() {
            return Becoming::Same;
        }
        Becoming::Formats(formats)
    }
}

/// Returns the formats of data after a migration to this format; empty if it is unknown.
#[must_use]
pub fn migrated(to: Option<DataFormat>) -> BTreeSet<DataFormat> {
    to.into_iter().collect()
}

/// Names formats: `format 3`, `formats 2 and 3`, `no format`.
pub fn named<'a>(formats: impl IntoIterator<Item = &'a DataFormat>) -> String {
    let formats: Vec<String> = formats.into_iter().map(ToString::to_string).collect();
    match formats.as_slice() {
        [] => "no format".to_owned(),
        [one] => format!("format {one}"),
        [most @ .., last] => format!("formats {} and {last}", most.join(", ")),
    }
}

/// Names formats with their verb: `format 3 is`, `formats 2 and 3 are`.
#[must_use]
pub fn are(formats: &BTreeSet<DataFormat>) -> String {
    format!("{} {}", named(formats), if formats.len() > 1 { "are" } else { "is" })
}

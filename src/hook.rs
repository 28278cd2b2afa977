//! The programs of a release that Tenure runs: as whom, with what in their environment, and where their output goes.

use std::fs::File;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::fs::DirPath;
use crate::health::Argv;
use crate::manifest::{Hooks, Manifest};
use crate::privilege;
use crate::process::{self, Program, ProgramEnd};
use crate::progress::Progress;
use crate::root::Root;
use crate::version::Version;

/// How long a program may take, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The same, where it has work to do: a driver to build, or a copy of the data to make.
const WORK_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The same, of what is under way until it is done: longer than any host is up.
const ENDLESS: Duration = Duration::from_secs(100 * 366 * 86_400);

/// What a program of a release is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To tell whether the release may be gone to.
    Check,
    /// To prepare it.
    Prepare,
    /// To copy the data.
    Backup,
    /// To migrate the data.
    Migrate,
    /// To move the running service up.
    HotUpgrade,
    /// To move it down.
    HotDowngrade,
    /// To tell what runs.
    RunningVersion,
}

impl Task {
    /// The key of the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Prepare => "prepare",
            Self::Backup => "backup",
            Self::Migrate => "migrate",
            Self::HotUpgrade => "hot-upgrade",
            Self::HotDowngrade => "hot-downgrade",
            Self::RunningVersion => "running-version",
        }
    }

    fn argv(self, hooks: &Hooks) -> Option<&Argv> {
        match self {
            Self::Check => &hooks.check,
            Self::Prepare => &hooks.prepare,
            Self::Backup => &hooks.backup,
            Self::Migrate => &hooks.migrate,
            Self::HotUpgrade => &hooks.hot_upgrade,
            Self::HotDowngrade => &hooks.hot_downgrade,
            Self::RunningVersion => &hooks.running_version,
        }
        .as_ref()
    }
}

/// How long a program may take: by the operator's word, or else by that of its release.
#[must_use]
pub fn timeout(root: &Root, manifest: Option<&Manifest>, task: Task) -> Duration {
    let declared = manifest.map(|manifest| manifest.timeouts).unwrap_or_default();
    let timeouts = root.settings().timeouts.or(declared);
    let (said, otherwise) = match task {
        Task::Prepare => (timeouts.prepare, WORK_TIMEOUT),
        Task::Backup => (timeouts.backup, WORK_TIMEOUT),
        Task::Migrate => (timeouts.migrate, ENDLESS),
        _ => (timeouts.hook, TIMEOUT),
    };
    said.map_or(otherwise, |span| span.0)
}

/// What a hook is run for: its environment tells it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HookContext<'a> {
    /// What is done, as `upgrade`, `downgrade`, `health` or `status`.
    pub action: &'a str,
    /// The release that is left.
    pub old: Option<&'a Version>,
    /// The release that is gone to.
    pub new: Option<&'a Version>,
    /// The transaction, where there is one.
    pub transaction: Option<&'a str>,
    /// When the trial that begins ends by itself, in RFC 3339.
    pub deadline: Option<&'a str>,
    /// Where the release is that is gone to, while it is not published.
    pub staged: Option<&'a DirPath>,
}

impl HookContext<'_> {
    fn dir(&self, root: &Root, version: &Version) -> DirPath {
        let staged = self.staged.filter(|_| self.new == Some(version));
        staged.cloned().unwrap_or_else(|| root.release(version))
    }
}

/// A program of a release.
#[derive(Clone, Copy)]
pub struct Hook<'a> {
    /// The root that it is in.
    pub root: &'a Root,
    /// The release whose program it is.
    pub release: &'a Version,
    /// The key of the manifest or the settings that names it.
    pub name: &'static str,
    /// The program and what it is given.
    pub argv: &'a Argv,
    /// Within what time it has to end.
    pub within: Duration,
}

impl<'a> Hook<'a> {
    /// The program of a release for a task; none where its manifest names none.
    #[must_use]
    pub fn of(root: &'a Root, manifest: &'a Manifest, task: Task) -> Option<Self> {
        let argv = task.argv(&manifest.hooks)?;
        let within = timeout(root, Some(manifest), task);
        Some(Self { root, release: &manifest.version, name: task.name(), argv, within })
    }

    /// The program of a release for a task that cannot be done without.
    ///
    /// # Errors
    /// Failed where its manifest names none.
    pub fn needed(
        root: &'a Root,
        release: &Version,
        manifest: Option<&'a Manifest>,
        task: Task,
    ) -> Result<Self> {
        manifest
            .and_then(|manifest| Self::of(root, manifest, task))
            .ok_or_else(|| Error::failed(format!("release {release} has no {} hook", task.name())))
    }

    /// Runs it with its output in a log that is kept.
    ///
    /// # Errors
    /// Failed where it did not end well, with the end of its output and where the whole of it is.
    pub fn run_logged(&self, errand: &HookContext<'_>, progress: &dyn Progress) -> Result<()> {
        let named = format!("{}-{}.log", errand.transaction.unwrap_or("none"), self.name);
        let (log, place) = self.root.new_log(&named)?;
        self.run(errand, &log, progress)?
            .good_or_said(self.within, &log)
            .map_err(|e| self.failed(e).hint(format!("its output is in {}", place.display())))
    }

    /// Runs it and returns the end of what it said.
    ///
    /// # Errors
    /// Failed where it did not end well, with the end of its output.
    pub fn ask(&self, errand: &HookContext<'_>, progress: &dyn Progress) -> Result<String> {
        let said = process::output_in_memory()?;
        self.run(errand, &said, progress)?.good_or_said(self.within, &said).map_err(|e| self.failed(e))?;
        Ok(process::tail(&said))
    }

    /// Runs it; how it ended is for the caller to judge.
    ///
    /// # Errors
    /// Where it cannot be started, or on interruption.
    pub fn run(
        &self,
        errand: &HookContext<'_>,
        output: &File,
        progress: &dyn Progress,
    ) -> Result<ProgramEnd> {
        let dir = errand.dir(self.root, self.release);
        let path = dir.path().join(self.argv.program());
        let program = Program {
            path: &path,
            arguments: self.argv.arguments(),
            dir: dir.path(),
            environment: &environment(self.root, errand),
            account: Some(&privilege::of_release(self.root, dir.path(), &path)?),
            within: self.within,
            output,
        };
        process::run(&program, progress).context(|| self.cannot())
    }

    fn failed(&self, why: Error) -> Error {
        Error::failed(self.cannot()).because(why)
    }

    fn cannot(&self) -> String {
        format!("the {} program of {}, {}, failed", self.name, self.release, self.argv.program())
    }
}

fn environment(root: &Root, errand: &HookContext<'_>) -> Vec<(&'static str, String)> {
    let HookContext { action, old, new, transaction, deadline, .. } = *errand;
    let dir = |version: &Version| errand.dir(root, version).path().display().to_string();
    let optional = [
        ("TENURE_OLD_VERSION", old.map(ToString::to_string)),
        ("TENURE_NEW_VERSION", new.map(ToString::to_string)),
        ("TENURE_OLD_DIR", old.map(dir)),
        ("TENURE_NEW_DIR", new.map(dir)),
        ("TENURE_TRANSACTION", transaction.map(str::to_owned)),
        ("TENURE_DEADLINE", deadline.map(str::to_owned)),
    ];
    let always = [("TENURE_ACTION", action.to_owned()), ("TENURE_ROOT", root.path().display().to_string())];
    always.into_iter().chain(optional.into_iter().filter_map(|(key, value)| Some((key, value?)))).collect()
}

//! Chooses the user that a program runs as. A program has no more privilege than the owners of the files that name
//! it, of the program itself, and of all directories above them, because only they could have decided what the
//! program does.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::fs::effective_uid;
use crate::manifest::MANIFEST;
use crate::ownership::{Owned, Trail};
use crate::process::{self, Account};
use crate::root::Root;
use crate::settings::SETTINGS;

/// Returns the user that a program of the release in `dir` runs as: the user in the settings, or else the owner.
///
/// # Errors
/// Returns a `Refused` error if the owners differ, if other users can write to one of the files or directories, if
/// the settings name a user who is not the owner, or if this process cannot run programs as that user.
pub fn of_release(root: &Root, dir: &Path, program: &Path) -> Result<Account> {
    of_files(root, &[settings(root), dir.join(MANIFEST), program.to_owned()])
        .context(|| format!("cannot run {}", program.display()))
}

/// Returns the user that programs of releases run as, as far as the root and its settings decide.
///
/// # Errors
/// Returns the same errors as [`of_release`].
pub fn of_settings(root: &Root) -> Result<Account> {
    of_files(root, &[settings(root)])
}

fn of_files(root: &Root, files: &[PathBuf]) -> Result<Account> {
    root.check_modes()?;
    let owner = owner(files)?;
    let named = root.user()?.map(Account::named).transpose()?;
    let account = match (owner, named) {
        (Some(owner), Some(named)) if owner.uid != named.uid() => return Err(more(root, &owner, &named)),
        (_, Some(named)) => named,
        (Some(owner), None) => account(root, &owner),
        (None, None) => Account::of(root.owner().uid, root.owner().gid),
    };
    let own = effective_uid();
    if own != 0 && own != account.uid() {
        return Err(Error::refused(format!("cannot run programs of a release as {}", account.name()))
            .hint("run it as root"));
    }
    Ok(account)
}

/// Returns the user that a command of the settings runs as, or `None` for the user of this process if only that user
/// and root own the files.
///
/// # Errors
/// Returns a `Refused` error if the owners differ, if other users can write to one of the files or directories, or if
/// this process cannot run programs as the owner.
pub fn of_command(root: &Root, program: &str) -> Result<Option<Account>> {
    // A bare name is looked up in the program directories of the host.
    let file = program.contains('/').then(|| root.path().join(program));
    let files: Vec<PathBuf> = [settings(root)].into_iter().chain(file).collect();
    at_most(root, &files).context(|| format!("cannot run {program}"))
}

/// Returns the user that a command in the journal runs as, or `None` for the user of this process if only that user
/// and root own the files.
///
/// # Errors
/// Returns the same errors as [`of_command`].
pub fn of_journal(root: &Root) -> Result<Option<Account>> {
    at_most(root, &[root.journal().path().to_owned()]).context(|| "cannot run a command of the journal")
}

fn at_most(root: &Root, files: &[PathBuf]) -> Result<Option<Account>> {
    root.check_modes()?;
    let own = effective_uid();
    match owner(files)? {
        Some(owner) if owner.uid == own => Ok(None),
        Some(owner) if own == 0 => Ok(Some(account(root, &owner))),
        Some(owner) => Err(Error::refused(belongs(&owner)).hint("run it as root")),
        None => Ok(None),
    }
}

/// Refuses to run a host program as root that does not belong to root.
///
/// # Errors
/// Returns a `Refused` error if the program belongs to another user, or if other users can write to it.
pub fn check_program(program: &Path) -> Result<()> {
    if effective_uid() != 0 {
        return Ok(());
    }
    let context = || format!("cannot run {} as root", program.display());
    match owner(&[program.to_owned()]).context(context)? {
        None => Ok(()),
        Some(owner) => Err(Error::refused(belongs(&owner)).hint(format!(
            "make sure that its contents are right, then run `chown root {}`",
            owner.path.display()
        )))
        .context(context),
    }
}

/// Refuses a pid file whose owner could not signal the process that it names. A process that runs from the directory
/// `releases` is accepted, because it is the service.
///
/// # Errors
/// Returns a `Refused` error that names both owners.
pub fn check_process(pid_file: &Path, pid: u32, releases: &Path) -> Result<()> {
    let context = || format!("cannot use the pid file {}", pid_file.display());
    let trail = Trail::of(pid_file)?;
    trail.not_shared().context(context)?;
    let Some(users) = process::users_of(pid) else { return Ok(()) };
    let mut strangers = trail.others().filter(|owner| !users.contains(&owner.uid));
    let Some(owner) = strangers.next() else { return Ok(()) };
    if process::executable_of(pid).is_some_and(|program| program.starts_with(releases)) {
        return Ok(());
    }
    let users = users.map(process::user_name);
    Err(Error::refused(format!("{}, and process {pid} to {}", belongs(owner), users[0])).hint(format!(
        "write the pid file as root in a directory of root, or give {} to {}",
        owner.path.display(),
        users[0]
    )))
    .context(context)
}

/// Without a settings file, only the directory that would contain it decides.
fn settings(root: &Root) -> PathBuf {
    root.path().join(SETTINGS)
}

/// Returns a file of the only user other than root who owns one of the files; `None` if root owns all of them.
fn owner(files: &[PathBuf]) -> Result<Option<Owned>> {
    let mut found: Option<Owned> = None;
    for file in files {
        let trail = Trail::of(file)?;
        // Unless it runs as root, Tenure runs programs only as its own user, regardless of who can write to them.
        if effective_uid() == 0 {
            trail.not_shared()?;
        }
        for other in trail.others() {
            match &found {
                Some(first) if first.uid != other.uid => {
                    let words = format!("{}, and {}", belongs(first), belongs(other));
                    return Err(Error::refused(words).hint("give both to one user with `chown`"));
                }
                Some(_) => {}
                None => found = Some(other.clone()),
            }
        }
    }
    Ok(found)
}

/// Returns the owner with the group of the root, if the root has the same owner; otherwise with its primary group.
fn account(root: &Root, owner: &Owned) -> Account {
    match root.owner() {
        of_root if of_root.uid == owner.uid => Account::of(owner.uid, of_root.gid),
        _ => Account::numbered(owner.uid, owner.gid),
    }
}

fn belongs(owner: &Owned) -> String {
    format!("{} belongs to {}", owner.path.display(), process::user_name(owner.uid))
}

/// Returns the error for settings that name a user whose rights the owner may lack.
fn more(root: &Root, owner: &Owned, named: &Account) -> Error {
    let (path, user) = (owner.path.display(), process::user_name(owner.uid));
    Error::refused(format!("{} names the user {}, but {}", settings(root).display(), named.name(), belongs(owner)))
        .hint(format!(
            "remove `user` from the settings to run programs as {user}, or make sure that {path} is as it should be \
             and run `chown -R root {path}`"
        ))
}

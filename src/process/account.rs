//! Starts programs as a given user, with exactly the privileges of that user.

use std::ffi::CString;
use std::io;
use std::process::{Child, Command};
use std::thread;

use nix::unistd::{Uid, User, geteuid, getgrouplist};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustix::{fs as raw, io::Errno};

use crate::error::{Context, Error, Result};

/// A user that programs run as.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    /// The first group of the user, or `None` if the host does not know the user.
    first: Option<u32>,
}

impl Account {
    /// Returns the user with this name.
    ///
    /// # Errors
    /// Returns a `Refused` error if the user does not exist, and a `Failed` error if the lookup fails.
    pub fn named(name: &str) -> Result<Self> {
        match User::from_name(name).context(|| format!("cannot look up the user {name}"))? {
            Some(user) => Ok(Self::from(user)),
            None => Err(Error::refused(format!("the user {name} does not exist"))
                .hint("correct `user` in tenure.toml, or create the user")),
        }
    }

    /// Returns the name of the user, or the user id in digits if the user has no name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the user with this id, in the group `gid`. The host need not know the user.
    #[must_use]
    pub fn of(uid: u32, gid: u32) -> Self {
        let user = User::from_uid(uid.into()).ok().flatten().map(Self::from);
        let nameless = || Self { name: uid.to_string(), uid, gid, home: "/".into(), first: None };
        Self { gid, ..user.unwrap_or_else(nameless) }
    }

    /// Returns the user with this id, in the user's first group, or in `gid` if the host does not know the user.
    #[must_use]
    pub fn numbered(uid: u32, gid: u32) -> Self {
        let account = Self::of(uid, gid);
        Self { gid: account.first.unwrap_or(gid), ..account }
    }

    /// Starts a program as this user. If this process is root, the program gets all groups of the user, including the
    /// supplementary ones. Any other process can only start the program as its own user.
    ///
    /// # Errors
    /// Returns an error if the groups cannot be determined, or if the program cannot be started.
    pub fn start(&self, mut command: Command) -> io::Result<Child> {
        command.env("USER", &self.name).env("LOGNAME", &self.name).env("HOME", &self.home);
        if !geteuid().is_root() {
            return command.spawn();
        }
        let groups = self.groups()?;
        // A child has the credentials of the thread that starts it. `Command::uid` would drop all supplementary
        // groups.
        thread::scope(|scope| {
            let start = || self.become_with(&groups).map_err(io::Error::from).and_then(|()| command.spawn());
            let started = thread::Builder::new().spawn_scoped(scope, start)?.join();
            started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
        })
    }

    fn groups(&self) -> io::Result<Vec<raw::Gid>> {
        let Some(first) = self.first else { return Ok(Vec::new()) };
        let groups = getgrouplist(&CString::new(self.name.as_str())?, first.into())?;
        Ok(groups.into_iter().map(|group| raw::Gid::from_raw(group.as_raw())).collect())
    }

    /// Changes the credentials of this thread alone, irreversibly.
    fn become_with(&self, groups: &[raw::Gid]) -> std::result::Result<(), Errno> {
        let (uid, gid) = (raw::Uid::from_raw(self.uid), raw::Gid::from_raw(self.gid));
        set_thread_groups(groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        let home = user.dir.to_string_lossy().into_owned();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        Self { name: user.name, uid, gid, home, first: Some(gid) }
    }
}

/// Returns the name of a user, or the user id in digits if the user has no name.
#[must_use]
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Returns the name of the real user of this process.
#[must_use]
pub fn whoami() -> String {
    user_name(Uid::current().as_raw())
}

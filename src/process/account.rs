//! A user that programs run as, with all that the user may do and no more.

use std::ffi::CString;
use std::io;
use std::process::{Child, Command};
use std::thread;

use nix::unistd::{User, geteuid, getgrouplist};
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
    /// The first group of the user of this name, who may be in more; none where the host knows no such user.
    first: Option<u32>,
}

impl Account {
    /// The user of this name.
    ///
    /// # Errors
    /// Refused where there is none.
    pub fn named(name: &str) -> Result<Self> {
        match User::from_name(name).context(|| format!("cannot look up the user {name}"))? {
            Some(user) => Ok(Self::from(user)),
            None => Err(Error::refused(format!("there is no user {name}"))
                .hint("correct `user` in tenure.toml, or create the user")),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The user of this number, who may have no name.
    #[must_use]
    pub fn of(uid: u32, gid: u32) -> Self {
        let user = User::from_uid(uid.into()).ok().flatten().map(Self::from);
        let nameless = || Self { name: uid.to_string(), uid, gid, home: "/".into(), first: None };
        Self { gid, ..user.unwrap_or_else(nameless) }
    }

    /// The user of this number, in its own first group; in `gid` where the host knows no such user.
    #[must_use]
    pub fn numbered(uid: u32, gid: u32) -> Self {
        let account = Self::of(uid, gid);
        Self { gid: account.first.unwrap_or(gid), ..account }
    }

    /// Starts a program as this user: as root does it, with the user's groups, those beside the first as well. Any other
    /// process can start it as itself alone.
    ///
    /// # Errors
    /// Where the groups cannot be told, or the program cannot be started.
    pub fn start(&self, mut command: Command) -> io::Result<Child> {
        command.env("USER", &self.name).env("LOGNAME", &self.name).env("HOME", &self.home);
        if !geteuid().is_root() {
            return command.spawn();
        }
        let groups = self.groups()?;
        // A process begins as the thread that starts it. The standard library would leave all groups behind.
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

    /// Makes this thread, and no other, the user's, for good.
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

//! Parses the table `[service]` of the settings: how to start, stop and move the service.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The table `[service]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawService")]
pub struct ServiceSettings {
    /// The service manager, or `None` if Tenure only switches links.
    pub manager: Option<Manager>,
    /// How to upgrade the running service hot, by default with the hook of the release.
    pub hot: Option<Hot>,
    /// The file that contains the id of the service's main process.
    pub pid_file: Option<PathBuf>,
}

/// The service managers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// systemd, with the name of the unit.
    Systemd(String),
    /// OpenRC, with the name of the service.
    OpenRc(String),
    /// A script in /etc/init.d, with its name.
    Sysv(String),
    /// Commands of the operator.
    Command(Commands),
}

/// The commands of the manager `command`, which run in the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Commands {
    /// The command that stops and starts the service. If empty, `stop` and `start` run instead.
    pub restart: Vec<String>,
    /// The command that starts the service.
    pub start: Vec<String>,
    /// The command that stops the service, and returns when the service has stopped.
    pub stop: Vec<String>,
    /// The command that makes the service move to the release that `current` points to.
    pub reload: Vec<String>,
}

/// The ways to upgrade a service hot, without a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hot {
    /// The hook of the release.
    Hook,
    /// A reload by the service manager.
    Reload,
    /// A signal to the main process.
    Signal(Signal),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawService {
    #[serde(default)]
    manager: Word,
    unit: Option<String>,
    hot: Option<String>,
    pid_file: Option<PathBuf>,
    #[serde(default)]
    restart: Vec<String>,
    #[serde(default)]
    start: Vec<String>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    reload: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Systemd,
    OpenRc,
    Sysv,
    Command,
    #[default]
    None,
}

impl TryFrom<RawService> for ServiceSettings {
    type Error = Error;

    fn try_from(declared: RawService) -> Result<Self> {
        let RawService { manager, unit, hot, pid_file, restart, start, stop, reload } = declared;
        let commands = Commands { restart, start, stop, reload };
        if manager != Word::Command && commands != Commands::default() {
            return Err(Error::refused("restart, start, stop and reload belong to the manager \"command\""));
        }
        if pid_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(Error::refused("pid-file is an absolute path"));
        }
        let manager = match manager {
            Word::None if unit.is_some() || hot.is_some() || pid_file.is_some() => {
                return Err(Error::refused("unit, hot and pid-file need a manager"));
            }
            Word::None => None,
            Word::Systemd => Some(Manager::Systemd(named(unit)?)),
            Word::OpenRc => Some(Manager::OpenRc(named(unit)?)),
            Word::Sysv => Some(Manager::Sysv(named(unit)?)),
            Word::Command if unit.is_some() => {
                return Err(Error::refused("the manager \"command\" has no unit"));
            }
            Word::Command => Some(Manager::Command(complete(commands)?)),
        };
        let hot = hot.as_deref().map(parse_hot).transpose()?;
        match (&manager, hot) {
            (Some(Manager::Command(commands)), Some(Hot::Reload)) if commands.reload.is_empty() => {
                Err(Error::refused("hot = \"reload\" needs a reload command"))
            }
            _ => Ok(Self { manager, hot, pid_file }),
        }
    }
}

/// Checks the name of a unit, which is an argument of programs and a file name in /etc/init.d.
fn named(unit: Option<String>) -> Result<String> {
    let unit = unit.ok_or_else(|| Error::refused("this manager needs a unit, the name of the service"))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._@:+\\-".contains(c);
    if unit.is_empty() || unit.starts_with(['-', '.']) || !unit.chars().all(allowed) {
        return Err(Error::refused(format!("{unit:?} is not the name of a service")));
    }
    Ok(unit)
}

fn complete(commands: Commands) -> Result<Commands> {
    let both = !commands.start.is_empty() && !commands.stop.is_empty();
    if commands.restart.is_empty() && !both {
        return Err(Error::refused("the manager \"command\" needs restart, or start and stop"));
    }
    Ok(commands)
}

fn parse_hot(text: &str) -> Result<Hot> {
    let unknown = || Error::refused(format!("{text:?} is not hook, reload or signal:NAME"));
    match text {
        "hook" => Ok(Hot::Hook),
        "reload" => Ok(Hot::Reload),
        _ => {
            let name = text.strip_prefix("signal:").ok_or_else(unknown)?;
            let signal: Signal = format!("SIG{}", name.trim_start_matches("SIG"))
                .parse()
                .map_err(|_| Error::refused(format!("{name:?} is not a signal")))?;
            match signal {
                Signal::SIGKILL | Signal::SIGSTOP => {
                    Err(Error::refused(format!("{signal} stops the service, which is not a hot upgrade")))
                }
                signal => Ok(Hot::Signal(signal)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{SETTINGS, Settings};

    use super::*;

    fn service(table: &str) -> std::result::Result<ServiceSettings, String> {
        let settings = Settings::parse(SETTINGS, &format!("[service]\n{table}\n"));
        settings.map(|settings| settings.service).map_err(|e| e.to_string())
    }

    #[test]
    fn each_manager_requires_its_keys() {
        let systemd = service("manager = 'systemd'\nunit = 'emqx.service'\nhot = 'signal:USR2'").unwrap();
        assert_eq!(systemd.manager, Some(Manager::Systemd("emqx.service".into())));
        assert_eq!(systemd.hot, Some(Hot::Signal(Signal::SIGUSR2)));
        assert_eq!(service("manager = 'none'").unwrap(), ServiceSettings::default());
        assert!(service("manager = 'command'\nstart = ['a']\nstop = ['b']").is_ok());
        for (table, why) in [
            ("manager = 'systemd'", "needs a unit"),
            ("manager = 'sysv'\nunit = '../x'", "not the name of a service"),
            ("manager = 'openrc'\nunit = '-x'", "not the name of a service"),
            ("manager = 'command'\nstart = ['a']", "start and stop"),
            ("manager = 'command'\nrestart = ['a']\nhot = 'reload'", "needs a reload"),
            ("manager = 'sysv'\nunit = 'x'\nstart = ['a']", "belong to the manager"),
            ("unit = 'x'", "need a manager"),
            ("manager = 'systemd'\nunit = 'x'\nhot = 'signal:KILL'", "not a hot upgrade"),
            ("manager = 'systemd'\nunit = 'x'\nhot = 'signal:NOPE'", "\"NOPE\" is not a signal"),
            ("manager = 'systemd'\nunit = 'x'\nhot = 'magic'", "not hook, reload"),
            ("manager = 'systemd'\nunit = 'x'\npid-file = 'x.pid'", "absolute"),
            ("manager = 'upstart'", "unknown variant"),
        ] {
            let error = service(table).unwrap_err();
            assert!(error.contains(why), "{table}: {error}");
        }
    }
}

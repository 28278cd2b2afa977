//! systemd.

use std::path::Path;

use super::{ServiceManager, Tools};
use crate::error::{Error, Result};
use crate::platform;

/// A unit of systemd's.
pub struct Systemd<'a> {
    pub unit: &'a str,
}

/// What `systemctl show` says of a unit.
struct Shown {
    loaded: String,
    active: String,
    main: u32,
}

impl Shown {
    fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed" | "deactivating")
    }
}

impl Systemd<'_> {
    fn show(&self, tools: &Tools<'_>) -> Result<Shown> {
        let asked = ["show", "--property=LoadState,ActiveState,MainPID", "--", self.unit];
        let said = tools.order(Path::new("systemctl"), &asked)?;
        let value = |key: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        let shown = Shown {
            loaded: value("LoadState"),
            active: value("ActiveState"),
            main: value("MainPID").parse().unwrap_or(0),
        };
        match shown.loaded.as_str() {
            "loaded" => Ok(shown),
            // Somebody wants it not to run; and it does not.
            "masked" if shown.is_down() => Ok(shown),
            "masked" => {
                Err(Error::refused(format!("the unit {} is masked, and runs all the same", self.unit))
                    .hint(format!("`systemctl unmask {}` lets it be moved", self.unit)))
            }
            state => Err(Error::refused(format!("systemd has the unit {} as {state}", self.unit))
                .hint("mend `unit` in the table [service] of tenure.toml, or the unit")),
        }
    }

    fn order(&self, tools: &Tools<'_>, verb: &str) -> Result<()> {
        tools.order(Path::new("systemctl"), &["--no-ask-password", verb, "--", self.unit]).map(drop)
    }
}

impl ServiceManager for Systemd<'_> {
    fn is_up(&self, tools: &Tools<'_>) -> Result<bool> {
        if !platform::is_under_systemd() {
            return Ok(false);
        }
        Ok(!self.show(tools)?.is_down())
    }

    fn restart(&self, tools: &Tools<'_>) -> Result<()> {
        // A unit that failed too often of late would not be started.
        let _ = self.order(tools, "reset-failed");
        self.order(tools, "restart")
    }

    fn reload(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, "reload")
    }

    fn main_process(&self, tools: &Tools<'_>) -> Result<Option<u32>> {
        Ok(Some(self.show(tools)?.main).filter(|pid| *pid != 0))
    }
}

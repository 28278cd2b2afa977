//! Manages a service that is a systemd unit.

use std::path::Path;

use super::manager::{Condition, End, ServiceManager, Tools, Verb};
use crate::error::{Error, Result};
use crate::platform;

/// A systemd unit.
pub struct Systemd<'a> {
    pub unit: &'a str,
}

/// The output of `systemctl show` for a unit.
#[derive(Default)]
struct UnitProperties {
    loaded: String,
    active: String,
    /// The detailed state, such as `running` or `auto-restart`.
    sub: String,
    result: String,
    main: Option<u32>,
    /// The control group; `None` if the unit has none.
    group: Option<String>,
}

impl UnitProperties {
    fn parse(said: &str) -> Self {
        let value = |key: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Self {
            loaded: value("LoadState"),
            active: value("ActiveState"),
            sub: value("SubState"),
            result: value("Result"),
            main: value("MainPID").parse().ok().filter(|pid| *pid != 0),
            group: Some(value("ControlGroup")).filter(|group| group.len() > 1),
        }
    }

    fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed" | "deactivating")
    }

    /// Returns how the unit ended, or how its main process ended if systemd is about to restart it.
    fn ended(&self) -> Option<String> {
        match (self.active.as_str(), self.sub.as_str()) {
            ("inactive" | "failed", _) => {
                Some(format!("systemd reports it as {} ({})", self.active, self.result))
            }
            (_, "auto-restart") => Some(format!("its main process ended ({})", self.result)),
            _ => None,
        }
    }
}

impl Systemd<'_> {
    fn show(&self, tools: &Tools<'_>) -> Result<UnitProperties> {
        let keys = "--property=LoadState,ActiveState,SubState,Result,MainPID,ControlGroup";
        let shown =
            UnitProperties::parse(&tools.order(Path::new("systemctl"), &["show", keys, "--", self.unit])?);
        match shown.loaded.as_str() {
            "loaded" => Ok(shown),
            // The operator masked the unit to keep it from running, and it does not run.
            "masked" if shown.is_down() => Ok(shown),
            "masked" => Err(Error::refused(format!("the unit {} is masked but runs", self.unit))
                .hint(format!("run `systemctl unmask {}` first", self.unit))),
            state => Err(Error::refused(format!("systemd reports the unit {} as {state}", self.unit))
                .hint("correct `unit` in the table [service] of tenure.toml, or the unit")),
        }
    }

    /// systemd does not start a unit that failed too often recently.
    fn forget_failures(&self, tools: &Tools<'_>) {
        let _ = self.run(tools, "reset-failed");
    }

    fn run(&self, tools: &Tools<'_>, verb: &str) -> Result<()> {
        tools.order(Path::new("systemctl"), &["--no-ask-password", verb, "--", self.unit]).map(drop)
    }
}

impl ServiceManager for Systemd<'_> {
    fn condition(&self, tools: &Tools<'_>) -> Result<Condition> {
        if !platform::is_under_systemd() {
            let end = Some(End::Apparent("systemd is not running on this host".to_owned()));
            return Ok(Condition { end, ..Condition::default() });
        }
        let shown = self.show(tools)?;
        let (up, end) = (!shown.is_down(), shown.ended().map(End::Final));
        Ok(Condition { up, end, main: shown.main, group: shown.group })
    }

    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()> {
        clear();
        self.forget_failures(tools);
        self.run(tools, "restart")
    }

    fn order(&self, tools: &Tools<'_>, verb: Verb) -> Result<()> {
        if verb == Verb::Start {
            self.forget_failures(tools);
        }
        self.run(tools, verb.name())
    }
}

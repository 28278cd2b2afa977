//! The declaration of health checks: the probe, its times, and the meaning of one sample. No effects.

use std::fmt;
use std::net::SocketAddrV6;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use crate::error::{Error, Result};

/// The table `[health]` of a manifest or of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "RawHealth")]
pub struct Health {
    /// The probe that checks the service.
    pub probe: Probe,
    /// The time between one sample and the next.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// How many good samples in a row make the service healthy.
    pub healthy_after: u32,
    /// How many bad samples in a row make the service unhealthy.
    pub unhealthy_after: u32,
    /// How long after a move the service may be unready or give no answer; `None` if not declared.
    pub startup: Option<Duration>,
}

/// The default startup time after a restart.
const STARTUP: Duration = Duration::from_secs(30);

impl Health {
    /// Returns how long after a move the service may be starting. After a hot move it has already started.
    #[must_use]
    pub fn startup_after(&self, is_restart: bool) -> Duration {
        self.startup.unwrap_or(if is_restart { STARTUP } else { Duration::ZERO })
    }
}

/// The way to check the health of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A program of the release. Exit status 0 is good, any other status is bad.
    Command(Argv),
    /// A URL to fetch. Status 2xx and 3xx are good, 5xx is bad, and other statuses say nothing about health.
    Http(String),
    /// An address that must accept connections.
    Tcp(String),
    /// No check is declared: the service must run the release and keep running it.
    Runs,
}

/// A program of a release and its arguments. Never empty, and the program never lies outside the release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Argv(Vec<String>);

impl Argv {
    /// Returns the path of the program in the release.
    #[must_use]
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Returns the arguments of the program.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }
}

impl TryFrom<Vec<String>> for Argv {
    type Error = Error;

    fn try_from(words: Vec<String>) -> Result<Self> {
        let inside = |program: &String| {
            !program.is_empty() && !program.starts_with('/') && program.split('/').all(|part| part != "..")
        };
        match words.first() {
            Some(program) if inside(program) && words.iter().all(|word| !word.contains('\0')) => {
                Ok(Self(words))
            }
            _ => Err(Error::refused(format!(
                "{words:?} is not a program of the release: write a list that begins with a path in the release"
            ))),
        }
    }
}

/// A duration in human notation: `10s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl std::str::FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &dyn fmt::Display| {
            Error::refused(format!("{text:?} is not a valid duration: {why}"))
                .hint("write `10s`, `5m` or `1h 30m`")
        };
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err(refuse(&"it is zero")),
            // More than a year is a typing error, and sums of durations must not overflow.
            Ok(time) if time > Duration::from_secs(366 * 86_400) => Err(refuse(&"it is over a year")),
            Ok(time) => Ok(Self(time)),
            Err(e) => Err(refuse(&e)),
        }
    }
}

/// A URL to fetch: `http://HOST[:PORT][/PATH]`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Url(String);

impl TryFrom<String> for Url {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        let place = |uri: &Uri| {
            let place = uri.authority()?.as_str();
            Some(place.rsplit_once('@').map_or(place, |(_, place)| place).to_owned())
        };
        match url.parse::<Uri>().ok().filter(|_| url.starts_with("http://")).as_ref().and_then(place) {
            Some(place) if is_host(&place) || is_address(&place) => Ok(Self(url)),
            _ => Err(Error::refused(format!("{url:?} is not an address like http://127.0.0.1:8080/healthz"))),
        }
    }
}

/// An address to connect to: `HOST:PORT`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct TcpAddress(String);

impl TryFrom<String> for TcpAddress {
    type Error = Error;

    fn try_from(address: String) -> Result<Self> {
        if is_address(&address) {
            return Ok(Self(address));
        }
        Err(Error::refused(format!(
            "{address:?} is not an address like 127.0.0.1:1883 or [::1]:1883, with a port up to 65535"
        )))
    }
}

fn is_address(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
}

/// Accepts a name, an IPv4 address, or a bracketed IPv6 address: without brackets, its end is taken for a port.
fn is_host(text: &str) -> bool {
    let is_name = || text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    match text.starts_with('[') {
        true => format!("{text}:1").parse::<SocketAddrV6>().is_ok(),
        false => !text.is_empty() && is_name(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawHealth {
    command: Option<Argv>,
    http: Option<Url>,
    tcp: Option<TcpAddress>,
    interval: Option<Span>,
    timeout: Option<Span>,
    healthy_after: Option<u32>,
    unhealthy_after: Option<u32>,
    startup: Option<Span>,
}

impl TryFrom<RawHealth> for Health {
    type Error = Error;

    fn try_from(declared: RawHealth) -> Result<Self> {
        let by_default = Self::default();
        let probe = match (declared.command, declared.http, declared.tcp) {
            (Some(argv), None, None) => Probe::Command(argv),
            (None, Some(Url(url)), None) => Probe::Http(url),
            (None, None, Some(TcpAddress(address))) => Probe::Tcp(address),
            (None, None, None) => Probe::Runs,
            _ => return Err(Error::refused("only one of command, http and tcp can be given")),
        };
        let [healthy_after, unhealthy_after] = [
            declared.healthy_after.unwrap_or(by_default.healthy_after),
            declared.unhealthy_after.unwrap_or(by_default.unhealthy_after),
        ];
        if healthy_after == 0 || unhealthy_after == 0 {
            return Err(Error::refused("healthy-after and unhealthy-after are at least 1"));
        }
        Ok(Self {
            probe,
            interval: declared.interval.map_or(by_default.interval, |span| span.0),
            timeout: declared.timeout.map_or(by_default.timeout, |span| span.0),
            healthy_after,
            unhealthy_after,
            startup: declared.startup.map(|span| span.0),
        })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: Probe::Runs,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            healthy_after: 3,
            unhealthy_after: 3,
            startup: None,
        }
    }
}

/// The result of one health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "health", content = "why", rename_all = "kebab-case")]
pub enum Sample {
    /// The service is healthy.
    Healthy,
    /// The service is unhealthy, with the reason.
    Unhealthy(String),
    /// The service does not answer, or is not ready. It may be starting; otherwise it is unhealthy.
    #[serde(rename = "unhealthy")]
    NotReady(String),
    /// The health cannot be determined, with the reason.
    CannotTell(String),
    /// Too many health checks were made (429), which says nothing about the release either, and passes.
    #[serde(rename = "cannot-tell")]
    Throttled(String),
}

impl Sample {
    /// Returns whether the sample says anything about the health of the service.
    #[must_use]
    pub fn tells(&self) -> bool {
        !matches!(self, Self::CannotTell(_) | Self::Throttled(_))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Unhealthy(why) | Self::NotReady(why) => write!(f, "unhealthy: {why}"),
            Self::CannotTell(why) | Self::Throttled(why) => write!(f, "health unknown: {why}"),
        }
    }
}

/// The health of a service just before it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// Healthy, or not known: the service must be healthy after the move.
    Sound,
    /// The release is known, as after a rollback: the service must not be failing after the move.
    Known,
    /// The service was already failing, so the new release is not blamed.
    Failing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_parsed() {
        let parsed = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(parsed("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parsed("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["", "10", "0s", "-1s", "ten minutes", "1000000days", "99999999999999999999s"] {
            assert!(parsed(wrong).unwrap_err().hints()[0].contains("10s"), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_host_and_port() {
        let fine = |table: &str| toml::from_str::<Health>(table).is_ok();
        for http in ["x", "127.0.0.1:8080/healthz?a=b", "[::1]", "[::1]:80/", "user:word@x:1/"] {
            assert!(fine(&format!("http = 'http://{http}'")), "{http}");
        }
        for http in ["", "/x", ":80/", "x:99999/", "x:0", "x:", "x:y", "a b/", "user@/"] {
            assert!(!fine(&format!("http = 'http://{http}'")), "{http}");
        }
        for tcp in ["127.0.0.1:1883", "a.example:1", "[::1]:65535"] {
            assert!(fine(&format!("tcp = '{tcp}'")), "{tcp}");
        }
        for tcp in ["::1", "fe80::1", "::1:80", "[::1]", "[x]:80", "[]:80"] {
            assert!(!fine(&format!("tcp = '{tcp}'")), "{tcp}");
        }
        for http in ["::1/", "[x]/", "[::1]x/"] {
            assert!(!fine(&format!("http = 'http://{http}'")), "{http}");
        }
        for tcp in ["", ":80", "x", "x:", "127.0.0.1:99999", "x:0", "x:-1", "http://x:80", "a b:80"] {
            assert!(!fine(&format!("tcp = '{tcp}'")), "{tcp}");
        }
    }
}

//! Takes one sample of the health of a service.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::clock;
use crate::error::Result;
use crate::health::{Argv, Health, Probe, Sample};
use crate::hook::{Hook, HookContext};
use crate::process::{self, ProgramEnd};
use crate::progress::Progress;
use crate::root::Root;
use crate::service::{Running, Service};
use crate::version::Version;

/// Takes one sample of the health of the service, which should run `release`.
///
/// # Errors
/// Returns an error only on interruption. Any other failure becomes part of the sample.
pub fn sample(
    service: &Service<'_>,
    release: &Version,
    health: &Health,
    progress: &dyn Progress,
) -> Result<Sample> {
    let sample = match &health.probe {
        Probe::Command(argv) => command(service.root(), release, argv, health.timeout, progress),
        Probe::Http(url) => http(url, health.timeout),
        Probe::Tcp(address) => tcp(address, health.timeout),
        Probe::Runs => runs(service, release, progress),
    };
    progress.go_on().map(|()| sample)
}

fn command(root: &Root, release: &Version, argv: &Argv, within: Duration, progress: &dyn Progress) -> Sample {
    let hook = Hook { root, release, name: "health", argv, within };
    let errand = HookContext { action: "health", new: Some(release), ..HookContext::default() };
    let asked = process::output_in_memory().and_then(|said| Ok((hook.run(&errand, &said, progress)?, said)));
    match asked {
        Ok((ProgramEnd::Exited(status), _)) if status.success() => Sample::Healthy,
        Ok((end, said)) => {
            let how = end.good(within).err().map_or_else(String::new, |e| e.to_string());
            let said = process::tail(&said);
            let last = said.lines().last().map_or_else(String::new, |line| format!(": {line}"));
            Sample::NotReady(format!("{}: {how}{last}", argv.program()))
        }
        Err(error) => Sample::CannotTell(error.in_one_line()),
    }
}

fn runs(service: &Service<'_>, release: &Version, progress: &dyn Progress) -> Sample {
    match service.running(release, progress) {
        Ok(Running::Release(version)) if version == *release => Sample::Healthy,
        Ok(running @ (Running::Release(_) | Running::Nothing)) => Sample::Unhealthy(running.to_string()),
        Ok(running) => Sample::CannotTell(running.to_string()),
        Err(error) => Sample::CannotTell(error.in_one_line()),
    }
}

fn http(url: &str, within: Duration) -> Sample {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .new_agent();
    match agent.get(url).call().map(|answer| answer.status().as_u16()) {
        Ok(200..=399) => Sample::Healthy,
        Ok(503) => Sample::NotReady(format!("{url} answers 503")),
        Ok(status @ 500..=599) => Sample::Unhealthy(format!("{url} answers {status}")),
        Ok(429) => Sample::Throttled(format!("{url} answers 429")),
        // Not found, forbidden: the service answers, but the status says nothing about its health.
        Ok(status) => Sample::CannotTell(format!("{url} answers {status}")),
        Err(ureq::Error::Timeout(_)) => Sample::NotReady(late(url, within)),
        Err(ureq::Error::Io(e)) => unreached(url, &e),
        Err(error) => Sample::CannotTell(format!("{url}: {error}")),
    }
}

fn tcp(address: &str, within: Duration) -> Sample {
    let until = clock::since_boot() + within;
    let addresses: Vec<SocketAddr> = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Sample::CannotTell(format!("{address}: {error}")),
    };
    let mut last = Sample::CannotTell(format!("{address} is not an address"));
    for one in addresses {
        let left = until.saturating_sub(clock::since_boot());
        if left.is_zero() {
            return Sample::NotReady(late(address, within));
        }
        match TcpStream::connect_timeout(&one, left) {
            Ok(_) => return Sample::Healthy,
            Err(e) if e.kind() == ErrorKind::TimedOut => last = Sample::NotReady(late(address, within)),
            Err(e) => last = unreached(address, &e),
        }
    }
    last
}

/// A refused or dropped connection means that the service is not ready. A network failure says nothing about it.
fn unreached(what: &str, error: &std::io::Error) -> Sample {
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof,
    };
    let why = format!("{what}: {error}");
    match error.kind() {
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | TimedOut => {
            Sample::NotReady(why)
        }
        _ => Sample::CannotTell(why),
    }
}

fn late(what: &str, within: Duration) -> String {
    format!("{what} did not answer within {}", humantime::format_duration(within))
}

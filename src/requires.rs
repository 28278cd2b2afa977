//! The requirements of a release, and the check of a host against them.

use std::cmp::Ordering;
use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The manifest's table `[requires]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requires {
    /// The architectures that the release runs on, as `uname -m` prints them; any, if empty.
    #[serde(default)]
    pub arch: Vec<String>,
    /// The operating systems that the release runs on, by their names in os-release(5).
    #[serde(default)]
    pub os: Vec<NamedRequirement>,
    /// The C libraries that the release runs with.
    #[serde(default)]
    pub libc: Vec<NamedRequirement>,
    /// The space that must be free after the release is unpacked.
    pub free_space: Option<ByteSize>,
}

/// A name with an optional bound on its version, such as `debian >= 12`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamedRequirement {
    name: String,
    bound: Option<(Bound, Numbers)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

const BOUNDS: [(&str, Bound); 5] = [
    (">=", Bound::AtLeast),
    ("<=", Bound::AtMost),
    (">", Bound::Above),
    ("<", Bound::Below),
    ("=", Bound::Equal),
];

/// The version of an operating system or library: numbers separated by dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    numbers: Vec<u64>,
    /// The version as written, so that 24.04 is not shown as 24.4.
    text: String,
}

/// A system or library of a host: its names, the most specific first, and its version if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `ID` and `ID_LIKE` of os-release(5).
    pub names: Vec<String>,
    /// `VERSION_ID` of os-release(5).
    pub version: Option<Numbers>,
}

/// The properties of a host that requirements refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The architecture, as `uname -m` prints it.
    pub arch: String,
    /// The operating system.
    pub os: Named,
    /// The C library; `None` if it is not known.
    pub libc: Option<Named>,
    /// The space that is free after the release is unpacked, in bytes.
    pub free: u64,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequirementFinding {
    /// The name of the check.
    pub check: &'static str,
    /// Whether the host meets the requirement.
    pub ok: bool,
    /// The value of the host.
    pub found: String,
    /// The required value.
    pub needed: String,
    /// A hint for a host that does not meet the requirement.
    pub hint: &'static str,
}

const OF_ARCH: &str = "get the archive for this architecture from the vendor";
const OF_SYSTEM: &str = "upgrade the system first, or stay on a release that runs on this host; \
                         `tenure check --os` checks the installed releases against a version of the system";
const OF_SPACE: &str = "run `tenure prune` to remove releases that are no longer needed";

impl Requires {
    /// Checks a host against the requirements. Returns one finding for each declared requirement.
    #[must_use]
    pub fn met_by(&self, platform: &Platform) -> Vec<RequirementFinding> {
        let Platform { arch, os, libc, free } = platform;
        let arch_is_met = self.arch.contains(arch);
        let of = |check, wanted: &[NamedRequirement], has: Option<&Named>| RequirementFinding {
            check,
            ok: has.is_some_and(|has| wanted.iter().any(|wanted| wanted.is_met_by(has))),
            found: has.map_or_else(|| "unknown".to_owned(), ToString::to_string),
            needed: any_of(wanted),
            hint: OF_SYSTEM,
        };
        [
            (!self.arch.is_empty()).then(|| RequirementFinding {
                check: "arch",
                ok: arch_is_met,
                found: arch.clone(),
                needed: any_of(&self.arch),
                hint: OF_ARCH,
            }),
            (!self.os.is_empty()).then(|| of("os", &self.os, Some(os))),
            (!self.libc.is_empty()).then(|| of("libc", &self.libc, libc.as_ref())),
            self.free_space.map(|space| RequirementFinding {
                check: "free-space",
                ok: *free >= space.as_u64(),
                found: format!("{} free once it is unpacked", ByteSize(*free).display().iec()),
                needed: format!("{} free", space.display().iec()),
                hint: OF_SPACE,
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl NamedRequirement {
    /// Returns the required name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the requirement has a bound on the version.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    fn is_met_by(&self, has: &Named) -> bool {
        let counts = || has.names.first() == Some(&self.name) || REBUILT.contains(&self.name.as_str());
        has.names.contains(&self.name)
            && self.bound.as_ref().is_none_or(|(bound, version)| {
                let order = has.version.as_ref().filter(|_| counts()).map(|has| has.compared(version));
                order.is_some_and(|order| match bound {
                    Bound::AtLeast => order.is_ge(),
                    Bound::Above => order.is_gt(),
                    Bound::AtMost => order.is_le(),
                    Bound::Below => order.is_lt(),
                    Bound::Equal => order.is_eq(),
                })
            })
    }
}

/// Systems whose derivatives share their version numbers, because they are rebuilt from the same sources. Ubuntu
/// 20.04 is derived from Debian, but is not Debian 20.
const REBUILT: [&str; 3] = ["rhel", "centos", "suse"];

impl Numbers {
    /// Compares as many numbers as `bound` has, so 12.5 equals 12. Missing numbers of `self` count as 0.
    fn compared(&self, bound: &Self) -> Ordering {
        let padded = self.numbers.iter().copied().chain(std::iter::repeat(0));
        padded.take(bound.numbers.len()).cmp(bound.numbers.iter().copied())
    }
}

impl std::str::FromStr for Numbers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u64>> = text.split('.').map(|number| number.parse().ok()).collect();
        numbers.map(|numbers| Self { numbers, text: text.to_owned() }).ok_or_else(|| {
            Error::refused(format!("{text:?} is not a version of a system, such as 12 or 8.10"))
        })
    }
}

impl TryFrom<String> for NamedRequirement {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let named = |name: &str| {
            let name = name.trim();
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            match !name.is_empty() && name.chars().all(allowed) {
                true => Ok(name.to_ascii_lowercase()),
                false => {
                    Err(Error::refused(format!("{text:?} does not name a system, such as \"debian >= 12\"")))
                }
            }
        };
        let split = BOUNDS.iter().find_map(|(sign, bound)| Some((text.split_once(sign)?, *bound)));
        match split {
            Some(((name, version), bound)) => {
                Ok(Self { name: named(name)?, bound: Some((bound, version.trim().parse()?)) })
            }
            None => Ok(Self { name: named(&text)?, bound: None }),
        }
    }
}

impl std::str::FromStr for Named {
    type Err = Error;

    /// Parses a system such as `debian 13`.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let name =
            words.next().ok_or_else(|| Error::refused("it does not name a system, such as \"debian 13\""))?;
        let version = words.next().map(str::parse).transpose()?;
        match words.next() {
            None => Ok(Self { names: vec![name.to_ascii_lowercase()], version }),
            Some(_) => Err(Error::refused(format!("{text:?} is not a system, such as \"debian 13\""))),
        }
    }
}

impl Named {
    /// Returns this system with all names of `host` if it is another version of the same system.
    #[must_use]
    pub fn as_of(self, host: &Self) -> Self {
        match self.names.first() == host.names.first() {
            true => Self { names: host.names.clone(), ..self },
            false => self,
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.names.first().map_or("unknown", String::as_str);
        match &self.version {
            Some(version) => write!(f, "{name} {version}"),
            None => f.write_str(name),
        }
    }
}

impl fmt::Display for NamedRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound {
            Some((bound, version)) => {
                let sign = BOUNDS.iter().find(|(_, b)| b == bound).map_or("", |(sign, _)| sign);
                write!(f, "{} {sign} {version}", self.name)
            }
            None => f.write_str(&self.name),
        }
    }
}

fn any_of<T: fmt::Display>(wanted: &[T]) -> String {
    wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> NamedRequirement {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn requirement_compares_name_and_version() {
        let rocky =
            Named { names: vec!["rocky".into(), "rhel".into()], version: Some("8.10".parse().unwrap()) };
        for (text, met) in [
            ("rocky", true),
            ("rhel >= 8", true),
            ("rhel >= 8.6", true),
            ("rhel>=9", false),
            ("rhel > 8", false),
            ("rhel = 8", true),
            ("rhel < 9", true),
            ("rhel <= 8", true),
            ("RHEL < 8.10", false),
            ("debian", false),
        ] {
            assert_eq!(wanted(text).is_met_by(&rocky), met, "{text}");
        }
        let ubuntu =
            Named { names: vec!["ubuntu".into(), "debian".into()], version: Some("20.04".parse().unwrap()) };
        for (text, met) in [("ubuntu >= 20.04", true), ("debian", true), ("debian >= 12", false)] {
            assert_eq!(wanted(text).is_met_by(&ubuntu), met, "{text}");
        }
        assert_eq!(wanted("Ubuntu>=24.04").to_string(), "ubuntu >= 24.04");
        let rolling = Named { names: vec!["arch".into()], version: None };
        assert!(wanted("arch").is_met_by(&rolling) && !wanted("arch >= 1").is_met_by(&rolling));
    }

    #[test]
    fn next_system_version_keeps_related_names() {
        let named = |names: &[&str], version: &str| Named {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            version: Some(version.parse().unwrap()),
        };
        let host = named(&["rocky", "rhel"], "8.10");
        let asked = |text: &str| text.parse::<Named>().unwrap().as_of(&host);
        assert_eq!(asked("Rocky 9.4"), named(&["rocky", "rhel"], "9.4"));
        assert!(wanted("rhel >= 9").is_met_by(&asked("rocky 9.4")));
        assert_eq!(asked("debian 13"), named(&["debian"], "13"));
    }

    #[test]
    fn invalid_system_names_are_refused() {
        for text in ["", ">= 8", "debian >= twelve", "debian 12", "a b"] {
            assert!(NamedRequirement::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!("debian 13".parse::<Named>().is_ok() && "ubuntu 24.04".parse::<Named>().is_ok());
        for text in ["", "debian trixie", "debian 13 sid"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_unmet_requirements_are_reported() {
        let platform =
            Platform { arch: "x86_64".into(), os: "debian 12".parse().unwrap(), libc: None, free: 1 << 20 };
        let requires = Requires {
            arch: vec!["aarch64".into()],
            os: vec![wanted("debian >= 12"), wanted("rhel >= 8")],
            libc: vec![wanted("glibc >= 2.36")],
            free_space: Some(ByteSize::gib(4)),
        };
        let told: Vec<(&str, bool)> = requires.met_by(&platform).iter().map(|f| (f.check, f.ok)).collect();
        assert_eq!(told, [("arch", false), ("os", true), ("libc", false), ("free-space", false)]);
        assert!(Requires::default().met_by(&platform).is_empty());
    }
}

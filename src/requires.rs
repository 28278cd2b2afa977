//! What a release requires of its host, and which host has that.

use std::cmp::Ordering;
use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The manifest's table `[requires]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requires {
    /// The architectures that it runs on, by uname's words; any where none is named.
    #[serde(default)]
    pub arch: Vec<String>,
    /// The operating systems that it runs on, by the words of os-release(5).
    #[serde(default)]
    pub os: Vec<NamedRequirement>,
    /// The C libraries that it runs with.
    #[serde(default)]
    pub libc: Vec<NamedRequirement>,
    /// What has to be free once it is unpacked.
    pub free_space: Option<ByteSize>,
}

/// A name, perhaps with a bound on its version, as `debian >= 12`.
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

/// A version of an operating system or library: numbers between dots, of which the missing ones do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    numbers: Vec<u64>,
    /// As it was written: 24.04 is shown as nothing else.
    text: String,
}

/// Something that a host has: its names, the surest first, and its version where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As `ID` and `ID_LIKE` of os-release(5).
    pub names: Vec<String>,
    /// As `VERSION_ID`.
    pub version: Option<Numbers>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// By uname's word.
    pub arch: String,
    /// The operating system.
    pub os: Named,
    /// The C library; none where it cannot be told.
    pub libc: Option<Named>,
    /// What is free once the release is unpacked, in bytes.
    pub free: u64,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequirementFinding {
    /// What it is about.
    pub check: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What is needed.
    pub needed: String,
    /// What to do where that is another thing.
    pub hint: &'static str,
}

const OF_ARCH: &str = "get the archive for this architecture from the vendor";
const OF_SYSTEM: &str = "upgrade the system first, or stay on a release that runs on this host; \
                         `tenure check --os` checks the installed releases against a version of the system";
const OF_SPACE: &str = "make room: `tenure prune` removes releases that are no longer needed";

impl Requires {
    /// Holds a host against what is required; nothing is said of what is not.
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
    /// What it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether not every version of it will do.
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

/// Systems that others are like in their versions as well: what is rebuilt from their sources has their numbers. Ubuntu
/// 20.04 is like Debian, and is no Debian 20.
const REBUILT: [&str; 3] = ["rhel", "centos", "suse"];

impl Numbers {
    /// By as many numbers as the bound names: 12.5 is a 12.
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

    /// As `debian 13`.
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
    /// Another version of what a host has: it is like the same systems then.
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
    fn a_system_is_met_by_its_name_and_version() {
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
    fn the_next_version_of_a_system_is_like_the_same_as_this_one() {
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
    fn what_names_no_system_is_refused() {
        for text in ["", ">= 8", "debian >= twelve", "debian 12", "a b"] {
            assert!(NamedRequirement::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!("debian 13".parse::<Named>().is_ok() && "ubuntu 24.04".parse::<Named>().is_ok());
        for text in ["", "debian trixie", "debian 13 sid"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_that_is_not_met_is_told() {
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

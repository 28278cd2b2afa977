//! Answers completion requests of shells. The script of the shell runs this program, so that it offers the options of
//! this version and the releases in the root.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, EnvCompleter, Fish, Shells, Zsh};

use tenure::error::{Context, Error, Result};
use tenure::ops;
use tenure::release::ReleaseState;
use tenure::root::Root;

use super::caller::root_of_environment;

/// The environment variable that the scripts set. No service has a variable with this name.
const VARIABLE: &str = "_TENURE_COMPLETE";

const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// zsh loads the file from its function path at the first completion, which the file must then answer as well.
const AUTOLOADED: &str =
    "\nif [ \"${funcstack[1]}\" = _tenure ]; then\n    _clap_dynamic_completer_tenure \"$@\"\nfi\n";

/// The function that bash calls. Bash splits `--root=DIR` into three words and completes only the last.
const JOINED: &str = r#"
_tenure_joined() {
    local words=("$1") last=0 prefix='' i piece
    for ((i = 1; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if [[ $i -eq $COMP_CWORD && $piece != "=" ]]; then piece=$2; fi
        if [[ ${words[last]} == --* && ($piece == "=" || ${COMP_WORDS[i - 1]} == "=") ]]; then
            words[last]+=$piece
            prefix=${words[last]%%=*}=
        else
            words[++last]=$piece
            prefix=''
        fi
    done
    local COMP_WORDS=("${words[@]}") COMP_CWORD=$last
    _clap_complete_tenure "$1" "${words[last]}" "$3"
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
"#;

/// The shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Answers the request of a shell for completions of this command line. Returns whether this process was started with
/// such a request.
pub fn answer(words: &[OsString], command_line: fn() -> clap::Command) -> bool {
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(command_line).var(VARIABLE).shells(SHELLS);
    // A request that fails gets no candidates.
    asked.try_complete(words, here.as_deref()).unwrap_or(true)
}

/// Returns the script that makes a shell request completions.
///
/// # Errors
/// Returns an error if the script cannot be written, which does not happen for these shells.
pub fn script(shell: Shell) -> Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "tenure", "tenure", "tenure", &mut script)
        .context(|| "cannot write the completions")?;
    let script =
        String::from_utf8(script).map_err(|e| Error::failed("cannot write the completions").because(e))?;
    Ok(match shell {
        Shell::Bash => script.replace("-F _clap_complete_tenure ", "-F _tenure_joined ") + JOINED,
        Shell::Zsh => script + AUTOLOADED,
        Shell::Fish => script,
    })
}

/// Returns the releases that are installed or in an archive.
pub fn releases() -> Vec<CompletionCandidate> {
    let Some(root) = root() else { return Vec::new() };
    let installed = installed();
    let mut archived = root.archived().unwrap_or_default();
    archived.retain(|version| installed.iter().all(|other| *other.get_value() != *version.to_string()));
    let archived: Vec<_> = archived.iter().map(|version| candidate(version, "an archive")).collect();
    installed.into_iter().chain(archived).collect()
}

/// Returns the installed releases.
pub fn installed() -> Vec<CompletionCandidate> {
    listed(|_| true)
}

/// Returns the releases that may be removed.
pub fn spare() -> Vec<CompletionCandidate> {
    listed(|state| matches!(state, ReleaseState::Old | ReleaseState::Unpacked))
}

/// Returns the release on trial.
pub fn on_trial() -> Vec<CompletionCandidate> {
    listed(|state| state == ReleaseState::Current)
}

fn listed(wanted: impl Fn(ReleaseState) -> bool) -> Vec<CompletionCandidate> {
    let listed = root().and_then(|root| ops::versions(&root).ok());
    let releases = listed.into_iter().flat_map(|versions| versions.releases);
    releases.filter(|r| wanted(r.state)).map(|r| candidate(&r.version, &r.state.to_string())).collect()
}

fn candidate(version: &tenure::version::Version, what: &str) -> CompletionCandidate {
    CompletionCandidate::new(version.to_string()).help(Some(what.to_owned().into()))
}

/// Returns the root that the words so far name, or else the root that a command would use here.
fn root() -> Option<Root> {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").collect();
    let behind = words.windows(2).find(|pair| pair[0] == "--root").map(|pair| PathBuf::from(&pair[1]));
    let joined = || words.iter().find_map(|word| Some(word.to_str()?.strip_prefix("--root=")?.into()));
    let given = behind.or_else(joined).or_else(root_of_environment);
    Root::find(given.as_deref(), &std::env::current_dir().ok()?).ok()
}

//! Crash tests: every command is killed, signalled or made to fail at every mutating system call. Both links always
//! point to a complete release. The next command recovers and reports it, and a rerun reaches the goal.

use std::fs;

use crate::support::case::{Args, Case, Outcome, host, installed, is_interrupted, lasting, links};
use crate::support::stepper::{self, Ended, Fate};
use crate::support::{Host, assert_same};
use nix::errno::Errno;
use nix::sys::signal::Signal;

fn rebuilt() -> Host {
    let host = installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]);
    // The installed 5.0.1 comes from an archive that was rebuilt afterwards.
    host.build("5.0.1").file("lib/version", "first build").write();
    host.run(["unpack", "5.0.1"]).ok();
    host.archive("5.0.1");
    host
}

fn cases() -> Vec<Case> {
    let two = &["5.0.0", "5.0.1"];
    let first: &[&str] = &["install", "5.0.0"];
    let up: &[&str] = &["upgrade", "5.0.1"];
    let trial: &[&str] = &["upgrade", "--no-permanent", "5.0.1"];
    vec![
        Case::new(&["install", "5.0.1"], host(two)),
        Case::new(&["install", "5.0.1"], installed(two, &[first])),
        Case::new(&["upgrade", "5.0.1"], installed(two, &[first])),
        Case::new(&["upgrade", "--no-permanent", "5.0.1"], installed(two, &[first])),
        Case::new(&["confirm"], installed(two, &[first, trial])),
        Case::new(&["revert"], installed(two, &[first, trial])),
        Case::new(&["boot"], installed(two, &[first, trial])),
        Case::new(&["downgrade", "5.0.0"], installed(two, &[first, up])),
        Case::new(&["uninstall", "5.0.0"], installed(two, &[first, up])),
        Case::new(&["unpack", "5.0.1"], installed(two, &[first])),
        Case::new(
            &["prune", "--keep", "0"],
            installed(
                &["5.0.0", "5.0.1", "5.0.2", "5.0.3"],
                &[first, up, &["upgrade", "5.0.2"], &["unpack", "5.0.3"]],
            ),
        ),
    ]
}

/// Returns the cases that start with an installed release, without `install`, which equals `upgrade` there.
fn running() -> impl Iterator<Item = Case> {
    cases().into_iter().filter(|case| case.args[0] != "install")
}

fn upgrade() -> Case {
    Case::new(&["upgrade", "5.0.1"], installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]))
}

#[test]
fn killed_command_completes_on_rerun() {
    let mut all = 0;
    for case in cases() {
        let points = case.sweep(|host, at| {
            case.is_sound(host, at);
            let run = case.arrives(host, at);
            case.is_remembered(host, &run, at);
        });
        println!("{:?}: {points} kill points, 0 wrong outcomes", case.args);
        assert!(points > 10, "{:?}: only {points} points", case.args);
        all += points;
    }
    println!("{all} kill points in all");
}

#[test]
fn kill_at_exit_leaves_complete_result() {
    for case in cases() {
        let host = case.start.copy();
        let at = case.kill(&host, stepper::count(&host.copy().command(case.args)));
        case.is_at_end(&host, &at);
    }
}

#[test]
fn killed_replace_leaves_old_or_new_release() {
    let case = Case::new(&["unpack", "--replace", "5.0.1"], rebuilt());
    let points = case.sweep(|host, at| {
        assert_eq!(links(host), links(&case.start), "{at}");
        // Whether the release was replaced or not, a rerun reaches the goal and reports a recovery.
        case.arrives(host, at);
        host.complete("5.0.1");
    });
    println!("{:?}: {points} kill points, 0 wrong outcomes", case.args);
}

/// Asserts that `boot` after a kill succeeds, does not move the commit point and leaves nothing to do.
fn boots(host: &Host, at: &str) {
    let permanent = host.link("permanent");
    let run = host.run(["boot"]);
    assert_eq!(run.code, Some(0), "{at}, then boot: {run:#?}");
    assert_eq!(links(host), [permanent.clone(), permanent.clone()], "{at}, then boot: {run:#?}");
    host.complete(permanent.unwrap().strip_prefix("releases/").unwrap());
    assert!(!is_interrupted(host), "{at}, then boot: the journal is still open");
    let again = host.run(["boot"]).ok();
    assert_eq!(again.stderr, "", "{at}, then boot twice: {again:#?}");
}

#[test]
fn boot_succeeds_after_any_kill() {
    for case in running() {
        let points = case.sweep(boots);
        println!("boot after {points} kill points of {:?}, 0 wrong outcomes", case.args);
    }
    // One more run uses the disk with the ordinary temporary files.
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    Case::new(&["upgrade", "5.0.1"], host).sweep(boots);
}

/// Kills the recovery by this command at every point in turn. `start` is the state that an earlier kill left.
fn recovery_is_killed(case: &Case, start: &Host, args: Args) -> usize {
    let again = Case::new(args, start.copy());
    again.sweep(|host, at| {
        case.is_sound(host, at);
        case.arrives_again(host, at);
    })
}

#[test]
fn killed_recovery_recovers() {
    let case = upgrade();
    let points = stepper::count(&case.start.copy().command(case.args));
    for halfway in [["5.0.1", "5.0.0"], ["5.0.1", "5.0.1"]] {
        let killed = (1..=points).map(|nth| {
            let host = case.start.copy();
            case.kill(&host, nth);
            host
        });
        let leads = halfway.map(|version| Some(format!("releases/{version}")));
        let start = { killed }.find(|host| links(host) == leads && is_interrupted(host)).unwrap();
        // The same command recovers and then completes; `boot` only recovers.
        for args in [&["upgrade", "5.0.1"][..], &["boot"]] {
            let points = recovery_is_killed(&case, &start, args);
            println!("{halfway:?}: recovery by {args:?}: {points} kill points, 0 wrong outcomes");
        }
    }
}

#[test]
fn repeatedly_killed_recovery_recovers() {
    let case = upgrade();
    let open = std::sync::atomic::AtomicUsize::new(0);
    case.each_kill(|host, nth| {
        let at = case.kill(host, nth);
        if !is_interrupted(host) {
            return;
        }
        open.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Interrupts three recoveries in a row, each later than the previous one, alternating between both commands.
        for (round, nth) in [3 + nth % 5, 9 + nth % 11, 17 + nth % 23].into_iter().enumerate() {
            let args: Args = if round % 2 == 0 { &["boot"] } else { case.args };
            stepper::kill_before(&host.command(args), nth);
            case.is_sound(host, &format!("{at}, then {args:?} killed before call {nth}"));
        }
        case.arrives_again(host, &at);
    });
    println!("{open:?} open journals, 3 kills each of their recoveries, 0 wrong outcomes");
}

const NEXT: [Args; 9] = [
    &["upgrade", "5.0.1"],
    &["install", "5.0.0"],
    &["uninstall", "5.0.1"],
    &["unpack", "5.0.1"],
    &["confirm"],
    &["revert"],
    &["boot"],
    &["downgrade", "5.0.0"],
    &["prune", "--keep", "0"],
];

/// Returns the exit code of a command and its outcome, without the `tenured` marks, which an interrupted command sets
/// early.
fn then(host: &Host, args: Args, at: &str) -> (Option<i32>, Outcome) {
    let code = host.run(args).code;
    let mut outcome = Outcome::of(host, at);
    outcome.tree.retain(|path, _| !path.ends_with("/tenured"));
    (code, outcome)
}

#[test]
fn next_command_sees_killed_one_done_or_not_begun() {
    for case in running().take(6) {
        let end = case.start.copy();
        end.run(case.args).ok();
        let expected =
            NEXT.map(|args| [&case.start, &end].map(|host| then(&host.copy(), args, "undisturbed")));
        let points = case.each_kill(|host, nth| {
            let at = case.kill(host, nth);
            for turn in [0, 4] {
                let which = (nth + turn) % NEXT.len();
                let found = then(&host.copy(), NEXT[which], &at);
                // After a rollback, a late `confirm` is refused.
                let late = NEXT[which] == ["confirm"] && found.0 == Some(2);
                let late = late && found.1 == expected[which][0].1;
                let known = late || expected[which].contains(&found);
                assert!(
                    known,
                    "{at}, then {:?}: {found:#?} is neither of {:#?}",
                    NEXT[which], expected[which]
                );
            }
        });
        println!("{:?}: 2 other commands after {points} kill points, 0 wrong outcomes", case.args);
    }
}

/// Disturbs a command and asserts that it does all or nothing, and that its exit code says which.
fn did_all_or_nothing(case: &Case, host: &Host, fate: Fate, nth: usize) {
    let (ended, call) = stepper::meet(&host.command(case.args), nth, fate);
    let at = format!("{:?}, {fate:?} at call {nth}, {call}", case.args);
    match ended {
        // The exit itself cannot fail, and `boot` only reports what it cannot do.
        _ if call == "exit_group" => {}
        Ended::Exited { code: 0, .. } if case.args[0] == "boot" => {}
        Ended::Exited { code: 0, .. } => {
            // The next command may have leftovers to remove, but nothing to roll back.
            let next = host.run(["uninstall", "9.9.9"]).code(2);
            assert!(!next.stderr.contains("rolled back"), "{at}: exit code 0, and then: {next:#?}");
            case.is_at_end(host, &at);
        }
        // The change is complete; only the output failed.
        Ended::Exited { code: 1, .. } if call == "write" && links(host) == case.end.links => {}
        Ended::Exited { code: 1, .. } => is_as_before(case, host, &at),
        ended => panic!("{at}: {ended:?}"),
    }
    case.is_sound(host, &at);
    case.arrives_again(host, &at);
}

/// Asserts that nothing has changed. A journal that was opened but could not be made durable may stay, with no step
/// begun.
fn is_as_before(case: &Case, host: &Host, at: &str) {
    let own = |path: &String| is_interrupted(host) && path.starts_with(".tenure/");
    let kept = |host: &Host| lasting(host).into_iter().filter(|(path, _)| !own(path)).collect();
    assert_same(&kept(host), &kept(&case.start), &format!("{at}: exit code 1"));
}

#[test]
fn sigterm_leaves_all_or_nothing() {
    for case in running() {
        let points = case.each(|host, nth| did_all_or_nothing(&case, host, Fate::Hear(Signal::SIGTERM), nth));
        println!("{:?}: SIGTERM at {points} points, 0 wrong outcomes", case.args);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn failed_system_call_leaves_all_or_nothing() {
    for case in running() {
        let points = case.each(|host, nth| did_all_or_nothing(&case, host, Fate::Fail(Errno::EIO), nth));
        println!("{:?}: EIO from {points} calls, 0 wrong outcomes", case.args);
    }
}

#[test]
fn torn_journal_does_not_block_boot() {
    let case = upgrade();
    let cuts = std::sync::atomic::AtomicUsize::new(0);
    case.each_kill(|host, nth| {
        let at = case.kill(host, nth);
        let Ok(whole) = fs::read(host.root().join(".tenure/journal")) else { return };
        let cut = nth * 7919 % whole.len();
        let garbage = [&whole[..cut], b"\xff\xfe\0"].concat();
        for (how, bytes) in [("cut", &whole[..cut]), ("with garbage at its end", &garbage)] {
            let host = host.copy();
            fs::write(host.root().join(".tenure/journal"), bytes).unwrap();
            let at = format!("{at}, the journal {how} after {cut} bytes");
            boots(&host, &at);
            host.run(case.args).ok();
            case.is_sound(&host, &at);
            cuts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    println!("{cuts:?} torn journals, 0 wrong outcomes");
}

#[test]
fn sigterm_undoes_or_completes_upgrade() {
    let case = Case::new(&["upgrade", "5.0.1"], installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]));
    let points = stepper::count(&case.start.copy().command(case.args));
    let (mut arrived, mut taken_back) = (0, 0);
    for nth in 1..=points {
        let host = case.start.copy();
        let at = format!("SIGTERM before call {nth}");
        match stepper::signal_before(&host.command(case.args), nth, Signal::SIGTERM) {
            Ended::Exited { code: 0, .. } => {
                case.is_at_end(&host, &at);
                arrived += 1;
            }
            Ended::Exited { code: 1, .. } => {
                assert_same(&host.tree(), &case.start.tree(), &at);
                taken_back += 1;
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    assert!(arrived > 0 && taken_back > 10, "{arrived} arrived, {taken_back} were taken back");
    println!("SIGTERM at {points} points: {arrived} arrived, {taken_back} were taken back");
}

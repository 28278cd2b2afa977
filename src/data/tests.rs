//! Tests which release can start on which data, and what happens to the data.

use super::*;

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

fn formats(writes: DataFormat, reads: &[DataFormat]) -> Formats {
    Formats { writes, reads: reads.into() }
}

fn on_disk(format: DataFormat, migration: Option<(DataFormat, Stage)>) -> OnDisk {
    let due = |to| Migration::due("x".into(), "then".into(), &v("5.1.0"), None, Some(to));
    let migration = migration.map(|(to, stage)| Migration { stage, ..due(to) });
    OnDisk { formats: [format].into(), migration }
}

#[test]
fn release_starts_on_formats_it_reads() {
    let (low, high) = (v("5.0.0"), v("5.1.0"));
    let admits = |data: &OnDisk, to: &Version, declared: Option<&Formats>| {
        let from = if *to == low { &high } else { &low };
        data.admits(from, to, declared, false).map_err(|e| e.in_one_line())
    };
    let (old, new) = (formats(2, &[1, 2]), formats(3, &[2, 3]));
    assert!(admits(&on_disk(2, None), &high, Some(&new)).is_ok());
    assert!(admits(&on_disk(2, None), &low, None).is_ok());
    assert!(admits(&OnDisk::default(), &low, Some(&old)).is_ok());
    let refused = admits(&on_disk(3, None), &low, Some(&old)).unwrap_err();
    assert!(refused.contains("reads data formats 1 and 2 only, and format 3 is on disk"), "{refused}");
    let done = on_disk(3, Some((3, Stage::Done)));
    assert!(admits(&done, &low, None).unwrap_err().contains("does not say"));
    let above = done.admits(&v("5.3.0"), &v("5.2.0"), None, false);
    assert!(above.is_ok(), "5.2.0 came after the migration");
    assert!(admits(&done, &high, None).is_ok());
    assert!(admits(&done, &high, Some(&new)).is_ok());
}

#[test]
fn unknown_migration_target_refuses_lower_release() {
    let (low, high, next) = (v("5.0.0"), v("5.1.0"), formats(3, &[3]));
    for (stage, left) in [(Stage::Failed, migrated(Some(2))), (Stage::Done, migrated(None))] {
        let due = Migration::due("x".into(), "then".into(), &high, Some(&low), None);
        let data = OnDisk { formats: left, migration: Some(Migration { stage, ..due }) };
        for declared in [None, Some(formats(2, &[2, 3]))] {
            let refused = data.admits(&high, &low, declared.as_ref(), false).unwrap_err().in_one_line();
            assert!(
                refused.contains("the manifest of 5.1.0 does not declare the format after its migration"),
                "{refused}"
            );
        }
        let up = data.admits(&high, &v("5.2.0"), Some(&next), false);
        assert_eq!(up.is_ok(), stage == Stage::Done, "5.2.0 declares its formats");
    }
}

#[test]
fn unfinished_migration_restricts_moves() {
    let (low, high) = (v("5.0.0"), v("5.2.0"));
    let both = formats(2, &[2, 3]);
    for stage in [Stage::Due, Stage::Running, Stage::Failed] {
        let data = on_disk(2, Some((3, stage)));
        for migrates in [false, true] {
            assert!(data.admits(&v("5.1.0"), &high, Some(&both), migrates).is_err(), "{stage:?}");
        }
        // After a rollback, the migration blocks every release without a migration of its own.
        assert!(data.admits(&low, &high, Some(&both), false).is_err(), "{stage:?}");
        let own = data.admits(&low, &high, Some(&both), true);
        assert_eq!(own.is_ok(), stage == Stage::Failed, "{stage:?}");
        // After a rollback, the migration can be tried again.
        let again = data.admits(&low, &v("5.1.0"), Some(&both), false);
        assert_eq!(again.is_ok(), stage == Stage::Failed, "{stage:?}");
        let down = data.admits(&v("5.1.0"), &low, Some(&both), false);
        assert_eq!(down.is_ok(), stage == Stage::Failed, "{stage:?}");
        let only_two = formats(2, &[2]);
        assert!(data.admits(&v("5.1.0"), &low, Some(&only_two), false).is_err(), "{stage:?}");
        assert_eq!(data.becomes(Some(&low), &high, Some(&formats(4, &[4])), false), Becoming::Same);
    }
}

#[test]
fn permanent_release_determines_formats() {
    let (low, high) = (v("5.0.0"), v("5.1.0"));
    let three = formats(3, &[2, 3]);
    let written = |formats: &[DataFormat]| Becoming::Formats(formats.iter().copied().collect());
    let becomes = |data: &OnDisk, from: Option<&Version>, to: &Version, migrates| {
        data.becomes(from, to, Some(&three), migrates)
    };
    let two = on_disk(2, None);
    assert_eq!(becomes(&two, Some(&low), &high, true), Becoming::Migrated(Some(3)));
    assert_eq!(becomes(&two, Some(&low), &high, false), written(&[3]));
    assert_eq!(becomes(&two, Some(&high), &low, false), written(&[2, 3]), "the earlier format remains");
    assert_eq!(becomes(&two, Some(&high), &low, true), Becoming::Migrated(Some(3)));
    assert_eq!(becomes(&on_disk(3, None), Some(&low), &high, true), Becoming::Same);
    assert_eq!(
        becomes(&on_disk(3, Some((3, Stage::Failed))), Some(&low), &high, true),
        Becoming::Migrated(Some(3))
    );
    assert_eq!(becomes(&OnDisk::default(), None, &low, true), Becoming::Same, "there is no data yet");
    let mixed = OnDisk { formats: [2, 3].into(), migration: None };
    assert_eq!(becomes(&mixed, Some(&low), &high, true), Becoming::Migrated(Some(3)));
    assert_eq!(becomes(&mixed, Some(&low), &high, false), written(&[3]));
    assert_eq!(becomes(&mixed, Some(&high), &low, false), written(&[2, 3]));
    let failed = on_disk(1, Some((2, Stage::Failed)));
    assert_eq!(becomes(&failed, Some(&high), &low, false), written(&[1, 3]), "the migration produces 2");
    assert_eq!(two.becomes(Some(&low), &high, None, true), Becoming::Migrated(None));
    assert_eq!(two.becomes(Some(&high), &low, None, true), written(&[2]));
    assert_eq!(two.becomes(Some(&low), &high, None, false), written(&[2]));
    assert_eq!(OnDisk::default().becomes(Some(&low), &high, None, false), Becoming::Same);
}

//! Validation of `--json` output against the schema that is published with Tenure.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use jsonschema::ValidatorMap;
use serde_json::Value;

/// The published schema.
pub static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../packaging/tenure.schema.json")).unwrap());

static VALIDATORS: LazyLock<ValidatorMap> =
    LazyLock::new(|| jsonschema::validator_map_for(&SCHEMA).unwrap_or_else(|e| panic!("the schema: {e}")));

/// The commands, each with a kind of document that it printed.
static MET: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Returns the commands of the schema, with all kinds of documents that each may print.
pub fn documents() -> BTreeSet<(String, String)> {
    let commands = SCHEMA["$defs"].as_object().unwrap().keys().filter(|name| !is_type(name));
    commands.flat_map(|name| shapes(name).into_iter().map(move |shape| (name.clone(), shape))).collect()
}

/// Returns those of them that this process has validated.
pub fn met() -> BTreeSet<(String, String)> {
    MET.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Panics unless the text is exactly one of the documents that the command in `words` may print.
pub fn hold(words: &[String], text: &str) {
    let document: Value =
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{words:?} printed no document: {e}: {text}"));
    let command = words.iter().find_map(|word| command(word));
    let shapes = command.as_deref().map_or_else(|| vec!["Error".to_owned()], shapes);
    let (fits, faults): (Vec<String>, Vec<String>) =
        shapes.into_iter().partition(|shape| faults(shape, &document).is_empty());
    let [shape] = fits.as_slice() else {
        let why: String =
            faults.iter().map(|shape| format!("no {shape}:\n{}", self::faults(shape, &document))).collect();
        panic!("{words:?} printed what is {fits:?} by the schema:\n{document:#}\n{why}");
    };
    if let Some(command) = command {
        MET.lock().unwrap_or_else(PoisonError::into_inner).insert((command, shape.clone()));
    }
}

/// Returns the faults of a value according to the schema of this name, or an empty string if it is valid.
pub fn faults(name: &str, value: &Value) -> String {
    let validator =
        VALIDATORS.get(&format!("#/$defs/{name}")).unwrap_or_else(|| panic!("the schema has no {name}"));
    validator
        .iter_errors(value)
        .map(|fault| format!("  at {:?}: {fault}\n", fault.instance_path().as_str()))
        .collect()
}

fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn command(word: &str) -> Option<String> {
    let word = if word == "root_dir" { "root-dir" } else { word };
    (!is_type(word) && SCHEMA["$defs"].get(word).is_some()).then(|| word.to_owned())
}

fn shapes(command: &str) -> Vec<String> {
    let shapes = SCHEMA["$defs"][command]["oneOf"].as_array().unwrap();
    let name = |shape: &Value| shape["$ref"].as_str().unwrap().trim_start_matches("#/$defs/").to_owned();
    shapes.iter().map(name).collect()
}

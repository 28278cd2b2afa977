//! Formats the output of `--json`: one document with the number of its schema.

use serde::Serialize;

use tenure::error::{Context, Error, Result};

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    result: &'a T,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    error: JsonError<'a>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    kind: &'static str,
    code: u8,
    message: String,
    causes: Vec<String>,
    hints: Vec<&'a str>,
}

/// Formats a result as a document.
///
/// # Errors
/// Returns an error if the result cannot be serialized, which does not happen for the existing types.
pub fn document<T: Serialize>(result: &T) -> Result<String> {
    let text =
        serde_json::to_string_pretty(&Document { schema: SCHEMA, result }).context(|| "cannot write JSON")?;
    Ok(format!("{text}\n"))
}

/// Formats an error as a document.
///
/// # Errors
/// Returns an error if the document cannot be serialized, which does not happen.
pub fn error(error: &Error) -> Result<String> {
    document(&JsonFailure {
        error: JsonError {
            kind: error.kind().word(),
            code: error.kind().code(),
            message: error.to_string(),
            causes: error.causes(),
            hints: error.hints(),
        },
    })
}

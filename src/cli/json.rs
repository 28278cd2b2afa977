//! What `--json` prints: one document, numbered by its schema.

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

/// A result as a document.
///
/// # Errors
/// Never, for the results that there are.
pub fn document<T: Serialize>(result: &T) -> Result<String> {
    let text =
        serde_json::to_string_pretty(&Document { schema: SCHEMA, result }).context(|| "cannot write JSON")?;
    Ok(format!("{text}\n"))
}

/// An error as a document.
///
/// # Errors
/// Never.
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

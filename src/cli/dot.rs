//! Formats the graph of releases and hops for Graphviz.

use serde::Serialize;

use tenure::error::Result;
use tenure::ops::{Location, UpgradePath};
use tenure::policy::HopKind;
use tenure::version::Version;

use super::console::{Console, Shown, Style};
use super::human::Human;

/// All releases and allowed hops, with the chosen ones marked.
#[derive(Serialize)]
#[serde(transparent)]
struct Graph(UpgradePath);

/// Returns the graph. Without an upgrade path, text output shows the graph before the error.
///
/// # Errors
/// Returns an error if the releases have no upgrade path.
pub fn show(mut found: UpgradePath, console: &mut Console) -> Result<Shown> {
    let none = found.none.take();
    let graph = Shown::of(console.style(), &Graph(found))?;
    let Some(error) = none else { return Ok(graph) };
    if console.style() == Style::Human {
        console.show(&graph);
    }
    Err(error)
}

impl Human for Graph {
    fn human(&self) -> String {
        let UpgradePath { from, hops, releases, allowed, .. } = &self.0;
        let is_chosen = |version: &Version| version == from || hops.iter().any(|hop| hop.to == *version);
        let stops = releases.iter().map(|(version, whereabouts)| {
            let style = if *whereabouts == Location::Named { "dashed" } else { "solid" };
            let width = if is_chosen(version) { ", penwidth=3" } else { "" };
            format!("  \"{version}\" [style={style}{width}];\n")
        });
        let legs = allowed.iter().map(|leg| {
            let style = if leg.way == HopKind::Hot { "solid" } else { "dashed" };
            let width = if hops.contains(leg) { ", penwidth=3" } else { "" };
            format!("  \"{}\" -> \"{}\" [style={style}{width}];\n", leg.from, leg.to)
        });
        let lines: String = stops.chain(legs).collect();
        format!(
            "// Releases: dashed where they are only named. Hops: solid where they are hot, dashed by restart.\n\
             digraph releases {{\n  rankdir=LR;\n  node [shape=box];\n{lines}}}\n"
        )
    }
}

//! `xlate isa`: which instruction codes of iced-x86's list are implemented, and which are missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use iced_x86::Code;
use serde_json::json;
use xlate_x86::{isa, unsupported};

use crate::status::{CommandError, CommandResult};

/// Lists the instruction codes (iced-x86's names) that are implemented, or those that aren't with the reasons.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Lists those that aren't implemented instead.
    #[arg(long)]
    missing: bool,
    /// Prints all as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A code's instruction set features, as CPUID names them.
fn features(code: Code) -> String {
    let names: Vec<String> = code.cpuid_features().iter().map(|f| format!("{f:?}")).collect();
    names.join("+")
}

/// Why a code isn't implemented.
fn reason(code: Code) -> &'static str {
    unsupported::reason(code).unwrap_or(NOT_YET)
}

/// The reason of those that are to be implemented.
const NOT_YET: &str = "not yet";

/// Runs the subcommand.
pub fn run(args: &Args) -> CommandResult {
    let codes: Vec<(Code, bool)> = isa::codes().collect();
    let text = if args.json { json_text(&codes) } else { plain_text(&codes, !args.missing) };
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
    }
}

fn json_text(codes: &[(Code, bool)]) -> String {
    let list = |wanted: bool| {
        let chosen = codes.iter().filter(|(_, implemented)| *implemented == wanted);
        let row = |code: Code| match wanted {
            true => json!({ "code": format!("{code:?}"), "features": features(code) }),
            false => json!({ "code": format!("{code:?}"), "features": features(code), "reason": reason(code) }),
        };
        chosen.map(|(code, _)| row(*code)).collect::<Vec<_>>()
    };
    format!("{:#}\n", json!({ "implemented": list(true), "missing": list(false) }))
}

/// One code a line, and totals by feature at the end.
fn plain_text(codes: &[(Code, bool)], wanted: bool) -> String {
    let mut text = String::new();
    let mut totals: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (code, implemented) in codes {
        let features = features(*code);
        if *implemented == wanted {
            // Writing to a String can't fail.
            let name = format!("{code:?}");
            let _ = match wanted {
                true => writeln!(text, "{name:<40} {features}"),
                false => writeln!(text, "{name:<40} {features:<22} {}", reason(*code)),
            };
        }
        let total = totals.entry(features).or_default();
        total.0 += usize::from(*implemented);
        total.1 += 1;
    }
    if !wanted {
        by_reason(&mut text, codes);
    }
    let _ = writeln!(text, "\nimplemented of all, by feature:");
    for (feature, (implemented, all)) in &totals {
        let _ = writeln!(text, "{implemented:>6} of {all:<5} {feature}");
    }
    let implemented: usize = totals.values().map(|t| t.0).sum();
    let _ = writeln!(text, "{implemented:>6} of {:<5} in all", codes.len());
    text
}

/// How many are missing for each reason.
fn by_reason(text: &mut String, codes: &[(Code, bool)]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let missing = codes.iter().filter(|(_, implemented)| !implemented);
    missing.for_each(|(code, _)| *counts.entry(reason(*code)).or_default() += 1);
    let _ = writeln!(text, "\nmissing, by reason:");
    for (reason, count) in counts {
        let _ = writeln!(text, "{count:>6} {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_listed_on_one_side() {
        let codes = [(Code::Add_r32_rm32, true), (Code::Ud2, false)];
        let (have, lack) = (plain_text(&codes, true), plain_text(&codes, false));
        assert!(have.contains("Add_r32_rm32 ") && !have.contains("Ud2 "));
        assert!(lack.contains("Ud2 ") && !lack.contains("Add_r32_rm32 "));
        let text = plain_text(&[(Code::Xend, false), (Code::Ud2, false)], false);
        assert!(text.contains("transactions") && text.contains("\n     1 not yet\n"), "{text}");
        assert!(have.ends_with("     1 of 2     in all\n"), "{have}");
    }
}

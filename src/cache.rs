//! The persistent cache: what the service keeps in it, and `xlate cache`, which shows, empties and fills it.
//!
//! The form of its files is `xlate_abi::cache`'s; the guest's process reads them by itself.

mod folder;
pub mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use clap::Subcommand;
use xlate_abi::protocol::{Blob, CompileRequest, KeepIn};

use crate::run::GuestWords;
use crate::status::{CommandError, CommandResult, Status};

pub use folder::{Report, TEMPORARY, default_folder, report};
pub use store::{StoreError, keep};

/// The folder is measured after every so many parts of its limit that were written.
const MEASURE_EVERY: u64 = 64;

/// What the service keeps of its work. Nothing of it may fail for a guest: what can't be kept is made again.
#[derive(Default)]
pub struct Keeper {
    /// Bytes written since the folder was measured; none at all yet means never.
    written: AtomicU64,
    measured: AtomicBool,
    warned: AtomicBool,
}

impl Keeper {
    /// Keeps a region, and the folder within its bounds. `profiled`: tier 1 had counted what runs often.
    pub fn keep(&self, place: &KeepIn, request: &CompileRequest, profiled: bool, blob: &Blob) {
        match store::keep(place, request, profiled, blob) {
            Ok(bytes) => self.bound(place, bytes),
            Err(error) => self.warn(&format!("a region isn't kept: {error}")),
        }
    }

    fn bound(&self, place: &KeepIn, bytes: u64) {
        let written = self.written.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if written <= place.limit / MEASURE_EVERY && self.measured.swap(true, Ordering::AcqRel) {
            return;
        }
        self.written.store(0, Ordering::Release);
        let path = store::path_of(place);
        let folder = path.parent().unwrap_or(Path::new("/"));
        match folder::bound(folder, place.limit) {
            Ok(0) => {}
            Ok(n) => tracing::info!(files = n, "what was used longest ago has left the cache"),
            Err(error) => self.warn(&format!("{} can't be kept small: {error}", folder.display())),
        }
    }

    /// Once at most: a full disk stays full for a while.
    fn warn(&self, message: &str) {
        if !self.warned.swap(true, Ordering::AcqRel) {
            tracing::warn!("{message}");
        }
    }
}

/// Where translated code is kept over runs: options of several subcommands.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheArgs {
    /// Folder of the translated code kept over runs, or `off` (default: $XDG_CACHE_HOME/xlate or ~/.cache/xlate).
    #[arg(long, env = "XLATE_CACHE", value_name = "DIR|off")]
    pub cache: Option<PathBuf>,
    /// Bytes that folder may take; K, M or G may follow. What was used longest ago goes first.
    #[arg(long, env = "XLATE_CACHE_LIMIT", value_name = "BYTES", default_value = "1G", value_parser = size)]
    pub cache_limit: u64,
}

impl CacheArgs {
    /// The folder, if there is to be one.
    pub fn folder(&self) -> anyhow::Result<Option<PathBuf>> {
        match &self.cache {
            Some(off) if off.as_os_str() == "off" => Ok(None),
            Some(folder) => {
                let absolute = std::path::absolute(folder);
                absolute.map(Some).with_context(|| format!("--cache={}: no folder", folder.display()))
            }
            None => Ok(default_folder()),
        }
    }

    fn some_folder(&self) -> Result<PathBuf, CommandError> {
        let none =
            || anyhow::anyhow!("no cache: it is off, or neither XDG_CACHE_HOME nor HOME says where; give --cache");
        Ok(self.folder()?.ok_or_else(none)?)
    }
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number of bytes, or one with K, M or G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// Shows, empties or fills the cache of translated code.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Shows what is in the cache.
    Stats {
        #[command(flatten)]
        place: CacheArgs,
        /// Prints JSON instead of the table.
        #[arg(long)]
        json: bool,
    },
    /// Empties the cache. Programs that run go on; what they need again is made again.
    Clear {
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Runs a program, with all it does, and keeps the code of everything in it that runs often, so that it starts fast
    /// from then on.
    Warm {
        #[command(flatten)]
        place: CacheArgs,
        /// Optimisation that later runs will ask for.
        #[arg(long, default_value = "O2", ignore_case = true)]
        opt: String,
        #[command(flatten)]
        guest: GuestWords,
    },
}

/// Runs the subcommand.
pub fn run(args: Args) -> CommandResult {
    match args.action {
        Action::Stats { place, json } => show(&place.some_folder()?, json),
        Action::Clear { place } => clear(&place.some_folder()?),
        Action::Warm { place, opt, guest } => warm(&place, &opt, &guest),
    }
}

fn show(folder: &Path, json: bool) -> CommandResult {
    let report = report(folder).with_context(|| format!("can't read {}", folder.display()))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} regions and {} blocks in {} files, {} KiB",
        folder.display(),
        report.regions,
        report.blocks,
        report.files.len(),
        kib(report.bytes)
    );
    if !report.files.is_empty() {
        println!("{:>8} {:>8} {:>8} {:>9}  {:>9}  program", "regions", "unused", "blocks", "KiB", "last used");
    }
    for file in &report.files {
        let hours = file.idle_seconds / 3600;
        let what =
            file.damage.as_ref().map_or_else(|| file.program.clone(), |d| format!("{}: {d}", file.file.display()));
        let (regions, unused, blocks) = (file.regions, file.unused, file.blocks);
        println!("{regions:>8} {unused:>8} {blocks:>8} {:>9}  {hours:>7} h  {what}", kib(file.bytes));
    }
    Ok(ExitCode::SUCCESS)
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

fn clear(folder: &Path) -> CommandResult {
    let unreadable = || format!("can't empty {}", folder.display());
    let mut removed = 0;
    for found in folder::files(folder).with_context(unreadable)? {
        removed += folder::remove(&found).with_context(unreadable)?;
    }
    println!("{}: {removed} files removed", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn warm(place: &CacheArgs, opt: &str, guest: &GuestWords) -> CommandResult {
    let folder = place.some_folder()?;
    let kept = || report(&folder).map_or((0, 0), |r| (r.regions, r.blocks));
    let before = kept();
    let me = std::env::current_exe().context("this command's own file")?;
    let (program, args) = guest.split();
    let mut command = Command::new(&me);
    command.arg("run").arg("--warm").arg(format!("--opt={opt}")).arg("--cache").arg(&folder);
    command.arg(format!("--cache-limit={}", place.cache_limit)).arg("--").arg(program).args(args);
    let status = command.status().with_context(|| format!("can't run {}", me.display()))?;
    let after = kept();
    eprintln!(
        "xlate: {} regions and {} blocks in the cache, {} and {} more than before",
        after.0,
        after.1,
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1)
    );
    if after == (0, 0) {
        let error = anyhow::anyhow!("nothing was kept in {} ({}); see --log=warn", folder.display(), status);
        return Err(CommandError::new(Status::Failed, error));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!([size("7"), size("2k"), size("3M"), size("1G")], [Ok(7), Ok(2048), Ok(3 << 20), Ok(1 << 30)]);
        assert!(size("").is_err() && size("1T").is_err() && size("99999999999G").is_err());
    }

    #[test]
    fn off_is_no_folder() {
        let args = |cache: Option<&str>| CacheArgs { cache: cache.map(Into::into), cache_limit: 1 };
        assert_eq!(args(Some("off")).folder().unwrap(), None);
        assert_eq!(args(Some("/a/b")).folder().unwrap(), Some("/a/b".into()));
        assert!(args(Some("c")).folder().unwrap().unwrap().is_absolute());
    }
}

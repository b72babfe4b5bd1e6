//! The ways of running a program that are compared: natively, under each installed QEMU, and at xlate's levels.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// What `--engines` chooses from; native is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Natively, but the C library keeps to functions without AVX.
    #[value(name = "sse")]
    Sse,
    /// Every installed version of qemu-x86_64.
    Qemu,
    /// Tier 1 only.
    #[value(name = "O0")]
    O0,
    /// Tier 2 over single blocks, its cache empty.
    #[value(name = "O1")]
    O1,
    /// Tier 2, its cache empty.
    #[value(name = "O2")]
    O2,
    /// Tier 2 with a cache that earlier runs of the program have filled.
    Warm,
}

/// Programs of QEMU's user mode that may be installed.
const EMULATORS: [&str; 2] = ["qemu-x86_64", "qemu-x86_64-static"];

/// Has glibc (its manual, "Hardware Capability Tunables") choose its functions as for an Intel processor without AVX.
const WITHOUT_AVX: &str = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,Fast_Unaligned_Load";

/// What the persistent cache holds when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// There is no cache: the engine isn't ours.
    None,
    /// Nothing: every run has a new folder.
    Cold,
    /// What unmeasured runs of the same program have left.
    Warm,
}

/// One way of running a program.
#[derive(Clone, Debug)]
pub struct Engine {
    pub name: String,
    /// The words before the program's own.
    prefix: Vec<OsString>,
    pub cache: Cache,
}

impl Engine {
    fn new(name: impl Into<String>, prefix: &[&OsStr], cache: Cache) -> Self {
        Self { name: name.into(), prefix: prefix.iter().map(OsString::from).collect(), cache }
    }

    /// The command that runs a program this way; `folder` is the cache's, if there is one.
    pub fn command(&self, program: &Path, arguments: &[OsString], folder: &Path) -> Command {
        let mut words = self.prefix.clone();
        if self.cache != Cache::None {
            let mut option = OsString::from("--cache=");
            option.push(folder);
            words.push(option);
        }
        words.push(program.into());
        words.extend_from_slice(arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// The chosen engines, native first, and the emulators that were wanted and aren't installed.
pub fn engines(chosen: &[Choice]) -> std::io::Result<(Vec<Engine>, Vec<String>)> {
    let mut engines = vec![Engine::new("native", &[], Cache::None)];
    let mut missing = Vec::new();
    let xlate = std::env::current_exe()?;
    for choice in Choice::value_variants().iter().filter(|c| chosen.contains(c)) {
        match choice {
            Choice::Sse => {
                let words = ["/usr/bin/env", WITHOUT_AVX].map(OsStr::new);
                engines.push(Engine::new("native SSE", &words, Cache::None));
            }
            Choice::Qemu => emulators(&mut engines, &mut missing),
            Choice::O0 => engines.push(own("xlate O0", &xlate, "--opt=O0", Cache::Cold)),
            Choice::O1 => engines.push(own("xlate O1", &xlate, "--opt=O1", Cache::Cold)),
            Choice::O2 => engines.push(own(super::targets::COLD, &xlate, "--opt=O2", Cache::Cold)),
            Choice::Warm => engines.push(own(super::targets::WARM, &xlate, "--opt=O2", Cache::Warm)),
        }
    }
    Ok((engines, missing))
}

fn own(name: &str, xlate: &Path, level: &str, cache: Cache) -> Engine {
    Engine::new(name, &[xlate.as_os_str(), OsStr::new("run"), OsStr::new(level)], cache)
}

/// The static and the dynamic package of one release are one emulator; only if there is none is one missing.
fn emulators(engines: &mut Vec<Engine>, missing: &mut Vec<String>) {
    let mut versions = Vec::new();
    for emulator in EMULATORS {
        let Some(version) = version(emulator) else { continue };
        if !versions.contains(&version) {
            engines.push(Engine::new(format!("qemu {version}"), &[OsStr::new(emulator)], Cache::None));
            versions.push(version);
        }
    }
    if versions.is_empty() {
        missing.push(EMULATORS[0].to_owned());
    }
}

/// `qemu-x86_64 version 7.2.22 (Debian …)`: the third word.
fn version(emulator: &str) -> Option<String> {
    let output = Command::new(emulator).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// An installed program by name, from the distribution's folders only: what `PATH` finds may be a shim that picks a
/// version first.
pub fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|w| w.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn native_is_the_program_itself() {
        let (engines, _) = engines(&[]).unwrap();
        assert_eq!(engines.len(), 1);
        let command = engines[0].command(Path::new("/bin/ls"), &["-l".into()], Path::new("/c"));
        assert_eq!(words(&command), ["/bin/ls", "-l"]);
    }

    #[test]
    fn native_without_avx_is_another_environment() {
        let (engines, _) = engines(&[Choice::Sse]).unwrap();
        let words = words(&engines[1].command(Path::new("/bin/ls"), &[], Path::new("/c")));
        assert!(words[1].starts_with("GLIBC_TUNABLES=") && words[2] == "/bin/ls", "{words:?}");
    }

    #[test]
    fn own_levels_have_the_folder_they_are_given() {
        let (engines, _) = engines(&[Choice::Warm, Choice::O0]).unwrap();
        let of = |e: &Engine| words(&e.command(Path::new("p"), &[], Path::new("/c")))[1..].to_vec();
        assert_eq!(of(&engines[1]), ["run", "--opt=O0", "--cache=/c", "p"]);
        assert_eq!(of(&engines[2]), ["run", "--opt=O2", "--cache=/c", "p"]);
    }

    #[test]
    fn programs_come_from_the_distribution() {
        assert_eq!(installed("true").map(|p| p.starts_with("/usr/bin") || p.starts_with("/bin")), Some(true));
        assert_eq!(installed("no such program"), None);
    }
}

//! Makes what the benchmarks run on: compiled programs and generated texts, in one temporary folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::engines::installed;
use super::set::{Benchmark, Program, Word};

/// A benchmark ready to be run.
#[derive(Debug)]
pub struct Prepared {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// The file that [`Word::Output`] stands for.
    pub output: PathBuf,
}

/// Makes the benchmark's program and input in `folder`; `None` if its program isn't installed, or can't run on this processor.
pub fn prepare(benchmark: &Benchmark, small: bool, sources: &Path, folder: &Path) -> anyhow::Result<Option<Prepared>> {
    let program = match benchmark.program {
        Program::Compiled => compile(sources, &format!("{}.c", benchmark.name), &[], folder.join(benchmark.name))?,
        Program::CompiledFor(_, level) if !level.is_here() => return Ok(None),
        Program::CompiledFor(name, level) => compile(sources, name, level.options(), folder.join(benchmark.name))?,
        Program::Installed(name) => match installed(name) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let size = if small { benchmark.size.small } else { benchmark.size.full };
    let output = folder.join("output");
    let argument = |word: &Word| -> anyhow::Result<OsString> {
        Ok(match word {
            Word::Is(text) => text.into(),
            Word::Size(prefix) => format!("{prefix}{size}").into(),
            Word::Output => output.clone().into(),
            Word::Text => text_file(folder, size as usize)?.into(),
            Word::Source(prefix, name) => {
                let mut word = OsString::from(prefix);
                word.push(source(sources, name)?);
                word
            }
        })
    };
    let arguments = benchmark.arguments.iter().map(argument).collect::<Result<_, _>>()?;
    Ok(Some(Prepared { program, arguments, output }))
}

fn source(sources: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = sources.join(name);
    if !path.is_file() {
        bail!("{}: no such file; name the folder of the benchmark sources with --sources", path.display());
    }
    Ok(path)
}

fn compile(sources: &Path, name: &str, options: &[&str], program: PathBuf) -> anyhow::Result<PathBuf> {
    let source = source(sources, name)?;
    let mut gcc = Command::new("gcc");
    let status = gcc.arg("-O2").args(options).arg("-o").arg(&program).arg(&source).arg("-lm").status();
    match status {
        Ok(s) if s.success() => Ok(program),
        Ok(s) => bail!("gcc can't compile {}: {s}", source.display()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => bail!("gcc: not found; install it to compile the benchmarks"),
        Err(e) => Err(e).context("gcc"),
    }
}

fn text_file(folder: &Path, bytes: usize) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("text-{bytes}"));
    fs::write(&path, text(bytes)).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// The same text every time, about as compressible as prose: lines of words, frequent ones being short.
fn text(bytes: usize) -> Vec<u8> {
    const SYLLABLES: [&str; 16] =
        ["ka", "ri", "on", "es", "tor", "mel", "a", "du", "ph", "ing", "or", "the", "lo", "ver", "st", "un"];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let words: Vec<String> =
        (1..=4096u32).map(|rank| (0..1 + rank.ilog2() / 3).map(|_| SYLLABLES[random.below(16)]).collect()).collect();
    let mut text = Vec::with_capacity(bytes + 64);
    while text.len() < bytes {
        for _ in 0..10 {
            // The product of two even draws favours low ranks, as Zipf's law wants it.
            let rank = random.below(words.len()) * random.below(words.len()) / words.len();
            text.extend_from_slice(words[rank].as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(format!("{}\n", random.below(100_000)).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_same_every_time_and_as_long_as_asked() {
        let a = text(10_000);
        assert_eq!(a.len(), 10_000);
        assert_eq!(a, text(10_000));
        assert_eq!(a[..5_000], text(5_000)[..]);
        assert!(a.iter().all(u8::is_ascii) && a.contains(&b'\n'));
    }
}

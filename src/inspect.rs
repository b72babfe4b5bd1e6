//! `xlate inspect`: shows what an image (or another tool's core file) holds, for people or as JSON.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use syscalls::x86_64::Sysno;
use xlate_abi::image::core_notes::Registers;
use xlate_abi::image::notes::{Descriptor, MappingNote, Signals};
use xlate_abi::image::{Image, ImageError, PAGE, Thread};

use crate::status::{CommandError, CommandResult, Status};

/// Shows what an image holds: process, registers, memory, descriptors, signals, limits.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An image by `xlate checkpoint`, or a core file of an x86-64 process.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Prints everything as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> CommandResult {
    let image = open(&args.image)?;
    let text = if args.json { format!("{:#}\n", to_json(&image)) } else { Report::new(&image).text };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
    }
}

/// Opens and reads an image; the message names the file.
pub fn open(path: &Path) -> Result<Image, CommandError> {
    let name = || path.display().to_string();
    let status = |e: &io::Error| match e.kind() {
        io::ErrorKind::NotFound => Status::NotFound,
        _ => Status::Unusable,
    };
    let file = File::open(path).map_err(|e| {
        let status = status(&e);
        CommandError::new(status, anyhow::Error::from(e).context(name()))
    })?;
    Image::read(&file).with_context(name).map_err(|error| CommandError {
        status: match error.downcast_ref::<ImageError>() {
            Some(ImageError::Io(e)) => status(e),
            _ => Status::Unusable,
        },
        error,
    })
}

/// Register names in the order of [`Registers::words`].
const REGISTER_NAMES: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];

fn registers_json(registers: &Registers) -> Value {
    REGISTER_NAMES.iter().zip(registers.words()).map(|(name, word)| (name.to_string(), json!(word))).collect()
}

fn to_json(image: &Image) -> Value {
    let thread = |t: &Thread| {
        json!({
            "tid": t.status.pid,
            "registers": registers_json(&t.status.registers),
            "xstate_size": t.xstate.len(),
            "registered": t.note,
        })
    };
    let segment = |s: &xlate_abi::image::Segment| {
        json!({
            "address": s.address,
            "memory_size": s.memory_size,
            "file_offset": s.file_offset,
            "file_size": s.file_size,
            "access": s.access.text(),
        })
    };
    json!({
        "file_size": image.file_size,
        "plain_core": image.is_plain_core(),
        "process": image.process,
        "arguments": image.info.as_ref().map(|i| String::from_utf8_lossy(&i.arguments).into_owned()),
        "threads": image.threads.iter().map(thread).collect::<Vec<_>>(),
        "memory": image.memory,
        "segments": image.segments.iter().map(segment).collect::<Vec<_>>(),
        "descriptors": image.descriptors.as_ref().map(|d| &d.open),
        "signals": image.signals,
        "limits": image.limits.as_ref().map(|l| &l.limits),
        "timers": image.timers,
        "auxv": image.auxv,
    })
}

/// The text for people.
struct Report<'a> {
    image: &'a Image,
    text: String,
}

/// Appends a line; writing to a String can't fail.
macro_rules! line {
    ($report:expr, $($format:tt)*) => {
        let _ = writeln!($report.text, $($format)*);
    };
}

impl<'a> Report<'a> {
    fn new(image: &'a Image) -> Self {
        let mut report = Self { image, text: String::new() };
        report.process();
        report.threads();
        report.memory();
        report.descriptors();
        report.signals();
        report.limits();
        report
    }

    fn process(&mut self) {
        if self.image.is_plain_core() {
            line!(self, "a core file by another tool: descriptors, signals and limits aren't in it");
        }
        if let Some(info) = &self.image.info {
            line!(self, "command     {}", String::from_utf8_lossy(&info.arguments));
        }
        let Some(p) = &self.image.process else { return };
        line!(self, "process     pid {}, parent {}, group {}, session {}", p.pid, p.ppid, p.pgid, p.sid);
        line!(self, "program     {} ({})", p.exe.text(), p.comm.text());
        line!(self, "directory   {}", p.cwd.text());
        line!(
            self,
            "user        {} (effective {}), group {} (effective {})",
            p.uids[0],
            p.uids[1],
            p.gids[0],
            p.gids[1]
        );
        line!(self, "umask       {:03o}", p.umask);
    }

    fn threads(&mut self) {
        for t in &self.image.threads {
            let r = &t.status.registers;
            line!(self, "\nthread {}    {} bytes of extended state", t.status.pid, t.xstate.len());
            let (names, words) = (REGISTER_NAMES, r.words());
            for row in names.iter().zip(words).collect::<Vec<_>>().chunks(4) {
                let cells: Vec<String> = row.iter().map(|(name, word)| format!("{name:>8} {word:016x}")).collect();
                line!(self, "{}", cells.join("  "));
            }
            let mappings = self.image.mappings();
            if let Some(m) = mappings.iter().find(|m| (m.start..m.end).contains(&r.rip)) {
                line!(self, "  stopped in {} at offset {:#x}", m.name.text(), r.rip - m.start + m.offset);
            }
            if let Some(call) = t.note.as_ref().and_then(|n| n.interrupted) {
                line!(self, "  restarts the system call {}", call_name(call.number));
            }
        }
    }

    fn memory(&mut self) {
        let mappings = self.image.mappings();
        let size: u64 = mappings.iter().map(|m| m.end - m.start).sum();
        let stored: u64 = self.image.segments.iter().map(|s| s.file_size).sum();
        line!(self, "\nmemory      {} mappings, {}, {} stored", mappings.len(), amount(size), amount(stored));
        if let Some(m) = &self.image.memory {
            line!(self, "heap        {:#x} to {:#x}", m.brk_start, m.brk);
        }
        for m in &mappings {
            self.mapping(m);
        }
    }

    fn mapping(&mut self, m: &MappingNote) {
        let stored: u64 = self.image.segments_within(m.start, m.end).iter().map(|s| s.file_size).sum();
        let sharing = if m.shared { 's' } else { 'p' };
        line!(
            self,
            "  {:012x}-{:012x} {}{sharing} {:>9} {:>9} {}",
            m.start,
            m.end,
            m.access.text(),
            amount(m.end - m.start),
            amount(stored),
            m.name.text()
        );
    }

    fn descriptors(&mut self) {
        let Some(descriptors) = &self.image.descriptors else { return };
        line!(self, "\ndescriptors {}", descriptors.open.len());
        for d in &descriptors.open {
            line!(self, "{}", descriptor(d));
        }
    }

    fn signals(&mut self) {
        let Some(Signals { actions, mask, pending, altstack }) = &self.image.signals else { return };
        line!(self, "\nsignals     blocked {mask:#x}, {} pending", pending.len());
        for a in actions {
            let handler = match a.handler {
                0 => "default".to_owned(),
                1 => "ignored".to_owned(),
                address => format!("handler {address:#x}"),
            };
            line!(self, "  {:>2} {handler}, flags {:#x}, mask {:#x}", a.signal, a.flags, a.mask);
        }
        if altstack.size != 0 {
            line!(self, "  alternate stack at {:#x}, {}", altstack.address, amount(altstack.size));
        }
        for t in self.image.timers.iter().flat_map(|t| &t.interval) {
            line!(self, "  interval timer {}: {} µs left, every {} µs", t.which, t.value, t.interval);
        }
    }

    fn limits(&mut self) {
        let Some(limits) = &self.image.limits else { return };
        let bound: Vec<String> = limits
            .limits
            .iter()
            .filter(|l| l.soft != u64::MAX)
            .map(|l| format!("{} {}", limit_name(l.resource), l.soft))
            .collect();
        line!(self, "\nlimits      {}", bound.join(", "));
    }
}

fn descriptor(d: &Descriptor) -> String {
    let access = ["read", "write", "read and write", "path"][(d.flags & 3) as usize];
    let kind = format!("{:?}", d.kind).to_lowercase();
    let mut text = format!("  {:>3} {kind:<9} {access}, offset {}, {}", d.number, d.offset, d.path.text());
    if let Some(first) = d.same_as {
        let _ = write!(text, ", shared with {first}");
    }
    if d.close_on_exec {
        text.push_str(", closed on exec");
    }
    if !d.kind.is_carried() {
        text.push_str(", NOT CARRIED");
    }
    text
}

fn call_name(number: u64) -> String {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    known.map_or_else(|| number.to_string(), |call| call.name().to_owned())
}

/// RLIMIT_* of x86-64 (`include/uapi/asm-generic/resource.h`).
fn limit_name(resource: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.get(resource as usize).copied().unwrap_or("?")
}

/// Bytes for people.
fn amount(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        if bytes >= 1 << shift && bytes >= PAGE {
            return format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(amount(0), "0 B");
        assert_eq!(amount(4096), "4.0 KiB");
        assert_eq!(amount(3 << 19), "1.5 MiB");
        assert_eq!(amount(64 << 40), "64.0 TiB");
    }

    #[test]
    fn calls_and_limits_have_names() {
        assert_eq!(call_name(35), "nanosleep");
        assert_eq!(call_name(99_999), "99999");
        assert_eq!(limit_name(3), "stack");
    }
}

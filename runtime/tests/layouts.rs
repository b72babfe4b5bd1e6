//! Layouts and flags against the kernel's own headers, as the C compilers of both architectures see them.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use xlate_runtime::linux::convert::{
    EpollEventGeneric, EpollEventX86, SemidGeneric, SemidX86, StatGeneric, StatX86, open_flags_from_aarch64,
    open_flags_to_aarch64,
};

/// Compiles and runs `layouts.c`; says so and returns nothing where a tool is missing.
fn headers(compiler: &str, runner: Option<&str>) -> Headers {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("layouts-{compiler}"));
    let mut compile = Command::new(compiler);
    let Ok(status) = compile.args(["-static", "-o"]).arg(&program).arg(source).status() else {
        eprintln!("skipped: {compiler} is missing");
        return None;
    };
    assert!(status.success(), "{compiler} failed");
    let mut run = match runner {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(&program);
            command
        }
        None => Command::new(&program),
    };
    let Ok(output) = run.output() else {
        eprintln!("skipped: {runner:?} is missing");
        return None;
    };
    assert!(output.status.success(), "{run:?} failed");
    let text = String::from_utf8(output.stdout).expect("plain text");
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    Some(text.lines().map(pair).collect())
}

type Headers = Option<BTreeMap<String, u64>>;

fn x86_64() -> &'static Headers {
    static HEADERS: OnceLock<Headers> = OnceLock::new();
    let compiler = if cfg!(target_arch = "x86_64") { "gcc" } else { "x86_64-linux-gnu-gcc" };
    HEADERS.get_or_init(|| headers(compiler, None))
}

fn aarch64() -> &'static Headers {
    static HEADERS: OnceLock<Headers> = OnceLock::new();
    let runner = cfg!(target_arch = "x86_64").then_some("qemu-aarch64");
    HEADERS.get_or_init(|| headers("aarch64-linux-gnu-gcc", runner))
}

fn expect(headers: &BTreeMap<String, u64>, ours: &[(&str, usize)]) {
    for (name, value) in ours {
        assert_eq!(headers.get(*name), Some(&(*value as u64)), "{name}");
    }
}

macro_rules! layout {
    ($headers:expr, $name:literal, $type:ty { $($field:ident: $theirs:literal),* $(,)? }) => {
        expect($headers, &[
            (concat!("sizeof(", $name, ")"), size_of::<$type>()),
            $((concat!($name, ".", $theirs), offset_of!($type, $field)),)*
        ]);
    };
}

#[test]
fn x86_64_layouts() {
    let Some(headers) = x86_64() else { return };
    layout!(
        &headers,
        "stat",
        StatX86 {
            dev: "st_dev",
            ino: "st_ino",
            nlink: "st_nlink",
            mode: "st_mode",
            uid: "st_uid",
            gid: "st_gid",
            rdev: "st_rdev",
            size: "st_size",
            blksize: "st_blksize",
            blocks: "st_blocks",
            atime: "st_atime",
            mtime: "st_mtime",
            ctime: "st_ctime",
        }
    );
    layout!(headers, "epoll_event", EpollEventX86 { events: "events", data: "data" });
    layout!(headers, "semid64_ds", SemidX86 { otime: "sem_otime", ctime: "sem_ctime", nsems: "sem_nsems" });
}

#[test]
fn aarch64_layouts() {
    let Some(headers) = aarch64() else { return };
    layout!(
        &headers,
        "stat",
        StatGeneric {
            dev: "st_dev",
            ino: "st_ino",
            nlink: "st_nlink",
            mode: "st_mode",
            uid: "st_uid",
            gid: "st_gid",
            rdev: "st_rdev",
            size: "st_size",
            blksize: "st_blksize",
            blocks: "st_blocks",
            atime: "st_atime",
            mtime: "st_mtime",
            ctime: "st_ctime",
        }
    );
    layout!(headers, "epoll_event", EpollEventGeneric { events: "events", data: "data" });
    layout!(headers, "semid64_ds", SemidGeneric { otime: "sem_otime", ctime: "sem_ctime", nsems: "sem_nsems" });
}

#[test]
fn open_flags_have_the_headers_values() {
    let (Some(x86), Some(arm)) = (x86_64(), aarch64()) else { return };
    let flags: Vec<&String> = x86.keys().filter(|name| name.starts_with("O_") || *name == "FASYNC").collect();
    assert_eq!(flags.len(), 17);
    for name in flags {
        assert_eq!(open_flags_to_aarch64(x86[name]), arm[name], "{name} to AArch64");
        assert_eq!(open_flags_from_aarch64(arm[name]), x86[name], "{name} from AArch64");
    }
}

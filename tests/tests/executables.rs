//! How programs start: by execve, by which names, with which stack and auxiliary vector; and ELF files that no linker makes,
//! each executed by a guest program: what Linux refuses, kills or runs, is refused, killed or run here. Those files are
//! made by hand, byte by byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use xlate_tests::guest::{ARM_MODES, LIMIT, MODES, Mode, OPTIMIZED, compile, run, same_in, xlate};

const LOAD: u32 = 1;
const INTERP: u32 = 3;
const GNU_STACK: u32 = 0x6474_e551;
const R: u32 = 4;
const W: u32 = 2;
const X: u32 = 1;
const EXEC: u16 = 2;
const DYN: u16 = 3;
const PAGE: u64 = 4096;
/// Where programs begin whose addresses are fixed.
const BASE: u64 = 0x40_0000;

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

/// A segment with the whole file's beginning.
fn load(flags: u32, address: u64) -> Segment {
    Segment { kind: LOAD, flags, offset: 0, address, file_size: 2 * PAGE, memory_size: 2 * PAGE, alignment: PAGE }
}

/// A file: headers on the first page, code on the second one, and whatever is changed in it.
struct File {
    kind: u16,
    machine: u16,
    entry: u64,
    header_size: u16,
    segments: Vec<Segment>,
    code: Vec<u8>,
    /// Bytes from offset 0xf00 on: a path, or nothing.
    path: Vec<u8>,
    size: usize,
}

impl File {
    fn new(code: &[u8]) -> Self {
        Self {
            kind: EXEC,
            machine: 62,
            entry: BASE + PAGE,
            header_size: 56,
            segments: vec![load(R | X, BASE)],
            code: code.to_vec(),
            path: Vec::new(),
            size: 2 * PAGE as usize,
        }
    }

    /// Position-independent, with nothing to relocate.
    fn anywhere(code: &[u8]) -> Self {
        Self { kind: DYN, entry: PAGE, segments: vec![load(R | X, 0)], ..Self::new(code) }
    }

    fn with(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self
    }

    fn with_interpreter(mut self, path: &[u8]) -> Self {
        self.path = path.to_vec();
        let len = path.len() as u64;
        let at = Segment { kind: INTERP, offset: 0xf00, file_size: len, memory_size: len, ..load(R, BASE + 0xf00) };
        self.segments.insert(0, at);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(self.entry.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend([0; 12]);
        for half in [64, self.header_size, self.segments.len() as u16, 0, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        for s in &self.segments {
            bytes.extend(s.kind.to_le_bytes());
            bytes.extend(s.flags.to_le_bytes());
            for value in [s.offset, s.address, s.address, s.file_size, s.memory_size, s.alignment] {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes.resize(0xf00, 0);
        bytes.extend(&self.path);
        bytes.resize(PAGE as usize, 0);
        bytes.extend(&self.code);
        bytes.resize(2 * PAGE as usize, 0xcc);
        bytes.truncate(self.size);
        bytes
    }
}

/// `mov edi, STATUS; mov eax, 60; syscall`: exits.
fn exit(status: u8) -> Vec<u8> {
    vec![0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]
}

/// Exits with the byte at `address`, after it has added one to it if it may `write`.
fn exit_with_byte(address: u64, write: bool) -> Vec<u8> {
    // mov rsi, ADDRESS; inc byte ptr [rsi]; movzx edi, byte ptr [rsi]; mov eax, 60; syscall
    let mut code = vec![0x48, 0xbe];
    code.extend(address.to_le_bytes());
    if write {
        code.extend([0xfe, 0x06]);
    }
    code.extend([0x0f, 0xb6, 0x3e, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    code
}

/// Exits with the number of pages between the beginning of its file and the multiple of 2 MiB before that.
fn exit_with_place() -> Vec<u8> {
    // lea rdi, [rip - 0x1007]; and edi, 0x1fffff; shr edi, 12; mov eax, 60; syscall
    vec![
        0x48, 0x8d, 0x3d, 0xf9, 0xef, 0xff, 0xff, 0x81, 0xe7, 0xff, 0xff, 0x1f, 0, 0xc1, 0xef, 12, 0xb8, 60, 0, 0, 0,
        0x0f, 0x05,
    ]
}

/// Calls a `ret` on its stack, then exits with 33.
fn call_the_stack() -> Vec<u8> {
    // push 0xc3; call rsp
    [&[0x68, 0xc3, 0, 0, 0, 0xff, 0xd4][..], &exit(33)].concat()
}

/// The files by name.
fn files() -> Vec<(&'static str, File)> {
    let plain = || File::new(&exit(53));
    let one = |segment: Segment, code: &[u8]| File { segments: vec![segment], ..File::new(code) };
    let whole = load(R | X, BASE);
    // The second page of the file once more, at another address.
    let data = |flags, address| Segment { offset: PAGE, file_size: PAGE, memory_size: PAGE, ..load(flags, address) };
    vec![
        ("plain", plain()),
        ("executable only", one(load(X, BASE), &exit(54))),
        ("not executable", one(load(R | W, BASE), &exit(54))),
        ("writable", one(load(R | W | X, BASE), &exit_with_byte(BASE + PAGE + 0x100, true))),
        ("low", File { entry: 0x1_1000, ..one(load(R | X, 0x1_0000), &exit(55)) }),
        ("above 4 GiB", File { entry: (1 << 32) + PAGE, ..one(load(R | X, 1 << 32), &exit(56)) }),
        ("near the top", File { entry: 0x7f00_0000_1000, ..one(load(R | X, 0x7f00_0000_0000), &exit(57)) }),
        ("alignment below a page", one(Segment { alignment: 4, ..whole }, &exit(58))),
        ("no alignment", one(Segment { alignment: 0, ..whole }, &exit(58))),
        ("odd alignment", one(Segment { alignment: 12345, ..whole }, &exit(58))),
        ("offset and address disagree", one(Segment { offset: 16, ..whole }, &exit(58))),
        (
            "two segments share a page",
            File::new(&exit_with_byte(BASE + 2 * PAGE + 0x204, true)).with(Segment {
                offset: PAGE + 0x200,
                address: BASE + 2 * PAGE + 0x200,
                file_size: 16,
                memory_size: 16,
                ..data(R | W, 0)
            }),
        ),
        ("the later segment wins", File::new(&exit_with_byte(BASE + PAGE, true)).with(data(R | W | X, BASE + PAGE))),
        (
            "zeros after the file's part",
            File::new(&exit_with_byte(BASE + 4 * PAGE + 8, true)).with(Segment {
                file_size: 8,
                memory_size: 3 * PAGE,
                ..data(R | W, BASE + 4 * PAGE)
            }),
        ),
        (
            "zeros on further pages",
            File::new(&exit_with_byte(BASE + 6 * PAGE, true)).with(Segment {
                file_size: 8,
                memory_size: 3 * PAGE,
                ..data(R | W, BASE + 4 * PAGE)
            }),
        ),
        (
            "zeros in a segment that is only read",
            File::new(&exit_with_byte(BASE + 6 * PAGE, true)).with(Segment {
                file_size: 8,
                memory_size: 3 * PAGE,
                ..data(R, BASE + 4 * PAGE)
            }),
        ),
        (
            "the file's bytes in a segment that is only read",
            File::new(&exit_with_byte(BASE + 4 * PAGE + 0x800, false)).with(Segment {
                file_size: 8,
                memory_size: 3 * PAGE,
                ..data(R, BASE + 4 * PAGE)
            }),
        ),
        (
            "nothing but zeros",
            File::new(&exit_with_byte(BASE + 8 * PAGE + 100, true)).with(Segment {
                file_size: 0,
                memory_size: 3 * PAGE,
                ..data(R | W, BASE + 8 * PAGE)
            }),
        ),
        (
            "zeros in the middle",
            File::new(&exit_with_byte(BASE + 9 * PAGE, true))
                .with(Segment { file_size: 8, memory_size: 8 * PAGE, ..data(R | W, BASE + 4 * PAGE) })
                .with(data(R | W, BASE + 9 * PAGE)),
        ),
        ("an empty segment", plain().with(Segment { file_size: 0, memory_size: 0, ..data(R, BASE + 8 * PAGE) })),
        ("larger in the file", one(Segment { memory_size: 100, ..whole }, &exit(59))),
        ("beyond all addresses", plain().with(Segment { memory_size: u64::MAX, ..data(R, BASE + 8 * PAGE) })),
        ("nothing to load", File { segments: vec![Segment { kind: GNU_STACK, ..whole }], ..plain() }),
        (
            "nothing to load anywhere",
            File { segments: vec![Segment { kind: GNU_STACK, ..whole }], kind: DYN, ..plain() },
        ),
        ("entry at nothing", File { entry: 0x1234_5000, ..plain() }),
        ("anywhere", File::anywhere(&exit(60))),
        (
            "anywhere, at 2 MiB",
            File {
                segments: vec![Segment { alignment: 2 << 20, ..load(R | X, 0) }],
                ..File::anywhere(&exit_with_place())
            },
        ),
        ("a stack without X", File::new(&call_the_stack()).with(Segment { kind: GNU_STACK, flags: R | W, ..whole })),
        ("a stack with X", File::new(&call_the_stack()).with(Segment { kind: GNU_STACK, flags: R | W | X, ..whole })),
        ("a stack that isn't described", File::new(&call_the_stack())),
        ("interpreter", plain().with_interpreter(b"./anywhere\0")),
        ("interpreter at a fixed place", plain().with_interpreter(b"./low\0")),
        ("interpreter with a long name", plain().with_interpreter(b"./../executables/././anywhere\0rest\0")),
        ("interpreter missing", plain().with_interpreter(b"./nothere\0")),
        ("interpreter below a file", plain().with_interpreter(b"./anywhere/x\0")),
        ("interpreter a directory", plain().with_interpreter(b"/\0")),
        ("interpreter not executable", plain().with_interpreter(b"/etc/passwd\0")),
        ("interpreter of another format", plain().with_interpreter(b"./script\0")),
        ("interpreter too short", plain().with_interpreter(b"./short\0")),
        ("interpreter for another machine", plain().with_interpreter(b"./another_machine\0")),
        ("interpreter without headers", plain().with_interpreter(b"./no_headers\0")),
        ("interpreter with nothing to load", plain().with_interpreter(b"./nothing_to_load_anywhere\0")),
        ("interpreter without a name", plain().with_interpreter(b"\0")),
        ("interpreter without an end", plain().with_interpreter(b"./anywhere")),
        ("another machine", File { machine: 183, ..plain() }),
        ("an object file", File { kind: 1, ..plain() }),
        ("no headers", File { segments: Vec::new(), ..plain() }),
        ("headers of another size", File { header_size: 64, ..plain() }),
        ("too short", File { size: 70, ..plain() }),
        ("short", File { size: 20, ..plain() }),
        ("script", File { size: 0, ..plain() }),
    ]
}

/// Writes all files to a folder, under names that a shell needs no quotes for.
fn written() -> (PathBuf, Vec<PathBuf>) {
    let root = std::env::temp_dir().join(format!(
        "xlate-executables-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let folder = root.join("executables");
    fs::create_dir_all(&folder).unwrap();
    let paths = files().into_iter().map(|(name, file)| {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let path = folder.join(name);
        let bytes = if path.ends_with("script") { b"#!/bin/true\n".to_vec() } else { file.bytes() };
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    });
    let paths = paths.collect();
    (root, paths)
}

/// All of them in one run of a program that executes each.
fn odd_files_in(modes: &[Mode]) {
    let program = compile("features", "exec", &["-O2"]);
    let (root, paths) = written();
    let shown = |command: &mut Command| {
        command.current_dir(root.join("executables")).arg(&program).arg("RUN");
        run(command.args(paths.iter().map(|p| Path::new(".").join(p.file_name().unwrap()))), LIMIT)
    };
    let (native, _) = shown(&mut Command::new("/usr/bin/env"));
    assert_eq!(native.stdout.lines().count(), paths.len(), "{}", native.stdout);
    for mode in modes {
        let (found, errors) = shown(Command::new(xlate()).args(["run", "--no-cache"]).args(mode.options));
        for (found, native) in found.stdout.lines().zip(native.stdout.lines()) {
            assert_eq!(found, native, "{}: {errors}", mode.name);
        }
        assert_eq!(found, native, "{}: {errors}", mode.name);
    }
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn odd_files_do_what_they_do_on_linux() {
    odd_files_in(&SOME_MODES);
}

#[test]
fn odd_files_do_what_they_do_on_linux_on_aarch64() {
    odd_files_in(&ARM_MODES[..1]);
}

/// Programs that start many others run in these modes only.
const SOME_MODES: [Mode; 3] = [MODES[0], MODES[1], MODES[3]];

#[test]
fn exec() {
    same_in(&SOME_MODES, &compile("features", "exec", &["-O2"]), &[]);
}

/// The emulator executes files by itself, so that nobody can ask the kernel whether they are being written to.
#[test]
fn exec_on_aarch64() {
    println!("skipped: refusing to execute a file that is being written to, which the emulator doesn't tell");
    same_in(&ARM_MODES[..1], &compile("features", "exec", &["-O2"]), &["emulated"]);
}

#[test]
fn start() {
    same_in(&MODES, &compile("features", "start", &["-O2"]), &[]);
    same_in(&MODES[..2], &compile("features", "start", &["-O2", "-no-pie"]), &[]);
    same_in(&OPTIMIZED, &compile("features", "start", &["-O2", "-static"]), &[]);
}

#[test]
fn start_on_aarch64() {
    same_in(&ARM_MODES[..2], &compile("features", "start", &["-O2"]), &[]);
}

/// The guest's variables for its dynamic loader aren't the translator's: `ldd` is nothing else.
#[test]
fn dynamic_loaders_variables_are_the_guests() {
    let listed = |command: &mut Command| {
        let (shown, errors) = run(command.args(["/usr/bin/ldd", "/bin/ls"]), LIMIT);
        let names = shown.stdout.lines().map(|line| line.split(" (").next().unwrap_or_default().trim().to_owned());
        (names.collect::<Vec<_>>(), shown.end, errors)
    };
    let native = listed(&mut Command::new("/usr/bin/env"));
    assert!(native.0.iter().any(|name| name == "linux-vdso.so.1"), "{native:?}");
    assert_eq!(listed(Command::new(xlate()).args(["run", "--no-cache"])), native);
}

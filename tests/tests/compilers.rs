//! The translator service by its protocol: it compiles for its clients, and compilers that take too long for a region or
//! die of it cost that region some of its size, and nobody else anything.

#![cfg(target_arch = "x86_64")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use xlate_abi::protocol::{
    Arch, Blob, BlockProfile, CodeBytes, CodeOptions, CompileRequest, OptLevel, Request, Response, Target,
};
use xlate_tests::guest::{LIMIT, compile, run, xlate};

/// What has a compiler fail, for tests: see the program.
const FAULT: &str = "XLATE_COMPILER_FAULT";
const ENTRY: u64 = 0x1000;
/// add rax, [rdi]; add rdi, 8; cmp rdi, rbx; jne back; ret
const LOOP: [u8; 13] = [0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48, 0x39, 0xdf, 0x75, 0xf4, 0xc3];

/// A service with one compiler at a time and a socket of its own.
struct Service {
    process: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Service {
    fn start(fault: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("service");
        let mut command = Command::new(xlate());
        command.args(["serve", "--jobs=1", "--idle=1", "--socket"]).arg(&socket).args(options);
        if !fault.is_empty() {
            command.env(FAULT, fault);
        }
        let process = command.stderr(Stdio::null()).spawn().expect("it is built");
        Self { process, socket, _folder: folder }
    }

    fn connect(&self) -> Connection {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                stream.set_read_timeout(Some(LIMIT)).expect("it is a socket");
                return Connection(stream);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nobody listens at {}", self.socket.display());
    }

    /// Its compilers that live: children of any of its threads.
    fn compilers(&self) -> Vec<Pid> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("the service lives");
        let children = threads.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("children")).ok());
        let children: String = children.collect();
        children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().expect("a number"))).collect()
    }

    /// The same, once there is one.
    fn first_compilers(&self) -> Vec<Pid> {
        let start = Instant::now();
        loop {
            let compilers = self.compilers();
            if !compilers.is_empty() {
                return compilers;
            }
            assert!(start.elapsed() < LIMIT, "no compiler is started");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Connection(UnixStream);

impl Connection {
    fn send(&mut self, request: CompileRequest) {
        let body = postcard::to_stdvec(&Request::Compile(request)).expect("it can be encoded");
        let message = [&(body.len() as u32).to_le_bytes(), &body[..]].concat();
        self.0.write_all(&message).expect("the service reads");
    }

    fn answer(&mut self) -> Response {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("the service answers");
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut body).expect("the service answers");
        postcard::from_bytes(&body).expect("an answer")
    }

    fn ask(&mut self, request: CompileRequest) -> Response {
        self.send(request);
        self.answer()
    }
}

fn request(id: u64, bytes: &[u8], profile: Vec<BlockProfile>) -> CompileRequest {
    CompileRequest {
        id,
        entry: ENTRY,
        target: xlate_llvm::host_target(),
        options: CodeOptions { opt: OptLevel::O2, precise: false, tso: false },
        grows: false,
        mutable: false,
        profile,
        indirect: Vec::new(),
        code: vec![CodeBytes { address: ENTRY, bytes: bytes.to_vec() }],
        data: Vec::new(),
    }
}

fn small(id: u64) -> CompileRequest {
    request(id, &LOOP, vec![BlockProfile { pc: ENTRY, count: 1000 }, BlockProfile { pc: ENTRY + 12, count: 3 }])
}

/// A region of so many blocks of two instructions each.
fn large(id: u64, blocks: u64) -> CompileRequest {
    // add eax, 1; jne next
    let code = [0x83, 0xc0, 0x01, 0x75, 0x00].repeat(blocks as usize);
    request(id, &code, (0..blocks).map(|n| BlockProfile { pc: ENTRY + 5 * n, count: 1000 }).collect())
}

fn compiled(response: Response) -> (u64, Blob, u32) {
    match response {
        Response::Compiled { id, blob, splits } => (id, *blob, splits),
        Response::Failed { reason, .. } => panic!("{reason}"),
    }
}

fn failed(response: Response) -> String {
    match response {
        Response::Failed { reason, .. } => reason,
        Response::Compiled { .. } => panic!("it is compiled"),
    }
}

#[test]
fn compiles_for_its_clients_and_ends_with_the_last() {
    let mut service = Service::start("", &[]);
    let mut client = service.connect();
    let arm = Target { arch: Arch::Aarch64, cpu: String::new(), features: String::new() };
    let single = CodeOptions { opt: OptLevel::O1, ..small(1).options };
    client.send(CompileRequest { options: single, ..small(1) });
    client.send(small(2));
    client.send(CompileRequest { target: arm, ..small(7) });
    let mut answers: Vec<_> = (0..3).map(|_| compiled(client.answer())).collect();
    answers.sort_by_key(|(id, ..)| *id);
    assert_eq!(answers.iter().map(|(id, _, splits)| (*id, *splits)).collect::<Vec<_>>(), [(1, 0), (2, 0), (7, 0)]);
    for (_, blob, _) in &answers {
        assert_eq!(blob.entry_pc, ENTRY);
        assert_eq!(blob.source[0], (ENTRY, 12));
    }
    // The loop is all of it that is hot; `ret` ran 3 times of 1000.
    assert_eq!(answers[1].1.guest_instructions, 4);
    assert_eq!(failed(client.ask(request(9, &[], Vec::new()))), "no code can be translated at 0x1000");

    let second = Command::new(xlate()).args(["serve", "--socket"]).arg(&service.socket).output().expect("it is built");
    assert!(String::from_utf8_lossy(&second.stderr).contains("listens on"), "a living service keeps its socket");
    drop(client);
    assert!(service.process.wait().expect("it is our child").success());
    assert!(!service.socket.exists());
}

#[test]
fn a_region_that_takes_too_long_is_split() {
    let service = Service::start("hang:20", &["--compile-limit=100"]);
    let mut client = service.connect();
    let (_, blob, splits) = compiled(client.ask(large(1, 80)));
    // 160 instructions, 80, 40, and then a single block.
    assert_eq!((blob.guest_instructions, splits), (2, 3));
    assert!(blob.compile_micros > 300_000, "the time of failed attempts counts: {} us", blob.compile_micros);
    let (_, blob, splits) = compiled(client.ask(small(2)));
    assert_eq!((blob.guest_instructions, splits), (4, 0));
}

#[test]
fn a_block_that_takes_too_long_stays_in_the_baseline() {
    let service = Service::start("hang:0", &["--compile-limit=50"]);
    let reason = failed(service.connect().ask(small(1)));
    assert!(reason.contains("more than 50 ms") && reason.contains("4 instructions in 1 block"), "{reason}");
}

#[test]
fn without_any_time_nothing_is_compiled() {
    let service = Service::start("", &["--compile-limit=0"]);
    let mut client = service.connect();
    for id in [1, 2] {
        let reason = failed(client.ask(large(id, 10)));
        assert!(reason.contains("more than 0 ms"), "{reason}");
    }
}

#[test]
fn a_compiler_that_dies_is_replaced_and_the_region_tried_once_more() {
    let service = Service::start("abort:20", &[]);
    let mut client = service.connect();
    assert!(service.compilers().is_empty(), "a service may be there for other work");
    // 160 instructions, 80: that's enough.
    let reason = failed(client.ask(large(1, 80)));
    assert!(reason.contains("SIGABRT") && reason.contains("80 instructions in 40 blocks"), "{reason}");
    // 30 instructions, then a single block.
    let (_, blob, splits) = compiled(client.ask(large(2, 15)));
    assert_eq!((blob.guest_instructions, splits), (2, 1));
    let (_, blob, splits) = compiled(service.connect().ask(small(3)));
    assert_eq!((blob.guest_instructions, splits), (4, 0));
}

#[test]
fn a_compiler_that_died_idle_costs_nothing() {
    let service = Service::start("", &[]);
    let mut client = service.connect();
    assert_eq!(compiled(client.ask(small(1))).2, 0);
    let [compiler] = service.compilers()[..] else { panic!("one compiler is enough for one job") };
    kill(compiler, Signal::SIGKILL).expect("it lives");
    wait_for_end(&[compiler]);
    assert_eq!(compiled(client.ask(small(2))).2, 0);
}

#[test]
fn compilers_end_with_their_service() {
    let mut service = Service::start("hang:0", &["--compile-limit=1000000"]);
    let mut client = service.connect();
    client.send(small(1));
    let compilers = service.first_compilers();
    assert_eq!(compilers.len(), 1);
    service.process.kill().expect("it is our child");
    service.process.wait().expect("it is our child");
    wait_for_end(&compilers);
}

fn wait_for_end(processes: &[Pid]) {
    let start = Instant::now();
    while processes.iter().any(|pid| is_alive(*pid)) {
        assert!(start.elapsed() < LIMIT, "{processes:?} live on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs: neither gone nor waiting for its parent to look, with none of its threads left.
fn is_alive(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = |(_, state): (&str, &str)| state.trim_start().starts_with(['Z', 'X']);
    threads > 1 || stat.rsplit_once(')').is_some_and(|stat| !ended(stat))
}

#[test]
fn a_guest_runs_right_with_split_regions_and_dead_compilers() {
    let guest = compile("guests", "qsort", &["-O2"]);
    let (native, _) = run(Command::new(&guest).arg("20"), LIMIT);
    for fault in ["hang:30", "abort:30"] {
        let service = Service::start(fault, &["--compile-limit=60"]);
        drop(service.connect());
        let mut command = Command::new(xlate().with_file_name("xlate-runtime"));
        command.arg("--service").arg(&service.socket).args(["--wait=yes", "--hot-optimized=300", "--stats", "--"]);
        let (shown, stats) = run(command.arg(&guest).arg("20"), LIMIT);
        assert_eq!(shown, native, "{fault}: {stats}");
        assert!(stats.contains(" split, ") && !stats.contains(" 0 split, "), "{fault}: {stats}");
    }
}

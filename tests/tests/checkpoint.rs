//! Checkpoints of real processes: what the image holds, how other tools read it, that the process goes on
//! unharmed, that the resumed one ends as an undisturbed one would, and what each kind of bad input gets.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use xlate_tests::guest::{ARM_MODES, LIMIT, MODES, Mode, OPTIMIZED, compile, run, xlate};
use xlate_tests::native::{Native, checkpoint, inspect, message};

fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Checks the status and that the message holds the words.
fn assert_refused(output: &Output, status: i32, words: &[&str]) {
    let text = message(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

const ROUNDS: [&str; 4] = ["out.txt", "150", "1", "10000"];

/// The computation that is disturbed, in its middle: some of its 150 rounds are done.
fn halfway() -> Native {
    let program = compile("guests", "halfway", &["-O2"]);
    let native = Native::start(&program, &ROUNDS);
    sleep_ms(250);
    native
}

/// What an undisturbed run leaves: its file and its standard output.
fn undisturbed() -> (String, String) {
    let program = compile("guests", "halfway", &["-O2"]);
    let mut native = Native::start(&program, &ROUNDS);
    assert_eq!(native.wait(), 7);
    (native.text("out.txt"), native.text("stdout"))
}

#[test]
fn the_process_goes_on_unharmed() {
    let mut native = halfway();
    for _ in 0..4 {
        let output = native.checkpoint(&[]);
        assert!(output.status.success(), "{}", message(&output));
        assert_eq!(message(&output), "");
    }
    assert_eq!(native.wait(), 7);
    assert_eq!((native.text("out.txt"), native.text("stdout")), undisturbed());
}

#[test]
fn an_image_tells_what_the_process_was() {
    let native = halfway();
    assert!(native.checkpoint(&["--leave-running"]).status.success());
    let image = inspect(&native.path("image"));
    assert_eq!(image["process"]["pid"].to_string(), native.pid());
    assert_eq!(image["process"]["comm"].as_str().map(|c| c.contains("halfway")), Some(true));
    assert_eq!(image["process"]["cwd"].as_str(), native.dir.path().canonicalize().unwrap().to_str());
    let descriptor = |path: &str| {
        let mut all = image["descriptors"].as_array().unwrap().iter();
        all.find(|d| d["path"].as_str().unwrap().ends_with(path)).cloned().unwrap()
    };
    assert_eq!(descriptor("/out.txt")["kind"], "regular");
    assert_eq!(descriptor("/dev/null")["kind"], "device");
    let action = |signal: i32| {
        let actions = image["signals"]["actions"].as_array().unwrap();
        actions.iter().find(|a| a["signal"] == signal).cloned().unwrap()
    };
    assert!(action(libc::SIGUSR1)["handler"].as_u64().unwrap() > 1);
    assert_eq!(action(libc::SIGUSR1)["flags"].as_u64().unwrap() & libc::SA_RESTART as u64, libc::SA_RESTART as u64);
    assert_eq!(action(libc::SIGHUP)["handler"], 1);
    assert_eq!(image["signals"]["mask"], 1 << (libc::SIGUSR2 - 1));
    assert_eq!(image["threads"].as_array().unwrap().len(), 1);
    assert!(image["memory"]["brk"].as_u64() > image["memory"]["brk_start"].as_u64());
    let mapped: Vec<&str> =
        image["memory"]["mappings"].as_array().unwrap().iter().filter_map(|m| m["backing"].as_str()).collect();
    for kind in ["file", "heap", "stack", "vdso", "anonymous"] {
        assert!(mapped.contains(&kind), "{kind} in {mapped:?}");
    }
}

#[test]
fn inspect_prints_a_page_for_people() {
    let native = halfway();
    assert!(native.checkpoint(&[]).status.success());
    let output = Command::new(xlate()).arg("inspect").arg(native.path("image")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["command ", "[stack]", "out.txt", "signals", "rip", "umask"] {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

#[test]
fn gdb_and_readelf_read_an_image() {
    let native = halfway();
    assert!(native.checkpoint(&[]).status.success());
    let image = native.path("image");
    let notes = Command::new("readelf").arg("-nW").arg(&image).output().expect("readelf is installed");
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
    for note in ["NT_PRSTATUS", "NT_PRPSINFO", "NT_AUXV", "NT_FILE", "NT_FPREGSET", "NT_X86_XSTATE", "XLATE"] {
        assert!(notes.contains(note), "{note} in {notes}");
    }
    let program = compile("guests", "halfway", &["-O2"]);
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "bt", "-ex", "printf \"rsp %lx\\n\", $rsp", "-c"])
        .args([&image, &program])
        .output()
        .expect("gdb is installed");
    let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
    assert!(text.matches("in descend").count() >= 50, "{text}");
    assert!(text.contains("in main"), "{text}");
    let rsp = inspect(&image)["threads"][0]["registers"]["rsp"].as_u64().unwrap();
    assert!(text.contains(&format!("rsp {rsp:x}")), "{rsp:x} in {text}");
}

/// Ends the process at its checkpoint and resumes it in a mode; output and status must be those of an undisturbed run.
fn resume_in(mode: &Mode) {
    let mut native = halfway();
    let output = native.checkpoint(&["--kill"]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(native.wait(), -1, "killed");
    let (file, stdout) = undisturbed();
    assert!(native.text("out.txt").len() < file.len(), "the checkpoint came too late");
    let mut command = Command::new(xlate());
    command.args(["run", "--no-cache"]).args(mode.options).arg(native.path("image")).current_dir("/");
    let (shown, stderr) = run(&mut command, LIMIT);
    assert_eq!(shown.end, 7, "{}: {stderr}", mode.name);
    assert_eq!(native.text("out.txt"), file, "{}: {stderr}", mode.name);
    // Standard output was a file: it is reopened, and what `xlate run` was started with stays empty.
    assert_eq!((shown.stdout, native.text("stdout")), (String::new(), stdout), "{}: {stderr}", mode.name);
}

#[test]
fn resumed_processes_end_as_undisturbed_ones() {
    MODES.iter().chain(&OPTIMIZED).for_each(resume_in);
}

#[test]
fn resumed_processes_end_as_undisturbed_ones_on_aarch64() {
    // Interpreting under an emulator takes minutes for this much; its own tests cover it on smaller programs.
    ARM_MODES.iter().filter(|mode| !mode.name.contains("interpreter")).for_each(resume_in);
}

#[test]
fn an_image_resumed_again_starts_with_its_hot_regions() {
    let mut native = halfway();
    let output = native.checkpoint(&["--kill"]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!(native.wait(), -1, "killed");
    let files = ["out.txt", "stdout"].map(|name| (native.path(name), native.text(name)));
    let resume = |options: &[&str]| {
        // A resumed process finds its files as it has left them.
        files.iter().for_each(|(path, text)| fs::write(path, text).expect("writable"));
        let mut command = Command::new(xlate());
        command
            .args(["run", "--cache"])
            .arg(native.path("cache"))
            .arg(format!("--stats={}", native.path("stats").display()));
        let (shown, stderr) = run(command.args(options).arg(native.path("image")).current_dir("/"), LIMIT);
        assert_eq!(shown.end, 7, "{stderr}");
        native.text("stats")
    };
    assert!(resume(&["--warm"]).contains(" 0 taken from there"));
    let again = resume(&[]);
    assert!(!again.contains(" 0 taken from there") && again.contains("cache: "), "{again}");
}

/// A process that waits is captured and killed in its wait; resumed, the wait ends as it would have.
fn wait_is_restarted(kind: &str, limit_ms: &str, shows: &str) {
    let program = compile("guests", "waits", &["-O2"]);
    let mut native = Native::start(&program, &[kind, limit_ms]);
    sleep_ms(150);
    let output = native.checkpoint(&["--leave-running"]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!((native.wait(), native.text("stdout").as_str()), (0, shows), "left running");
    fs::write(native.path("stdout"), "").expect("writable");
    let mut command = Command::new(xlate());
    command.args(["run", "--no-cache"]).arg(native.path("image"));
    let (shown, stderr) = run(&mut command, LIMIT);
    assert_eq!((shown.end, native.text("stdout").as_str()), (0, shows), "resumed: {stderr}");
}

#[test]
fn a_sleep_is_restarted() {
    wait_is_restarted("sleep", "1500", "sleep: 0, errno 0, alarms 0\n");
}

#[test]
fn a_poll_is_restarted() {
    wait_is_restarted("poll", "1500", "poll: 0, errno 0, alarms 0\n");
}

#[test]
fn a_select_is_restarted() {
    wait_is_restarted("select", "1500", "select: 0, errno 0, alarms 0\n");
}

#[test]
fn a_pause_ends_by_the_carried_timer() {
    wait_is_restarted("pause", "1500", "pause: -1, errno 4, alarms 1\n");
}

#[test]
fn a_sigsuspend_ends_by_the_carried_timer() {
    wait_is_restarted("suspend", "1500", "suspend: -1, errno 4, alarms 1\n");
}

/// A process is captured and killed while it waits; resumed, its clocks and timers go on.
fn goes_on_in(mode: &Mode, kind: &str, shows: &str) {
    let program = compile("guests", "holds", &["-O2"]);
    let mut native = Native::start(&program, &[kind, "3000"]);
    sleep_ms(1500);
    let output = native.checkpoint(&["--kill"]);
    assert!(output.status.success(), "{}", message(&output));
    assert_eq!((native.wait(), native.text("stdout").as_str()), (-1, ""), "captured in its wait");
    let mut command = Command::new(xlate());
    command.args(["run", "--no-cache"]).args(mode.options).arg(native.path("image"));
    let (shown, stderr) = run(&mut command, LIMIT);
    assert_eq!((shown.end, native.text("stdout").as_str()), (0, shows), "{}: {stderr}", mode.name);
}

#[test]
fn a_timer_whose_signal_waits_goes_on() {
    for mode in MODES.iter().take(1).chain(ARM_MODES.iter().take(1)) {
        goes_on_in(mode, "timer", "timer: goes on\n");
    }
}

#[test]
fn cpu_time_goes_on() {
    let all: String = (0..5).map(|clock| format!("clock {clock}: goes on\n")).collect();
    for mode in MODES.iter().take(1).chain(ARM_MODES.iter().take(1)) {
        goes_on_in(mode, "cpu", &all);
    }
}

#[test]
fn what_is_not_carried_is_named() {
    let program = compile("guests", "holds", &["-O2"]);
    let native = Native::start(&program, &["resources", "4000"]);
    sleep_ms(800);
    let shown = native.text("stdout");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let (shared, child) = (words[1], words[3]);
    let output = native.checkpoint(&[]);
    assert!(output.status.success(), "{}", message(&output));
    let text = message(&output);
    let wanted = [
        format!("shared memory at {shared}"),
        format!("its child {child} (guests-holds"),
        "the read lock (flock) on descriptor 3".to_owned(),
        "the write lock (F_SETLK) on descriptor 3".to_owned(),
    ];
    for words in &wanted {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert_eq!(text.lines().count(), wanted.len(), "{text}");
}

#[test]
fn another_users_process_needs_no_right_to_change_limits() {
    // Only root may capture another user's process at all.
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let mut sleep = Command::new("/bin/sleep").arg("30").uid(65534).gid(65534).spawn().unwrap();
    sleep_ms(100);
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"])
        .arg(xlate())
        .args(["checkpoint", &sleep.id().to_string(), "-o"])
        .arg(dir.path().join("image"))
        .output()
        .expect("util-linux is there");
    let _ = sleep.kill();
    let _ = sleep.wait();
    assert!(output.status.success(), "{}", message(&output));
}

#[test]
fn a_translated_process_is_refused() {
    let program = compile("guests", "waits", &["-O2"]);
    for mode in MODES.iter().take(1).chain(ARM_MODES.iter().take(1)) {
        let dir = tempfile::tempdir().unwrap();
        // Told by what it has mapped, not by its program's name.
        let mut command = Command::new(xlate());
        command.args(["run", "--no-cache"]).args(mode.options).arg(&program).args(["sleep", "3000"]);
        let mut guest = command.stdout(Stdio::piped()).spawn().expect("it starts");
        sleep_ms(1000);
        let pid = guest.id().to_string();
        let output = checkpoint(&pid, &dir.path().join("image"), &["--kill"]);
        assert_refused(&output, 126, &["runs under xlate", &pid]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(guest.wait().unwrap().code(), Some(0), "it goes on: {}", mode.name);
    }
}

#[test]
fn a_process_is_never_captured_in_the_vdso() {
    let program = compile("guests", "waits", &["-O2"]);
    let mut native = Native::start(&program, &["clock", "6000"]);
    sleep_ms(100);
    for _ in 0..6 {
        let output = native.checkpoint(&[]);
        assert!(output.status.success(), "{}", message(&output));
        let image = inspect(&native.path("image"));
        let rip = image["threads"][0]["registers"]["rip"].as_u64().unwrap();
        let vdso = image["memory"]["mappings"].as_array().unwrap().iter().find(|m| m["backing"] == "vdso").unwrap();
        assert!(!(vdso["start"].as_u64().unwrap()..vdso["end"].as_u64().unwrap()).contains(&rip), "{rip:x}");
    }
    assert_eq!((native.wait(), native.text("stdout").as_str()), (0, "clock: 0, errno 0, alarms 0\n"));
    fs::write(native.path("stdout"), "").expect("writable");
    let (shown, stderr) = run(Command::new(xlate()).args(["run", "--no-cache"]).arg(native.path("image")), LIMIT);
    assert_eq!((shown.end, native.text("stdout").as_str()), (0, "clock: 0, errno 0, alarms 0\n"), "{stderr}");
}

/// A process that can't be captured stays as it was, and no file appears.
fn assert_left_alone(native: &mut Native, status: i32, words: &[&str]) {
    let pid = native.pid();
    let mut words = words.to_vec();
    words.push(&pid);
    assert_refused(&native.checkpoint(&[]), status, &words);
    let files: Vec<_> = fs::read_dir(native.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["stdout"]);
}

#[test]
fn a_pid_that_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Command::new("true").spawn().unwrap();
    let pid = gone.id().to_string();
    let mut gone = gone;
    gone.wait().unwrap();
    assert_refused(&checkpoint(&pid, &dir.path().join("image"), &[]), 127, &[&pid, "there is none"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_zombie_is_named() {
    let mut native = Native::start(Path::new("/bin/true"), &[]);
    sleep_ms(200);
    assert_left_alone(&mut native, 126, &["zombie"]);
}

#[test]
fn several_threads_are_refused() {
    let script = "import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\ntime.sleep(30)";
    let mut native = Native::start(Path::new("/usr/bin/python3"), &["-c", script]);
    sleep_ms(500);
    assert_left_alone(&mut native, 126, &["2 threads", "single-threaded"]);
}

#[test]
fn a_traced_process_is_refused() {
    let mut native = Native::start(Path::new("/bin/sleep"), &["30"]);
    sleep_ms(100);
    let pid = nix::unistd::Pid::from_raw(native.child.id() as i32);
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).expect("our own child");
    let me = nix::unistd::gettid().to_string();
    assert_left_alone(&mut native, 126, &["already traced", &me]);
}

#[test]
fn xlate_itself_and_kernel_threads_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let kernel_thread = fs::read_to_string("/proc/2/comm").is_ok_and(|c| c.trim() == "kthreadd");
    // In a pid namespace of one's own there are none to be seen.
    if kernel_thread {
        assert_refused(&checkpoint("2", &image, &[]), 126, &["kernel thread", "kthreadd"]);
    }
    let script = format!("exec {} checkpoint $$ -o {}", xlate().display(), image.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_refused(&output, 126, &["xlate itself"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_process_of_another_user_is_refused() {
    // Only root can become somebody else to try it.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let native = Native::start(Path::new("/bin/sleep"), &["30"]);
    sleep_ms(100);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = dir.path().join("xlate");
    fs::copy(xlate(), &copy).unwrap();
    let output = Command::new(&copy)
        .args(["checkpoint", &native.pid(), "-o"])
        .arg(dir.path().join("image"))
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_refused(&output, 126, &["not permitted", &native.pid()]);
    assert!(!dir.path().join("image").exists());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let mut native = halfway();
    let disk = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=256k tmpfs "$1" || exit 77
        "$2" checkpoint "$3" -o "$1/image"; status=$?; ls -A "$1"; exit $status"#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .arg(xlate())
        .arg(native.pid())
        .output()
        .expect("util-linux is there");
    // Without the right to mount there is no small disk to fill.
    if output.status.code() != Some(77) && nix::unistd::geteuid().is_root() {
        assert_refused(&output, 125, &["No space left", "/image"]);
        assert_eq!(output.stdout, b"", "nothing stays behind");
    }
    assert_eq!(native.wait(), 7, "the process goes on");
    assert_eq!((native.text("out.txt"), native.text("stdout")), undisturbed());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let native = Native::start(Path::new("/bin/sleep"), &["30"]);
    let output = checkpoint(&native.pid(), Path::new("/nonexistent/folder/image"), &[]);
    assert_refused(&output, 125, &["/nonexistent/folder/image"]);
    let output = checkpoint(&native.pid(), native.dir.path(), &[]);
    assert_refused(&output, 125, &["not a name for an image"]);
}

#[test]
fn a_signal_to_xlate_ends_it_cleanly_or_not_at_all() {
    let mut native = halfway();
    let mut command = Command::new(xlate());
    command.args(["checkpoint", &native.pid(), "-o"]).arg(native.path("image")).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // SAFETY: kill takes numbers only.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    child.wait().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let left: Vec<_> = fs::read_dir(native.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".image")), "{left:?} {text}");
    assert_eq!(native.wait(), 7);
}

/// Files that are no images, and damaged ones, are named and refused by both commands.
#[test]
fn bad_images_are_refused() {
    let native = halfway();
    assert!(native.checkpoint(&[]).status.success());
    let good = fs::read(native.path("image")).unwrap();
    let place = |name: &str, bytes: &[u8]| {
        fs::write(native.path(name), bytes).unwrap();
        native.path(name)
    };
    let mut overlapping = good.clone();
    let phoff = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize;
    // The second PT_LOAD moves onto the first one.
    let address = phoff + 56 + 16;
    overlapping.copy_within(address..address + 8, address + 56);
    let mut other = good.clone();
    other[18] = 183;
    let cases = [
        (place("text", b"no image at all"), 126, "neither a checkpoint image", "no ELF core"),
        (place("empty", b""), 126, "neither a checkpoint image", "no ELF core"),
        (place("cut", &good[..good.len() / 2]), 126, "truncated", "truncated"),
        (place("arm", &other), 126, "another machine", "another machine"),
        (place("overlap", &overlapping), 126, "overlap", "overlap"),
        (native.path("absent"), 127, "absent", "absent"),
    ];
    for (path, status, run_word, inspect_word) in cases {
        let name = path.file_name().unwrap().to_str().unwrap();
        for (command, word) in [("run", run_word), ("inspect", inspect_word)] {
            let output = Command::new(xlate()).arg(command).arg(&path).output().unwrap();
            assert_refused(&output, status, &[word, name]);
        }
    }
}

/// Tiles aren't kept: a process that uses them is refused by name, before it has any memory; one that may use them isn't.
#[test]
fn tiles_in_use_are_refused() {
    const REFUSED: i32 = 77;
    let program = compile("features", "tiles", &["-O2"]);
    for kind in ["configured", "released"] {
        let folder = tempfile::tempdir().expect("a folder");
        let end = folder.path().join("end");
        let mut native = Native::start(&program, &[kind, end.to_str().unwrap()]);
        let start = Instant::now();
        while native.text("stdout").is_empty() && start.elapsed() < Duration::from_secs(10) {
            if native.child.try_wait().unwrap().is_some_and(|status| status.code() == Some(REFUSED)) {
                return eprintln!("skipped: no AMX here");
            }
            sleep_ms(5);
        }
        let output = native.checkpoint(&["--kill"]);
        assert!(output.status.success(), "{}", message(&output));
        native.wait();
        fs::write(&end, "").unwrap();
        let resumed = Command::new(xlate()).args(["run", "--no-cache"]).arg(native.path("image")).output().unwrap();
        if kind == "configured" {
            assert_refused(&resumed, 126, &["AMX tile configuration", "AMX tile data", "image"]);
        } else {
            assert_eq!((resumed.status.code(), native.text("stdout")), (Some(0), "ready\ndone\n".to_owned()));
        }
    }
}

#[test]
fn a_file_that_is_gone_or_changed_stops_the_resume() {
    let mut native = halfway();
    assert!(native.checkpoint(&["--kill"]).status.success());
    native.wait();
    let resume = || Command::new(xlate()).args(["run", "--no-cache"]).arg(native.path("image")).output().unwrap();
    let before = fs::read(native.path("out.txt")).unwrap();
    fs::write(native.path("out.txt"), [&before[..], b"more"].concat()).unwrap();
    assert_refused(&resume(), 126, &["out.txt", "bytes at the checkpoint", "descriptor"]);
    fs::remove_file(native.path("out.txt")).unwrap();
    assert_refused(&resume(), 126, &["out.txt", "No such file", "descriptor"]);
}

#[test]
fn an_image_with_memory_in_the_translators_place_moves_the_translator() {
    wait_is_restarted("collide", "1500", "collide: 0, errno 0, alarms 0\n");
}

#[test]
fn a_core_of_another_tool_is_read() {
    let native = halfway();
    let prefix = native.path("core");
    let gcore = Command::new("gcore").arg("-o").arg(&prefix).arg(native.pid()).output().expect("gdb is installed");
    assert!(gcore.status.success(), "{}", message(&gcore));
    let image = inspect(&native.path(&format!("core.{}", native.pid())));
    assert_eq!(image["plain_core"], true);
    assert_eq!(image["threads"].as_array().unwrap().len(), 1);
    assert!(image["process"].is_null());
}

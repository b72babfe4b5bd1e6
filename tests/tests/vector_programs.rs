//! Programs whose work is done by vector code: ciphers, compressors, video, linear algebra, and the compute benchmarks built
//! for x86-64-v4. Natively, and under every mix of tiers on both hosts.
//!
//! The quick tests run one mode of each; all modes, which take minutes, belong to `scripts/test.sh --full`.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use xlate::bench::set::{BENCHMARKS, Group};
use xlate_tests::guest::{ARM_MODES, MODES, Mode, compile, root, same_in};

/// The mode of the quick tests, on x86-64.
const QUICK: [Mode; 1] = [MODES[3]];

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("the project's path is UTF-8")
}

/// A file in the folder of compiled guests, which stays for later runs.
fn made(name: &str, make: impl FnOnce(&Path)) -> String {
    let folder = root().join("target/guests");
    fs::create_dir_all(&folder).expect("target/ is writable");
    let path = folder.join(name);
    if !path.exists() {
        let fresh = folder.join(format!("{}-{name}", std::process::id()));
        make(&fresh);
        fs::rename(&fresh, &path).expect("both are in one folder");
    }
    text(path)
}

/// 400 kB of numbers as text.
fn data() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        made("numbers.txt", |path| {
            let lines: String = (0..40_000u64).map(|n| format!("{}\n", n * n * 7919 % 1_000_003)).collect();
            fs::write(path, lines).expect("target/ is writable");
        })
    })
}

/// A clip of 12 frames, as raw video and as H.264.
fn clips() -> &'static [String; 2] {
    static FILES: OnceLock<[String; 2]> = OnceLock::new();
    FILES.get_or_init(|| {
        let source = ["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=176x144:rate=25", "-frames:v", "12"];
        let raw = made("clip.y4m", |path| {
            run("ffmpeg", &[&source[..], &["-pix_fmt", "yuv420p", &text(path.to_path_buf())]].concat());
        });
        let encoded = made("clip.264", |path| run("x264", &["--quiet", "-o", &text(path.to_path_buf()), &raw]));
        [raw, encoded]
    })
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).stderr(std::process::Stdio::null()).status();
    assert!(status.is_ok_and(|s| s.success()), "{program} {arguments:?} (scripts/setup.sh installs it)");
}

fn digest(modes: &[Mode]) {
    same_in(modes, Path::new("/usr/bin/openssl"), &["dgst", "-sha256", "-sha512", data()]);
}

fn stream_cipher(modes: &[Mode]) {
    let (key, iv) = ("00112233445566778899aabbccddeeff".repeat(2), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    let options = ["enc", "-chacha20", "-a", "-K", &key, "-iv", iv, "-in", data()];
    same_in(modes, Path::new("/usr/bin/openssl"), &options);
}

fn sealing(modes: &[Mode]) {
    same_in(modes, &compile("features", "cipher", &["-O2", "-Wl,--no-as-needed", "-lcrypto"]), &[]);
}

fn xz(modes: &[Mode]) {
    same_in(modes, Path::new("/usr/bin/xz"), &["-T1", "-2", "-c", data()]);
}

fn zstd(modes: &[Mode]) {
    // Without the threads that read and write.
    let options = ["-q", "-c", "-9", "--single-thread", "--no-asyncio", data()];
    same_in(modes, Path::new("/usr/bin/zstd"), &options);
}

fn encoding(modes: &[Mode]) {
    let options = ["--threads", "1", "--quiet", "--no-progress", "--muxer", "raw", "-o", "-", &clips()[0]];
    same_in(modes, Path::new("/usr/bin/x264"), &options);
}

fn decoding(modes: &[Mode]) {
    // Threads by name for the input, the filters and the output.
    let options = ["-v", "error", "-threads", "1", "-filter_threads", "1", "-i", &clips()[1]];
    let output = ["-threads", "1", "-f", "framemd5", "-"];
    same_in(modes, Path::new("/usr/bin/ffmpeg"), &[&options[..], &output].concat());
}

/// NumPy chooses its code by what the processor has, and guests have AVX-512.
fn arrays(modes: &[Mode]) {
    if !is_x86_feature_detected!("avx512bw") {
        return eprintln!("skipped: no AVX-512 here");
    }
    let script = text(root().join("tests/programs/arrays.py"));
    same_in(modes, Path::new("/usr/bin/python3"), &[&script]);
}

fn compute_for_v4(modes: &[Mode]) {
    if !is_x86_feature_detected!("avx512bw") {
        return eprintln!("skipped: no AVX-512 here");
    }
    for benchmark in BENCHMARKS.iter().filter(|b| b.group == Group::Compute) {
        let program = compile("guests", benchmark.name, &["-O3", "-march=x86-64-v4"]);
        same_in(modes, &program, &[&benchmark.size.small.to_string(), "/dev/null"]);
    }
}

macro_rules! vector_programs {
    ($($name:ident)*) => {
        mod quick {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name(&QUICK);
            })*
        }
        mod native {
            use super::*;
            $(#[test]
            #[ignore = "takes minutes: scripts/test.sh --full"]
            fn $name() {
                super::$name(&MODES);
            })*
        }
        mod aarch64 {
            use super::*;
            $(#[test]
            #[ignore = "takes minutes: scripts/test.sh --full"]
            fn $name() {
                super::$name(&ARM_MODES);
            })*
        }
    };
}

vector_programs! { digest stream_cipher sealing xz zstd encoding decoding arrays compute_for_v4 }

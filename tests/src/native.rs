//! Guests that run natively, to be captured, and their images.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::guest::{LIMIT, xlate};

/// A guest that runs natively, in a folder of its own; killed when dropped.
#[derive(Debug)]
pub struct Native {
    /// The folder that it works in.
    pub dir: TempDir,
    /// Its process.
    pub child: Child,
}

impl Native {
    /// Starts it, with its standard output in the file "stdout" of its folder, which is where it works.
    pub fn start(program: &Path, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let stdout = fs::File::create(dir.path().join("stdout")).expect("writable");
        let mut command = Command::new(program);
        // What this test's own parents left open is not the guest's.
        // SAFETY: close_range only takes numbers; it is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
                Ok(())
            });
        }
        let child = command
            .args(args)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { dir, child }
    }

    /// Its number, as text.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a file of its folder holds.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it is there")
    }

    /// Captures it in the file "image" of its folder.
    pub fn checkpoint(&self, options: &[&str]) -> Output {
        checkpoint(&self.pid(), &self.path("image"), options)
    }

    /// Waits for the guest's own end.
    pub fn wait(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < LIMIT, "the guest hangs after its checkpoint");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `xlate checkpoint`.
pub fn checkpoint(pid: &str, image: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(xlate());
    command.args(["checkpoint", pid, "-o"]).arg(image).args(options);
    command.output().expect("xlate is built")
}

/// What `xlate inspect` says of an image.
pub fn inspect(image: &Path) -> Value {
    let output = Command::new(xlate()).args(["inspect", "--json"]).arg(image).output().expect("xlate is built");
    assert!(output.status.success(), "{}", message(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a program said on its standard error.
pub fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

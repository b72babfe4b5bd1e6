//! Writes to the memory of other guests: process_vm_writev(2), and the files of [`super::memory_files`] where they are
//! another process's.
//!
//! The kernel makes them, but the other guest's runtime doesn't see them. So it is told, by a SIGSEGV with a code and a mark
//! of its own, which the handler there recognises and keeps from the guest ([`crate::signal::Notice`]). A process that isn't
//! known to have this handler isn't told anything: the signal would kill it.

use std::ops::Range;
use std::time::Duration;

use syscalls::Sysno as HostSysno;

use super::{Args, SysResult, call, writes};
use crate::errno::Errno;
use crate::guest::Guest;
use crate::signal::Notice;

/// How often, and after how long each time, a write is tried again that meets pages of code.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// Tells another guest that its memory has been, or is to be, written to; false if it can't be told.
pub(super) fn tell(pid: i32, notice: Notice) -> bool {
    is_guest(pid) && notice.send(pid)
}

/// Whether a process is a guest whose runtime catches faults. The runtime is known by the file that its code is mapped from,
/// because it may have been started through the dynamic loader.
fn is_guest(pid: i32) -> bool {
    let text = |process: &str, name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}"));
    let (Ok(own), Ok(other)) = (text("self", "maps"), text(&pid.to_string(), "maps")) else { return false };
    let here = is_guest as *const () as u64;
    let Some(runtime) = code_mappings(&own).find(|(range, _)| range.contains(&here)).map(|(_, file)| file) else {
        return false;
    };
    let same_runtime = code_mappings(&other).any(|(_, file)| file == runtime);
    same_runtime && text(&pid.to_string(), "status").is_ok_and(|status| catches_faults(&status))
}

/// The executable mappings that /proc/PID/maps shows: where, and of which device and inode.
fn code_mappings(maps: &str) -> impl Iterator<Item = (Range<u64>, [&str; 2])> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
        let executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let file = [fields.nth(1)?, fields.next()?];
        (executable && file[1] != "0").then_some((range, file))
    })
}

/// Whether /proc/PID/status shows a handler for SIGSEGV.
fn catches_faults(status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & crate::signal::mask_of(libc::SIGSEGV) != 0)
}

/// process_vm_writev(2). Where another guest's pages hold code, it is asked to open them, and the write is made again:
/// nothing but memory is changed by it.
pub(super) fn process_vm_writev(guest: &mut Guest, args: &Args) -> SysResult {
    let [_, local, local_count, remote, remote_count, flags] = args.0;
    let pid = guest.kernel.pids.to_host(args.int(0));
    let host = [pid as u64, local, local_count, remote, remote_count, flags];
    let mut result = call(guest, HostSysno::process_vm_writev, host);
    if pid == guest.kernel.pids.host {
        return result;
    }
    let len = |vector, count| writes::vector_len(&guest.memory, vector, count);
    let wanted = len(local, local_count).min(len(remote, remote_count));
    for _ in 0..ATTEMPTS {
        let done = match result {
            Ok(done) => done,
            Err(Errno(libc::EFAULT)) => 0,
            Err(error) => return Err(error),
        };
        let Some([start, len]) = rest_of(writes::buffers(&guest.memory, remote, remote_count), done) else { break };
        if done >= wanted || !tell(pid, Notice::WillBeWritten { start, len }) {
            break;
        }
        std::thread::sleep(PAUSE);
        result = call(guest, HostSysno::process_vm_writev, host);
    }
    result
}

/// The part of the buffers that was not written to, as far as it is in one of them.
fn rest_of(buffers: impl Iterator<Item = [u64; 2]>, mut done: u64) -> Option<[u64; 2]> {
    for [start, len] in buffers {
        if done < len {
            return Some([start.wrapping_add(done), len - done]);
        }
        done -= len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_in_a_status() {
        assert!(catches_faults("SigBlk:\t0000000000000000\nSigCgt:\t0000000000000400\n"));
        assert!(!catches_faults("SigCgt:\t0000000000000200\n"));
        assert!(!catches_faults("Name:\tx\n"));
    }

    #[test]
    fn code_in_a_map() {
        let maps = "1000-3000 r-xp 00002000 fe:01 1234    /usr/bin/cat\n\
                    3000-4000 r--p 00000000 fe:01 1234    /usr/bin/cat\n\
                    5000-6000 r-xp 00000000 00:00 0       [vdso]\n";
        assert_eq!(code_mappings(maps).collect::<Vec<_>>(), [(0x1000..0x3000, ["fe:01", "1234"])]);
    }

    #[test]
    fn what_is_left_of_buffers() {
        let buffers = [[100, 10], [200, 0], [300, 5]];
        let rest = |done| rest_of(buffers.into_iter(), done);
        assert_eq!(rest(0), Some([100, 10]));
        assert_eq!(rest(4), Some([104, 6]));
        assert_eq!(rest(10), Some([300, 5]));
        assert_eq!(rest(15), None);
    }

    #[test]
    fn strangers_are_not_told() {
        assert!(!tell(1, Notice::Written));
    }
}

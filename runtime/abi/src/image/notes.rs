//! The notes of owner `XLATE`: what Linux knows of a process that a core file doesn't say.
//!
//! Each note's descriptor is JSON text, `{"version":1,"note":{…}}`, of one struct below; fields may be added
//! (readers take the default and ignore what they don't know), and a change of meaning raises
//! [`VERSION`]. Addresses and masks are plain integers. Every note is optional to a reader.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Access, ImageError};

/// Owner name of the notes here.
pub const OWNER: &str = "XLATE";

/// `XL` and a number: BFD reads notes of the types it knows whoever their owner is, so ours keep clear of them.
const BASE_TYPE: u32 = 0x584c_0000;

/// Version of the encoding below.
pub const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    note: T,
}

/// A struct that is one kind of note.
pub trait XlateNote: Serialize + DeserializeOwned {
    /// The note's `n_type`.
    const TYPE: u32;
    /// Its name in messages.
    const NAME: &'static str;

    /// The note's descriptor.
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Envelope { version: VERSION, note: self })
    }

    /// Reads a descriptor.
    fn decode(desc: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e: serde_json::Error| ImageError::DamagedNote { note: Self::NAME, reason: e.to_string() };
        let Version { version } = serde_json::from_slice(desc).map_err(damaged)?;
        if version != VERSION {
            return Err(ImageError::NoteVersion { note: Self::NAME, version });
        }
        serde_json::from_slice::<Envelope<Self>>(desc).map(|e| e.note).map_err(damaged)
    }
}

/// A path or name as Linux has it: any bytes but NUL. JSON text where it is UTF-8, else an array of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "TextOrBytes", into = "TextOrBytes")]
pub struct Name(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TextOrBytes {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<TextOrBytes> for Name {
    fn from(t: TextOrBytes) -> Self {
        match t {
            TextOrBytes::Text(s) => Self(s.into_bytes()),
            TextOrBytes::Bytes(b) => Self(b),
        }
    }
}

impl From<Name> for TextOrBytes {
    fn from(n: Name) -> Self {
        String::from_utf8(n.0).map_or_else(|e| Self::Bytes(e.into_bytes()), Self::Text)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Name {
    /// For messages.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// Type `BASE_TYPE + 1`: who the process is. Ids are those of the captured process's pid namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    /// Real, effective, saved, file system.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    pub groups: Vec<u32>,
    /// `/proc/PID/comm`.
    pub comm: Name,
    /// What `/proc/PID/exe` names.
    pub exe: Name,
    pub cwd: Name,
    pub umask: u32,
    /// `personality(2)` word.
    pub personality: u32,
}

impl XlateNote for Process {
    const TYPE: u32 = BASE_TYPE + 1;
    const NAME: &'static str = "process";
}

/// What backs a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    Anonymous,
    /// A file; a private mapping's contents are in the image all the same.
    File,
    /// The program break's heap.
    Heap,
    /// The initial stack, which grows downward.
    Stack,
    /// The kernel's code for the clock functions: kept, its functions are replaced on resume.
    Vdso,
    /// The kernel's data pages for it: not carried.
    Vvar,
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingNote {
    pub start: u64,
    pub end: u64,
    pub access: Access,
    pub shared: bool,
    pub backing: Backing,
    /// Offset in the file.
    #[serde(default)]
    pub offset: u64,
    /// The file, or the kernel's name in brackets.
    #[serde(default)]
    pub name: Name,
}

/// Type `BASE_TYPE + 2`: the address space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub brk_start: u64,
    /// The program break: what `brk(0)` returns.
    pub brk: u64,
    pub mappings: Vec<MappingNote>,
}

impl XlateNote for Memory {
    const TYPE: u32 = BASE_TYPE + 2;
    const NAME: &'static str = "memory";
}

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescriptorKind {
    Regular,
    Directory,
    Terminal,
    /// `/dev/null` and other character devices without state of their own.
    Device,
    Pipe,
    Socket,
    /// epoll, eventfd, memfd, signalfd, …, block devices, deleted files.
    Other,
}

impl DescriptorKind {
    /// Whether a resumed process gets it back.
    pub fn is_carried(self) -> bool {
        matches!(self, Self::Regular | Self::Directory | Self::Terminal | Self::Device)
    }
}

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub number: i32,
    pub kind: DescriptorKind,
    /// What `/proc/PID/fd/N` names.
    pub path: Name,
    pub offset: u64,
    /// `open(2)`'s status flags and access mode, x86-64's values, without O_CLOEXEC.
    pub flags: u32,
    pub close_on_exec: bool,
    /// Size of a regular file at the time.
    #[serde(default)]
    pub size: u64,
    /// A lower descriptor that shares this one's open file description (and so its offset).
    #[serde(default)]
    pub same_as: Option<i32>,
}

/// Type `BASE_TYPE + 3`: descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptors {
    pub open: Vec<Descriptor>,
}

impl XlateNote for Descriptors {
    const TYPE: u32 = BASE_TYPE + 3;
    const NAME: &'static str = "descriptors";
}

/// One signal's action, as the kernel's `struct sigaction` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalAction {
    pub signal: i32,
    /// 0 is SIG_DFL, 1 SIG_IGN.
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// `stack_t` of sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlternateStack {
    pub address: u64,
    pub flags: i32,
    pub size: u64,
}

/// A signal that waits to be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSignal {
    /// Sent to the process, not to the thread.
    pub to_process: bool,
    /// The kernel's `siginfo_t` for x86-64, 128 bytes.
    pub siginfo: Vec<u8>,
}

/// Type `BASE_TYPE + 4`: signals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signals {
    /// Signals whose action isn't the default with empty mask and flags.
    pub actions: Vec<SignalAction>,
    /// Blocked signals, bit `n - 1` for signal `n`.
    pub mask: u64,
    pub pending: Vec<PendingSignal>,
    pub altstack: AlternateStack,
}

impl XlateNote for Signals {
    const TYPE: u32 = BASE_TYPE + 4;
    const NAME: &'static str = "signals";
}

/// One of getrlimit(2)'s limits; `u64::MAX` is RLIM_INFINITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// RLIMIT_* as x86-64 numbers them.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// Type `BASE_TYPE + 5`: limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub limits: Vec<Limit>,
}

impl XlateNote for Limits {
    const TYPE: u32 = BASE_TYPE + 5;
    const NAME: &'static str = "limits";
}

/// Where a restartable-sequences area was registered (rseq(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rseq {
    pub address: u64,
    pub size: u32,
    pub signature: u32,
    pub flags: u32,
}

/// A system call that capture interrupted. NT_PRSTATUS's registers already restart it (rip at the
/// `syscall` instruction, rax its number).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptedCall {
    pub number: u64,
    /// The kernel's own result: -512 ERESTARTSYS, -513 ERESTARTNOINTR, -514 ERESTARTNOHAND, -516 ERESTART_RESTARTBLOCK
    /// (Linux, `include/linux/errno.h`): what a handler that runs first decides by.
    pub result: i64,
}

/// Type `BASE_TYPE + 6`: what a thread has registered with the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadNote {
    pub tid: i32,
    /// set_tid_address(2); 0 if none or unknown.
    pub clear_child_tid: u64,
    /// get_robust_list(2): head and size.
    pub robust_list: u64,
    pub robust_list_size: u64,
    pub rseq: Option<Rseq>,
    pub interrupted: Option<InterruptedCall>,
}

impl XlateNote for ThreadNote {
    const TYPE: u32 = BASE_TYPE + 6;
    const NAME: &'static str = "thread";
}

/// One of setitimer(2)'s timers, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalTimer {
    /// ITIMER_REAL 0, ITIMER_VIRTUAL 1, ITIMER_PROF 2.
    pub which: i32,
    pub value: u64,
    pub interval: u64,
}

/// CPU time that a process has used, nanoseconds: its clocks go on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTimes {
    /// In user mode and in the kernel: together CLOCK_PROCESS_CPUTIME_ID.
    pub user: u64,
    pub system: u64,
    /// Of its children that have ended and were waited for.
    pub children_user: u64,
    pub children_system: u64,
}

/// Type `BASE_TYPE + 7`: timers that run, and CPU clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timers {
    pub interval: Vec<IntervalTimer>,
    /// None in images of older versions: the clocks begin at zero.
    pub cpu: Option<CpuTimes>,
    /// The processor's time-stamp counter, which never shows less later on; zero in images of older versions.
    pub timestamp: u64,
}

impl XlateNote for Timers {
    const TYPE: u32 = BASE_TYPE + 7;
    const NAME: &'static str = "timers";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_any_bytes() {
        for bytes in [&b"/tmp/plain"[..], b"/tmp/\xff\xfe", b""] {
            let name = Name::from(bytes);
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<Name>(&text).unwrap(), name);
        }
        assert_eq!(serde_json::to_string(&Name::from("a")).unwrap(), "\"a\"");
    }

    #[test]
    fn notes_round_trip_and_check_their_version() {
        let note = Limits { limits: vec![Limit { resource: 3, soft: 8 << 20, hard: u64::MAX }] };
        assert_eq!(Limits::decode(&note.encode().unwrap()).unwrap(), note);
        assert!(matches!(
            Limits::decode(br#"{"version":2,"note":{}}"#),
            Err(ImageError::NoteVersion { version: 2, .. })
        ));
        assert!(matches!(Limits::decode(b"{"), Err(ImageError::DamagedNote { .. })));
    }

    #[test]
    fn fields_may_be_added() {
        let process = Process::decode(br#"{"version":1,"note":{"pid":7,"later":1}}"#).unwrap();
        assert_eq!(process.pid, 7);
    }
}

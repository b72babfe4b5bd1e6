//! The kernel's own core notes for x86-64: layouts of `include/linux/elfcore.h` and
//! `arch/x86/include/asm/user_64.h`.

use std::mem::offset_of;

/// Note types (`include/uapi/linux/elf.h`).
pub const NT_PRSTATUS: u32 = 1;
pub const NT_FPREGSET: u32 = 2;
pub const NT_PRPSINFO: u32 = 3;
pub const NT_AUXV: u32 = 6;
pub const NT_X86_XSTATE: u32 = 0x202;
/// Since Linux 6.12: where each component lies in NT_X86_XSTATE.
pub const NT_X86_XSAVE_LAYOUT: u32 = 0x205;
pub const NT_SIGINFO: u32 = 0x5349_4749;
pub const NT_FILE: u32 = 0x4649_4c45;

/// Owners of the above.
pub const OWNER_CORE: &str = "CORE";
pub const OWNER_LINUX: &str = "LINUX";

/// `struct user_regs_struct`: what PTRACE_GETREGS gives and `pr_reg` holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Words in [`Registers`].
pub const REGISTER_COUNT: usize = size_of::<Registers>() / 8;

impl Registers {
    /// The words in their order.
    pub fn words(&self) -> [u64; REGISTER_COUNT] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs,
            self.eflags,
            self.rsp,
            self.ss,
            self.fs_base,
            self.gs_base,
            self.ds,
            self.es,
            self.fs,
            self.gs,
        ]
    }

    /// From the words in their order.
    pub fn from_words(w: &[u64; REGISTER_COUNT]) -> Self {
        let [
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        ] = *w;
        Self {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        }
    }

    /// The general-purpose registers by their encoding (rax, rcx, rdx, rbx, rsp, …), as the CPU state has them.
    pub fn by_encoding(&self) -> [u64; 16] {
        [
            self.rax, self.rcx, self.rdx, self.rbx, self.rsp, self.rbp, self.rsi, self.rdi, self.r8, self.r9, self.r10,
            self.r11, self.r12, self.r13, self.r14, self.r15,
        ]
    }
}

/// `struct elf_prstatus`, without the times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub signal: i16,
    pub pending: u64,
    pub held: u64,
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    pub registers: Registers,
}

/// Only for the offsets: `struct elf_prstatus`.
#[repr(C)]
struct RawStatus {
    info: [i32; 3],
    cursig: i16,
    sigpend: u64,
    sighold: u64,
    pid: i32,
    ppid: i32,
    pgrp: i32,
    sid: i32,
    times: [u64; 8],
    reg: Registers,
    fpvalid: i32,
}

const _: () = assert!(size_of::<RawStatus>() == 336);

impl Status {
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = vec![0; size_of::<RawStatus>()];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(offset_of!(RawStatus, info), &i32::from(self.signal).to_le_bytes());
        put(offset_of!(RawStatus, cursig), &self.signal.to_le_bytes());
        put(offset_of!(RawStatus, sigpend), &self.pending.to_le_bytes());
        put(offset_of!(RawStatus, sighold), &self.held.to_le_bytes());
        put(offset_of!(RawStatus, pid), &self.pid.to_le_bytes());
        put(offset_of!(RawStatus, ppid), &self.ppid.to_le_bytes());
        put(offset_of!(RawStatus, pgrp), &self.pgid.to_le_bytes());
        put(offset_of!(RawStatus, sid), &self.sid.to_le_bytes());
        for (i, word) in self.registers.words().iter().enumerate() {
            put(offset_of!(RawStatus, reg) + i * 8, &word.to_le_bytes());
        }
        put(offset_of!(RawStatus, fpvalid), &1i32.to_le_bytes());
        raw
    }

    /// `None` if the descriptor isn't x86-64's.
    pub fn decode(desc: &[u8]) -> Option<Self> {
        if desc.len() != size_of::<RawStatus>() {
            return None;
        }
        let reg = offset_of!(RawStatus, reg);
        let words = std::array::from_fn(|i| word(desc, reg + i * 8));
        Some(Self {
            signal: half(desc, offset_of!(RawStatus, cursig)) as i16,
            pending: word(desc, offset_of!(RawStatus, sigpend)),
            held: word(desc, offset_of!(RawStatus, sighold)),
            pid: long(desc, offset_of!(RawStatus, pid)) as i32,
            ppid: long(desc, offset_of!(RawStatus, ppid)) as i32,
            pgid: long(desc, offset_of!(RawStatus, pgrp)) as i32,
            sid: long(desc, offset_of!(RawStatus, sid)) as i32,
            registers: Registers::from_words(&words),
        })
    }
}

pub(super) fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// `struct elf_prpsinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Numeric state, 0 for running, and its letter.
    pub state: u8,
    pub letter: u8,
    pub nice: i8,
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    /// At most 15 bytes are kept.
    pub name: Vec<u8>,
    /// At most 79 bytes are kept.
    pub arguments: Vec<u8>,
}

#[repr(C)]
struct RawProcessInfo {
    state: [u8; 4],
    flag: u64,
    uid: u32,
    gid: u32,
    pid: i32,
    ppid: i32,
    pgrp: i32,
    sid: i32,
    fname: [u8; 16],
    psargs: [u8; 80],
}

const _: () = assert!(size_of::<RawProcessInfo>() == 136);

impl ProcessInfo {
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = vec![0; size_of::<RawProcessInfo>()];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        let zombie = 0;
        put(0, &[self.state, self.letter, zombie, self.nice as u8]);
        put(offset_of!(RawProcessInfo, uid), &self.uid.to_le_bytes());
        put(offset_of!(RawProcessInfo, gid), &self.gid.to_le_bytes());
        put(offset_of!(RawProcessInfo, pid), &self.pid.to_le_bytes());
        put(offset_of!(RawProcessInfo, ppid), &self.ppid.to_le_bytes());
        put(offset_of!(RawProcessInfo, pgrp), &self.pgid.to_le_bytes());
        put(offset_of!(RawProcessInfo, sid), &self.sid.to_le_bytes());
        put(offset_of!(RawProcessInfo, fname), &self.name[..self.name.len().min(15)]);
        put(offset_of!(RawProcessInfo, psargs), &self.arguments[..self.arguments.len().min(79)]);
        raw
    }

    /// `None` if the descriptor isn't x86-64's.
    pub fn decode(desc: &[u8]) -> Option<Self> {
        if desc.len() != size_of::<RawProcessInfo>() {
            return None;
        }
        let text = |at: usize, len: usize| {
            let field = &desc[at..at + len];
            field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
        };
        Some(Self {
            state: desc[0],
            letter: desc[1],
            nice: desc[3] as i8,
            uid: long(desc, offset_of!(RawProcessInfo, uid)),
            gid: long(desc, offset_of!(RawProcessInfo, gid)),
            pid: long(desc, offset_of!(RawProcessInfo, pid)) as i32,
            ppid: long(desc, offset_of!(RawProcessInfo, ppid)) as i32,
            pgid: long(desc, offset_of!(RawProcessInfo, pgrp)) as i32,
            sid: long(desc, offset_of!(RawProcessInfo, sid)) as i32,
            name: text(offset_of!(RawProcessInfo, fname), 16),
            arguments: text(offset_of!(RawProcessInfo, psargs), 80),
        })
    }
}

/// One row of NT_FILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    pub start: u64,
    pub end: u64,
    /// Bytes (the note counts pages).
    pub offset: u64,
    pub path: Vec<u8>,
}

/// NT_FILE: count, page size, (start, end, page offset)…, then the names, each with its NUL.
pub fn encode_files(files: &[MappedFile]) -> Vec<u8> {
    let mut raw = Vec::new();
    raw.extend((files.len() as u64).to_le_bytes());
    raw.extend(super::PAGE.to_le_bytes());
    for f in files {
        for word in [f.start, f.end, f.offset / super::PAGE] {
            raw.extend(word.to_le_bytes());
        }
    }
    for f in files {
        raw.extend(&f.path);
        raw.push(0);
    }
    raw
}

/// Reads NT_FILE; `None` if it contradicts itself.
pub fn decode_files(desc: &[u8]) -> Option<Vec<MappedFile>> {
    let at = |i: usize| {
        let bytes = desc.get(i.checked_mul(8)?..)?.get(..8)?;
        Some(word(bytes, 0))
    };
    let count = usize::try_from(at(0)?).ok()?;
    let page = at(1)?;
    let names_at = count.checked_mul(24)?.checked_add(16)?;
    let mut names = desc.get(names_at..)?.split(|b| *b == 0);
    (0..count)
        .map(|i| {
            Some(MappedFile {
                start: at(2 + i * 3)?,
                end: at(3 + i * 3)?,
                offset: at(4 + i * 3)?.checked_mul(page)?,
                path: names.next()?.to_vec(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_round_trips() {
        let registers = Registers::from_words(&std::array::from_fn(|i| 0x0101_0101_0101_0100 + i as u64));
        let status = Status { signal: 11, pending: 1 << 63, held: 2, pid: 3, ppid: 4, pgid: 5, sid: 6, registers };
        let raw = status.encode();
        assert_eq!(Status::decode(&raw), Some(status));
        assert_eq!(Status::decode(&raw[1..]), None);
        // pr_reg at 112, rip its 17th word: what gdb reads.
        assert_eq!(word(&raw, 112 + 16 * 8), registers.rip);
    }

    #[test]
    fn process_info_round_trips_and_cuts_names() {
        let info = ProcessInfo {
            letter: b'S',
            pid: 12,
            name: b"a-name-of-twenty-bytes".to_vec(),
            arguments: vec![b'x'; 100],
            ..ProcessInfo::default()
        };
        let back = ProcessInfo::decode(&info.encode()).unwrap();
        assert_eq!(back.name, b"a-name-of-twent");
        assert_eq!(back.arguments.len(), 79);
        assert_eq!((back.pid, back.letter), (12, b'S'));
    }

    #[test]
    fn files_round_trip() {
        let files = vec![
            MappedFile { start: 0x40_0000, end: 0x40_1000, offset: 0, path: b"/bin/a".to_vec() },
            MappedFile { start: 0x50_0000, end: 0x50_3000, offset: 0x2000, path: b"/lib/b".to_vec() },
        ];
        let raw = encode_files(&files);
        assert_eq!(decode_files(&raw), Some(files));
        assert_eq!(decode_files(&raw[..40]), None);
        assert_eq!(decode_files(&u64::MAX.to_le_bytes()), None);
    }
}

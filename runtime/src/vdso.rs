//! The vdso: the shared object that the kernel maps into each program, for the calls that it can answer without being
//! called (vdso(7)). Programs look for it by AT_SYSINFO_EHDR, by the names of its functions and by their version.
//!
//! Ours has those functions as guest code that makes the system call.

use crate::memory::GUEST_PAGE;

/// The name it has in /proc/self/maps.
pub const NAME: &str = "[vdso]";

/// The functions of the vdso, each with the number of the system call (x86-64's) that it stands for.
const CALLS: [(&str, u32); 5] =
    [("clock_gettime", 228), ("gettimeofday", 96), ("time", 201), ("clock_getres", 229), ("getcpu", 309)];
/// Each function has two names, with this before it and without. The second one is weak.
const PREFIX: &str = "__vdso_";
/// DT_SONAME, and the version of all functions.
const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

/// `mov eax, NUMBER; syscall; ret`: the arguments are in the registers where the call expects them, because no
/// function has more than three.
pub fn call_stub(number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_le_bytes();
    vec![0xb8, a, b, c, d, 0x0f, 0x05, 0xc3]
}

/// The code of the function of this name, with or without the prefix.
pub fn function(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    CALLS.iter().find(|(call, _)| *call == name).map(|(_, number)| call_stub(*number))
}

/// Constants of the ELF format (gABI, chapters 4 and 5; Linux Standard Base 5.0, 10.7 for symbol versions).
mod elf {
    pub const ET_DYN: u16 = 3;
    pub const EM_X86_64: u16 = 62;
    pub const PT_LOAD: u32 = 1;
    pub const PT_DYNAMIC: u32 = 2;
    pub const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
    pub const READ: u32 = 4;
    pub const EXECUTE: u32 = 1;
    pub const HEADER: usize = 64;
    pub const PROGRAM_HEADER: usize = 56;
    pub const SYMBOL: usize = 24;
    /// Global and weak functions with default visibility, in `.text`'s stead a section that isn't SHN_UNDEF.
    pub const GLOBAL_FUNCTION: u8 = 0x12;
    pub const WEAK_FUNCTION: u8 = 0x22;
    pub const SOME_SECTION: u16 = 1;
    pub const DT_HASH: u64 = 4;
    pub const DT_STRTAB: u64 = 5;
    pub const DT_SYMTAB: u64 = 6;
    pub const DT_STRSZ: u64 = 10;
    pub const DT_SYMENT: u64 = 11;
    pub const DT_SONAME: u64 = 14;
    pub const DT_VERSYM: u64 = 0x6fff_fff0;
    pub const DT_VERDEF: u64 = 0x6fff_fffc;
    pub const DT_VERDEFNUM: u64 = 0x6fff_fffd;
    /// Version indices: of the object itself, and of its functions.
    pub const VERSION_BASE: u16 = 1;
    pub const VERSION_FUNCTIONS: u16 = 2;
}

/// A table under construction. All numbers are little-endian.
#[derive(Default)]
struct Table(Vec<u8>);

impl Table {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn double(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Fills up to a multiple of 16, and says where that is.
    fn aligned(&mut self) -> usize {
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        self.0.len()
    }

    fn place(&mut self, part: &[u8]) -> usize {
        let at = self.aligned();
        self.bytes(part);
        at
    }
}

/// The strings of the dynamic symbol table.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

/// The object's bytes: one page, which is mapped to be read and executed, at any address.
pub fn image() -> Vec<u8> {
    let mut image = Table(vec![0; elf::HEADER + 3 * elf::PROGRAM_HEADER]);
    let code: Vec<(usize, usize)> = CALLS
        .iter()
        .map(|&(_, number)| {
            let stub = call_stub(number);
            (image.place(&stub), stub.len())
        })
        .collect();
    let text = code.first().map_or(0, |first| first.0)..image.0.len();
    let mut strings = Strings(vec![0]);
    let soname = strings.add(SONAME);
    let version = strings.add(VERSION);
    let names = symbols(&mut image, &mut strings, &code);
    let hash = hash_table(names.count);
    let dynamic_values = [
        (elf::DT_SONAME, soname.into()),
        (elf::DT_SYMTAB, names.at as u64),
        (elf::DT_SYMENT, elf::SYMBOL as u64),
        (elf::DT_STRTAB, image.place(&strings.0) as u64),
        (elf::DT_STRSZ, strings.0.len() as u64),
        (elf::DT_HASH, image.place(&hash) as u64),
        (elf::DT_VERSYM, image.place(&version_indices(names.count)) as u64),
        (elf::DT_VERDEF, image.place(&version_definitions(soname, version)) as u64),
        (elf::DT_VERDEFNUM, 2),
        (0, 0),
    ];
    let mut dynamic = Table::default();
    for (tag, value) in dynamic_values {
        dynamic.double(tag).double(value);
    }
    let dynamic = (image.place(&dynamic.0), dynamic.0.len());
    let unwinding = unwind_tables(&mut image, text);
    let len = image.0.len();
    write_headers(&mut image, len, dynamic, unwinding);
    debug_assert!(len as u64 <= GUEST_PAGE);
    image.0
}

/// Where the symbol table is, and how many symbols it has, the first, empty one included.
struct Symbols {
    at: usize,
    count: usize,
}

fn symbols(image: &mut Table, strings: &mut Strings, code: &[(usize, usize)]) -> Symbols {
    let mut table = Table(vec![0; elf::SYMBOL]);
    for ((name, _), &(address, size)) in CALLS.iter().zip(code) {
        let names = [(format!("{PREFIX}{name}"), elf::GLOBAL_FUNCTION), ((*name).to_owned(), elf::WEAK_FUNCTION)];
        for (name, kind) in names {
            table.word(strings.add(&name)).bytes(&[kind, 0]).half(elf::SOME_SECTION);
            table.double(address as u64).double(size as u64);
        }
    }
    Symbols { at: image.place(&table.0), count: table.0.len() / elf::SYMBOL }
}

/// One bucket with all symbols (gABI, "Hash Table"): there are few.
fn hash_table(count: usize) -> Vec<u8> {
    let mut table = Table::default();
    table.word(1).word(count as u32).word(1).word(0);
    for symbol in 1..count as u32 {
        table.word(if symbol + 1 < count as u32 { symbol + 1 } else { 0 });
    }
    table.0
}

fn version_indices(count: usize) -> Vec<u8> {
    let mut table = Table::default();
    table.half(0);
    for _ in 1..count {
        table.half(elf::VERSION_FUNCTIONS);
    }
    table.0
}

/// Two definitions, each with its name behind it: the object's, which is flagged as such, and the functions'.
fn version_definitions(soname: u32, version: u32) -> Vec<u8> {
    const DEFINITION: u32 = 20;
    const NAME: u32 = 8;
    const IS_BASE: u16 = 1;
    let mut table = Table::default();
    let mut define = |name, text: &str, flags, index, next| {
        table.half(1).half(flags).half(index).half(1).word(hash(text)).word(DEFINITION).word(next);
        table.word(name).word(0);
    };
    define(soname, SONAME, IS_BASE, elf::VERSION_BASE, DEFINITION + NAME);
    define(version, VERSION, 0, elf::VERSION_FUNCTIONS, 0);
    table.0
}

/// The hash function of names (gABI, "Hash Table").
fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

/// `.eh_frame` and its header (Linux Standard Base 5.0, 10.6): nothing is ever pushed between a function's entry and its
/// return, so that one entry holds for all of them. Gives place and size of the header.
fn unwind_tables(image: &mut Table, text: std::ops::Range<usize>) -> (usize, usize) {
    // The augmentation says that code addresses are four bytes, relative to where they stand.
    const PC_RELATIVE_4: u8 = 0x1b;
    const RELATIVE_TO_HEADER_4: u8 = 0x3b;
    const COUNT_4: u8 = 0x03;
    let header = image.aligned();
    let header_len = 20;
    let common = header + header_len;
    // Length, 0, version 1, "zR", code alignment 1, data alignment -8, return address in column 16, augmentation; then
    // DW_CFA_def_cfa r7 (rsp) + 8, DW_CFA_offset r16 at cfa-8, and DW_CFA_nop.
    let mut frame = Table::default();
    frame.word(20).word(0).bytes(&[1, b'z', b'R', 0, 1, 0x78, 16, 1, PC_RELATIVE_4]);
    frame.bytes(&[0x0c, 7, 8, 0x90, 1, 0, 0]);
    let entry = common + frame.0.len();
    let relative = |to: usize, from: usize| (to as u32).wrapping_sub(from as u32);
    frame.word(16);
    // How far the common part begins before this word.
    let distance = frame.0.len() as u32;
    frame.word(distance);
    frame.word(relative(text.start, entry + 8)).word(text.len() as u32).bytes(&[0; 4]);
    // The end of the list.
    frame.word(0);
    let mut table = Table::default();
    table.bytes(&[1, PC_RELATIVE_4, COUNT_4, RELATIVE_TO_HEADER_4]).word(relative(common, header + 4)).word(1);
    table.word(relative(text.start, header)).word(relative(entry, header));
    debug_assert_eq!(table.0.len(), header_len);
    image.bytes(&table.0).bytes(&frame.0);
    (header, header_len)
}

fn write_headers(image: &mut Table, len: usize, dynamic: (usize, usize), unwinding: (usize, usize)) {
    let mut header = Table(vec![0x7f, b'E', b'L', b'F', 2, 1, 1]);
    header.aligned();
    header.half(elf::ET_DYN).half(elf::EM_X86_64).word(1);
    header.double(0).double(elf::HEADER as u64).double(0).word(0);
    header.half(elf::HEADER as u16).half(elf::PROGRAM_HEADER as u16).half(3).half(0).half(0).half(0);
    let mut segment = |kind, flags, (at, size): (usize, usize), alignment| {
        header.word(kind).word(flags);
        for value in [at, at, at, size, size, alignment] {
            header.double(value as u64);
        }
    };
    segment(elf::PT_LOAD, elf::READ | elf::EXECUTE, (0, len), GUEST_PAGE as usize);
    segment(elf::PT_DYNAMIC, elf::READ, dynamic, 8);
    segment(elf::PT_GNU_EH_FRAME, elf::READ, unwinding, 4);
    image.0[..header.0.len()].copy_from_slice(&header.0);
}

#[cfg(test)]
mod tests {
    use goblin::elf::Elf;

    use super::*;

    #[test]
    fn it_is_a_shared_object_with_versioned_functions() {
        let image = image();
        assert!(image.len() as u64 <= GUEST_PAGE);
        let elf = Elf::parse(&image).unwrap();
        assert_eq!((elf.soname, elf.is_lib), (Some(SONAME), true));
        assert_eq!(elf.dynsyms.len(), 1 + 2 * CALLS.len());
        for symbol in elf.dynsyms.iter().skip(1) {
            let name = elf.dynstrtab.get_at(symbol.st_name).unwrap();
            let (start, len) = (symbol.st_value as usize, symbol.st_size as usize);
            assert_eq!(Some(image[start..start + len].to_vec()), function(name), "{name}");
        }
        // The hash that programs have built in; whether they find the version is a guest program's test.
        assert_eq!(hash(VERSION), 0x03ae_75f6);
    }

    #[test]
    fn functions_have_two_names() {
        for name in ["__vdso_clock_gettime", "clock_gettime", "__vdso_time", "getcpu"] {
            assert!(function(name).is_some(), "{name}");
        }
        assert_eq!(function("__vdso_time"), Some(vec![0xb8, 201, 0, 0, 0, 0x0f, 0x05, 0xc3]));
        assert_eq!(function("__vdso_sgx_enter_enclave"), None);
    }
}

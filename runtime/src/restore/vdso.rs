//! The vdso of an image: its functions read the kernel's data pages of the machine they came from, so each is
//! overwritten by the system call it saves.

use goblin::elf::Elf;
use xlate_abi::image::notes::Backing;

use super::Restore;
use crate::vdso::{self, call_stub};

const GETRANDOM: u32 = 318;

/// `__vdso_getrandom(buffer, length, flags, state, state_size)`: with a state of size -1 it is asked for its
/// parameters, and answers that there is no such thing (Linux, `lib/vdso/getrandom.c`); else it is the call.
fn getrandom_stub() -> Vec<u8> {
    let compare_r8_with_minus_1 = [0x49, 0x83, 0xf8, 0xff];
    let call = call_stub(GETRANDOM);
    let jump_equal_over_call = [0x74, call.len() as u8];
    let return_enosys = [0xb8, (-libc::ENOSYS) as u8, 0xff, 0xff, 0xff, 0xc3];
    [&compare_r8_with_minus_1[..], &jump_equal_over_call, &call, &return_enosys].concat()
}

/// What replaces the function of this name (with or without `__vdso_`).
fn stub(name: &str) -> Option<Vec<u8>> {
    match name {
        "getrandom" | "__vdso_getrandom" => Some(getrandom_stub()),
        _ => vdso::function(name),
    }
}

/// Offsets in the vdso, with the code for each.
fn patches(vdso: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let Ok(elf) = Elf::parse(vdso) else {
        return Vec::new();
    };
    elf.dynsyms
        .iter()
        .filter_map(|symbol| {
            let code = stub(elf.dynstrtab.get_at(symbol.st_name)?)?;
            let fits = symbol.st_value != 0 && symbol.st_size >= code.len() as u64;
            fits.then_some((symbol.st_value, code))
        })
        .collect()
}

impl Restore<'_> {
    /// Overwrites the functions of the guest's vdso, if it has one.
    pub fn replace_vdso(&mut self) {
        let mappings = self.image.mappings();
        let Some(vdso) = mappings.iter().find(|m| m.backing == Backing::Vdso) else {
            return;
        };
        let (start, len) = (vdso.start, vdso.end - vdso.start);
        let mut bytes = vec![0; len as usize];
        let found = match self.memory.read_guest(start, &mut bytes) {
            Ok(()) => patches(&bytes),
            Err(_) => Vec::new(),
        };
        if found.is_empty() {
            eprintln!("xlate: warning: {}: the vdso at {start:#x} has no functions that could be replaced", self.name);
            return;
        }
        let protection = self.memory.protection(start).unwrap_or(libc::PROT_READ);
        let write = |restore: &mut Self| {
            restore.memory.mprotect(start, len, libc::PROT_READ | libc::PROT_WRITE)?;
            for (offset, code) in &found {
                restore.memory.write_guest(start + offset, code)?;
            }
            restore.memory.mprotect(start, len, protection)
        };
        if let Err(errno) = write(self) {
            eprintln!("xlate: warning: {}: the vdso at {start:#x} can't be replaced: {errno}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_stubs() {
        assert_eq!(stub("__vdso_time"), Some(vec![0xb8, 201, 0, 0, 0, 0x0f, 0x05, 0xc3]));
        assert_eq!(stub("clock_gettime"), stub("__vdso_clock_gettime"));
        assert_eq!(stub("__vdso_sgx_enter_enclave"), None);
    }

    /// The running kernel's vdso has the functions this file knows, under both names.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn this_machines_vdso_is_covered() {
        // SAFETY: getauxval has no preconditions; the vdso is mapped and readable for the process's life.
        let bytes = unsafe {
            let start = libc::getauxval(libc::AT_SYSINFO_EHDR) as *const u8;
            std::slice::from_raw_parts(start, 4096)
        };
        let size = u16::from_le_bytes([bytes[0x3a], bytes[0x3b]]) as usize
            * u16::from_le_bytes([bytes[0x3c], bytes[0x3d]]) as usize
            + u64::from_le_bytes(std::array::from_fn(|i| bytes[0x28 + i])) as usize;
        // SAFETY: the section headers are the vdso's last part, so it reaches that far.
        let all = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), size) };
        // Five functions with two names each, and perhaps getrandom.
        assert!(patches(all).len() >= 10, "{:?}", patches(all));
    }

    /// Runs the stub for getrandom's question after its parameters.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn getrandom_stub_answers_both_ways() {
        let code = getrandom_stub();
        // SAFETY: an anonymous page of our own.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the page is writable and larger than the code.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len()) };
        type GetRandom = extern "C" fn(*mut u8, usize, u32, *mut u8, usize) -> isize;
        // SAFETY: the page holds a function of this signature.
        let getrandom = unsafe { std::mem::transmute::<*mut libc::c_void, GetRandom>(page) };
        let mut buffer = [0u8; 32];
        assert_eq!(getrandom(buffer.as_mut_ptr(), 32, 0, std::ptr::null_mut(), 0), 32);
        assert_ne!(buffer, [0; 32]);
        let params = getrandom(std::ptr::null_mut(), 0, 0, buffer.as_mut_ptr(), usize::MAX);
        assert_eq!(params as i32, -libc::ENOSYS);
    }
}

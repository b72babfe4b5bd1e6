//! What is found again, and what isn't.

use super::*;
use crate::engine::baseline::symbol::Symbol;
use xlate_abi::state::CpuState;
use xlate_x86::decode::{SliceSource, decode_block};

/// Guest code at one address.
struct At(u64, Vec<u8>);

impl GuestCode for At {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        xlate_x86::decode::CodeSource::fetch(&SliceSource { address: self.0, bytes: &self.1 }, addr, buffer)
    }

    fn watch_code(&self, _start: u64, _len: u64) {}

    fn unwatch_code(&self, _addr: u64) -> bool {
        false
    }
}

/// mov eax, N; syscall
fn program(n: u8) -> At {
    At(0x1000, vec![0xb8, n, 0, 0, 0, 0x0f, 0x05])
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xlate-kept-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn engine(&self) -> Engine {
        let config = Config { cache: Some(self.0.clone()), hot_baseline: 1, ..Config::default() };
        let mut engine = Engine::new(&config);
        engine.use_cache(&config, Path::new("/bin/program"));
        engine
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the program up to its system call.
fn run(engine: &mut Engine, program: &At) -> u64 {
    let mut state = CpuState { rip: 0x1000, ..CpuState::default() };
    assert_eq!(engine.run(&mut state, program), crate::engine::Exit::Syscall);
    state.gpr[0]
}

#[test]
fn a_later_run_compiles_nothing() {
    let folder = Folder::new("later");
    let mut first = folder.engine();
    assert_eq!([run(&mut first, &program(7)), run(&mut first, &program(7))], [7; 2]);
    assert_eq!((first.stats.baseline_blocks, first.stats.kept_rows), (1, 0));
    first.kept.as_ref().unwrap().write().unwrap();
    let mut second = folder.engine();
    assert_eq!(run(&mut second, &program(7)), 7);
    let stats = &second.stats;
    assert_eq!((stats.kept_rows, stats.kept_installed, stats.baseline_blocks), (1, 1, 0));
    assert_eq!(stats.instructions_interpreted, 0);
}

#[test]
fn other_code_at_the_address_is_compiled_anew_and_kept_beside() {
    let folder = Folder::new("other");
    for (n, rows) in [(7, 0), (8, 1), (7, 2), (8, 2)] {
        let mut engine = folder.engine();
        for _ in 0..2 {
            assert_eq!(run(&mut engine, &program(n)), u64::from(n));
        }
        assert_eq!((engine.stats.kept_rows, engine.stats.kept_installed), (rows, u64::from(rows == 2)));
        engine.kept.as_ref().unwrap().write().unwrap();
    }
}

#[test]
fn damaged_files_and_others_files_are_ignored() {
    let folder = Folder::new("damaged");
    let mut engine = folder.engine();
    run(&mut engine, &program(7));
    run(&mut engine, &program(7));
    let kept = engine.kept.as_ref().unwrap();
    kept.write().unwrap();
    let whole = fs::read(&kept.path).unwrap();
    for at in [0, 9, 20, blocks::HEADER_LEN, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&kept.path, bytes).unwrap();
        let mut engine = folder.engine();
        assert_eq!(run(&mut engine, &program(7)), 7);
        assert_eq!(engine.stats.kept_installed, 0, "byte {at}");
    }
    fs::write(&kept.path, &whole).unwrap();
    assert_eq!(folder.engine().stats.kept_rows, 1);
    fs::set_permissions(&kept.path, std::os::unix::fs::PermissionsExt::from_mode(0o622)).unwrap();
    assert_eq!(folder.engine().stats.kept_rows, 0);
}

#[test]
fn a_full_folder_takes_nothing() {
    let folder = Folder::new("full");
    let mut engine = folder.engine();
    run(&mut engine, &program(7));
    run(&mut engine, &program(7));
    let kept = engine.kept.as_mut().unwrap();
    kept.place.limit = 100;
    kept.write().unwrap();
    assert!(!kept.path.exists());
}

#[test]
fn code_comes_back_as_it_was() {
    let code = Code {
        bytes: vec![1, 2, 3],
        align: 16,
        pc_map: vec![PcMapRow { host_offset: 2, guest_pc: 0x1005 }],
        relocations: vec![Relocation { offset: 0, symbol: Symbol::Slot(1) }],
        slots: vec![0, u64::MAX],
    };
    let record = record(b"key", 0x1000, &code).unwrap();
    assert_eq!(code_of(&record, 0x1000, b"key"), Some(code));
    assert_eq!(code_of(&record, 0x1000, b"kez"), None);
    assert_eq!(key_of(&record), Some(&b"key"[..]));
    assert_eq!(code_of(&record[..record.len() - 1], 0x1000, b"key"), None);
}

#[test]
fn what_a_block_is_compiled_to_depends_on_live_flags_too() {
    let memory = At(0x1000, vec![0x01, 0xd8, 0xeb, 0xfe]);
    let block = decode_block(&SliceSource { address: 0x1000, bytes: &memory.1 }, 0x1000, 64, false);
    let mut other = block.clone();
    other.insns[0].live ^= 1;
    let bytes = bytes_of(&block, &memory).unwrap();
    let base = key(&block, &bytes, false, false);
    for different in
        [key(&other, &bytes, false, false), key(&block, &bytes, true, false), key(&block, &bytes, false, true)]
    {
        assert_ne!(base, different);
    }
}

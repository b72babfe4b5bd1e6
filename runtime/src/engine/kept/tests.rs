//! What is found again, and what isn't.

use super::*;
use crate::engine::baseline::symbol::{Relocation, Symbol};
use xlate_abi::protocol::PcMapRow;
use xlate_abi::state::CpuState;
use xlate_x86::decode::SliceSource;

/// Guest code at one address.
struct At(u64, Vec<u8>);

impl GuestCode for At {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        xlate_x86::decode::CodeSource::fetch(&SliceSource { address: self.0, bytes: &self.1 }, addr, buffer)
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

/// Writes the file, as a worker does.
fn keep(engine: &mut Engine, program: &At) {
    let handover = engine.handover(&[], program).unwrap();
    handover::work(handover.write().unwrap()).unwrap();
}

#[test]
fn a_later_run_compiles_nothing() {
    let folder = Folder::new("later");
    let mut first = folder.engine();
    assert_eq!([run(&mut first, &program(7)), run(&mut first, &program(7))], [7; 2]);
    assert_eq!((first.stats.baseline_blocks, first.stats.kept_rows), (1, 0));
    keep(&mut first, &program(7));
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
        keep(&mut engine, &program(n));
    }
}

#[test]
fn damaged_files_and_others_files_are_ignored() {
    let folder = Folder::new("damaged");
    let mut engine = folder.engine();
    run(&mut engine, &program(7));
    run(&mut engine, &program(7));
    keep(&mut engine, &program(7));
    let kept = engine.kept.as_ref().unwrap();
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
fn what_was_too_rare_to_be_compiled_is_compiled_by_the_worker() {
    let folder = Folder::new("rare");
    let mut first = folder.engine();
    assert_eq!(run(&mut first, &program(7)), 7);
    assert_eq!(first.stats.baseline_blocks, 0);
    let rare = first.uncompiled();
    assert_eq!(rare, [0x1000]);
    let handover = first.handover(&rare, &program(7)).unwrap();
    handover::work(handover.write().unwrap()).unwrap();
    let mut second = folder.engine();
    assert_eq!(run(&mut second, &program(7)), 7);
    assert_eq!((second.stats.kept_installed, second.stats.blocks_interpreted), (1, 0));
}

#[test]
fn a_folder_that_was_removed_is_not_created_again() {
    let folder = Folder::new("removed");
    let mut engine = folder.engine();
    assert_eq!([run(&mut engine, &program(7)), run(&mut engine, &program(7))], [7; 2]);
    let handover = engine.handover(&[], &program(7)).unwrap().write().unwrap();
    fs::remove_dir_all(&folder.0).unwrap();
    assert!(handover::work(handover).is_err());
    assert!(!folder.0.exists());
}

#[test]
fn a_full_folder_takes_nothing() {
    let folder = Folder::new("full");
    let mut engine = folder.engine();
    run(&mut engine, &program(7));
    run(&mut engine, &program(7));
    engine.kept.as_mut().unwrap().place.limit = 100;
    keep(&mut engine, &program(7));
    assert!(!engine.kept.as_ref().unwrap().path.exists());
}

#[test]
fn nothing_is_decoded_unless_something_asks() {
    let folder = Folder::new("decoded");
    let mut first = folder.engine();
    assert_eq!([run(&mut first, &program(7)), run(&mut first, &program(7))], [7; 2]);
    keep(&mut first, &program(7));
    let mut second = folder.engine();
    assert_eq!(run(&mut second, &program(7)), 7);
    assert_eq!((second.stats.kept_installed, second.stats.blocks_decoded), (1, 0));
    let decoded = second.decoded(0x1000, &program(7)).unwrap();
    assert_eq!((decoded.block.insns.len(), second.stats.blocks_decoded), (2, 1));
}

#[test]
fn pages_that_were_written_to_are_looked_at_again() {
    let folder = Folder::new("written");
    let mut first = folder.engine();
    assert_eq!([run(&mut first, &program(7)), run(&mut first, &program(7))], [7; 2]);
    keep(&mut first, &program(7));
    let mut second = folder.engine();
    assert_eq!(run(&mut second, &program(7)), 7);
    second.invalidate(0x1003, 1);
    assert_eq!(run(&mut second, &program(8)), 8);
    second.invalidate(0x1003, 1);
    assert_eq!(run(&mut second, &program(7)), 7);
    assert_eq!(second.stats.kept_installed, 2);
}

/// cmp eax, ebx; jmp +0x1000; and behind that something
fn flags_over_two_pages(behind: &[u8]) -> At {
    let mut code = vec![0x39, 0xd8, 0xe9, 0, 0x10, 0, 0];
    code.resize(7 + 0x1000, 0xcc);
    code.extend(behind);
    At(0x1000, code)
}

#[test]
fn code_behind_the_block_decides_too() {
    let folder = Folder::new("behind");
    // setl al; syscall. mov al, 5; cmp eax, eax; syscall.
    let (reads, kills) = ([0x0f, 0x9c, 0xc0, 0x0f, 0x05], [0xb0, 5, 0x39, 0xc0, 0x0f, 0x05]);
    let mut first = folder.engine();
    for _ in 0..2 {
        assert_eq!(run(&mut first, &flags_over_two_pages(&kills)), 5);
    }
    keep(&mut first, &flags_over_two_pages(&kills));
    let mut second = folder.engine();
    // The first block is the same, but its flags are read now.
    assert_eq!(run(&mut second, &flags_over_two_pages(&reads)), 0);
    assert_eq!(second.stats.kept_installed, 0);
    assert_eq!(run(&mut folder.engine(), &flags_over_two_pages(&kills)), 5);
}

#[test]
fn code_behind_a_block_may_change() {
    // sete al; syscall. mov al, 5; cmp eax, ecx; syscall.
    let (reads, kills) = ([0x0f, 0x94, 0xc0, 0x0f, 0x05], [0xb0, 5, 0x39, 0xc8, 0x0f, 0x05]);
    let config = Config { hot_baseline: 1, ..Config::default() };
    let mut engine = Engine::new(&config);
    for _ in 0..2 {
        assert_eq!(run(&mut engine, &flags_over_two_pages(&kills)), 5);
    }
    // The first block has no bytes in the page that changes.
    engine.invalidate(0x2007, 1);
    assert_eq!(run(&mut engine, &flags_over_two_pages(&reads)), 1);
    assert_eq!(engine.stats.blocks_decoded, 4);
}

#[test]
fn a_block_that_changed_before_the_end_is_not_kept() {
    let folder = Folder::new("changed");
    let mut first = folder.engine();
    assert_eq!([run(&mut first, &program(7)), run(&mut first, &program(7))], [7; 2]);
    keep(&mut first, &program(8));
    assert_eq!(folder.engine().stats.kept_rows, 0);
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let code = Code {
        bytes: vec![1, 2, 3],
        align: 16,
        pc_map: vec![PcMapRow { host_offset: 2, guest_pc: 0x1005 }],
        relocations: vec![Relocation { offset: 0, symbol: Symbol::Slot(1) }],
        slots: vec![0, u64::MAX],
    };
    let how = How::COUNTED | How::PRECISE;
    let facts = Facts { how, len: 9, calls: Some(0x77), seen: &[5], pages: 2 };
    let mut bytes = record::encode(0x1000, &code, &facts).unwrap();
    record::set_pages(&mut bytes, [3, 4].into_iter());
    let record = Record::read(&bytes).unwrap();
    assert_eq!((record.how(), record.align(), record.calls()), (how, Some(16), Some(0x77)));
    assert_eq!(record.head.len.get(), 9);
    assert!(record.pages.iter().map(|n| n.get()).eq([3, 4]));
    assert!(record.relocations().eq([Some(code.relocations[0])]));
    assert!(record.slots.iter().map(|slot| slot.get()).eq([0, u64::MAX]));
    assert!(record.pc_map.iter().map(|row| (row.host.get(), row.guest.get())).eq([(2, 5)]));
    assert!(record.seen.iter().map(|target| target.get()).eq([5]));
    assert_eq!(record.code, [1, 2, 3]);
    assert!(Record::read(&bytes[..30]).is_none());
}

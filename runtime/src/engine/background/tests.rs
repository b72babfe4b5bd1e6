use super::*;
use crate::config::Config;
use xlate_abi::state::CpuState;

struct At(u64, Vec<u8>);

impl GuestCode for At {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        use xlate_x86::decode::CodeSource;
        SliceSource { address: self.0, bytes: &self.1 }.fetch(addr, buffer)
    }
}

const START: u64 = 0x1000;

/// A count in rcx of rounds through `blocks` jumps to the next instruction each, then a system call.
fn rounds(blocks: usize) -> At {
    let mut code: Vec<u8> = [0xeb, 0x00].repeat(blocks);
    // dec rcx; jne to the start; syscall
    code.extend([0x48, 0xff, 0xc9, 0x0f, 0x85]);
    let back = -(code.len() as i32 + 4);
    code.extend(back.to_le_bytes());
    code.extend([0x0f, 0x05]);
    At(START, code)
}

fn engine() -> Engine {
    Engine::new(&Config { hot_baseline: 1 << 30, ..Config::default() })
}

fn run(engine: &mut Engine, memory: &At, count: u64) {
    let mut state = CpuState { rip: START, ..CpuState::default() };
    state.gpr[1] = count;
    assert_eq!(engine.run(&mut state, memory), super::super::Exit::Syscall);
    assert_eq!(state.gpr[1], 0);
}

#[test]
fn hot_blocks_get_code_that_a_worker_made() {
    let mut engine = engine();
    let after = 20;
    engine.background.as_mut().unwrap().after = after;
    let memory = rounds(2 * ENOUGH);
    // At once, and on a machine with one processor, too.
    let [ours, theirs] = pair().unwrap();
    let worker = std::thread::spawn(move || work(&theirs).unwrap());
    engine.background.as_mut().unwrap().link = Link::Up(Own::new(ours).unwrap());
    // The jumps, and the end of a round.
    let hot = 2 * ENOUGH as u64 + 1;
    // More and more rounds until it has come: how fast it is, is not for a test to say.
    let mut count = 1000;
    while engine.stats.baseline_background < hot {
        assert!(count < 1 << 24, "nothing has come");
        run(&mut engine, &memory, count);
        count *= 2;
    }
    assert_eq!((engine.stats.baseline_blocks, engine.stats.baseline_refused), (engine.stats.baseline_background, 0));
    let interpreted = engine.stats.blocks_interpreted;
    run(&mut engine, &memory, 1000);
    assert!(engine.stats.blocks_interpreted - interpreted < 1000, "blocks with code are interpreted");
    drop(engine);
    worker.join().expect("the worker ends when its socket does");
}

#[test]
fn few_blocks_start_no_process() {
    let mut engine = engine();
    engine.background.as_mut().unwrap().after = 20;
    run(&mut engine, &rounds(ENOUGH - 3), 100_000);
    assert!(matches!(engine.background.as_ref().unwrap().link, Link::Down));
    assert_eq!(engine.stats.baseline_blocks, 0);
}

#[test]
fn without_that_process_the_guests_own_compiles() {
    let mut engine = Engine::new(&Config { hot_baseline: 64, ..Config::default() });
    engine.background.as_mut().unwrap().link = Link::Off;
    run(&mut engine, &rounds(4), 1000);
    assert_eq!((engine.stats.baseline_blocks, engine.stats.baseline_background), (5, 0));
}

#[test]
fn a_process_that_dies_is_done_without() {
    let mut engine = engine();
    engine.background.as_mut().unwrap().after = 20;
    let [ours, theirs] = pair().unwrap();
    drop(theirs);
    engine.background.as_mut().unwrap().link = Link::Up(Own::new(ours).unwrap());
    run(&mut engine, &rounds(4), 100_000);
    assert!(matches!(engine.background.as_ref().unwrap().link, Link::Off));
}

#[test]
fn code_for_a_block_that_was_dropped_meanwhile_is_ignored() {
    let mut engine = engine();
    let memory = rounds(2);
    run(&mut engine, &memory, 10);
    let decoded = engine.table.block(START).unwrap().decoded.clone().unwrap();
    let asked = Asked { pc: START, decoded, precise: false, counted: false };
    let code = Compiler::new().unwrap().compile(&asked.decoded.block, Options::default()).unwrap();
    engine.invalidate(START, 1);
    engine.take_baseline(&asked, code.clone());
    run(&mut engine, &memory, 10);
    engine.take_baseline(&asked, code);
    assert!(engine.table.block(START).unwrap().native.is_none());
}

#[test]
fn a_request_makes_the_same_code_there() {
    // add eax, ebx; jmp to itself; what is behind it reads the flags, or doesn't.
    let block =
        |precise| decode_block(&SliceSource { address: START, bytes: &[0x01, 0xd8, 0xeb, 0xfe] }, START, 64, precise);
    for precise in [false, true] {
        let decoded = Rc::new(DecodedBlock::new(block(precise)));
        let mut background = Background::new(1024, None).unwrap();
        let asked = Asked { pc: START, decoded: Rc::clone(&decoded), precise, counted: true };
        background.ask(asked, vec![0x01, 0xd8, 0xeb, 0xfe]);
        let there = compile(&mut Compiler::new().unwrap(), &background.waiting.pop().unwrap());
        let options = Options { precise, counted: true, check: None };
        assert_eq!(there, Some(Compiler::new().unwrap().compile(&decoded.block, options).unwrap()));
    }
}

#[test]
fn who_compiles_at_once_needs_no_other_process() {
    assert!(Background::new(EARLIER - 1, None).is_none() && Background::new(u64::MAX, None).is_none());
    assert_eq!(Background::new(1024, None).unwrap().after(), 1024 / EARLIER);
}

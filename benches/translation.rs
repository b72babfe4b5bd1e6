//! What translating costs, stage by stage, over fixed guest code: `cargo bench -p xlate-benches [-- STAGE]`.
//!
//! Throughput is in guest instructions, so that samples of different length compare.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xlate::translate::{RegionSize, translate};
use xlate_abi::protocol::{CodeOptions, CompileRequest, OptLevel};
use xlate_benches::SAMPLES;
use xlate_llvm::{Region, host_target, lift_region};
use xlate_runtime::engine::baseline::{Compiler, Options};

const OPTIONS: CodeOptions = CodeOptions { opt: OptLevel::O2, precise: false, tso: false };

/// Bytes to blocks, flag liveness included.
fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for sample in SAMPLES {
        group.throughput(Throughput::Elements(sample.instructions()));
        group.bench_function(sample.name, |b| b.iter(|| black_box(sample.blocks())));
    }
}

/// Blocks to LLVM IR, before the optimiser.
fn lift(c: &mut Criterion) {
    let mut group = c.benchmark_group("lift");
    let target = host_target();
    for sample in SAMPLES {
        let region = Region::of(sample.address, sample.blocks());
        group.throughput(Throughput::Elements(sample.instructions()));
        group.bench_function(sample.name, |b| {
            b.iter(|| lift_region(black_box(&region), &target, OPTIONS).expect("the sample can be lifted"))
        });
    }
}

/// Blocks to baseline code, one by one.
fn tier1(c: &mut Criterion) {
    let mut group = c.benchmark_group("tier1");
    let mut compiler = Compiler::new().expect("this host has a baseline compiler");
    for sample in SAMPLES {
        let blocks = sample.blocks();
        group.throughput(Throughput::Elements(sample.instructions()));
        group.bench_function(sample.name, |b| {
            b.iter(|| {
                for block in &blocks {
                    let code = compiler.compile(block, Options::default());
                    black_box(code.expect("the sample can be compiled"));
                }
            })
        });
    }
}

/// A request to its blob: region formation, lifting, optimising, code generation.
fn tier2(c: &mut Criterion) {
    let mut group = c.benchmark_group("tier2");
    group.sample_size(10);
    for sample in SAMPLES {
        let request = CompileRequest {
            id: 1,
            entry: sample.address,
            target: host_target(),
            options: OPTIONS,
            grows: false,
            mutable: false,
            profile: sample.profile(),
            indirect: Vec::new(),
            code: vec![sample.code()],
            data: Vec::new(),
        };
        group.throughput(Throughput::Elements(sample.instructions()));
        group.bench_function(sample.name, |b| {
            b.iter(|| {
                let blob = translate(black_box(&request), RegionSize::MOST, |_| ());
                blob.expect("the sample can be translated")
            })
        });
    }
}

criterion_group!(stages, decode, lift, tier1, tier2);
criterion_main!(stages);

//! The choice between NaNs: where several operands of a multiplication are NaNs, tier 2 may return any of them,
//! quieted (the one licence of `xlate_x86::emitter`).

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

use crate::isa::arena::{DATA, DATA_LEN};
use crate::isa::case::{Case, State, Vector};
use crate::isa::states::operand_address;
use crate::isa::values::lane;

/// How an instruction multiplies floating-point numbers.
struct Products {
    /// Width of a lane.
    bits: usize,
    /// Only the lowest lane.
    scalar: bool,
    /// A result comes from several lanes.
    across: bool,
    /// The target is an operand as well.
    accumulates: bool,
}

fn products(i: &Instruction) -> Option<Products> {
    use Mnemonic::*;
    let legacy = i.code().op_code().encoding() == EncodingKind::Legacy;
    let (bits, scalar) = match i.mnemonic() {
        Mulps | Dpps | Vmulps | Vdpps => (32, false),
        Mulss | Vmulss => (32, true),
        Mulpd | Dppd | Vmulpd | Vdppd => (64, false),
        Mulsd | Vmulsd => (64, true),
        Vmulph => (16, false),
        Vmulsh => (16, true),
        _ => return fused(i),
    };
    let across = matches!(i.mnemonic(), Dpps | Dppd | Vdpps | Vdppd);
    Some(Products { bits, scalar, across, accumulates: legacy })
}

/// FMA and the complex products, by their names: VFMADD213PS, VFCMULCPH.
fn fused(i: &Instruction) -> Option<Products> {
    let name = format!("{:?}", i.mnemonic());
    let verb = ["Vfmadd", "Vfmsub", "Vfnmadd", "Vfnmsub", "Vfmaddsub", "Vfmsubadd", "Vfmulc", "Vfcmulc", "Vfcmaddc"];
    if !verb.iter().any(|v| name.starts_with(v)) {
        return None;
    }
    let (bits, scalar) = match &name[name.len() - 2..] {
        "ps" => (32, false),
        "ss" => (32, true),
        "pd" => (64, false),
        "sd" => (64, true),
        "ph" => (16, false),
        "sh" => (16, true),
        _ => return None,
    };
    let complex = name.ends_with("cph") || name.ends_with("csh");
    Some(Products { bits, scalar: scalar && !complex, across: complex, accumulates: !name.contains("mulc") })
}

/// Whether an instruction is one of those with the choice.
pub fn chooses(i: &Instruction) -> bool {
    products(i).is_some()
}

/// Whether an engine's result differs only by the NaN that it chose.
pub fn either(case: &Case, target: usize, native: &Vector, engine: &Vector) -> bool {
    let [i] = case.program.insns.as_slice() else { return false };
    let Some(products) = products(i) else { return false };
    let mut data = vec![0; DATA_LEN];
    case.memory.write_to(&mut data);
    i.op0_register().number() == target
        && (0..512 / products.bits).all(|n| {
            let e = lane(engine, products.bits, n);
            let nans = nans(i, &products, &case.state, &data, n);
            lane(native, products.bits, n) == e || nans.len() > 1 && nans.contains(&e)
        })
}

/// Whether such an instruction finds several NaNs to choose from in this state.
pub fn meets_two(i: &Instruction, state: &State, data: &[u8]) -> bool {
    let Some(products) = products(i) else { return false };
    (0..512 / products.bits).any(|n| nans(i, &products, state, data, n).len() > 1)
}

/// The NaNs that a lane of the result may come from, quieted.
fn nans(i: &Instruction, products: &Products, state: &State, data: &[u8], n: usize) -> Vec<u64> {
    if products.scalar && n > 0 {
        return Vec::new();
    }
    let lanes = if products.across { 0..512 / products.bits } else { n..n + 1 };
    let first = u32::from(!products.accumulates);
    let mut found = Vec::new();
    for operand in (first..i.op_count()).filter_map(|o| operand(i, o, products.bits, state, data)) {
        found.extend(lanes.clone().map(|n| lane(&operand, products.bits, n)));
    }
    found.retain(|v| is_nan(*v, products.bits));
    found.iter().map(|v| v | quiet_bit(products.bits)).collect()
}

/// An operand's lanes, as wide as there are any; `None` for an immediate, or memory that isn't there.
fn operand(i: &Instruction, n: u32, bits: usize, state: &State, data: &[u8]) -> Option<Vector> {
    match i.op_kind(n) {
        OpKind::Register => state.vec.get(i.op_register(n).number()).copied(),
        OpKind::Memory => {
            let at = operand_address(i, state)?;
            let len = i.memory_size().size().max(bits / 8);
            // Lanes outside of the area are zero, or masked out.
            let mut all = [0; 64];
            for (n, byte) in all[..len].iter_mut().enumerate() {
                let place = at.wrapping_add(n as u64).wrapping_sub(DATA);
                *byte = usize::try_from(place).ok().and_then(|p| data.get(p)).copied().unwrap_or(0);
            }
            if i.is_broadcast() {
                let (first, rest) = all.split_at_mut(len);
                rest.chunks_mut(len).for_each(|c| c.copy_from_slice(&first[..c.len()]));
            }
            Some(std::array::from_fn(|w| u64::from_le_bytes(all[w * 8..][..8].try_into().expect("eight bytes"))))
        }
        _ => None,
    }
}

/// The bit that tells a quiet NaN from a signalling one.
fn quiet_bit(bits: usize) -> u64 {
    1 << fraction(bits) >> 1
}

fn fraction(bits: usize) -> u32 {
    match bits {
        16 => 10,
        32 => 23,
        _ => 52,
    }
}

fn is_nan(v: u64, bits: usize) -> bool {
    let magnitude = v & (u64::MAX >> (65 - bits));
    magnitude > (u64::MAX >> (65 - bits)) & (u64::MAX << fraction(bits))
}

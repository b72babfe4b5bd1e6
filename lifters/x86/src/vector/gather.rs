//! Gathers and scatters.

use xlate_abi::state::CpuState;

/// The helper [`xlate_abi::state::Helper::Gather`].
pub extern "C" fn gather(_state: &mut CpuState, _request: u64, _base: u64) -> u64 {
    todo!()
}

/// The helper [`xlate_abi::state::Helper::Scatter`].
pub extern "C" fn scatter(_state: &mut CpuState, _request: u64, _base: u64) -> u64 {
    todo!()
}

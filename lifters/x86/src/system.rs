//! What user programs use of the system instructions, hints and fences, and the privileged instructions, which raise
//! #GP (Intel SDM vol. 1, 5.1.13 and vol. 3, 5.9).

use iced_x86::{Code, Instruction, Mnemonic};
use xlate_abi::state::{CpuState, Helper, RCX, Trap};

use crate::control::trap;
use crate::emitter::{Emitter, Flag, Pred, Ty};
use crate::isa::Semantics;
use crate::lifter::Lifter;

/// The chapter's instructions, one line each.
pub fn lookup<E: Emitter>(code: Code) -> Option<Semantics<E>> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        Cpuid => |l, _| call_with_state(l, Helper::Cpuid),
        Xgetbv => xgetbv,
        Rdtsc => |l, _| call_with_state(l, Helper::Rdtsc),
        Rdtscp => rdtscp,
        Rdpid => rdpid,
        Rdrand | Rdseed => random,
        Rdfsbase => |l, i| read_base(l, i, FS_BASE),
        Rdgsbase => |l, i| read_base(l, i, GS_BASE),
        Wrfsbase => |l, i| write_base(l, i, FS_BASE),
        Wrgsbase => |l, i| write_base(l, i, GS_BASE),
        Lfence | Mfence | Sfence | Serialize => |l, _| l.e.fence(),
        Nop | Reservednop | Pause | Endbr64 | Endbr32 | Prefetch | Prefetchw | Prefetchwt1 | Prefetchnta
        | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetchit0 | Prefetchit1 | Cldemote => nop,
        Clflush | Clflushopt | Clwb => flush_line,
        // Without shadow stacks these leave their operand (SDM vol. 2, RDSSPD/RDSSPQ).
        Rdsspd | Rdsspq => nop,
        _ if is_privileged(code) => |l, i| trap(l, Trap::GeneralProtection, i.ip()),
        _ if is_undefined(code) => |l, i| trap(l, Trap::InvalidOpcode, i.ip()),
        _ => return None,
    })
}

/// Whether an instruction always raises #UD in a program: it is of another mode, for a hypervisor, or of an extension that
/// no processor announces here. SYSENTER is none in 64-bit mode on AMD's processors.
pub fn is_undefined(code: Code) -> bool {
    use Mnemonic::*;
    matches!(
        code.mnemonic(),
        Rsm | Sysenter
            | Getsec
            | Clac
            | Stac
            | Monitor
            | Mwait
            | Umonitor
            | Umwait
            | Tpause
            | Pconfig
            | Encls
            | Enclu
            | Enclv
            | Vmcall
            | Vmmcall
            | Vmlaunch
            | Vmresume
            | Vmxoff
            | Vmxon
            | Vmread
            | Vmwrite
            | Vmptrld
            | Vmptrst
            | Vmclear
            | Vmfunc
            | Vmrun
            | Vmload
            | Vmsave
            | Stgi
            | Clgi
            | Skinit
            | Invlpga
            | Invept
            | Invvpid
            | Xstore
            | Xcryptecb
            | Xcryptcbc
            | Xcryptctr
            | Xcryptcfb
            | Xcryptofb
            | Montmul
            | Xsha1
            | Xsha256
    )
}

/// Whether an instruction always raises #GP in user mode. (CLAC, STAC and others raise #UD there: those aren't listed.)
pub fn is_privileged(code: Code) -> bool {
    use Mnemonic::*;
    match code.mnemonic() {
        Cli | Sti | Hlt | In | Out | Insb | Insw | Insd | Outsb | Outsw | Outsd | Clts | Invd | Wbinvd | Invlpg
        | Lgdt | Lidt | Lldt | Ltr | Lmsw | Rdmsr | Wrmsr | Rdpmc | Swapgs | Sysret | Sysretq | Sysexit | Sysexitq
        | Wbnoinvd | Invpcid | Xsetbv | Xsaves | Xsaves64 | Xrstors | Xrstors64 => true,
        Mov => moves_control_register(code),
        _ => false,
    }
}

/// MOV to and from control, debug and test registers.
pub fn moves_control_register(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Mov_r32_cr
            | Mov_r64_cr
            | Mov_r32_dr
            | Mov_r64_dr
            | Mov_cr_r32
            | Mov_cr_r64
            | Mov_dr_r32
            | Mov_dr_r64
            | Mov_r32_tr
            | Mov_tr_r32
    )
}

const FS_BASE: usize = core::mem::offset_of!(CpuState, fs_base);
const GS_BASE: usize = core::mem::offset_of!(CpuState, gs_base);

/// A hint: nothing that a program can see.
fn nop<E: Emitter>(_: &mut Lifter<'_, E>, _: &Instruction) {}

/// Nothing that a program can see but the faults of a byte's load (SDM vol. 2, CLFLUSH).
fn flush_line<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let addr = l.ea(i);
    l.load(Ty::I8, addr);
}

/// The helper reads its arguments and writes its results in the CPU state.
fn call_with_state<E: Emitter>(l: &mut Lifter<'_, E>, helper: Helper) {
    l.call_helper(helper, &[]);
}

/// #GP if there is no such register (SDM vol. 2, XGETBV).
fn xgetbv<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    let answer = l.call_helper(Helper::Xgetbv, &[]);
    let refused = l.cmp_imm(Pred::Ne, Ty::I64, answer, 0);
    l.trap_if(refused, Trap::GeneralProtection);
}

fn rdtscp<E: Emitter>(l: &mut Lifter<'_, E>, _: &Instruction) {
    l.call_helper(Helper::Rdtsc, &[]);
    let id = l.call_helper(Helper::ProcessorId, &[]);
    l.e.set_gpr(RCX, id);
}

fn rdpid<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let id = l.call_helper(Helper::ProcessorId, &[]);
    let ty = l.ty(i, 0);
    let id = l.zcast(Ty::I64, ty, id);
    l.write(i, 0, id);
}

/// RDRAND and RDSEED: CF says that there was a number; the other status flags are clear.
fn random<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction) {
    let v = l.call_helper(Helper::Random, &[]);
    let ty = l.ty(i, 0);
    let v = l.zcast(Ty::I64, ty, v);
    l.write(i, 0, v);
    for flag in [Flag::Cf, Flag::Of, Flag::Sf, Flag::Zf, Flag::Af] {
        let c = l.e.bconst(flag == Flag::Cf);
        l.set_flag(flag, c);
    }
    let even = l.e.bconst(false);
    l.set_parity_flag(even);
}

fn read_base<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, field: usize) {
    let ty = l.ty(i, 0);
    let v = l.e.state_load(Ty::I64, field);
    let v = l.zcast(Ty::I64, ty, v);
    l.write(i, 0, v);
}

/// #GP where the base isn't canonical: bits 63 to 47 equal (SDM vol. 2, WRFSBASE).
fn write_base<E: Emitter>(l: &mut Lifter<'_, E>, i: &Instruction, field: usize) {
    let ty = l.ty(i, 0);
    let v = l.read(i, 0);
    let v = l.zcast(ty, Ty::I64, v);
    if ty == Ty::I64 {
        let bad = l.is_noncanonical(v);
        l.trap_if(bad, Trap::GeneralProtection);
    }
    l.e.state_store(Ty::I64, field, v);
}

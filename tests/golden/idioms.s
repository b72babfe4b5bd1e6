# Idioms of compiled code, each a function of its own. What tier 2 makes of them is in the listings beside this file.
# Loops count rcx down; rdi and rsi are pointers.
        .intel_syntax noprefix
        .text

# ---- integers -----------------------------------------------------------------------------------
sum_of_words:
1:      add rax, [rdi]
        add rdi, 8
        dec rcx
        jnz 1b
        ret
compare_and_branch:
        cmp edi, esi
        jl 1f
        mov eax, edi
        ret
1:      mov eax, esi
        ret
test_and_branch:
        test dil, 0x20
        jz 1f
        inc rax
1:      ret
signed_range:
        lea eax, [rdi-48]
        cmp eax, 9
        setbe al
        movzx eax, al
        ret
conditional_move:
        mov rax, rdi
        cmp rdi, rsi
        cmovg rax, rsi
        ret
add_with_carry:
        add rdi, rdx
        adc rsi, rcx
        mov rax, rdi
        mov rdx, rsi
        ret
carry_chain:
        xor eax, eax
1:      mov rdx, [rdi]
        adc rdx, [rsi]
        mov [rdi], rdx
        lea rdi, [rdi+8]
        lea rsi, [rsi+8]
        dec rcx
        jnz 1b
        setc al
        ret
divide:
        mov eax, edi
        cdq
        idiv esi
        ret
divide_unsigned:
        mov rax, rdi
        xor edx, edx
        div rsi
        ret
multiply_high:
        mov rax, rdi
        mul rsi
        mov rax, rdx
        ret
hash_step:
        movzx eax, byte ptr [rdi]
        imul ecx, ecx, 0x01000193
        xor ecx, eax
        mov eax, ecx
        ret
rotate_and_mix:
        rol edi, 13
        lea edi, [rdi+rdi*4-430675100]
        xor eax, edi
        ret
shift_by_register:
        mov eax, edi
        mov ecx, esi
        shl eax, cl
        ret
count_bits:
        popcnt rax, rdi
        tzcnt rdx, rdi
        lzcnt rcx, rdi
        add rax, rdx
        add rax, rcx
        ret
byte_swap:
        mov rax, [rdi]
        bswap rax
        ret
bit_test:
        xor eax, eax
        bt rdi, rsi
        adc eax, 0
        ret
partial_register:
        mov al, [rdi]
        mov ah, [rdi+1]
        movzx eax, ax
        ret
atomic_add:
        mov eax, 1
        lock xadd [rdi], eax
        ret
compare_exchange:
        mov eax, esi
        lock cmpxchg [rdi], edx
        sete al
        ret

# ---- control ------------------------------------------------------------------------------------
call_and_return:
        push rbx
        mov rbx, rdi
        call callee
        add rax, rbx
        pop rbx
        ret
callee:
        lea rax, [rdi+1]
        ret
frame:
        push rbp
        mov rbp, rsp
        sub rsp, 16
        mov [rbp-8], rdi
        mov rax, [rbp-8]
        leave
        ret
indirect_call:
        sub rsp, 8
        call [rdi+16]
        add rsp, 8
        ret
interpreter_step:
        movzx eax, byte ptr [rdi]
        inc rdi
        jmp [rsi+rax*8]
list_walk:
1:      mov rdi, [rdi+8]
        test rdi, rdi
        jnz 1b
        ret

# ---- strings ------------------------------------------------------------------------------------
copy_words:
        rep movsq
        ret
fill_bytes:
        rep stosb
        ret
scan_bytes:
1:      cmp byte ptr [rdi], 0
        je 2f
        inc rdi
        jmp 1b
2:      mov rax, rdi
        ret
strlen_sse2:
        pxor xmm0, xmm0
1:      movdqu xmm1, [rdi]
        pcmpeqb xmm1, xmm0
        pmovmskb eax, xmm1
        add rdi, 16
        test eax, eax
        jz 1b
        bsf eax, eax
        ret
memcpy_sse2:
1:      movups xmm0, [rsi]
        movups xmm1, [rsi+16]
        movups [rdi], xmm0
        movups [rdi+16], xmm1
        add rsi, 32
        add rdi, 32
        sub rcx, 32
        ja 1b
        ret
string_compare:
        movdqu xmm0, [rdi]
        pcmpistri xmm0, [rsi], 0x18
        mov eax, ecx
        ret
strlen_avx2:
        vpxor xmm0, xmm0, xmm0
1:      vpcmpeqb ymm1, ymm0, [rdi]
        vpmovmskb eax, ymm1
        add rdi, 32
        test eax, eax
        jz 1b
        tzcnt eax, eax
        vzeroupper
        ret
memcpy_avx:
1:      vmovdqu ymm0, [rsi]
        vmovdqu ymm1, [rsi+32]
        vmovdqu [rdi], ymm0
        vmovdqu [rdi+32], ymm1
        add rsi, 64
        add rdi, 64
        sub rcx, 64
        ja 1b
        vzeroupper
        ret
strlen_evex:
        vpxorq xmm16, xmm16, xmm16
1:      vpminub ymm17, ymm17, [rdi]
        vpcmpeqb k0, ymm16, [rdi]
        kmovd eax, k0
        add rdi, 32
        test eax, eax
        jz 1b
        tzcnt eax, eax
        ret
memcpy_evex:
1:      vmovdqu64 zmm16, [rsi]
        vmovdqu64 zmm17, [rsi+64]
        vmovdqu64 [rdi], zmm16
        vmovdqu64 [rdi+64], zmm17
        add rsi, 128
        add rdi, 128
        sub rcx, 128
        ja 1b
        ret
masked_tail:
        mov eax, -1
        bzhi eax, eax, ecx
        kmovd k1, eax
        vmovdqu8 ymm16{k1}{z}, [rsi]
        vmovdqu8 [rdi]{k1}, ymm16
        ret

# ---- floating point -----------------------------------------------------------------------------
dot_product_scalar:
1:      movsd xmm1, [rdi]
        mulsd xmm1, [rsi]
        addsd xmm0, xmm1
        add rdi, 8
        add rsi, 8
        dec rcx
        jnz 1b
        ret
dot_product_sse:
1:      movupd xmm1, [rdi]
        movupd xmm2, [rsi]
        mulpd xmm1, xmm2
        addpd xmm0, xmm1
        add rdi, 16
        add rsi, 16
        dec rcx
        jnz 1b
        ret
dot_product_fma:
1:      vmovupd ymm1, [rdi]
        vfmadd231pd ymm0, ymm1, [rsi]
        add rdi, 32
        add rsi, 32
        dec rcx
        jnz 1b
        ret
dot_product_avx512:
1:      vmovupd zmm1, [rdi]
        vfmadd231pd zmm0, zmm1, [rsi]
        add rdi, 64
        add rsi, 64
        dec rcx
        jnz 1b
        ret
dot_products_fma:
1:      vmovupd ymm2, [rdi]
        vfmadd231pd ymm0, ymm2, [rsi]
        vfmadd231pd ymm1, ymm2, [rdx]
        add rdi, 32
        add rsi, 32
        add rdx, 32
        dec rcx
        jnz 1b
        ret
compare_doubles:
        comisd xmm0, xmm1
        seta al
        movzx eax, al
        ret
maximum:
        maxsd xmm0, xmm1
        ret
square_root:
        sqrtsd xmm0, xmm0
        ret
integer_to_double:
        cvtsi2sd xmm0, rdi
        ret
double_to_integer:
        cvttsd2si rax, xmm0
        ret
absolute_value:
        movabs rax, 0x7fffffffffffffff
        movq xmm1, rax
        andpd xmm0, xmm1
        ret
polynomial:
        mulsd xmm1, xmm0
        addsd xmm1, xmm2
        mulsd xmm1, xmm0
        addsd xmm1, xmm3
        ret
polynomial_fma:
        vfmadd213pd ymm1, ymm0, ymm2
        vfmadd213pd ymm1, ymm0, ymm3
        ret
add_where_less:
        vcmppd k1, zmm0, zmm1, 1
        vaddpd zmm2{k1}, zmm2, zmm3
        ret
convert_vector:
        vcvttps2dq ymm0, ymm0
        vcvtdq2pd ymm1, xmm0
        vcvtpd2ps xmm1, ymm1
        ret
round_vector:
        vroundpd ymm0, ymm0, 1
        ret
exponents:
        vgetexppd zmm1, zmm0
        vscalefpd zmm0, zmm0, zmm1
        ret

# ---- vectors ------------------------------------------------------------------------------------
add_bytes:
        paddb xmm0, xmm1
        paddusb xmm0, xmm2
        ret
byte_shuffle:
        pshufb xmm0, xmm1
        ret
unpack_and_pack:
        movdqa xmm2, xmm0
        punpcklbw xmm0, xmm1
        punpckhbw xmm2, xmm1
        packuswb xmm0, xmm2
        ret
multiply_and_add_words:
        pmaddwd xmm0, xmm1
        paddd xmm0, xmm2
        ret
absolute_differences:
        psadbw xmm0, xmm1
        ret
broadcast_element:
        movd xmm0, edi
        pshufd xmm0, xmm0, 0
        ret
shift_lanes:
        psrld xmm0, 7
        pslld xmm1, 25
        por xmm0, xmm1
        ret
ternary_logic:
        vpternlogd zmm0, zmm1, zmm2, 0x96
        ret
masked_add:
        vpcmpd k1, zmm0, zmm1, 1
        vpaddd zmm2{k1}, zmm2, zmm3
        ret
compress:
        vptestmd k1, zmm0, zmm0
        vpcompressd zmm1{k1}{z}, zmm0
        ret
permute_two_tables:
        vpermi2d zmm0, zmm1, zmm2
        ret
variable_shift:
        vpsllvd ymm0, ymm0, ymm1
        vpsrlvd ymm2, ymm2, ymm3
        ret
blend:
        vpblendvb ymm0, ymm1, ymm2, ymm3
        ret

# ---- ciphers and hashes ---------------------------------------------------------------------------
aes_round:
        aesenc xmm0, xmm1
        aesenc xmm0, xmm2
        aesenclast xmm0, xmm3
        ret
vaes_round:
        vaesenc zmm0, zmm0, zmm1
        vaesenclast zmm0, zmm0, zmm2
        ret
sha256_rounds:
        sha256rnds2 xmm1, xmm2, xmm0
        sha256msg1 xmm3, xmm4
        sha256msg2 xmm3, xmm5
        ret
carryless_product:
        pclmulqdq xmm0, xmm1, 0x11
        ret
crc:
        crc32 rax, qword ptr [rdi]
        ret

/* A TCG plugin for qemu-aarch64 that counts executed instructions by the address of their translation block.
 *
 * usage: QEMU_PLUGIN=./count.so,out=FILE. When the process ends, FILE has a line "ADDRESS COUNT" (hexadecimal, decimal)
 * for every block that ran. Who owns an address is the reader's business: code that a translator under emulation
 * makes comes and goes, and is known only at the end.
 *
 * Debian ships no header of the plugin API: what is needed of its version 1 (QEMU's manual, "QEMU TCG Plugins") is
 * declared here. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info;
enum qemu_plugin_op { ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op, void *counter, uint64_t add);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* A block translated again has a counter of its own: its length may have changed. The emulator holds pointers to
 * counters, so they never move. */
struct counter {
    struct counter *next;
    uint64_t address, instructions;
};

static struct counter *counters;
static const char *out;
static pid_t owner;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    struct counter *c = calloc(1, sizeof *c);
    if (!c) {
        fputs("count: out of memory\n", stderr);
        abort();
    }
    c->address = qemu_plugin_tb_vaddr(block);
    /* Threads translate, too. */
    c->next = __atomic_load_n(&counters, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&counters, &c->next, c, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &c->instructions, qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    /* Children of a fork have the parent's counters. */
    if (getpid() != owner) return;
    FILE *f = fopen(out, "w");
    if (!f) {
        perror(out);
        return;
    }
    for (struct counter *c = __atomic_load_n(&counters, __ATOMIC_ACQUIRE); c; c = c->next)
        if (c->instructions) fprintf(f, "%" PRIx64 " %" PRIu64 "\n", c->address, c->instructions);
    if (fclose(f)) perror(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) out = strdup(argv[i] + 4);
    if (!out) {
        fputs("count: say where to write: out=FILE\n", stderr);
        return 1;
    }
    owner = getpid();
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}

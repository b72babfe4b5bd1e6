/* Prints what the kernel's headers say of layouts and constants, a line each: name and value. */
#include <stddef.h>
#include <stdio.h>
#include <linux/types.h>
#include <asm/fcntl.h>
#include <asm/ipcbuf.h>
#include <asm/posix_types.h>
#include <asm/sembuf.h>
#include <asm/stat.h>
#include <linux/eventpoll.h>

#define SIZE(type) printf("sizeof(" #type ") %zu\n", sizeof(struct type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(struct type, field))
#define FLAG(name) printf(#name " %lu\n", (unsigned long)name)

int main(void) {
    SIZE(stat);
    FIELD(stat, st_dev);
    FIELD(stat, st_ino);
    FIELD(stat, st_nlink);
    FIELD(stat, st_mode);
    FIELD(stat, st_uid);
    FIELD(stat, st_gid);
    FIELD(stat, st_rdev);
    FIELD(stat, st_size);
    FIELD(stat, st_blksize);
    FIELD(stat, st_blocks);
    FIELD(stat, st_atime);
    FIELD(stat, st_mtime);
    FIELD(stat, st_ctime);
    SIZE(epoll_event);
    FIELD(epoll_event, events);
    FIELD(epoll_event, data);
    SIZE(semid64_ds);
    FIELD(semid64_ds, sem_otime);
    FIELD(semid64_ds, sem_ctime);
    FIELD(semid64_ds, sem_nsems);
    FLAG(O_CREAT);
    FLAG(O_EXCL);
    FLAG(O_NOCTTY);
    FLAG(O_TRUNC);
    FLAG(O_APPEND);
    FLAG(O_NONBLOCK);
    FLAG(O_DSYNC);
    FLAG(FASYNC);
    FLAG(O_DIRECT);
    FLAG(O_LARGEFILE);
    FLAG(O_DIRECTORY);
    FLAG(O_NOFOLLOW);
    FLAG(O_NOATIME);
    FLAG(O_CLOEXEC);
    FLAG(O_SYNC);
    FLAG(O_PATH);
    FLAG(O_TMPFILE);
    return 0;
}

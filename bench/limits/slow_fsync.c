/* A slow disk pretended: every fsync and fdatasync of the process takes BENCH_FSYNC_US microseconds more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_first(void)
{
    const char *given = getenv("BENCH_FSYNC_US");
    long us = given ? atol(given) : 0;
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        nanosleep(&pause, NULL);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first();
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first();
    return real(fd);
}

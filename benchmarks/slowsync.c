/* Makes a disk slow: every fsync and fdatasync takes SLOWSYNC_MS milliseconds longer.
 *
 *   cc -shared -fPIC -O2 -o slowsync.so slowsync.c -ldl
 *   SLOWSYNC_MS=5 LD_PRELOAD=./slowsync.so trio-broker
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_a_little(void) {
    const char *ms = getenv("SLOWSYNC_MS");
    long left = ms ? atol(ms) : 0;
    struct timespec pause = {left / 1000, left % 1000 * 1000000};
    if (left > 0) nanosleep(&pause, NULL);
}
static int next(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    wait_a_little();
    return real(fd);
}
int fsync(int fd) { return next("fsync", fd); }
int fdatasync(int fd) { return next("fdatasync", fd); }

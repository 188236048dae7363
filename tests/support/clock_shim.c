// Shifts the wall clock of one process, for tests: to be put into LD_PRELOAD.
// The shift stands in the file that REDFLOW_TEST_CLOCK names, eight bytes: nanoseconds, signed. It is mapped, so that a
// test makes the clock of a running process jump by writing there. The monotonic clock goes on as it does.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;
static const int64_t none = 0;
static const int64_t second = 1000000000;

static int64_t shift_ns(void) {
    if (shift == NULL) {
        const char *path = getenv("REDFLOW_TEST_CLOCK");
        int file = path == NULL ? -1 : open(path, O_RDONLY);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        shift = map == MAP_FAILED ? &none : map;
    }
    return *shift;
}

static void shifted(struct timespec *at) {
    int64_t all = (int64_t)at->tv_sec * second + at->tv_nsec + shift_ns();
    at->tv_sec = all / second;
    at->tv_nsec = all % second;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int code = (int)syscall(SYS_clock_gettime, clock, at);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) shifted(at);
    return code;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    (void)zone;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return code;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL) *at = now.tv_sec;
    return now.tv_sec;
}

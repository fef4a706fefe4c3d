/* Faults at the system calls of a real process, by LD_PRELOAD (see step_faults.py).
 *
 * Counts the calls that change what is durable or what the other end knows: creating, writing, shortening, syncing,
 * renaming and unlinking files, making directories, and sending on TCP sockets. SQLite's own calls are among them. At
 * the FAULT_AT-th call whose name is in FAULT_CALLS (all, when unset) and whose path or file lies below FAULT_BELOW
 * (anywhere, when unset), FAULT_KIND happens:
 *
 *     kill   SIGKILL before the call             torn   half of a write, then SIGKILL
 *     eio    the call fails with EIO, once       full   it and every later one of these calls fails with ENOSPC
 *
 * FAULT_COUNTER names a file of 4 KiB that is shared with the test: a 64-bit count, then by how many seconds the
 * process's wall clock is wrong (64 bits, set by the test at any time), then the last call as text.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define COUNTER_BYTES 4096
#define MAX_PATH 1024

struct counter {
    uint64_t count;
    int64_t wall_offset_s;
    char last[COUNTER_BYTES - 2 * sizeof(uint64_t)];
};

static struct counter *counter;
static uint64_t fault_at;
static const char *fault_kind, *fault_calls, *fault_below;

enum verdict { PROCEED, TEAR, FAIL };

__attribute__((constructor)) static void prepare(void) {
    const char *path = getenv("FAULT_COUNTER"), *at = getenv("FAULT_AT");
    fault_kind = getenv("FAULT_KIND");
    fault_calls = getenv("FAULT_CALLS");
    fault_below = getenv("FAULT_BELOW");
    fault_at = at ? strtoull(at, NULL, 10) : 0;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int descriptor = path ? real_open(path, O_RDWR) : -1;
    if (descriptor >= 0) {
        void *shared = mmap(NULL, COUNTER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        counter = shared == MAP_FAILED ? NULL : shared;
        close(descriptor);
    }
    unsetenv("LD_PRELOAD"); /* this process only, not what it starts */
}

static int is_chosen(const char *call, const char *path) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, ",%s,", call);
    return (!fault_calls || strstr(fault_calls, wanted)) && (!fault_below || strstr(path, fault_below));
}

static enum verdict step(const char *call, const char *path) {
    if (!counter || !is_chosen(call, path))
        return PROCEED;
    uint64_t number = __atomic_add_fetch(&counter->count, 1, __ATOMIC_SEQ_CST);
    snprintf(counter->last, sizeof counter->last, "%s %s", call, path);
    if (!fault_at || number < fault_at || !fault_kind)
        return PROCEED;
    if (!strcmp(fault_kind, "full")) {
        errno = ENOSPC;
        return FAIL;
    }
    if (number > fault_at)
        return PROCEED;
    if (!strcmp(fault_kind, "kill"))
        kill(getpid(), SIGKILL);
    if (!strcmp(fault_kind, "eio")) {
        errno = EIO;
        return FAIL;
    }
    return !strcmp(fault_kind, "torn") ? TEAR : PROCEED;
}

static enum verdict step_of_file(const char *call, int descriptor) {
    struct stat status;
    char link[64], path[MAX_PATH];
    if (!counter || fstat(descriptor, &status) || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
        return PROCEED;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return step(call, path);
}

static void step_of_socket(int descriptor) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (counter && !getsockname(descriptor, (struct sockaddr *)&address, &length) &&
        (address.ss_family == AF_INET || address.ss_family == AF_INET6))
        step("send", "tcp");
}

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real)                                                                                                         \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define TORN_WRITE(write_half)                                                                                         \
    do {                                                                                                               \
        (void)!(write_half);                                                                                           \
        kill(getpid(), SIGKILL);                                                                                       \
    } while (0)

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        REAL(int, #name, const char *, int, ...);                                                                      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        if ((flags & O_CREAT) && step("create", path) == FAIL)                                                         \
            return -1;                                                                                                 \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int directory, const char *path, int flags, ...) {                                                        \
        REAL(int, #name, int, const char *, int, ...);                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        if ((flags & O_CREAT) && step("create", path) == FAIL)                                                         \
            return -1;                                                                                                 \
        return real(directory, path, flags, mode);                                                                     \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    enum verdict verdict = step_of_file("write", descriptor);
    if (verdict == TEAR)
        TORN_WRITE(real(descriptor, data, length / 2));
    return verdict == FAIL ? -1 : real(descriptor, data, length);
}

#define PWRITE(name)                                                                                                   \
    ssize_t name(int descriptor, const void *data, size_t length, off_t offset) {                                      \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);                                                        \
        enum verdict verdict = step_of_file("write", descriptor);                                                      \
        if (verdict == TEAR)                                                                                           \
            TORN_WRITE(real(descriptor, data, length / 2, offset));                                                    \
        return verdict == FAIL ? -1 : real(descriptor, data, length, offset);                                          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define OF_FILE(name, call)                                                                                            \
    int name(int descriptor) {                                                                                         \
        REAL(int, #name, int);                                                                                         \
        return step_of_file(call, descriptor) == FAIL ? -1 : real(descriptor);                                         \
    }
OF_FILE(fsync, "fsync")
OF_FILE(fdatasync, "fsync")

#define TRUNCATE(name)                                                                                                 \
    int name(int descriptor, off_t length) {                                                                           \
        REAL(int, #name, int, off_t);                                                                                  \
        return step_of_file("truncate", descriptor) == FAIL ? -1 : real(descriptor, length);                           \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return step("rename", to) == FAIL ? -1 : real(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    return step("rename", to) == FAIL ? -1 : real(from_directory, from, to_directory, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return step("unlink", path) == FAIL ? -1 : real(path);
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    return step("unlink", path) == FAIL ? -1 : real(directory, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return step("mkdir", path) == FAIL ? -1 : real(path, mode);
}

ssize_t send(int descriptor, const void *data, size_t length, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    step_of_socket(descriptor);
    return real(descriptor, data, length, flags);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, time);
    if (!result && counter && clock == CLOCK_REALTIME)
        time->tv_sec += __atomic_load_n(&counter->wall_offset_s, __ATOMIC_SEQ_CST);
    return result;
}

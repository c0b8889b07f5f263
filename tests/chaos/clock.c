/* A wall clock that is off by what stands in the file $CHAOS_CLOCK: nanoseconds, 8 bytes, mapped, so that a step is seen at once and by all.
   The monotonic clock is left alone, as a real step leaves it. Needs no headers: only the compiler has to be there. */

struct timespec { long tv_sec, tv_nsec; };
struct timeval { long tv_sec, tv_usec; };

extern void *dlsym(void *, const char *);
extern void *mmap(void *, unsigned long, int, int, int, long);
extern char *getenv(const char *);
extern int open(const char *, int, ...);
extern int close(int);

enum { REALTIME = 0, REALTIME_COARSE = 5, PROT_READ = 1, MAP_SHARED = 1, O_RDONLY = 0 };
#define NEXT ((void *)-1l)
#define SECOND 1000000000l

static int (*real)(int, struct timespec *);
static volatile const long *off;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int fd = path ? open(path, O_RDONLY) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != (void *)-1l) off = mapped;
    close(fd);
}

int clock_gettime(int id, struct timespec *t) {
    if (!real) real = (int (*)(int, struct timespec *))dlsym(NEXT, "clock_gettime");
    int result = real(id, t);
    if (result == 0 && off && (id == REALTIME || id == REALTIME_COARSE)) {
        long sum = t->tv_nsec + *off % SECOND;
        long carry = sum < 0 ? -1 : sum / SECOND;
        t->tv_sec += *off / SECOND + carry;
        t->tv_nsec = sum - carry * SECOND;
    }
    return result;
}

int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    (void)zone;
    int result = clock_gettime(REALTIME, &now);
    if (t) { t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000; }
    return result;
}

long time(long *t) {
    struct timespec now;
    clock_gettime(REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

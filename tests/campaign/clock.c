/* A wall clock that jumps by decades, to and fro, each time it is asked. The others go on. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int jumps;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static const long jump[] = { 0, 3000000000L, -1700000000L, 1000000000L, -1790000000L };
	int result = syscall(SYS_clock_gettime, clock, now);
	if (clock == CLOCK_REALTIME)
		now->tv_sec += jump[++jumps % 5];
	return result;
}

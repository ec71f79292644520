// Refuses a processor that Faiss was not compiled for, with a message, before Faiss's own static initialisers could die of SIGILL.
// Compiled without -march, so that it runs everywhere.

const int pagoda_ann_cpu_checked = 1;

#ifdef PAGODA_REQUIRES_X86_64_V3
#include <string.h>
#include <unistd.h>

#define EXIT_SOFTWARE 70

// Priority 101 is the first that a program may use.
__attribute__((constructor(101))) static void check_cpu(void) {
    static const char message[] =
            "this build needs a processor with AVX2, FMA and BMI2 (x86-64-v3), and this one lacks them; "
            "build with CXXFLAGS_x86_64_unknown_linux_gnu=-march=x86-64 for it\n";
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        return;
    }
    if (write(STDERR_FILENO, message, strlen(message)) < 0) {
        // There is nobody left to tell.
    }
    _exit(EXIT_SOFTWARE);
}
#endif

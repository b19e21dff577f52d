/* clones.h - loops compiled for several instruction sets, chosen when the program starts. */
#ifndef PR_BACKEND_CPU_CLONES_H
#define PR_BACKEND_CPU_CLONES_H

/* Put before a function with loops that the compiler turns into vector code. It holds no OpenMP pragmas:
 * their outlined bodies would not be cloned, so the parallel region stands in the caller. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define PRK_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PRK_CLONES
#endif

#endif

/* blas.h - OpenBLAS as this backend uses it. */
#ifndef PR_BACKEND_CPU_BLAS_H
#define PR_BACKEND_CPU_BLAS_H

/* An OpenBLAS with OpenMP threads follows the program's thread count. One with threads of its own (the
 * pthread flavour, where the build found no other) would fight with ours for the cores: it is told to use one
 * thread. */
void prK_blas_start(void);

#endif

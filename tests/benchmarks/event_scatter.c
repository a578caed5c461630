/* The yardstick of the event operators: y_j = sum over the spiking neurons i of W_ij, by rows.

   cc -O3 -march=native -shared -fPIC -o event_scatter.so event_scatter.c

   Each function computes `calls` products, of the spikes (one byte a neuron) in turn, so that a
   call from another language costs nothing. */

#include <string.h>

void scatter_each(long calls, long turns, long n_pre, long n_post, const unsigned char *spikes,
                  const int *indptr, const int *indices, const float *weight, float *y)
{
    for (long c = 0; c < calls; c++) {
        const unsigned char *s = spikes + (c % turns) * n_pre;
        memset(y, 0, n_post * sizeof *y);
        for (long i = 0; i < n_pre; i++)
            if (s[i])
                for (int k = indptr[i]; k < indptr[i + 1]; k++)
                    y[indices[k]] += weight[k];
    }
}

void scatter_one(long calls, long turns, long n_pre, long n_post, const unsigned char *spikes,
                 const int *indptr, const int *indices, const float *weight, float *y)
{
    for (long c = 0; c < calls; c++) {
        const unsigned char *s = spikes + (c % turns) * n_pre;
        memset(y, 0, n_post * sizeof *y);
        for (long i = 0; i < n_pre; i++)
            if (s[i])
                for (int k = indptr[i]; k < indptr[i + 1]; k++)
                    y[indices[k]] += *weight;
    }
}

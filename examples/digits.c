/* Classifies one handwritten digit with the network of digits.onnx, compiled for a batch of one.
 *
 * digits.h and digits.so are gcomp's output for digits.onnx with `batch` set to 1. With both in this folder:
 *
 *     cc -O2 -std=c11 -I. digits.c ./digits.so -o digits_demo && ./digits_demo
 */
#include <stdalign.h>
#include <stdio.h>

#include "digits.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE, CLASSES = 10, LEVELS = 16 };

/* The first held-out image of digits.npz, a seven; 0 is paper and 16 is ink. */
static const unsigned char scan[PIXELS] = {
     0,  0, 10, 16,  5,  0,  0,  0,
     0,  1, 10, 14, 12,  0,  0,  0,
     0,  0,  0,  9, 11,  0,  0,  0,
     0,  0,  2, 11, 13,  3,  0,  0,
     0,  0, 11, 16, 16, 16,  7,  0,
     0,  0,  3, 16,  4,  5,  1,  0,
     0,  0,  7, 13,  0,  0,  0,  0,
     0,  0, 13,  6,  0,  0,  0,  0,
};

/* The network's working memory; one byte at least, since an array may not be empty. */
static alignas(64) unsigned char arena[DIGITS_ARENA_BYTES > 0 ? DIGITS_ARENA_BYTES : 1];

int main(void) {
    static const char shades[] = " .:-=+*#@";
    float image[PIXELS];
    float logits[CLASSES];

    for (int i = 0; i < PIXELS; i++) {
        image[i] = (float)scan[i] / LEVELS; /* as in train_digits.py */
        putchar(shades[scan[i] / 2]);
        putchar(i % SIDE == SIDE - 1 ? '\n' : ' ');
    }

    digits_ctx ctx;
    int error = digits_init(&ctx);
    if (error != 0) {
        fprintf(stderr, "digits_init: error %d (the processor may lack an instruction set)\n", error);
        return 1;
    }
    ctx.arena = arena;
    error = digits(&ctx, image, logits);
    if (error != 0) {
        fprintf(stderr, "digits: error %d\n", error);
        return 1;
    }

    int best = 0;
    for (int i = 0; i < CLASSES; i++) {
        printf("%d  %8.4f\n", i, (double)logits[i]);
        if (logits[i] > logits[best])
            best = i;
    }
    printf("class %d\n", best);
    return 0;
}

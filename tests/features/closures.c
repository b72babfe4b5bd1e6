/* libffi: calls of functions whose types are known at run time, and closures, which are code written at run time. */
#include <ffi.h>
#include <stdio.h>
#include <stdlib.h>

struct scale { long factor; int calls; };

static void scaled(ffi_cif *cif, void *result, void **args, void *data) {
    struct scale *scale = data;
    scale->calls++;
    *(ffi_sarg *)result = *(int *)args[0] * scale->factor + (long)*(double *)args[1];
    (void)cif;
}

static void ordered(ffi_cif *cif, void *result, void **args, void *data) {
    int a = **(int **)args[0], b = **(int **)args[1];
    *(ffi_arg *)result = *(int *)data ? b - a : a - b;
    (void)cif;
}

static double mixed(float a, long b, double c, signed char d) { return a * b + c / d; }

int main(void) {
    ffi_cif cif;
    ffi_type *types[] = {&ffi_type_sint, &ffi_type_double};
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 2, &ffi_type_slong, types) != FFI_OK) return 1;
    enum { COUNT = 20 };
    struct scale scales[COUNT];
    long (*functions[COUNT])(int, double);
    void *closures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        void *code;
        scales[i] = (struct scale){i - 7, 0};
        closures[i] = ffi_closure_alloc(sizeof(ffi_closure), &code);
        if (!closures[i] || ffi_prep_closure_loc(closures[i], &cif, scaled, &scales[i], code) != FFI_OK) return 2;
        functions[i] = (long (*)(int, double))code;
    }
    unsigned long sum = 0;
    for (int round = 0; round < 300; round++)
        for (int i = 0; i < COUNT; i++) sum = sum * 3 + functions[i](round - 100, i * 0.75);
    printf("closures: %lu, the last one called %d times\n", sum, scales[COUNT - 1].calls);

    /* Given back and made anew: other functions in the same places. */
    for (int i = 0; i < COUNT; i++) ffi_closure_free(closures[i]);
    int numbers[200], down = 0;
    ffi_type *pointers[] = {&ffi_type_pointer, &ffi_type_pointer};
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 2, &ffi_type_sint, pointers) != FFI_OK) return 3;
    for (int way = 0; way < 2; way++) {
        void *code;
        down = way;
        ffi_closure *closure = ffi_closure_alloc(sizeof *closure, &code);
        if (!closure || ffi_prep_closure_loc(closure, &cif, ordered, &down, code) != FFI_OK) return 4;
        for (int i = 0; i < 200; i++) numbers[i] = i * 7919 % 1009;
        qsort(numbers, 200, sizeof *numbers, (int (*)(const void *, const void *))code);
        printf("sorted: %d %d %d\n", numbers[0], numbers[100], numbers[199]);
        ffi_closure_free(closure);
    }

    float a = 1.5f;
    long b = -4;
    double c = 9, r;
    signed char d = -2;
    ffi_type *mix[] = {&ffi_type_float, &ffi_type_slong, &ffi_type_double, &ffi_type_schar};
    void *values[] = {&a, &b, &c, &d};
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 4, &ffi_type_double, mix) != FFI_OK) return 5;
    ffi_call(&cif, FFI_FN(mixed), &r, values);
    printf("call: %g\n", r);
    return 0;
}

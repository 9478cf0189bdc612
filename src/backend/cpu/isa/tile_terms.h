// Coefficients of the elementary functions of tile programs, from the highest power down: fitted once, used by the
// loops of isa/tile_math.inc, which states the errors, and by the code that jit/ makes. Both compute the same steps.
#pragma once

namespace sinter::cpu {

// exp(r) = 1 + r + r^2 p(r) and expm1 alike, |r| <= 0.35
constexpr float exp_terms[] = {1.381314439e-03f, 8.369418847e-03f, 4.166845679e-02f, 1.666651479e-01f,
                               4.999999305e-01f};
constexpr float expm1_terms[] = {1.984595813e-04f, 1.394165254e-03f, 8.333391637e-03f,
                                 4.166634871e-02f, 1.666666635e-01f, 5.000000047e-01f};
// log(1 + f) = f - f^2 / 2 + f^3 p(f), 1 + f in [sqrt(1/2), sqrt(2))
constexpr float log_terms[] = {6.746638256e-02f,  -1.167565121e-01f, 1.188816297e-01f,
                               -1.240558906e-01f, 1.421955228e-01f,  -1.666799584e-01f,
                               2.000211866e-01f,  -2.500000960e-01f, 3.333331260e-01f};
// tanh(x) = x p(x^2) / q(x^2), |x| <= tanh_bound; erf alike
constexpr float tanh_bound = 9.03f;
constexpr float tanh_over[] = {
    -8.436004723e-14f, 5.257762876e-11f, -2.018393477e-08f, 1.114424815e-05f, 3.103000626e-03f, 1.308315624e-01f, 1.0f};
constexpr float tanh_under[] = {2.544750105e-04f, 2.449137820e-02f, 4.641648321e-01f, 1.0f};
constexpr float erf_bound = 3.96f;
constexpr float erf_over[] = {2.046027418e-06f, 2.848431692e-04f, 3.772538767e-03f,
                              5.276925982e-02f, 1.905935106e-01f, 1.128379146e+00f};
constexpr float erf_under[] = {3.804775695e-05f, 1.163854881e-03f, 1.498317414e-02f,
                               1.141826153e-01f, 5.022418313e-01f, 1.0f};

// exp is 0 below its low end and infinity above its high one; expm1 is -1 below its own.
constexpr float exp_low = -105.0f, exp_high = 89.0f, expm1_low = -18.0f;
constexpr float log2_e = 1.44269504f;
// ln 2 in two parts, the first of few bits.
constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
constexpr float smallest_normal = 1.17549435e-38f;
constexpr unsigned root_half_bits = 0x3f3504f3u;

// Adding and subtracting it rounds |x| < 2^22 to an integer, half to even, which then stands in the low bits.
constexpr float rounder = 12582912.0f;
constexpr unsigned rounder_bits = 0x4b400000u;

// Divisors between these have reciprocals that one step corrects to the quotient's last bit.
constexpr float divides_well_above = 0x1p-100f, divides_well_below = 0x1p100f;

}  // namespace sinter::cpu

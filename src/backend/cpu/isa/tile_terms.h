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

// With AVX-512, sigmoid(x) = 1 / (1 + 2^n exp(r)) with -x = n ln 2 + r and n in thirty-seconds, whose fraction picks a
// power of two from a table: exp(r) = 1 + r (a r + b), |r| <= ln 2 / 64. Above its high end sigmoid is 1; below its low
// one it is less than the normal numbers and comes out as 0.
constexpr float sigmoid_terms[] = {5.000001788e-01f, 1.000014663e+00f};
// With AVX2 the same in eighths, exp(r) = 1 + r (1 + r (a r + b)), |r| <= ln 2 / 16; the powers as their bits, less
// what the index adds to the exponent when it is shifted there together with the whole part.
constexpr float sigmoid_eighth_terms[] = {1.666429639e-01f, 5.000648499e-01f, 1.0f};
alignas(32) constexpr unsigned eighth_powers[8] = {0x3f800000u, 0x3f7b95c2u, 0x3f7837f0u, 0x3f75fed7u,
                                                   0x3f7504f3u, 0x3f75672au, 0x3f7744fdu, 0x3f7ac0c7u};
constexpr float sigmoid_low = -87.3365f, sigmoid_high = 32.0f;
constexpr float ln2 = 0.693147182f;
alignas(64) constexpr float thirty_second_powers[32] = {
    1.0f,        1.0218972f,  1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f,  1.13878858f, 1.1637249f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f,  1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f,  1.87416768f, 1.91520655f, 1.95714414f};

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
// The same for eighths and |x| < 2^19, for thirty-seconds and |x| < 2^17.
constexpr float eighth_rounder = 1572864.0f, thirty_second_rounder = 393216.0f;

// Divisors between these have reciprocals that one step corrects to the quotient's last bit.
constexpr float divides_well_above = 0x1p-100f, divides_well_below = 0x1p100f;

}  // namespace sinter::cpu

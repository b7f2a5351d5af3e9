#pragma once
/// Coefficients of Dormand and Prince 1980, "A family of embedded Runge-Kutta formulae", table 2: RK5(4)7M.

namespace solvent::experiments::dormand_prince {

inline constexpr int kStages = 7;

/// Row i gives stage i; the last row is the fifth-order solution, so the last stage is the next step's first one.
inline constexpr double kA[kStages][kStages - 1] = {
    {},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84},
};

/// Fifth-order minus fourth-order weights.
inline constexpr double kError[kStages] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                           -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

}  // namespace solvent::experiments::dormand_prince

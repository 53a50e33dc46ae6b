//! How moments of past gradients turn a gradient into a change.

/// An optimiser's formula for one number, from its gradient and its moments, which start at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// `m <- momentum m + g`, `change = -lr m`, or in Nesterov's form `-lr (g + momentum m)`.
    HeavyBall { momentum: f64, nesterov: bool },
    /// `m <- b1 m + (1 - b1) g`, `s <- b2 s + (1 - b2) g^2`, `change = -lr (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)`
    /// (Kingma and Ba 2015).
    Adam {
        beta_1: f64,
        beta_2: f64,
        epsilon: f64,
    },
}

impl Rule {
    /// Moments that it keeps for every number.
    pub fn moments(self) -> usize {
        match self {
            Self::HeavyBall { .. } => 1,
            Self::Adam { .. } => 2,
        }
    }

    /// The rule's numbers in step `time`, from 1.
    pub fn at(self, time: i32, lr: f64) -> StepCoefficients {
        match self {
            Self::HeavyBall { momentum, nesterov } => match nesterov {
                false => StepCoefficients::Ball {
                    momentum,
                    of_gradient: 0.0,
                    of_moment: -lr,
                },
                true => StepCoefficients::Ball {
                    momentum,
                    of_gradient: -lr,
                    of_moment: -lr * momentum,
                },
            },
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                let root = (1.0 - beta_2.powi(time)).sqrt();
                StepCoefficients::Adam {
                    betas: [beta_1, beta_2],
                    rate: -lr * root / (1.0 - beta_1.powi(time)),
                    epsilon: epsilon * root,
                }
            }
        }
    }
}

/// A rule in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StepCoefficients {
    /// `m <- momentum m + g`, `change = of_gradient g + of_moment m`.
    Ball {
        momentum: f64,
        of_gradient: f64,
        of_moment: f64,
    },
    /// `change = rate m / (sqrt(s) + epsilon)` after the moments' means; rate and epsilon hold the corrections for time.
    Adam {
        betas: [f64; 2],
        rate: f64,
        epsilon: f64,
    },
}

impl StepCoefficients {
    /// The change of one number; its moments take the step.
    pub fn change(self, g: f64, moments: &mut [f64]) -> f64 {
        match self {
            Self::Ball {
                momentum,
                of_gradient,
                of_moment,
            } => {
                moments[0] = momentum * moments[0] + g;
                of_gradient * g + of_moment * moments[0]
            }
            Self::Adam {
                betas: [one, two],
                rate,
                epsilon,
            } => {
                moments[0] = one * moments[0] + (1.0 - one) * g;
                moments[1] = two * moments[1] + (1.0 - two) * (g * g);
                rate * moments[0] / (moments[1].sqrt() + epsilon)
            }
        }
    }
}

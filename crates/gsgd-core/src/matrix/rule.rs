//! How moments of past gradients turn a gradient into a change.

use super::Real;

/// An optimiser's formula for one number, from its gradient and its moments, which start at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `m <- momentum m + g`, `change = -lr m`, or in Nesterov's form `-lr (g + momentum m)`.
    HeavyBall {
        /// The share of the moment that is kept, in [0, 1).
        momentum: f64,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// `m <- b1 m + (1 - b1) g`, `s <- b2 s + (1 - b2) g^2`, `change = -lr (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)`
    /// (Kingma and Ba 2015).
    Adam {
        /// b1, in [0, 1).
        beta_1: f64,
        /// b2, in [0, 1).
        beta_2: f64,
        /// eps, above 0.
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
            Self::HeavyBall { momentum, nesterov } => {
                let [of_gradient, of_moment] = match nesterov {
                    false => [0.0, -lr],
                    true => [-lr, -lr * momentum],
                };
                StepCoefficients::Ball(Ball {
                    momentum,
                    of_gradient,
                    of_moment,
                })
            }
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                let root = (1.0 - beta_2.powi(time)).sqrt();
                StepCoefficients::Adam(Adam {
                    means: [beta_1, beta_2].map(|beta| [beta, 1.0 - beta]),
                    rate: -lr * root / (1.0 - beta_1.powi(time)),
                    epsilon: epsilon * root,
                })
            }
        }
    }
}

/// A rule in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepCoefficients {
    /// Heavy ball.
    Ball(Ball<f64>),
    /// Adam.
    Adam(Adam<f64>),
}

impl StepCoefficients {
    /// The change of one number; its moments take the step.
    pub fn change(self, g: f64, moments: &mut [f64]) -> f64 {
        match self {
            Self::Ball(ball) => {
                let (change, [m]) = ball.change(g, [moments[0]]);
                moments[0] = m;
                change
            }
            Self::Adam(adam) => {
                let (change, after) = adam.change(g, [moments[0], moments[1]]);
                moments[..2].copy_from_slice(&after);
                change
            }
        }
    }
}

/// What a step makes of one number: its change and new moments.
pub trait Step<E, const N: usize>: Copy + Sync {
    /// From the gradient and the moments.
    fn change(self, g: E, moments: [E; N]) -> (E, [E; N]);
}

/// `m <- momentum m + g`, `change = of_gradient g + of_moment m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ball<E> {
    /// The share of the moment that is kept.
    pub momentum: E,
    /// What the gradient is multiplied with.
    pub of_gradient: E,
    /// What the new moment is multiplied with.
    pub of_moment: E,
}

impl Ball<f64> {
    pub(super) fn narrow<E: Real>(self) -> Ball<E> {
        Ball {
            momentum: E::from_f64(self.momentum),
            of_gradient: E::from_f64(self.of_gradient),
            of_moment: E::from_f64(self.of_moment),
        }
    }
}

impl<E: Real> Step<E, 1> for Ball<E> {
    #[inline(always)]
    fn change(self, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
        let m = m * self.momentum + g;
        (g * self.of_gradient + m * self.of_moment, [m])
    }
}

/// `change = rate m / (sqrt(s) + epsilon)` after the moments' means; rate and epsilon hold the corrections for time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam<E> {
    /// By moment, what is kept of it and what is taken of the new.
    pub means: [[E; 2]; 2],
    /// What the first moment is multiplied with.
    pub rate: E,
    /// What is added to the root.
    pub epsilon: E,
}

impl Adam<f64> {
    pub(super) fn narrow<E: Real>(self) -> Adam<E> {
        Adam {
            means: self.means.map(|mean| mean.map(E::from_f64)),
            rate: E::from_f64(self.rate),
            epsilon: E::from_f64(self.epsilon),
        }
    }
}

impl<E: Real> Step<E, 2> for Adam<E> {
    #[inline(always)]
    fn change(self, g: E, [m, s]: [E; 2]) -> (E, [E; 2]) {
        let [[keep_m, of_g], [keep_s, of_square]] = self.means;
        let (m, s) = (m * keep_m + g * of_g, s * keep_s + (g * g) * of_square);
        (m * self.rate / (s.sqrt() + self.epsilon), [m, s])
    }
}

//! Moments, the result, and its gradients.

use pulp::Arch;
use rayon::prelude::*;

use crate::memory::filled;

/// Running totals of a sum.
const LANES: usize = 16;

/// Mean and variance of every channel over a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMoments {
    pub mean: Vec<f32>,
    /// Over all entries, not all but one.
    pub variance: Vec<f32>,
    pub epsilon: f32,
}

impl ChannelMoments {
    /// 1 / the deviation of a channel.
    fn inverse(&self, channel: usize) -> f32 {
        1.0 / (self.variance[channel] + self.epsilon).sqrt()
    }

    fn channels(&self) -> usize {
        self.mean.len()
    }
}

/// Moments of images `[batch, channels, plane]`.
pub fn moments(x: &[f32], channels: usize, plane: usize, epsilon: f32) -> ChannelMoments {
    // of every plane while it is near, then put together (Chan et al. 1979)
    let parts: Vec<(f64, f64)> = x
        .par_chunks_exact(plane)
        .map(|x| {
            let mean = sum(x, x, |x, _| x) / plane as f32;
            let squares = sum(x, x, |x, _| (x - mean) * (x - mean));
            (mean.into(), squares.into())
        })
        .collect();
    let batch = parts.len() / channels;
    let of = |channel: usize| {
        let parts = || parts.iter().skip(channel).step_by(channels);
        let mean = parts().map(|part| part.0).sum::<f64>() / batch as f64;
        let within: f64 = parts().map(|part| part.1).sum();
        let between: f64 = parts().map(|part| (part.0 - mean) * (part.0 - mean)).sum();
        let squares = within + plane as f64 * between;
        (mean as f32, (squares / (batch * plane) as f64) as f32)
    };
    let (mean, variance) = (0..channels).map(of).unzip();
    ChannelMoments {
        mean,
        variance,
        epsilon,
    }
}

/// What follows a batch norm in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Done,
    /// ReLU; what is not a number stays.
    Relu,
}

/// A batch norm of images `[batch, channels, plane]`, gamma and beta by channel.
pub struct BatchNormPasses<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub of: &'a ChannelMoments,
    pub plane: usize,
    pub then: Then,
}

/// What an entry of a channel becomes: `(x - mean) scale + beta`.
#[derive(Clone, Copy)]
struct Affine {
    mean: f32,
    scale: f32,
    beta: f32,
}

impl Affine {
    #[inline(always)]
    fn apply(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.beta
    }

    /// Whether ReLU makes it 0.
    #[inline(always)]
    fn is_cut(self, x: f32) -> bool {
        self.apply(x) <= 0.0
    }
}

/// Gradients of gamma and beta.
pub struct Gradients {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl BatchNormPasses<'_> {
    fn affine(&self, channel: usize) -> Affine {
        Affine {
            mean: self.of.mean[channel],
            scale: self.gamma[channel] * self.of.inverse(channel),
            beta: self.beta[channel],
        }
    }

    /// `gamma (x - mean) / deviation + beta`, and what follows.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        filled(x.len(), |mut first, mut to| {
            while !to.is_empty() {
                let (plane, within) = (first / self.plane, first % self.plane);
                let count = to.len().min(self.plane - within);
                let (here, rest) = to.split_at_mut(count);
                let (x, affine) = (
                    &x[first..first + count],
                    self.affine(plane % self.of.channels()),
                );
                match self.then {
                    Then::Done => each(
                        here,
                        x,
                        #[inline(always)]
                        |x| affine.apply(x),
                    ),
                    Then::Relu => each(
                        here,
                        x,
                        #[inline(always)]
                        |x| match affine.is_cut(x) {
                            true => 0.0,
                            false => affine.apply(x),
                        },
                    ),
                }
                (first, to) = (first + count, rest);
            }
        })
    }

    /// Gradients of gamma and beta, and that of x where that of the result was. With x^ = (x - mean) / deviation, n entries
    /// of a channel, and dL/dy 0 where ReLU follows and cuts:
    ///
    /// ```text
    /// dL/dbeta  = sum of dL/dy
    /// dL/dgamma = sum of dL/dy x^
    /// dL/dx     = gamma / deviation (dL/dy - (dL/dbeta + x^ dL/dgamma) / n)
    /// ```
    pub fn backward(&self, x: &[f32], up: &mut [f32]) -> Gradients {
        match self.then {
            Then::Done => self.backward_where(
                x,
                up,
                #[inline(always)]
                |_, up, _| up,
            ),
            Then::Relu => self.backward_where(
                x,
                up,
                #[inline(always)]
                |affine, up, x| match affine.is_cut(x) {
                    true => 0.0,
                    false => up,
                },
            ),
        }
    }

    #[inline(always)]
    fn backward_where(
        &self,
        x: &[f32],
        up: &mut [f32],
        taken: impl Fn(Affine, f32, f32) -> f32 + Sync,
    ) -> Gradients {
        let (of, channels) = (self.of, self.of.channels());
        let parts: Vec<(f64, f64)> = x
            .par_chunks_exact(self.plane)
            .zip(up.par_chunks_exact(self.plane))
            .enumerate()
            .map(|(at, (x, up))| {
                let affine = self.affine(at % channels);
                let total = sum(
                    x,
                    up,
                    #[inline(always)]
                    |x, up| taken(affine, up, x),
                );
                let product = sum(
                    x,
                    up,
                    #[inline(always)]
                    |x, up| (x - affine.mean) * taken(affine, up, x),
                );
                (total.into(), product.into())
            })
            .collect();
        let total = |channel: usize, of: fn(&(f64, f64)) -> f64| -> f64 {
            parts.iter().skip(channel).step_by(channels).map(of).sum()
        };
        let beta: Vec<f32> = (0..channels)
            .map(|c| total(c, |part| part.0) as f32)
            .collect();
        let gamma: Vec<f32> = (0..channels)
            .map(|c| (total(c, |part| part.1) * f64::from(of.inverse(c))) as f32)
            .collect();
        let count = (x.len() / channels) as f32;
        up.par_chunks_exact_mut(self.plane)
            .zip(x.par_chunks_exact(self.plane))
            .enumerate()
            .for_each(|(at, (up, x))| {
                let (c, affine) = (at % channels, self.affine(at % channels));
                let (shift, slope) = (beta[c] / count, of.inverse(c) * gamma[c] / count);
                Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for (up, &x) in up.iter_mut().zip(x) {
                            let own = taken(affine, *up, x);
                            *up = affine.scale * (own - shift - (x - affine.mean) * slope);
                        }
                    },
                );
            });
        Gradients { gamma, beta }
    }
}

/// `to = of(x)` for every entry, compiled for the vector instructions of this machine.
#[inline(always)]
fn each(to: &mut [f32], x: &[f32], of: impl Fn(f32) -> f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (to, &x) in to.iter_mut().zip(x) {
                *to = of(x);
            }
        },
    );
}

/// Sum of `of(a, b)`, in 16 running totals for the vector instructions of this machine.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            let mut totals = [0.0f32; LANES];
            for (a, b) in a.iter().zip(b) {
                for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
                    *total += of(a, b);
                }
            }
            let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| of(a, b)).sum();
            totals.iter().sum::<f32>() + rest
        },
    )
}

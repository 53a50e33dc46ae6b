//! Moments, the result, and its gradients.

use pulp::Arch;
use rayon::prelude::*;

/// Running totals of a sum.
const LANES: usize = 16;

/// Mean and variance of every channel over a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    pub mean: Vec<f32>,
    /// Over all entries, not all but one.
    pub variance: Vec<f32>,
    pub epsilon: f32,
}

impl Moments {
    /// 1 / the deviation of a channel.
    fn inverse(&self, channel: usize) -> f32 {
        1.0 / (self.variance[channel] + self.epsilon).sqrt()
    }

    fn channels(&self) -> usize {
        self.mean.len()
    }
}

/// Moments of images `[batch, channels, plane]`.
pub fn moments(x: &[f32], channels: usize, plane: usize, epsilon: f32) -> Moments {
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
    Moments {
        mean,
        variance,
        epsilon,
    }
}

/// `gamma (x - mean) / deviation + beta`.
pub fn normalise(x: &[f32], gamma: &[f32], beta: &[f32], of: &Moments, plane: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_exact_mut(plane)
        .zip(x.par_chunks_exact(plane))
        .enumerate()
        .for_each(|(at, (y, x))| {
            let c = at % of.channels();
            let (scale, mean, beta) = (gamma[c] * of.inverse(c), of.mean[c], beta[c]);
            Arch::new().dispatch(|| {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * scale + beta;
                }
            });
        });
    y
}

/// Gradients of x, gamma and beta.
pub struct Gradients {
    pub x: Vec<f32>,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// With x^ = (x - mean) / deviation and n entries of a channel:
///
/// ```text
/// dL/dbeta  = sum of dL/dy
/// dL/dgamma = sum of dL/dy x^
/// dL/dx     = gamma / deviation (dL/dy - (dL/dbeta + x^ dL/dgamma) / n)
/// ```
pub fn gradients(x: &[f32], up: &[f32], gamma: &[f32], of: &Moments, plane: usize) -> Gradients {
    let channels = of.channels();
    let parts: Vec<(f64, f64)> = x
        .par_chunks_exact(plane)
        .zip(up.par_chunks_exact(plane))
        .enumerate()
        .map(|(at, (x, up))| {
            let mean = of.mean[at % channels];
            let total = sum(up, up, |up, _| up);
            let product = sum(x, up, |x, up| (x - mean) * up);
            (total.into(), product.into())
        })
        .collect();
    let total = |channel: usize, of: fn(&(f64, f64)) -> f64| -> f64 {
        parts.iter().skip(channel).step_by(channels).map(of).sum()
    };
    let beta: Vec<f32> = (0..channels)
        .map(|c| total(c, |part| part.0) as f32)
        .collect();
    let of_gamma: Vec<f32> = (0..channels)
        .map(|c| (total(c, |part| part.1) * f64::from(of.inverse(c))) as f32)
        .collect();
    let count = (x.len() / channels) as f32;
    let mut gradient = vec![0.0; x.len()];
    gradient
        .par_chunks_exact_mut(plane)
        .zip(x.par_chunks_exact(plane))
        .zip(up.par_chunks_exact(plane))
        .enumerate()
        .for_each(|(at, ((gradient, x), up))| {
            let c = at % channels;
            let (inverse, mean) = (of.inverse(c), of.mean[c]);
            let scale = gamma[c] * inverse;
            let (shift, slope) = (beta[c] / count, inverse * of_gamma[c] / count);
            Arch::new().dispatch(|| {
                for ((gradient, &x), &up) in gradient.iter_mut().zip(x).zip(up) {
                    *gradient = scale * (up - shift - (x - mean) * slope);
                }
            });
        });
    Gradients {
        x: gradient,
        gamma: of_gamma,
        beta,
    }
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

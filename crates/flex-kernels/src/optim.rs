//! SGD, heavy ball and Adam on weights, each step one pass over a parameter's memory that all cores share.
//!
//! The numbers are those of Burn's optimisers, bit for bit. Burn's take a pass for every tensor operation, 2 to 13 of them.
//!
//! ```
//! use burn::nn::LinearConfig;
//! use burn::optim::{GradientsParams, SgdConfig};
//! use burn::tensor::{Device, Distribution, Tensor};
//! use flex_kernels::optim::{WeightRule, optimizer};
//!
//! let device = Device::flex().autodiff();
//! let model = LinearConfig::new(4, 2).init(&device);
//! let x = Tensor::<2>::random([8, 4], Distribution::Default, &device);
//! let stepped = |mut optim: burn::optim::ModuleOptimizer| {
//!     let loss = model.forward(x.clone()).square().mean();
//!     let grads = GradientsParams::from_grads(loss.backward(), &model);
//!     optim.step(0.1, model.clone(), grads).weight.val().into_data()
//! };
//! let ours = stepped(optimizer(WeightRule::Descent, 0.0));
//! ours.assert_eq(&stepped(SgdConfig::new().init()), true);
//! ```

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::optim::decay::{WeightDecay, WeightDecayConfig};
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

/// Weights that one core takes at a time.
const BLOCK: usize = 1 << 15;

/// A formula for every number, from its gradient and its moments.
#[derive(Debug, Clone, Copy)]
pub enum WeightRule {
    /// `w - lr g`.
    Descent,
    /// `m <- momentum m + g`, `w - lr m` (Polyak 1964).
    HeavyBall {
        /// The share of the moment that is kept, in [0, 1).
        momentum: f32,
    },
    /// `m <- b1 m + (1 - b1) g`, `s <- b2 s + (1 - b2) g^2`, both over `1 - b^t`, `w - lr m / (sqrt(s) + epsilon)`
    /// (Kingma and Ba 2015).
    Adam {
        /// The shares of the moments that are kept, in [0, 1).
        betas: [f32; 2],
        /// What keeps the quotient finite, above 0.
        epsilon: f32,
    },
}

impl WeightRule {
    fn moments(self) -> usize {
        match self {
            Self::Descent => 0,
            Self::HeavyBall { .. } => 1,
            Self::Adam { .. } => 2,
        }
    }

    /// Puts the new weights where the gradients `g` are, and the new moments where the moments are, in step `time`, counted
    /// from 1. `Adam` reads both moments, `HeavyBall` the first, `Descent` none; others may be given and stay.
    ///
    /// # Panics
    /// If a moment that is read is not there, or lists differ in length.
    pub fn step(
        self,
        time: i32,
        lr: f32,
        g: &mut [f32],
        w: &[f32],
        moments: [Option<&mut [f32]>; 2],
    ) {
        match (self, moments) {
            (Self::Descent, _) => in_blocks(g, w, [], |g, w, []| descend(g, w, lr)),
            (Self::HeavyBall { momentum }, [Some(m), _]) => {
                in_blocks(g, w, [m], |g, w, [m]| roll(g, w, m, [momentum, lr]));
            }
            (Self::Adam { betas, epsilon }, [Some(m), Some(s)]) => {
                let [one, two] = betas;
                let root = (1.0 - two.powi(time)).sqrt();
                let factor = root / (1.0 - one.powi(time));
                let numbers = [one, 1.0 - one, two, 1.0 - two, factor, epsilon * root, lr];
                in_blocks(g, w, [m, s], |g, w, [m, s]| adapt(g, w, m, s, numbers));
            }
            _ => panic!("a rule takes its moments"),
        }
    }
}

/// `work` on every block, compiled for the machine's vector instructions.
fn in_blocks<const N: usize>(
    g: &mut [f32],
    w: &[f32],
    mut moments: [&mut [f32]; N],
    work: impl Fn(&mut [f32], &[f32], [&mut [f32]; N]) + Sync,
) {
    assert!(moments.iter().all(|m| m.len() == g.len()) && w.len() == g.len());
    let arch = pulp::Arch::new();
    if g.len() <= 3 * BLOCK || rayon::current_num_threads() == 1 {
        return arch.dispatch(|| work(g, w, moments.each_mut().map(|m| &mut **m)));
    }
    let mut parts = moments.each_mut().map(|m| m.chunks_mut(BLOCK));
    let blocks = g.chunks_mut(BLOCK).zip(w.chunks(BLOCK)).map(|(g, w)| {
        let moments = parts.each_mut().map(|part| part.next().unwrap_or_default());
        (g, w, moments)
    });
    let blocks: Vec<_> = blocks.collect();
    blocks.into_par_iter().for_each(|(g, w, mut moments)| {
        arch.dispatch(|| work(g, w, moments.each_mut().map(|m| &mut **m)));
    });
}

#[inline(always)]
fn descend(g: &mut [f32], w: &[f32], lr: f32) {
    for (g, w) in g.iter_mut().zip(w) {
        *g = w - *g * lr;
    }
}

#[inline(always)]
fn roll(g: &mut [f32], w: &[f32], m: &mut [f32], [momentum, lr]: [f32; 2]) {
    for ((g, w), m) in g.iter_mut().zip(w).zip(m) {
        *m = *g + *m * momentum;
        *g = w - *m * lr;
    }
}

#[inline(always)]
fn adapt(
    g: &mut [f32],
    w: &[f32],
    m: &mut [f32],
    s: &mut [f32],
    [one, rest_one, two, rest_two, factor, epsilon, lr]: [f32; 7],
) {
    for (((g, w), m), s) in g.iter_mut().zip(w).zip(m).zip(s) {
        *m = *m * one + *g * rest_one;
        *s = *s * two + (*g * *g) * rest_two;
        *g = w - (*m * factor) / (s.sqrt() + epsilon) * lr;
    }
}

/// A rule as an optimiser of Burn's, with the weights times `weight_decay` added to their gradients before; not if that is 0
/// or less.
///
/// # Panics
/// Its steps do, on parameters that are not f32 or not on flex.
pub fn optimizer(rule: WeightRule, weight_decay: f32) -> ModuleOptimizer {
    let decay = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay));
    let decay = decay.map(|config| WeightDecay::new(&config));
    match rule.moments() {
        0 => OnePass::<0> { rule, decay }.into(),
        1 => OnePass::<1> { rule, decay }.into(),
        _ => OnePass::<2> { rule, decay }.into(),
    }
}

/// A rule of N moments.
#[derive(Clone)]
struct OnePass<const N: usize> {
    rule: WeightRule,
    decay: Option<WeightDecay>,
}

/// What it keeps of a parameter.
#[derive(Clone)]
struct Past<const D: usize, const N: usize> {
    time: usize,
    moments: [Tensor<D>; N],
}

impl<const N: usize> Optimizer for OnePass<N> {
    type State<const D: usize> = Past<D, N>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        w: Tensor<D>,
        g: Tensor<D>,
        past: Option<Past<D, N>>,
    ) -> (Tensor<D>, Option<Past<D, N>>) {
        let g = match &self.decay {
            Some(decay) => decay.transform(g, w.clone()),
            None => g,
        };
        let past = past.unwrap_or_else(|| Past {
            time: 0,
            moments: std::array::from_fn(|_| w.zeros_like()),
        });
        let time = past.time + 1;
        let (mut g, w, mut moments) = (memory(g), memory(w), past.moments.map(memory));
        let mut lists = moments.iter_mut().map(FlexTensor::storage_mut::<f32>);
        let lists = [lists.next(), lists.next()];
        let count = i32::try_from(time).unwrap_or(i32::MAX);
        self.rule
            .step(count, lr as f32, g.storage_mut(), w.storage(), lists);
        let past = Past {
            time,
            moments: moments.map(Tensor::from_primitive::<Flex>),
        };
        (Tensor::from_primitive::<Flex>(g), Some(past))
    }

    fn to_device<const D: usize>(past: Past<D, N>, device: &Device) -> Past<D, N> {
        Past {
            moments: past.moments.map(|moment| moment.to_device(device)),
            ..past
        }
    }
}

const TIME: &str = "time";
const MOMENTS: [&str; 2] = ["moment_1", "moment_2"];

impl<const D: usize, const N: usize> RecordState for Past<D, N> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, TIME, self.time.into());
        for (name, moment) in MOMENTS.iter().zip(&self.moments) {
            out.push_tensor(prefix, name, moment.to_data());
        }
    }

    fn state_unflatten(prefix: &str, from: &mut StateSource, device: &Device) -> Option<Self> {
        let time = from.take_scalar(prefix, TIME)?.try_into().ok()?;
        let moments = MOMENTS[..N].iter().map(|name| {
            let data = from.take_tensor(prefix, name)?;
            Some(Tensor::from_data(data, device))
        });
        let moments = moments.collect::<Option<Vec<_>>>()?;
        let moments = moments.try_into().ok()?;
        Some(Self { time, moments })
    }
}

/// Memory of a tensor of f32 on the flex backend, one row after the other and nothing else.
fn memory<const D: usize>(x: Tensor<D>) -> FlexTensor {
    let x = x.try_into_primitive::<Flex>();
    x.expect("a flex tensor").to_contiguous()
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::Linear;
    use burn::optim::momentum::MomentumConfig;
    use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
    use burn::tensor::TensorData;

    use super::*;
    use crate::testing::{on_threads, values};

    /// Entries without order.
    fn mixed<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
        let count = shape.iter().product();
        let entry = |at: usize| ((at * 37 + seed) as f32).sin();
        let entries: Vec<f32> = (0..count).map(entry).collect();
        Tensor::from_data(TensorData::new(entries, shape), &Device::flex().autodiff())
    }

    fn model(columns: usize) -> Linear {
        Linear {
            weight: Param::from_tensor(mixed([300, columns], 1)),
            bias: Some(Param::from_tensor(mixed([columns], 2))),
        }
    }

    fn gradients(model: &Linear, seed: usize) -> GradientsParams {
        let loss = model.forward(mixed::<2>([4, 300], seed)).square().mean();
        GradientsParams::from_grads(loss.backward(), model)
    }

    /// Weights and biases after five steps.
    fn trained(mut optim: ModuleOptimizer, columns: usize) -> [Vec<f32>; 2] {
        let mut model = model(columns);
        for seed in 0..5 {
            let grads = gradients(&model, seed);
            model = optim.step(0.01, model, grads);
        }
        let bias = model.bias.expect("a bias");
        [values(model.weight.val()), values(bias.val())]
    }

    #[test]
    fn numbers_are_those_of_burn_bit_for_bit() {
        for (columns, penalty) in [(7, 0.0), (501, 0.0), (501, 0.1)] {
            let ours = |rule| trained(optimizer(rule, penalty), columns);
            let theirs = |optim| trained(optim, columns);
            let decay = (penalty > 0.0).then(|| WeightDecayConfig::new(penalty));
            let sgd = SgdConfig::new().with_weight_decay(decay.clone());
            let ball = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
            let ball = sgd.clone().with_momentum(Some(ball));
            let adam = AdamConfig::new().with_beta_1(0.8).with_epsilon(1e-3);
            let adam = adam.with_weight_decay(decay);
            assert!(ours(WeightRule::Descent) == theirs(sgd.init()));
            assert!(ours(WeightRule::HeavyBall { momentum: 0.9 }) == theirs(ball.init()));
            let rule = WeightRule::Adam {
                betas: [0.8, 0.999],
                epsilon: 1e-3,
            };
            assert!(ours(rule) == theirs(adam.init()));
        }
    }

    #[test]
    fn weights_in_a_part_of_other_memory_are_taken() {
        let part = mixed([600, 7], 1).slice([0..300, 0..7]).detach();
        let stepped = |weight: Tensor<2>| {
            let model = Linear {
                weight: Param::from_tensor(weight),
                bias: None,
            };
            let grads = gradients(&model, 3);
            let model = optimizer(WeightRule::Descent, 0.0).step(0.01, model, grads);
            values(model.weight.val())
        };
        let copy = Tensor::from_data(part.to_data(), &part.device());
        assert!(stepped(part) == stepped(copy));
    }

    #[test]
    fn numbers_do_not_depend_on_threads() {
        let rule = WeightRule::HeavyBall { momentum: 0.9 };
        let on = |threads| on_threads(threads, || trained(optimizer(rule, 0.0), 501));
        assert!(on(1) == on(3));
    }

    #[test]
    fn records_of_another_rule_are_left_out() {
        let ball = optimizer(WeightRule::HeavyBall { momentum: 0.9 }, 0.0);
        let model = model(7);
        let grads = gradients(&model, 3);
        let mut stepped = ball.clone();
        stepped.step(0.1, model, grads);
        let record = || stepped.to_record();
        assert_eq!(record().len(), 2);
        assert_eq!(ball.load_record(record()).to_record().len(), 2);
        let adam = WeightRule::Adam {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        };
        assert!(
            optimizer(adam, 0.0)
                .load_record(record())
                .to_record()
                .is_empty()
        );
    }
}

//! How a G-space optimiser is set up.

use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use gsgd_core::chart::{Chart, ChartConfig, Coordinates};
use gsgd_core::graph::Graph;
use gsgd_core::matrix::Rule;
use gsgd_core::scales::{ScaleGraph, ScaleGraphConfig};
use gsgd_core::{Moments, Network, PathSpace};

use super::gspace::{GSpace, Inner};
use crate::capture::{self, Example, Outputs};
use crate::error::Error;
use crate::matrix::Execution;
use crate::params;
use crate::skeleton::Skeleton;
use crate::verify;

/// Weights of a network that is checked when its optimiser is made, at most.
const VERIFIED: usize = 1_000_000;

/// What happens to parameters outside the scale graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// They are an error when the optimiser is made.
    #[default]
    Refuse,
    /// The inner optimiser steps them as they are, in weight space.
    WeightSpace,
}

impl Outside {
    /// The scale graph, if it is as complete as this asks for.
    pub(super) fn scales(
        self,
        config: ScaleGraphConfig,
        graph: &Graph,
    ) -> Result<ScaleGraph, Error> {
        if let Some(name) = capture::miscomputed(graph).into_iter().next() {
            return Err(Error::WrongGradient { name });
        }
        let scales = graph.scales(config)?;
        let names: Vec<String> = scales.unused().map(String::from).collect();
        match self {
            Self::Refuse if !names.is_empty() => Err(Error::Outside { names }),
            _ => Ok(scales),
        }
    }
}

/// Settings of a [`GSpace`] optimiser.
///
/// | setting | default | purpose | range |
/// |---|---|---|---|
/// | inner optimiser | none | what steps the path values | any of Burn's |
/// | skeleton | [`Skeleton::Largest`] | which paths are the coordinates | |
/// | coordinates | normalised for `Largest`, plain otherwise | scale of the coordinates | |
/// | floor | 0.8 | least size of a skeleton path's value, relative to the start | [0, 1) |
/// | clip norm | none | largest l2 norm of dL/dv over all parameters | > 0 |
/// | outside | refuse | parameters that the scale graph leaves out | |
/// | scale graph | exact batch norm, whole-network skips | what batch norms and skips do to classes | |
#[derive(Clone)]
pub struct GSpaceConfig {
    inner: Inner,
    chart: ChartConfig,
    clip_norm: Option<f64>,
    outside: Outside,
    graph: ScaleGraphConfig,
    execution: Execution,
}

impl GSpaceConfig {
    /// Lifts any Burn optimiser: it sees path values and their gradients instead of weights.
    ///
    /// Its weight decay acts on path values, which is the paper's basis-path regularisation; its parameter groups,
    /// per-group lr and gradient clipping (per parameter) work as they do in weight space.
    ///
    /// ```
    /// # use burn::optim::AdamWConfig;
    /// # use gsgd::GSpaceConfig;
    /// let config = GSpaceConfig::new(AdamWConfig::new().with_weight_decay(1e-4).init());
    /// ```
    pub fn new(optim: impl Into<ModuleOptimizer>) -> Self {
        Self::with_inner(Inner::Lifted(optim.into()))
    }

    /// G-SGD: `v <- v - lr dL/dv`, by the fused step (Meng et al. 2019, Algorithm 1).
    pub fn sgd() -> Self {
        Self::with_inner(Inner::Descent)
    }

    /// G-momentum: heavy ball in path space, `m <- momentum m + dL/dv`, `v <- v - lr m`.
    pub fn momentum(momentum: f64) -> Self {
        Self::heavy_ball(momentum, false)
    }

    /// G-momentum in Nesterov's form, `v <- v - lr (dL/dv + momentum m)`.
    pub fn nesterov(momentum: f64) -> Self {
        Self::heavy_ball(momentum, true)
    }

    /// G-Adam: Adam (0.9, 0.999, 1e-8) in path space.
    pub fn adam() -> Self {
        let (beta_1, beta_2, epsilon) = (0.9f32, 0.999f32, 1e-8f32);
        let adam = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
        let rule = Rule::Adam {
            beta_1: beta_1.into(),
            beta_2: beta_2.into(),
            epsilon: epsilon.into(),
        };
        let burn = adam.with_epsilon(epsilon).init();
        Self::with_inner(Inner::Moments(Moments::new(rule), burn))
    }

    fn heavy_ball(momentum: f64, nesterov: bool) -> Self {
        let config = MomentumConfig::new()
            .with_momentum(momentum)
            .with_dampening(0.0)
            .with_nesterov(nesterov);
        let burn = SgdConfig::new().with_momentum(Some(config)).init();
        let rule = Rule::HeavyBall { momentum, nesterov };
        Self::with_inner(Inner::Moments(Moments::new(rule), burn))
    }

    fn with_inner(inner: Inner) -> Self {
        Self {
            inner,
            chart: ChartConfig::default(),
            clip_norm: None,
            outside: Outside::default(),
            graph: ScaleGraphConfig::default(),
            execution: Execution::default(),
        }
    }

    /// Which edges make the skeleton.
    pub fn with_skeleton(mut self, skeleton: Skeleton) -> Self {
        self.chart.skeleton = skeleton;
        self
    }

    /// Which coordinates the optimiser works in. [`Coordinates::Norm`] needs neither skeleton nor floor.
    pub fn with_coordinates(mut self, coordinates: Coordinates) -> Self {
        self.chart.coordinates = Some(coordinates);
        self
    }

    /// The ratio floor's tau: a skeleton path's value keeps its sign and at least `tau` of its size at the start, and
    /// no step multiplies it by more than `1 / tau`.
    pub fn with_floor(mut self, tau: f64) -> Self {
        self.chart.floor = Some(tau);
        self
    }

    /// No ratio floor: the bare method, which ends in an error where a step runs into a pole.
    pub fn without_floor(mut self) -> Self {
        self.chart.floor = None;
        self
    }

    /// Scales dL/dv down to this l2 norm, taken over all parameters of the scale graph, wherever it is larger.
    pub fn with_clip_norm(mut self, norm: f64) -> Self {
        self.clip_norm = Some(norm);
        self
    }

    /// What happens to parameters outside the scale graph.
    pub fn with_outside(mut self, outside: Outside) -> Self {
        self.outside = outside;
        self
    }

    /// What batch norms and residual connections do to scaling classes.
    pub fn with_scale_graph(mut self, config: ScaleGraphConfig) -> Self {
        self.graph = config;
        self
    }

    /// Streaming passes (the default) or the readable reference in tensor operations.
    pub fn with_execution(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// An optimiser for `model`, with skeleton, floor and normalisation taken from its present weights.
    ///
    /// `forward` is an example forward pass. It says what the network is ([`capture`](crate::capture)); for networks of
    /// up to a million weights it is also carried out, to check that ([`verify`](crate::verify)).
    ///
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
    /// # use gsgd::GSpaceConfig;
    /// let model = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
    /// let optim = GSpaceConfig::sgd()
    ///     .init(&model, |model, example| model.forward(example.input([1, 3])))?;
    /// println!("{} basis paths", optim.scale_graph().basis_paths());
    /// assert_eq!(optim.scale_graph().basis_paths(), 8);
    /// # Ok::<(), gsgd::Error>(())
    /// ```
    ///
    /// # Errors
    /// A setting out of range, a forward pass that cannot be captured or is another function than its graph, parameters
    /// outside the graph, weights that are not finite, a skeleton weight that is zero or, for [`Skeleton::Paper`], tiny.
    pub fn init<M: Module, O: Outputs>(
        &self,
        model: &M,
        forward: impl Fn(&M, &mut Example) -> O,
    ) -> Result<GSpace, Error> {
        let graph = capture::capture(model, &forward)?;
        let optim = self.init_graph(model, &graph)?;
        let scales = optim.scale_graph();
        let is_exact = self.graph.is_exact();
        if is_exact && scales.weights() <= VERIFIED {
            verify::check(model, scales, forward)?;
        }
        Ok(optim)
    }

    /// As [`init`](Self::init), for a graph that was captured before or built by hand.
    ///
    /// # Errors
    /// As for [`init`](Self::init).
    pub fn init_graph<M: Module>(&self, model: &M, graph: &Graph) -> Result<GSpace, Error> {
        let graph = self.scales(graph)?;
        let weights = &params::read(model, &graph, self.execution)?;
        let chart = self.chart.at(Network {
            graph: &graph,
            weights,
        })?;
        Ok(self.assemble(graph, chart, self.inner.clone()))
    }

    pub(super) fn scales(&self, graph: &Graph) -> Result<ScaleGraph, Error> {
        self.chart.check()?;
        let setting = |name, found: f64, allowed| {
            let found = found.to_string();
            gsgd_core::Error::Setting {
                name,
                found,
                allowed,
            }
        };
        if let Some(norm) = self.clip_norm
            && !(norm.is_finite() && norm > 0.0)
        {
            return Err(setting("the clip norm", norm, "a finite number > 0").into());
        }
        if let Inner::Moments(moments, _) = &self.inner
            && let Rule::HeavyBall { momentum, .. } = moments.rule()
            && !(0.0..1.0).contains(&momentum)
        {
            return Err(setting("momentum", momentum, "a number in [0, 1)").into());
        }
        self.outside.scales(self.graph, graph)
    }

    pub(super) fn has_norm_coordinates(&self) -> bool {
        self.chart.coordinates == Some(Coordinates::Norm)
    }

    pub(super) fn execution(&self) -> Execution {
        self.execution
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn assemble(&self, graph: ScaleGraph, chart: Chart, inner: Inner) -> GSpace {
        let clips = self.clip_norm.is_some();
        let space = PathSpace::new(graph, chart, self.clip_norm);
        let inner = match inner {
            Inner::Descent if clips => Inner::Lifted(SgdConfig::new().init()),
            Inner::Moments(_, burn) if clips || !space.advances() => Inner::Lifted(burn),
            inner => inner,
        };
        GSpace::new(space, inner, self.execution)
    }
}

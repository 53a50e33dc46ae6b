//! How a G-space optimiser is set up.

use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};

use super::gspace::{GSpace, Inner};
use super::moments::Moments;
use crate::chart::{Chart, Coordinates, NormChart, PathChart};
use crate::error::Error;
use crate::kernels::{Execution, Matrix, Power, Rule};
use crate::network::Network;
use crate::params;
use crate::rescale::{self, Balance};
use crate::skeleton::{self, Edge, Skeleton, Tree};
use crate::wiring::{Homogeneous, Kind, Wiring, WiringConfig};

/// What happens to parameters that the wiring does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unwired {
    /// They are an error when the optimiser is made.
    #[default]
    Refuse,
    /// The inner optimiser steps them as they are, in weight space.
    WeightSpace,
}

impl Unwired {
    /// The model's wiring, if it is as complete as this asks for.
    pub(super) fn wiring<M: Module + Homogeneous>(
        self,
        config: WiringConfig,
        model: &M,
    ) -> Result<Wiring, Error> {
        let wiring = config.wire(model)?;
        if let Some(name) = wiring.miscomputed.first() {
            return Err(Error::WrongGradient { name: name.clone() });
        }
        let names: Vec<String> = wiring.unwired().map(String::from).collect();
        match self {
            Self::Refuse if !names.is_empty() => Err(Error::Unwired { names }),
            _ => Ok(wiring),
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
/// | unwired | refuse | parameters the wiring leaves out | |
/// | wiring | exact batch norm, whole-network skips | what batch norms and skips do to classes | |
#[derive(Clone)]
pub struct GSpaceConfig {
    inner: Inner,
    skeleton: Skeleton,
    coordinates: Option<Coordinates>,
    floor: Option<f64>,
    clip_norm: Option<f64>,
    unwired: Unwired,
    wiring: WiringConfig,
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
        Self::with_inner(Inner::Moments(Moments::new(rule, burn)))
    }

    fn heavy_ball(momentum: f64, nesterov: bool) -> Self {
        let config = MomentumConfig::new()
            .with_momentum(momentum)
            .with_dampening(0.0)
            .with_nesterov(nesterov);
        let burn = SgdConfig::new().with_momentum(Some(config)).init();
        let rule = Rule::HeavyBall { momentum, nesterov };
        Self::with_inner(Inner::Moments(Moments::new(rule, burn)))
    }

    fn with_inner(inner: Inner) -> Self {
        Self {
            inner,
            skeleton: Skeleton::default(),
            coordinates: None,
            floor: Some(0.8),
            clip_norm: None,
            unwired: Unwired::default(),
            wiring: WiringConfig::default(),
            execution: Execution::default(),
        }
    }

    /// Which edges make the skeleton.
    pub fn with_skeleton(mut self, skeleton: Skeleton) -> Self {
        self.skeleton = skeleton;
        self
    }

    /// Which coordinates the optimiser works in. [`Coordinates::Norm`] needs neither skeleton nor floor.
    pub fn with_coordinates(mut self, coordinates: Coordinates) -> Self {
        self.coordinates = Some(coordinates);
        self
    }

    /// The ratio floor's tau: a skeleton path's value keeps its sign and at least `tau` of its size at the start, and
    /// no step multiplies it by more than `1 / tau`.
    pub fn with_floor(mut self, tau: f64) -> Self {
        self.floor = Some(tau);
        self
    }

    /// No ratio floor: the bare method, which ends in an error where a step runs into a pole.
    pub fn without_floor(mut self) -> Self {
        self.floor = None;
        self
    }

    /// Scales dL/dv down to this l2 norm, taken over all wired parameters, wherever it is larger.
    pub fn with_clip_norm(mut self, norm: f64) -> Self {
        self.clip_norm = Some(norm);
        self
    }

    /// What happens to parameters that the wiring does not use.
    pub fn with_unwired(mut self, unwired: Unwired) -> Self {
        self.unwired = unwired;
        self
    }

    /// How batch norms and residual connections are wired.
    pub fn with_wiring(mut self, wiring: WiringConfig) -> Self {
        self.wiring = wiring;
        self
    }

    /// Streaming passes (the default) or the readable reference in tensor operations.
    pub fn with_execution(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// An optimiser for `model`, with skeleton, floor and normalisation taken from its present weights.
    ///
    /// # Errors
    /// A setting out of range, a wiring that does not fit, parameters that are not wired, weights that are not
    /// finite, a skeleton weight that is zero or, for [`Skeleton::Paper`], tiny.
    pub fn init<M: Module + Homogeneous>(&self, model: &M) -> Result<GSpace, Error> {
        let wiring = self.wiring(model)?;
        let weights = params::read(model, &wiring, self.execution)?;
        let network = Network {
            wiring: &wiring,
            weights: &weights,
        };
        check_finite(network)?;
        let chart = self.chart(network)?;
        Ok(self.assemble(wiring, chart, self.inner.clone()))
    }

    pub(super) fn wiring<M: Module + Homogeneous>(&self, model: &M) -> Result<Wiring, Error> {
        if let Some(tau) = self.floor
            && !(0.0..1.0).contains(&tau)
        {
            return Err(Error::Setting {
                name: "the floor",
                found: tau.to_string(),
                allowed: "a number in [0, 1)",
            });
        }
        if let Some(norm) = self.clip_norm
            && !(norm.is_finite() && norm > 0.0)
        {
            return Err(Error::Setting {
                name: "the clip norm",
                found: norm.to_string(),
                allowed: "a finite number > 0",
            });
        }
        if let Inner::Moments(Moments {
            rule: Rule::HeavyBall { momentum, .. },
            ..
        }) = self.inner
            && !(0.0..1.0).contains(&momentum)
        {
            return Err(Error::Setting {
                name: "momentum",
                found: momentum.to_string(),
                allowed: "a number in [0, 1)",
            });
        }
        self.unwired.wiring(self.wiring, model)
    }

    pub(super) fn execution(&self) -> Execution {
        self.execution
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn assemble(&self, wiring: Wiring, chart: Chart, inner: Inner) -> GSpace {
        let clips = self.clip_norm.is_some();
        let inner = match inner {
            Inner::Descent if clips => Inner::Lifted(SgdConfig::new().init()),
            Inner::Moments(moments) if clips || !is_plain(&chart, &wiring) => {
                Inner::Lifted(moments.burn)
            }
            inner => inner,
        };
        GSpace::new(wiring, chart, inner, self.clip_norm, self.execution)
    }

    fn chart(&self, network: Network) -> Result<Chart, Error> {
        let coordinates = self.coordinates.unwrap_or(match self.skeleton {
            Skeleton::Largest | Skeleton::Random(_) => Coordinates::Normalised,
            Skeleton::Paper | Skeleton::Chosen(_) => Coordinates::Plain,
        });
        if coordinates == Coordinates::Norm {
            let chart = NormChart::new(network.wiring);
            chart.norms(network)?;
            return Ok(Chart::Norm(chart));
        }
        let tree = match &self.skeleton {
            Skeleton::Paper => skeleton::paper(network.wiring),
            Skeleton::Largest => skeleton::largest_of(network.wiring, network.weights),
            Skeleton::Random(seed) => skeleton::random(network.wiring, *seed),
            Skeleton::Chosen(tree) => {
                tree.check(network.wiring)?;
                tree.clone()
            }
        };
        let mut chart = PathChart::new(network.wiring, tree);
        chart.products(network)?;
        if self.skeleton == Skeleton::Paper {
            refuse_tiny(network, &chart.tree)?;
        }
        if let Some(tau) = self.floor {
            chart = chart.with_floor(network, tau)?;
        }
        if coordinates == Coordinates::Normalised {
            let scaling = rescale::balancing(network, Balance::default())?.scaling;
            let classes = network.wiring.classes();
            let factors: Vec<f64> = classes.map(|class| scaling.factor(class)).collect();
            chart = chart.with_normalisation(network, &factors)?;
        }
        Ok(Chart::Path(Box::new(chart)))
    }
}

/// Whether the way back to weights takes no sums of moved path values.
fn is_plain(chart: &Chart, wiring: &Wiring) -> bool {
    let mut classes = wiring.classes();
    let grounded = classes.all(|class| wiring.kind(class) == Kind::Grounded);
    let normed = wiring.edges.iter().any(|edges| edges.before_norm);
    matches!(chart, Chart::Path(_)) && grounded && !normed
}

fn check_finite(network: Network) -> Result<(), Error> {
    match Network::first_not_finite(network.weights, 0..network.weights.len()) {
        Some(param) => Err(Error::NonFiniteWeight {
            name: network.wiring.edges[param].name.clone(),
        }),
        None => Ok(()),
    }
}

/// The least size of a paper skeleton's weight against its unit's root mean square.
const LEAST: f64 = 0.1;

/// Refuses a skeleton with weights far below their units' root mean square, taken in the balanced network so that
/// the answer does not depend on scale.
fn refuse_tiny(network: Network, tree: &Tree) -> Result<(), Error> {
    let wiring = network.wiring;
    let scaling = rescale::balancing(network, Balance::default())?.scaling;
    let balanced: Vec<Matrix> = (0..network.weights.len())
        .map(|param| {
            let by = network.lines(param, |c| 1.0 / scaling.factor(c), |c| scaling.factor(c))?;
            Ok(network.weights[param].clone().scale(&by))
        })
        .collect::<Result<_, Error>>()?;
    let balanced = network.at(&balanced);
    let means = |sums: Vec<f64>, of: usize| sums.into_iter().map(|sum| sum / of as f64).collect();
    let (mut into, mut out): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for (param, edges) in wiring.edges.iter().enumerate() {
        let heads = vec![1.0; edges.heads.len()];
        let groups = edges.layout.groups;
        let sums = balanced.squares_by_head(param).read();
        into.push(means(sums, edges.tails.len() / groups));
        let sums = balanced.powers_by_tail(param, &heads, Power::Two);
        out.push(means(sums, heads.len() / groups));
    }
    let check = |edge: Edge, mean_square: f64| {
        let weight = balanced.weights[edge.param]
            .gather(&[wiring.flat(edge)])
            .read()[0];
        let ratio = weight.abs() / mean_square.sqrt();
        if ratio >= LEAST {
            return Ok(());
        }
        Err(Error::TinySkeleton {
            name: wiring.edges[edge.param].name.clone(),
            tail: edge.tail,
            head: edge.head,
            ratio,
            least: LEAST,
        })
    };
    for class in wiring.hidden_classes() {
        if let Some(edge) = tree.in_edge(class) {
            check(edge, into[edge.param][edge.head])?;
        }
        if let Some(edge) = tree.out_edge(class) {
            check(edge, out[edge.param][edge.tail])?;
        }
    }
    Ok(())
}

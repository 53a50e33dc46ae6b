//! The scale graph of a Burn module, by calls that mirror its forward pass.

use std::ops::{Deref, DerefMut};

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::Tensor;
use gsgd_core::scales::{
    BatchNormParams, Channels, ParamKey, ScaleGraph, ScaleGraphConfig, WeightForm,
};

use crate::error::Error;
use crate::names;
use crate::params::key;

/// A model that describes the scale graph of its forward pass, line by line.
///
/// ```
/// # use burn::{module::Module, nn::Linear};
/// # use gsgd::{Channels, Homogeneous, ScaleGraphBuilder};
/// #[derive(Module, Debug)]
/// struct Block {
///     inner: Linear,
///     outer: Linear,
/// }
///
/// impl Homogeneous for Block {
///     fn scale_graph(&self, g: &mut ScaleGraphBuilder, x: Channels) -> Channels {
///         let y = g.linear(x, &self.inner);
///         let y = g.relu(y);
///         let y = g.linear(y, &self.outer);
///         g.add(y, x)
///     }
/// }
/// ```
pub trait Homogeneous {
    /// Mirrors `forward`: takes the channels of the input, returns those of the output.
    fn scale_graph(&self, g: &mut ScaleGraphBuilder, x: Channels) -> Channels;
}

/// The scale graph of a model by its [`Homogeneous::scale_graph`].
///
/// ```
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// # use gsgd::{Channels, Homogeneous, ScaleGraphBuilder};
/// # #[derive(Module, Debug)]
/// # struct Net { hidden: Linear, output: Linear }
/// # impl Homogeneous for Net {
/// #     fn scale_graph(&self, g: &mut ScaleGraphBuilder, x: Channels) -> Channels {
/// #         let y = g.linear(x, &self.hidden);
/// #         let y = g.relu(y);
/// #         g.linear(y, &self.output)
/// #     }
/// # }
/// # let device = Device::flex();
/// # let net = Net {
/// #     hidden: LinearConfig::new(3, 5).init(&device),
/// #     output: LinearConfig::new(5, 2).init(&device),
/// # };
/// let graph = gsgd::scale_graph(&net, Default::default())?;
/// println!("{} weights, {} hidden classes", graph.weights(), graph.hidden());
/// assert_eq!((graph.weights(), graph.hidden()), (32, 5));
/// # Ok::<(), gsgd::Error>(())
/// ```
///
/// # Errors
/// The first mistake of the calls, with the layer's name.
pub fn scale_graph<M: Module + Homogeneous>(
    model: &M,
    config: ScaleGraphConfig,
) -> Result<ScaleGraph, Error> {
    Ok(described(model, config)?.0)
}

/// The scale graph, and the parameters in it whose gradients Burn computes wrongly.
pub(crate) fn described<M: Module + Homogeneous>(
    model: &M,
    config: ScaleGraphConfig,
) -> Result<(ScaleGraph, Vec<String>), Error> {
    let named = names::names(model).into_iter();
    let named = named.map(|(id, name)| (key(id), name));
    let frozen = names::frozen(model).into_iter();
    let frozen = frozen.map(key);
    let mut builder = ScaleGraphBuilder {
        calls: gsgd_core::scales::ScaleGraphBuilder::new(config, named, frozen),
        miscomputed: Vec::new(),
    };
    let x = builder.input_of_any_width();
    let y = model.scale_graph(&mut builder, x);
    builder.output(y);
    let graph = builder.calls.finish()?;
    let miscomputed = builder.miscomputed.iter();
    let miscomputed = miscomputed.filter_map(|&key| graph.param(key));
    let miscomputed = miscomputed.map(|param| graph.edges()[param].name().to_string());
    let miscomputed = miscomputed.collect();
    Ok((graph, miscomputed))
}

/// The calls of [`gsgd_core::scales::ScaleGraphBuilder`], and one for every layer of Burn's with weights; handed to
/// [`Homogeneous::scale_graph`].
#[derive(Debug)]
pub struct ScaleGraphBuilder {
    calls: gsgd_core::scales::ScaleGraphBuilder,
    /// Parameters whose gradients Burn computes wrongly.
    miscomputed: Vec<ParamKey>,
}

impl Deref for ScaleGraphBuilder {
    type Target = gsgd_core::scales::ScaleGraphBuilder;

    fn deref(&self) -> &Self::Target {
        &self.calls
    }
}

impl DerefMut for ScaleGraphBuilder {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.calls
    }
}

impl ScaleGraphBuilder {
    /// A [`Linear`] layer, weight `[d_input, d_output]`, with or without bias.
    pub fn linear(&mut self, x: Channels, layer: &Linear) -> Channels {
        self.weights(x, &layer.weight, WeightForm::Dense, &layer.bias)
    }

    /// A [`Conv1d`] layer, weight `[channels_out, channels_in / groups, kernel]`, of any stride, padding, dilation and
    /// number of groups.
    ///
    /// Burn 0.22 computes a wrong gradient for its weights with groups and a stride above 1; an optimiser refuses those.
    pub fn conv1d(&mut self, x: Channels, layer: &Conv1d) -> Channels {
        if layer.groups > 1 && layer.stride > 1 {
            self.miscomputed.push(key(layer.weight.id));
        }
        let groups = layer.groups;
        self.weights(
            x,
            &layer.weight,
            WeightForm::Convolution { groups },
            &layer.bias,
        )
    }

    /// A [`Conv2d`] layer, weight `[channels_out, channels_in / groups, height, width]`; see [`conv1d`](Self::conv1d).
    pub fn conv2d(&mut self, x: Channels, layer: &Conv2d) -> Channels {
        let groups = layer.groups;
        self.weights(
            x,
            &layer.weight,
            WeightForm::Convolution { groups },
            &layer.bias,
        )
    }

    /// A [`ConvTranspose1d`] layer, weight `[channels_in, channels_out / groups, kernel]`.
    pub fn conv_transpose1d(&mut self, x: Channels, layer: &ConvTranspose1d) -> Channels {
        let groups = layer.groups;
        self.weights(
            x,
            &layer.weight,
            WeightForm::Transposed { groups },
            &layer.bias,
        )
    }

    /// A [`ConvTranspose2d`] layer, weight `[channels_in, channels_out / groups, height, width]`.
    pub fn conv_transpose2d(&mut self, x: Channels, layer: &ConvTranspose2d) -> Channels {
        let groups = layer.groups;
        self.weights(
            x,
            &layer.weight,
            WeightForm::Transposed { groups },
            &layer.bias,
        )
    }

    /// A [`BatchNorm`] layer, treated as the [`ScaleGraphConfig`] says; see
    /// [`batch_norm`](gsgd_core::scales::ScaleGraphBuilder::batch_norm) of the core.
    pub fn batch_norm(&mut self, x: Channels, layer: &BatchNorm) -> Channels {
        let mut params = BatchNormParams {
            gamma: key(layer.gamma.id),
            beta: key(layer.beta.id),
            mean: ParamKey(0),
            variance: ParamKey(0),
            features: layer.gamma.val().dims()[0],
        };
        for (id, name) in names::names(layer) {
            match name.as_str() {
                "running_mean" => params.mean = key(id),
                "running_var" => params.variance = key(id),
                _ => {}
            }
        }
        self.calls.batch_norm(x, params)
    }

    fn weights<const D: usize>(
        &mut self,
        x: Channels,
        weight: &Param<Tensor<D>>,
        form: WeightForm,
        bias: &Option<Param<Tensor<1>>>,
    ) -> Channels {
        let weight_key = key(weight.id);
        let bias = bias.as_ref().map(|bias| key(bias.id));
        self.calls
            .layer(x, weight_key, &weight.val().dims(), form, bias)
    }
}

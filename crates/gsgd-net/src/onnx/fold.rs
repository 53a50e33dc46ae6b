//! Batch norms folded into the layers before them.

use std::collections::HashMap;

use gsgd_core::graph::{Op, Value};
use gsgd_core::scales::ParamKey;

use super::edit::Editor;
use super::error::OnnxError;
use super::{OnnxFile, OnnxNetwork, numbers};

/// A batch norm that can be folded into the layer before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Foldable {
    /// The batch norm.
    pub norm: Value,
    /// The layer.
    pub layer: Value,
    /// Its weight.
    pub weight: ParamKey,
    /// Its bias, or the parameter that is added behind it.
    pub bias: Option<ParamKey>,
    /// Gamma, beta, running mean and running variance.
    pub tensors: [ParamKey; 4],
    /// What is added to the variance.
    pub epsilon: f64,
    /// The channel of each block of the weight's numbers, and how many numbers a block has.
    channels: Vec<usize>,
    block: usize,
}

/// A batch norm, and the layer that stands for both.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// The batch norm.
    pub norm: Value,
    /// The weight of the layer before it.
    pub weight: ParamKey,
    /// The new values of that weight.
    pub weights: Vec<f64>,
    /// The values of the bias, one for every channel.
    pub bias: Vec<f64>,
}

impl Foldable {
    /// Weight and bias of the layer that stands for both, from the values of the parameters.
    pub fn folded(&self, values: impl Fn(ParamKey) -> Vec<f64>) -> Fold {
        let [gamma, beta, mean, variance] = self.tensors.map(&values);
        let factors: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + self.epsilon).sqrt())
            .collect();
        let mut weights = values(self.weight);
        for (block, &channel) in weights.chunks_mut(self.block.max(1)).zip(&self.channels) {
            let factor = factors.get(channel).copied().unwrap_or(1.0);
            block.iter_mut().for_each(|x| *x *= factor);
        }
        let before = self.bias.map(values);
        let bias = (0..factors.len()).map(|channel| {
            let before = before.as_ref().map_or(0.0, |bias| bias[channel]);
            beta[channel] + factors[channel] * (before - mean[channel])
        });
        Fold {
            norm: self.norm,
            weight: self.weight,
            weights,
            bias: bias.collect(),
        }
    }
}

impl OnnxNetwork {
    /// The batch norms that can be folded into the layers before them: nothing else reads what they read.
    pub fn foldable(&self) -> Vec<Foldable> {
        let readers = self.graph.readers();
        self.graph
            .values()
            .filter_map(|norm| self.fold_of(norm, &readers))
            .collect()
    }

    fn fold_of(&self, norm: Value, readers: &[usize]) -> Option<Foldable> {
        let node = self.graph.node(norm);
        let Op::BatchNorm { epsilon } = node.op else {
            return None;
        };
        let x = *node.reads.first()?;
        let channels = *node.shape.get(1)?;
        let mut tensors = [ParamKey(0); 4];
        for (key, &value) in tensors.iter_mut().zip(&node.reads[1..]) {
            *key = self.behind(value)?.0;
        }
        if readers[x.index()] != 1 || !self.origins.contains_key(&x) {
            return None;
        }
        let per_channel = |value: Value| {
            let (key, _) = self.behind(value)?;
            let size = self.graph.node(value).shape.iter().product::<usize>();
            (size == channels).then_some(key)
        };
        let (layer, mut bias) = match self.graph.node(x) {
            added if added.op == Op::Add => {
                let &[a, b] = &added.reads[..] else {
                    return None;
                };
                let (layer, bias) = match (per_channel(a), per_channel(b)) {
                    (None, Some(bias)) => (a, (b, bias)),
                    (Some(bias), None) => (b, (a, bias)),
                    _ => return None,
                };
                // the channels of the batch norm, not another axis
                let rank = added.shape.len();
                let (value, bias) = bias;
                let shape = &self.graph.node(value).shape;
                let behind = rank - 2;
                let at = shape.len().checked_sub(behind + 1)?;
                (shape[at] == channels && readers[layer.index()] == 1).then_some(())?;
                (layer, Some(bias))
            }
            _ => (x, None),
        };
        if !self.origins.contains_key(&layer) {
            return None;
        }
        let of_layer = self.graph.node(layer);
        if let Some(&own) = of_layer.reads.get(2) {
            if bias.is_some() {
                return None;
            }
            bias = Some(per_channel(own)?);
        }
        let weight = *of_layer.reads.get(1)?;
        let (weight, order) = self.behind(weight)?;
        if self.graph.held().contains_key(&weight) {
            return None;
        }
        let shape = &self.graph.tensor(weight)?.shape;
        let (axis, groups) = match &of_layer.op {
            Op::Conv { .. } => (0, 1),
            Op::ConvTranspose { groups, .. } => (1, *groups),
            Op::MatMul { transposed } if shape.len() == 2 => (if *transposed { 0 } else { 1 }, 1),
            _ => return None,
        };
        // matrices have their channels on the last axis
        if matches!(of_layer.op, Op::MatMul { .. }) && node.shape.len() != 2 {
            return None;
        }
        let axis = match order {
            Some(order) => *order.get(axis)?,
            None => axis,
        };
        let block: usize = shape[axis + 1..].iter().product();
        let size: usize = shape.iter().product();
        let of_axis = shape[axis];
        let per_group = shape[0] / groups.max(1);
        let channels = (0..size / block.max(1)).map(|at| {
            let (front, place) = (at / of_axis, at % of_axis);
            match groups {
                1 => place,
                _ => front / per_group.max(1) * of_axis + place,
            }
        });
        Some(Foldable {
            norm,
            layer,
            weight,
            bias,
            tensors,
            epsilon,
            channels: channels.collect(),
            block,
        })
    }

    /// The parameter that a value is, and the order of its axes if that is another.
    fn behind(&self, value: Value) -> Option<(ParamKey, Option<&[usize]>)> {
        let (mut at, mut order) = (value, None);
        loop {
            let node = self.graph.node(at);
            match &node.op {
                Op::Param(key) => return Some((*key, order)),
                Op::Identity => {}
                Op::Transpose { order: new } if order.is_none() => order = Some(&new[..]),
                // axes of size 1 of a vector
                Op::Reshape { .. }
                    if order.is_none()
                        && node.shape.iter().filter(|&&size| size > 1).count() <= 1 => {}
                _ => return None,
            }
            at = *node.reads.first()?;
        }
    }
}

/// The values of the parameters of layers that stand for batch norms too; nothing for those of batch norms.
pub(super) fn values<'f>(
    network: &OnnxNetwork,
    folds: &'f [Fold],
) -> Result<HashMap<ParamKey, Option<&'f [f64]>>, OnnxError> {
    let mut values = HashMap::new();
    for (fold, foldable) in folds.iter().zip(found(network, folds)?) {
        values.insert(fold.weight, Some(&fold.weights[..]));
        if let Some(bias) = foldable.bias {
            values.insert(bias, Some(&fold.bias[..]));
        }
        for key in foldable.tensors {
            values.insert(key, None);
        }
    }
    Ok(values)
}

fn found(network: &OnnxNetwork, folds: &[Fold]) -> Result<Vec<Foldable>, OnnxError> {
    let all = network.foldable();
    let by_norm: HashMap<Value, &Foldable> = all.iter().map(|found| (found.norm, found)).collect();
    let found = folds.iter().map(|fold| {
        let fail = |why: String| OnnxError::Fold {
            norm: network.name_of(fold.norm),
            why,
        };
        let found = by_norm.get(&fold.norm).copied().ok_or_else(|| {
            fail("it follows no layer whose result it alone reads; leave it".into())
        })?;
        if found.weight != fold.weight {
            return Err(fail(format!(
                "the weight before it is parameter {}, {} was given",
                found.weight.0, fold.weight.0
            )));
        }
        Ok(found.clone())
    });
    found.collect()
}

/// Takes the batch norms away, and gives biases to layers that have none.
pub(super) fn apply(
    editor: &mut Editor,
    file: &OnnxFile,
    network: &OnnxNetwork,
    folds: &[Fold],
) -> Result<(), OnnxError> {
    for (fold, foldable) in folds.iter().zip(found(network, folds)?) {
        let fail = |why: &str| OnnxError::Fold {
            norm: network.name_of(fold.norm),
            why: why.into(),
        };
        let origin = |value: Value| network.origins.get(&value).cloned();
        let missing = || fail("its node is gone");
        let norm = origin(fold.norm).ok_or_else(missing)?;
        let layer = origin(foldable.layer).ok_or_else(missing)?;
        let x = origin(network.graph.node(fold.norm).reads[0]).ok_or_else(missing)?;
        let tensors: Vec<String> = editor
            .giving(&norm)?
            .input
            .iter()
            .skip(1)
            .cloned()
            .collect();
        if foldable.bias.is_none() {
            let (name, place) = match network.param(fold.weight) {
                Some(weight) => (weight.name.clone(), weight.place.clone()),
                None => return Err(missing()),
            };
            let number = match (&place, file.stored(&place)) {
                (_, Some(tensor)) => tensor.data_type.unwrap_or_default(),
                (super::Place::Computed { number, .. }, _) => *number,
                _ => super::proto::data_type::FLOAT,
            };
            let like = match name.strip_suffix("weight") {
                Some(front) => format!("{front}bias"),
                None => format!("{name}_bias"),
            };
            let name = editor.name(&like);
            let has_place = matches!(
                editor.giving(&layer)?.op(),
                "Conv" | "ConvTranspose" | "Gemm"
            );
            let mut dims = vec![fold.bias.len()];
            if !has_place {
                dims.extend(vec![1; network.graph.node(fold.norm).shape.len() - 2]);
            }
            editor.add(numbers::tensor(&name, &dims, number, &fold.bias)?);
            if !has_place {
                // the batch norm becomes a sum
                let node = editor.giving(&norm)?;
                node.input.truncate(1);
                node.input.push(name);
                node.op_type = Some("Add".into());
                node.domain = None;
                node.attribute.clear();
                tensors.iter().for_each(|tensor| editor.sweep(tensor));
                continue;
            }
            let node = editor.giving(&layer)?;
            let old = node.read(2).map(str::to_string);
            node.input.truncate(2);
            node.input.push(name);
            if let Some(old) = old {
                editor.sweep(&old);
            }
        }
        let graph = editor.graph();
        let Some(at) = graph
            .node
            .iter()
            .position(|node| node.first_output() == norm)
        else {
            return Err(missing());
        };
        graph.node.remove(at);
        editor.rename(&x, &norm)?;
        tensors.iter().for_each(|tensor| editor.sweep(tensor));
    }
    Ok(())
}

//! The walk over a graph's operations: values with the channel of each element, and what all operations do with them.

use std::collections::{HashMap, HashSet};

use super::ids::Ids;
use super::operations::{Graph, Value};
use super::params::{Role, View};
use crate::scales::{Channels, ParamKey, ScaleGraphBuilder};

/// A value: channels, and which of them each element belongs to.
#[derive(Debug, Clone)]
pub(super) struct Elements {
    pub of: Channels,
    pub ids: Ids,
}

/// The walk over a graph's operations.
pub(super) struct Walk<'g> {
    pub graph: &'g Graph,
    pub views: Vec<Option<View>>,
    pub roles: HashMap<ParamKey, Role>,
    pub builder: ScaleGraphBuilder,
    pub values: Vec<Option<Elements>>,
}

impl Walk<'_> {
    /// A value that is there, or a parameter as one; the axes along which `beside` changes say which of the parameter's are
    /// channels.
    pub fn value(&mut self, value: Value, beside: Option<&Ids>) -> Elements {
        if let Some(elements) = &self.values[value.0] {
            return elements.clone();
        }
        let shape = &self.graph.nodes[value.0].shape;
        let elements = match self.views[value.0].clone() {
            Some(view) => self.param(&view, shape, beside),
            None => self.constant(shape),
        };
        self.values[value.0] = Some(elements.clone());
        elements
    }

    fn param(&mut self, view: &View, shape: &[usize], beside: Option<&Ids>) -> Elements {
        let is_bias = match self.roles.get(&view.key) {
            Some(Role::Value { is_bias }) => *is_bias,
            _ => return self.constant(shape),
        };
        let Some(param) = self.graph.tensor(view.key) else {
            return self.constant(shape);
        };
        let longer = |axis: &usize| param.shape[*axis] > 1;
        let mut longer = (0..param.shape.len()).filter(longer);
        let first = longer.next();
        let last = longer.next_back().or(first).unwrap_or(0);
        let first = first.unwrap_or(0);
        // as the value beside it has its channels, and on the last axis where that does not say
        let changes = |axis: usize| {
            let beside = beside.map(|ids| (ids.varying(), ids.shape().len()));
            beside.is_some_and(|(varying, rank)| {
                let mut axes = view.axes.iter().enumerate();
                axes.any(|(at, &of)| {
                    of == Some(axis) && varying.contains(&(at + rank - shape.len().min(rank)))
                })
            })
        };
        let axis = match changes(first) && !changes(last) {
            true => first,
            false => last,
        };
        let of = self.builder.param(view.key, &param.shape, axis, is_bias);
        let seen = view.axes.iter().position(|&of| of == Some(axis));
        let ids = match seen {
            Some(at) => Ids::along(shape, at),
            None => Ids::constant(shape, 0),
        };
        Elements { of, ids }
    }

    /// Numbers that no scaling changes.
    pub fn constant(&mut self, shape: &[usize]) -> Elements {
        Elements {
            of: self.builder.behind(&[], 1),
            ids: Ids::constant(shape, 0),
        }
    }

    pub fn role(&self, value: Value) -> Option<(ParamKey, &Role)> {
        let key = self.views[value.0].as_ref()?.key;
        Some((key, self.roles.get(&key)?))
    }

    /// Grounds values: a function that is not positively homogeneous reads them.
    pub fn grounded(&mut self, reads: &[Elements], why: &str) {
        for value in reads {
            let used = value.ids.distinct();
            if !self.builder.is_ground(value.of, used) {
                let whole = self.whole(value);
                self.builder.ground(whole, why);
            }
        }
    }

    /// What such a function makes of them.
    pub fn behind_ground(&mut self, reads: &[Elements], shape: &[usize]) -> Elements {
        let reads: Vec<Channels> = reads.iter().map(|value| self.whole(value)).collect();
        let axis = shape.len().min(2).saturating_sub(1);
        let (width, ids) = match shape.is_empty() {
            true => (1, Ids::constant(shape, 0)),
            false => (shape[axis], Ids::along(shape, axis)),
        };
        let of = self.builder.behind(&reads, width);
        Elements { of, ids }
    }

    /// The value with the channels along these axes made one.
    pub fn mixed(&mut self, x: Elements, axes: &[usize]) -> Elements {
        let varying = x.ids.varying();
        if !axes.iter().any(|axis| varying.contains(axis)) {
            return x;
        }
        let shape = x.ids.shape();
        let kept: Vec<usize> = varying
            .into_iter()
            .filter(|axis| !axes.contains(axis))
            .collect();
        // the kept axes in front, as one
        let mut order = kept.clone();
        order.extend((0..shape.len()).filter(|axis| !kept.contains(axis)));
        let front: usize = kept.iter().map(|&axis| shape[axis]).product();
        let behind = shape.iter().product::<usize>() / front;
        let lines = x.ids.permute(&order).reshape(&[front, behind]).lines(0);
        let mut numbers: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut sums: Vec<Vec<u32>> = Vec::new();
        let list: Vec<usize> = lines
            .into_iter()
            .map(|line| {
                *numbers.entry(line).or_insert_with_key(|line| {
                    sums.push(line.clone());
                    sums.len() as u32 - 1
                }) as usize
            })
            .collect();
        let of = self.sum(x.of, sums);
        let sizes: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
        // [kept ..], then axes of size 1 where the others are
        let ids = Ids::along(&[numbers.len()], 0).select(0, &list);
        let ids = ids.reshape(&sizes);
        let mut ones = vec![1; shape.len()];
        kept.iter().for_each(|&axis| ones[axis] = shape[axis]);
        let ids = ids.reshape(&ones).expand(shape);
        Elements { of, ids }
    }

    /// Sums of channels of one value; the value itself where there is nothing to add.
    pub fn sum(&mut self, of: Channels, sums: Vec<Vec<u32>>) -> Channels {
        let whole = sums.len() == self.builder.width(of);
        let same = sums.iter().enumerate().all(|(at, sum)| *sum == [at as u32]);
        if whole && same {
            return of;
        }
        if sums.iter().any(|sum| sum.len() > 1) {
            self.builder.inexact("a mean over channels");
        }
        let sums = sums.into_iter();
        let sums = sums.map(|sum| sum.into_iter().map(|channel| (of, channel)).collect());
        self.builder.sum(sums)
    }

    /// The channels along an axis, those at one place made one.
    pub fn line(&mut self, x: &Elements, axis: usize) -> Channels {
        let lines = x.ids.lines(axis);
        self.sum(x.of, lines)
    }

    /// The channels of all elements, in their order, each once.
    pub fn whole(&mut self, x: &Elements) -> Channels {
        let mut seen = HashSet::new();
        let all = x.ids.listed(&x.ids.varying());
        let channels = all.into_iter().filter(|&channel| seen.insert(channel));
        let channels = channels.map(|channel| vec![channel]).collect();
        self.sum(x.of, channels)
    }

    /// The sum of values, repeated to one shape.
    pub fn sums(&mut self, values: &[Elements], shape: &[usize]) -> Elements {
        let parts: Vec<Ids> = values.iter().map(|value| value.ids.expand(shape)).collect();
        let (ids, combinations) = Ids::combined(&parts);
        let sums = combinations.into_iter().map(|channels| {
            let summands = values.iter().zip(channels);
            summands
                .map(|(value, channel)| (value.of, channel))
                .collect()
        });
        let of = self.builder.sum(sums);
        Elements { of, ids }
    }
}

//! What the names of a file stand for, and tensors as values of the graph.

use std::borrow::Cow;

use gsgd_core::graph::{Op, Param, Value};
use gsgd_core::scales::ParamKey;

use super::super::error::OnnxError;
use super::super::numbers::{self, label};
use super::super::proto::{TensorProto, data_type};
use super::super::{ParamSource, Place};
use super::known::{LARGEST, Numbers};
use super::{At, Made, Reader, known};

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Thing {
    /// A value of the graph.
    Value(Value),
    /// A value of which the shape is not known; whatever reads it is opaque.
    Unknown(Value),
    /// A tensor of the file.
    Tensor(View),
    /// Numbers that are known.
    Numbers(Numbers),
    /// Something else that stays as it is, of this shape.
    Fixed(Vec<usize>),
}

/// A tensor of the file, perhaps in another shape.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub root: usize,
    pub shape: Vec<usize>,
    /// Operations, each with the name that its node gives; reshapes, transposes and casts.
    pub steps: Vec<(Op, Option<String>)>,
}

/// A tensor of floating point numbers.
pub(super) struct Root<'m> {
    pub name: String,
    pub place: Place,
    pub shape: Vec<usize>,
    pub tensor: Option<Cow<'m, TensorProto>>,
}

impl<'m> Reader<'m> {
    /// Takes in the tensors of the file.
    pub(super) fn tensors(&mut self) -> Result<(), OnnxError> {
        for tensor in &self.file.initializer {
            let name = label(tensor);
            let place = Place::Initializer(name.into());
            let thing = self.tensor_thing(Cow::Borrowed(tensor), name, place)?;
            self.things.insert(name, thing);
        }
        for sparse in &self.file.sparse_initializer {
            let shape = sparse.dims.iter().map(|&dim| usize::try_from(dim).ok());
            let name = sparse.values.as_ref().map(label).unwrap_or_default();
            let shape = shape.collect::<Option<Vec<usize>>>().unwrap_or_default();
            self.things.insert(name, Thing::Fixed(shape));
        }
        Ok(())
    }

    fn tensor_thing(
        &mut self,
        tensor: Cow<'m, TensorProto>,
        name: &str,
        place: Place,
    ) -> Result<Thing, OnnxError> {
        let (shape, count) = numbers::shape(&tensor)?;
        let number = tensor.data_type.unwrap_or(0);
        if !numbers::is_float(number) {
            let small = count <= LARGEST && numbers::is_whole(number);
            let values = match small {
                true => numbers::values(&tensor)?,
                false => None,
            };
            let known = values.and_then(|values| Numbers::new(number, &shape, values));
            return Ok(match known {
                Some(known) => Thing::Numbers(known),
                None => Thing::Fixed(shape),
            });
        }
        if count == 0 {
            let none = Numbers::new(number, &shape, Vec::new());
            return Ok(none.map_or(Thing::Fixed(shape), Thing::Numbers));
        }
        numbers::check(&tensor)?;
        self.roots.push(Root {
            name: name.into(),
            place,
            shape: shape.clone(),
            tensor: Some(tensor),
        });
        Ok(Thing::Tensor(View {
            root: self.roots.len() - 1,
            shape,
            steps: Vec::new(),
        }))
    }

    /// A node that gives numbers.
    pub(super) fn constant_node(&mut self, node: At<'m>) -> Result<Made, OnnxError> {
        let name = node.proto.first_output();
        let place = Place::Constant(name.into());
        if let Some(tensor) = node.proto.tensor("value") {
            let thing = self.tensor_thing(Cow::Borrowed(tensor), name, place)?;
            return Ok(Some(vec![thing]));
        }
        let whole = node.ints("value_ints").map(|all| (all.to_vec(), true));
        let whole = whole.or(node.int("value_int").map(|one| (vec![one], false)));
        if let Some((values, is_list)) = whole {
            let numbers = Numbers::list(values).and_then(|numbers| match is_list {
                true => Some(numbers),
                false => numbers.reshaped(&[]),
            });
            return Ok(numbers.map(|numbers| vec![Thing::Numbers(numbers)]));
        }
        let list = node.proto.attribute("value_floats");
        let floats = list.map(|list| (list.floats.clone(), vec![list.floats.len() as i64]));
        let one = node.proto.attribute("value_float").and_then(|one| one.f);
        let Some((floats, dims)) = floats.or(one.map(|one| (vec![one], Vec::new()))) else {
            return Ok(None);
        };
        let tensor = TensorProto {
            dims,
            data_type: Some(data_type::FLOAT),
            float_data: floats,
            ..Default::default()
        };
        let thing = self.tensor_thing(Cow::Owned(tensor), name, place)?;
        Ok(Some(vec![thing]))
    }

    pub(super) fn thing(&self, node: At, at: usize) -> Option<&Thing> {
        self.things.get(node.proto.read(at)?)
    }

    /// The numbers at a place of a node, if they are known.
    pub(super) fn numbers(&self, node: At, at: usize) -> Option<Numbers> {
        self.numbers_named(node.proto.read(at)?)
    }

    pub(super) fn numbers_named(&self, name: &str) -> Option<Numbers> {
        match self.things.get(name)? {
            Thing::Numbers(numbers) => Some(numbers.clone()),
            Thing::Tensor(view) => {
                let root = &self.roots[view.root];
                let tensor = root.tensor.as_deref()?;
                if known::joint(&[&root.shape])?.iter().product::<usize>() > LARGEST {
                    return None;
                }
                let values = numbers::values(tensor).ok()??;
                let number = tensor.data_type?;
                let mut found = Numbers::new(number, &root.shape, values)?;
                for (op, _) in &view.steps {
                    found = match op {
                        Op::Reshape { shape } => found.reshaped(shape)?,
                        Op::Transpose { order } => found.transposed(order)?,
                        _ => found,
                    };
                }
                Some(found)
            }
            _ => None,
        }
    }

    /// Whole numbers at a place of a node, if they are known.
    pub(super) fn whole(&self, node: At, at: usize) -> Option<Vec<i64>> {
        self.numbers(node, at)?.whole()
    }

    /// The shape of what a node reads.
    pub(super) fn read_shape(&self, node: At, at: usize) -> Option<Vec<usize>> {
        self.thing_shape(self.thing(node, at)?)
    }

    pub(super) fn thing_shape(&self, thing: &Thing) -> Option<Vec<usize>> {
        match thing {
            Thing::Value(value) => Some(self.shape(*value).to_vec()),
            Thing::Tensor(view) => Some(view.shape.clone()),
            Thing::Numbers(numbers) => Some(numbers.shape.clone()),
            Thing::Fixed(shape) => Some(shape.clone()),
            Thing::Unknown(_) => None,
        }
    }

    /// The value that a node reads at a place; none where its shape is not known, or nothing is read.
    pub(super) fn value(&mut self, node: At<'m>, at: usize) -> Option<Value> {
        let shape = self.read_shape(node, at)?;
        self.value_as(node, at, &shape)
    }

    /// As [`value`](Self::value), in another shape of as many elements.
    pub(super) fn value_as(&mut self, node: At<'m>, at: usize, shape: &[usize]) -> Option<Value> {
        let thing = self.thing(node, at)?.clone();
        let is_shape = self.thing_shape(&thing)? == shape;
        let reshape = Op::Reshape {
            shape: shape.to_vec(),
        };
        match thing {
            Thing::Tensor(_) if self.code.contains(&(node.first_output().to_string(), at)) => {
                self.fixed(node, shape)
            }
            Thing::Tensor(mut view) => {
                if !is_shape {
                    view.steps.push((reshape, None));
                    view.shape = shape.to_vec();
                }
                self.param(node, at, &view)
            }
            Thing::Value(value) if is_shape => Some(value),
            Thing::Value(value) => self.push(node, reshape, &[value]),
            Thing::Numbers(numbers) => {
                let numbers = numbers.reshaped(shape)?;
                match self.computed(node, at, &numbers) {
                    Some(view) => self.param(node, at, &view),
                    None => self.fixed(node, shape),
                }
            }
            Thing::Fixed(_) => self.fixed(node, shape),
            Thing::Unknown(_) => None,
        }
    }

    /// Whether a node reads a single number that is a part of the code, as the 2 of a square.
    pub(super) fn is_code(&self, node: At, at: usize) -> bool {
        let Some(Thing::Tensor(view)) = self.thing(node, at) else {
            return false;
        };
        let is_single = view.shape.iter().all(|&size| size == 1);
        is_single && matches!(self.roots[view.root].place, Place::Constant(_))
    }

    /// Numbers that stay as they are.
    pub(super) fn fixed(&mut self, node: At, shape: &[usize]) -> Option<Value> {
        let shape = shape.to_vec();
        self.push(node, Op::Constant { shape }, &[])
    }

    /// Numbers that are computed of others, as a tensor that may be put in their place.
    fn computed(&mut self, node: At, at: usize, numbers: &Numbers) -> Option<View> {
        if !numbers.is_float() || numbers.varies || numbers.count() == 0 {
            return None;
        }
        let name = node.proto.read(at)?.to_string();
        let values = match numbers.everywhere() {
            Some(value) => vec![value],
            None => numbers.all()?,
        };
        self.roots.push(Root {
            place: Place::Computed {
                values,
                dims: self.read_shape(node, at)?,
                number: numbers.number,
            },
            name,
            shape: numbers.shape.clone(),
            tensor: None,
        });
        Some(View {
            root: self.roots.len() - 1,
            shape: numbers.shape.clone(),
            steps: Vec::new(),
        })
    }

    /// The slopes that a node reads: they never change, so that all readers share them.
    pub(super) fn slopes(&mut self, node: At<'m>, at: usize) -> Option<Value> {
        let Some(Thing::Tensor(view)) = self.thing(node, at).cloned() else {
            return self.value(node, at);
        };
        match self.slopes.get(&view.root) {
            Some(&key) => {
                let value = self.seen(node, key, &view)?;
                self.reads.insert((node.index, at), value);
                Some(value)
            }
            None => {
                let value = self.param(node, at, &view)?;
                let key = ParamKey(self.params.len() as u64 - 1);
                self.slopes.insert(view.root, key);
                Some(value)
            }
        }
    }

    /// A tensor as this node reads it: a parameter of its own, as other nodes may read equal numbers by accident.
    fn param(&mut self, node: At<'m>, at: usize, view: &View) -> Option<Value> {
        if let Some(&value) = self.reads.get(&(node.index, at)) {
            return Some(value);
        }
        let root = &self.roots[view.root];
        let key = ParamKey(self.params.len() as u64);
        // the same numbers in the same order: the first shapes do not matter
        let shape = match first_shape(view) {
            Some(shape) => shape.to_vec(),
            None => root.shape.clone(),
        };
        let shape = if shape.is_empty() { vec![1] } else { shape };
        let declared = self.graph.declare(Param {
            key,
            name: root.name.clone(),
            shape,
            trains: true,
        });
        declared.ok()?;
        let path = view.steps.iter();
        self.params.push(ParamSource {
            name: root.name.clone(),
            place: root.place.clone(),
            reader: node.first_output().to_string(),
            node: node.label().to_string(),
            input: at,
            path: path.filter_map(|(_, name)| name.clone()).collect(),
            root: view.root,
            is_read_elsewhere: false,
        });
        let value = self.seen(node, key, view)?;
        self.reads.insert((node.index, at), value);
        Some(value)
    }

    /// A parameter through the steps of a view.
    fn seen(&mut self, node: At, key: ParamKey, view: &View) -> Option<Value> {
        let name = self.roots[view.root].name.clone();
        let mut value = self.graph.push(name, Op::Param(key), &[]).ok()?;
        self.note_dependence(&[], false);
        let behind = view.steps.iter().skip(steps_before(view));
        for (op, _) in behind {
            value = self.push(node, op.clone(), &[value])?;
        }
        match self.shape(value) == view.shape {
            true => Some(value),
            false => {
                let shape = view.shape.clone();
                self.push(node, Op::Reshape { shape }, &[value])
            }
        }
    }
}

/// How many steps change nothing but the shape, at the beginning.
fn steps_before(view: &View) -> usize {
    let mut steps = view.steps.iter();
    let other = steps.position(|(op, _)| matches!(op, Op::Transpose { .. }));
    other.unwrap_or(view.steps.len())
}

/// The shape behind them.
fn first_shape(view: &View) -> Option<&[usize]> {
    let steps = view.steps[..steps_before(view)].iter().rev();
    let mut shapes = steps.filter_map(|(op, _)| match op {
        Op::Reshape { shape } => Some(&shape[..]),
        _ => None,
    });
    shapes.next()
}

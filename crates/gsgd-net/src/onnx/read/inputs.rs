//! The inputs of a file and their shapes.

use gsgd_core::graph::Op;

use super::super::error::{OnnxError, invalid};
use super::super::proto::{DimensionValue, TensorType, TypeValue, ValueInfoProto};
use super::things::Thing;
use super::{ReadOptions, Reader, name_of};

/// A size as the file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Size<'m> {
    Fixed(usize),
    Named(&'m str),
    Free,
}

/// The type of a value that is a tensor.
pub(super) fn tensor_type(info: &ValueInfoProto) -> Option<&TensorType> {
    match info.r#type.as_ref()?.value.as_ref()? {
        TypeValue::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

fn sizes(info: &ValueInfoProto) -> Option<Vec<Size<'_>>> {
    let shape = tensor_type(info)?.shape.as_ref()?;
    let sizes = shape.dim.iter().map(|dim| match &dim.value {
        Some(DimensionValue::DimValue(size)) => match usize::try_from(*size) {
            Ok(size) if size > 0 => Size::Fixed(size),
            _ => Size::Free,
        },
        Some(DimensionValue::DimParam(name)) if !name.is_empty() => Size::Named(name),
        _ => Size::Free,
    });
    Some(sizes.collect())
}

/// A shape as messages show it.
fn said(sizes: Option<&[Size]>) -> String {
    let Some(sizes) = sizes else {
        return "of no known rank".into();
    };
    let sizes = sizes.iter().map(|size| match size {
        Size::Fixed(size) => size.to_string(),
        Size::Named(name) => name.to_string(),
        Size::Free => "?".into(),
    });
    format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
}

impl<'m> Reader<'m> {
    /// The inputs that are no tensors of the file.
    pub(super) fn inputs(&mut self, options: &ReadOptions) -> Result<(), OnnxError> {
        let inputs: Vec<&ValueInfoProto> = self
            .file
            .input
            .iter()
            .filter(|input| !self.things.contains_key(name_of(input)))
            .collect();
        let mut given = options.input_shapes.keys();
        if let Some(name) = given.find(|name| inputs.iter().all(|input| name_of(input) != **name)) {
            let names: Vec<&str> = inputs.iter().map(|input| name_of(input)).collect();
            let what = format!(
                "a shape is given for it, but the inputs are {}",
                names.join(", ")
            );
            return Err(invalid(format!("input `{name}`"), what));
        }
        // sizes that are given say what those of the same name are
        let (first, second): (Vec<_>, Vec<_>) = inputs
            .iter()
            .partition(|input| options.input_shapes.contains_key(name_of(input)));
        let mut shapes = std::collections::HashMap::new();
        for input in first.into_iter().chain(second) {
            let shape = self.input_shape(input, options)?;
            shapes.insert(name_of(input), shape);
        }
        for input in inputs {
            let name = name_of(input);
            let is_tensor = tensor_type(input).is_some();
            let op = match shapes.remove(name) {
                Some(shape) if is_tensor => Op::Input { shape },
                _ => Op::Input { shape: vec![1] },
            };
            let value = self.graph.push(name, op, &[])?;
            self.note_dependence(&[], true);
            let thing = match is_tensor {
                true => Thing::Value(value),
                false => Thing::Unknown(value),
            };
            self.things.insert(name, thing);
        }
        Ok(())
    }

    fn input_shape(
        &mut self,
        input: &'m ValueInfoProto,
        options: &ReadOptions,
    ) -> Result<Vec<usize>, OnnxError> {
        let name = name_of(input);
        let place = format!("input `{name}`");
        let found = sizes(input);
        if tensor_type(input).is_none() {
            return Ok(vec![1]);
        }
        let free = |size: &Size| !matches!(size, Size::Fixed(_));
        self.varies |= found.as_ref().is_none_or(|sizes| sizes.iter().any(free));
        if let Some(given) = options.input_shapes.get(name) {
            let sizes = found
                .clone()
                .unwrap_or_else(|| vec![Size::Free; given.len()]);
            let fits = sizes.len() == given.len()
                && sizes
                    .iter()
                    .zip(given)
                    .all(|(size, &given)| free(size) || *size == Size::Fixed(given));
            if !fits || given.contains(&0) {
                let what = format!(
                    "it has the shape {}, {given:?} was given",
                    said(Some(&sizes))
                );
                return Err(invalid(place, what));
            }
            for (size, &given) in sizes.iter().zip(given) {
                if let Size::Named(symbol) = size {
                    let known = *self.symbols.entry(symbol).or_insert(given);
                    if known != given {
                        let what = format!("`{symbol}` is {known} and {given}");
                        return Err(invalid(place, what));
                    }
                }
            }
            return Ok(given.clone());
        }
        let mut shape = Vec::new();
        for (at, size) in found.iter().flatten().enumerate() {
            let known = match size {
                Size::Fixed(size) => Some(*size),
                Size::Named(symbol) => self.symbols.get(symbol).copied(),
                Size::Free => None,
            };
            // the batch
            let known = known.or((at == 0).then_some(1));
            let Some(known) = known else {
                return Err(self.unknown_shape(name, found.as_deref()));
            };
            if let Size::Named(symbol) = size {
                self.symbols.insert(symbol, known);
            }
            shape.push(known);
        }
        match found {
            Some(_) => Ok(shape),
            None => Err(self.unknown_shape(name, None)),
        }
    }

    fn unknown_shape(&self, name: &str, found: Option<&[Size]>) -> OnnxError {
        let sizes = found.unwrap_or(&[Size::Free; 4]).iter().enumerate();
        let example = sizes.map(|(at, size)| match (size, at) {
            (Size::Fixed(size), _) => size.to_string(),
            (_, 0) => "1".into(),
            (_, 1) => "3".into(),
            _ => "224".into(),
        });
        OnnxError::InputShape {
            input: name.into(),
            found: said(found),
            example: example.collect::<Vec<_>>().join(","),
        }
    }

    /// The shape that the file gives for a value, if it says all sizes.
    pub(super) fn stated_shape(&self, name: &str) -> Option<Vec<usize>> {
        let sizes = sizes(self.infos.get(name)?)?;
        let sizes = sizes.into_iter().map(|size| match size {
            Size::Fixed(size) => Some(size),
            Size::Named(symbol) => self.symbols.get(symbol).copied(),
            Size::Free => None,
        });
        sizes.collect()
    }
}

//! A node's attributes.

use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

impl NodeProto {
    /// What it does; empty where the file does not say.
    pub fn op(&self) -> &str {
        self.op_type.as_deref().unwrap_or_default()
    }

    /// Its name, or else that of the first value that it gives.
    pub fn label(&self) -> &str {
        match self.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => self.first_output(),
        }
    }

    /// The first value that it gives.
    pub(super) fn first_output(&self) -> &str {
        let mut outputs = self.output.iter();
        let first = outputs.find(|output| !output.is_empty());
        first.map(String::as_str).unwrap_or_default()
    }

    /// The name of the value that it reads at a place.
    pub(super) fn read(&self, at: usize) -> Option<&str> {
        let name = self.input.get(at)?;
        (!name.is_empty()).then_some(name)
    }

    /// An attribute by its name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        let mut attributes = self.attribute.iter();
        attributes.find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        Some(self.attribute(name)?.i.unwrap_or(0))
    }

    /// A number.
    pub(super) fn float(&self, name: &str) -> Option<f64> {
        Some(f64::from(self.attribute(name)?.f.unwrap_or(0.0)))
    }

    /// Whole numbers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|found| &found.ints[..])
    }

    /// Whole numbers from 0 on.
    pub(super) fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let ints = self.ints(name)?.iter();
        ints.map(|&x| usize::try_from(x).ok()).collect()
    }

    /// Text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref()?).ok()
    }

    /// A tensor.
    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Its bodies.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &GraphProto> {
        let attributes = self.attribute.iter();
        attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
    }
}

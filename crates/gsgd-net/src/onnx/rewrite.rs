//! The file with other numbers in its tensors.

use std::collections::{BTreeMap, HashMap};

use gsgd_core::scales::ParamKey;

use super::edit::{Editor, like};
use super::error::OnnxError;
use super::fold::Fold;
use super::numbers;
use super::proto::{AttributeProto, TensorProto, attribute_type, data_type};
use super::{OnnxFile, OnnxNetwork, ParamSource, Place};

impl OnnxFile {
    /// The file with other values in some parameters of the network that was read from it, in the type of their numbers.
    /// `values` gives those of a parameter, or nothing where they stay. A tensor that several nodes read becomes several
    /// where their values are not the same.
    ///
    /// # Errors
    /// A tensor has another number of values, or a finite value becomes infinite in its type.
    pub fn replaced(
        &self,
        network: &OnnxNetwork,
        values: impl Fn(ParamKey) -> Option<Vec<f64>>,
    ) -> Result<OnnxFile, OnnxError> {
        self.rewritten(network, values, &[])
    }

    /// As [`replaced`](Self::replaced), with batch norms folded into the layers before them; values of their parameters do not
    /// count, and those of the layers are the folded ones.
    ///
    /// # Errors
    /// As of [`replaced`](Self::replaced), or a batch norm is none that [`OnnxNetwork::foldable`] gives.
    pub fn rewritten(
        &self,
        network: &OnnxNetwork,
        values: impl Fn(ParamKey) -> Option<Vec<f64>>,
        folds: &[Fold],
    ) -> Result<OnnxFile, OnnxError> {
        let mut editor = Editor::new(&self.model);
        let folded = super::fold::values(network, folds)?;
        let mut by_root: BTreeMap<usize, Vec<ParamKey>> = BTreeMap::new();
        for (key, param) in network.params.iter().enumerate() {
            let keys = by_root.entry(param.root).or_default();
            keys.push(ParamKey(key as u64));
        }
        for keys in by_root.values() {
            self.replace_root(&mut editor, network, keys, |key| match folded.get(&key) {
                Some(values) => values.clone().map(<[f64]>::to_vec),
                None => values(key),
            })?;
        }
        super::fold::apply(&mut editor, self, network, folds)?;
        Ok(OnnxFile {
            model: editor.finish(),
        })
    }

    /// Puts values into the tensor that these parameters are.
    fn replace_root(
        &self,
        editor: &mut Editor,
        network: &OnnxNetwork,
        keys: &[ParamKey],
        values: impl Fn(ParamKey) -> Option<Vec<f64>>,
    ) -> Result<(), OnnxError> {
        // those with the same values, and whether the tensor as it is has others that read it
        let mut groups: Vec<(Vec<f64>, Vec<&ParamSource>)> = Vec::new();
        let mut places: HashMap<Vec<u64>, usize> = HashMap::new();
        let mut stays = false;
        let mut before: Option<Vec<f64>> = None;
        for &key in keys {
            let (Some(param), Some(new)) = (network.param(key), values(key)) else {
                stays = true;
                continue;
            };
            stays |= param.is_read_elsewhere;
            let before = match before {
                Some(ref before) => before,
                None => &*before.insert(self.values(network, key)?),
            };
            if new.len() != before.len() {
                return Err(OnnxError::Count {
                    tensor: param.name.clone(),
                    expected: before.len(),
                    found: new.len(),
                });
            }
            if new == *before {
                stays = true;
                continue;
            }
            let bits = match keys.len() {
                1 => Vec::new(),
                _ => new.iter().map(|x| x.to_bits()).collect(),
            };
            let place = *places.entry(bits).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, readers)) => readers.push(param),
                None => groups.push((new, vec![param])),
            }
        }
        for (values, readers) in groups {
            let place = &readers[0].place;
            if !stays && self.replace_place(editor, place, &values)? {
                stays = true;
                continue;
            }
            let name = editor.name(&readers[0].name);
            editor.add(self.copy(place, &name, &values)?);
            for reader in readers {
                editor.rewire(&reader.reader, reader.input, &reader.path, &name)?;
            }
        }
        Ok(())
    }

    /// Replaces the values at a place; false where there are none.
    fn replace_place(
        &self,
        editor: &mut Editor,
        place: &Place,
        values: &[f64],
    ) -> Result<bool, OnnxError> {
        match place {
            Place::Initializer(name) => {
                let mut tensors = editor.graph().initializer.iter_mut();
                match tensors.find(|tensor| numbers::label(tensor) == name) {
                    Some(tensor) => numbers::replace(tensor, values).map(|()| true),
                    None => Ok(false),
                }
            }
            Place::Constant(name) => {
                let tensor = self.copy(place, "", values)?;
                let node = editor.giving(name)?;
                node.attribute = vec![AttributeProto {
                    name: Some("value".into()),
                    r#type: Some(attribute_type::TENSOR),
                    t: Some(TensorProto {
                        name: None,
                        ..tensor
                    }),
                    ..Default::default()
                }];
                Ok(true)
            }
            Place::Computed { .. } => Ok(false),
        }
    }

    /// A tensor like that at a place, with other values.
    pub(super) fn copy(
        &self,
        place: &Place,
        name: &str,
        values: &[f64],
    ) -> Result<TensorProto, OnnxError> {
        if let Some(tensor) = self.stored(place) {
            return like(tensor, name, values);
        }
        match place {
            Place::Computed { dims, number, .. } => numbers::tensor(name, dims, *number, values),
            Place::Constant(of) if !self.is_list(of) => {
                numbers::tensor(name, &[], data_type::FLOAT, values)
            }
            _ => numbers::tensor(name, &[values.len()], data_type::FLOAT, values),
        }
    }

    /// Whether a constant is written as a list.
    fn is_list(&self, name: &str) -> bool {
        let graph = self.model.graph.iter();
        let mut nodes = graph.flat_map(|graph| &graph.node);
        nodes.any(|node| node.first_output() == name && node.attribute("value_floats").is_some())
    }
}

//! What a network is: its graph, what its files say of it, and its starting weights.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use gsgd::ScaleGraphConfig;
use gsgd::core::graph::Graph;
use gsgd::skeleton::{self, SkeletonTree};
use gsgd_net::file::{Hints, NetworkFile};
use gsgd_net::image::ImageShape;
use gsgd_net::known::{architecture_of, network_of};
use gsgd_net::layout;
use gsgd_net::tensors::Tensors;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::file::{NETWORK, fill, save};
use super::init::{He, Init};
use super::net::Net;
use super::plan::statistics;
use super::{Architecture, Plan};

/// The stream of the seed's random numbers that skeleton signs are drawn from.
const SIGNS: u64 = 1;

/// A network that can be made.
#[derive(Debug, Clone)]
pub struct Design {
    /// As messages name it: `resnet:20 with batch norm`.
    pub name: String,
    graph: Graph,
    /// The entry of metadata in its files: key and text.
    about: (&'static str, String),
}

pub use gsgd_net::file::LAYERS;

impl TryFrom<&Architecture> for Design {
    type Error = anyhow::Error;

    fn try_from(of: &Architecture) -> Result<Self> {
        let graph = of
            .graph()
            .with_context(|| format!("{} on images of {}", of.arch, of.shape))?;
        Ok(Self {
            name: described(of),
            graph,
            about: (NETWORK, format!("{} {}", of.arch, of.shape)),
        })
    }
}

/// An architecture in words.
fn described(of: &Architecture) -> String {
    let with = |yes: bool, what: &str| format!("{} {what}", if yes { "with" } else { "without" });
    let (bias, norm) = (with(of.bias, "biases"), with(of.norm, "batch norm"));
    format!("{} {bias} and {norm}", of.arch)
}

impl Design {
    /// Of a graph that a TOML file can describe.
    ///
    /// # Errors
    /// It cannot.
    pub fn of_graph(name: impl Into<String>, graph: &Graph) -> Result<Self> {
        let text = layout::write(graph)?;
        Ok(Self {
            name: name.into(),
            // as a run that goes on reads it, its tensors in the same order
            graph: layout::parse_alone(&text, None)?,
            about: (LAYERS, text),
        })
    }

    /// Of a TOML or an ONNX file, for images of this shape.
    ///
    /// # Errors
    /// The file cannot be read, is no description of layers, or is one for other inputs.
    pub fn of_file(path: &Path, images: ImageShape) -> Result<Self> {
        let inside = || format!("in {}", path.display());
        let ImageShape {
            channels,
            height,
            width,
        } = images;
        let whole = [channels, height, width];
        let graph = match is_onnx(path) {
            true => NetworkFile::open(path, &Hints::default())?.graph().clone(),
            false => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                layout::parse_alone(&text, Some(&whole)).with_context(inside)?
            }
        };
        // what cannot be trained is said before what cannot be written
        let plan = Plan::new(&graph).with_context(inside)?;
        let (input, flat) = (plan.input(), [images.features()]);
        let fits = input == whole || input == flat || channels == 1 && *input == whole[1..];
        ensure!(
            fits,
            "{} takes inputs {input:?}, the images are {images}: a TOML file may have the `input` {whole:?} or {flat:?}, or \
             none",
            path.display()
        );
        Self::of_graph(path.display().to_string(), &graph).with_context(inside)
    }

    /// The text of a TOML file that describes the network, where its name does not.
    pub fn layers(&self) -> Option<&str> {
        match &self.about {
            (LAYERS, text) => Some(text),
            _ => None,
        }
    }

    /// Its operations for one example.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The names of the parameters that train.
    pub fn parameters(&self) -> Vec<&str> {
        let params = self.graph.params().iter().zip(statistics(&self.graph));
        let params = params.filter(|(param, statistic)| param.trains && !statistic);
        params.map(|(param, _)| param.name.as_str()).collect()
    }

    /// The steps of its forward pass.
    ///
    /// # Errors
    /// An operation cannot be trained.
    pub fn plan(&self) -> Result<Plan> {
        Plan::new(&self.graph)
    }

    /// The network with He weights that depend on the seed alone.
    ///
    /// # Errors
    /// An operation cannot be trained.
    pub fn he(&self, seed: u64, device: &Device) -> Result<Net> {
        let mut he = He::new(&self.graph, seed);
        Net::new(
            &self.graph,
            |place, kept| Ok(he.values(place, kept)),
            device,
        )
    }

    /// The network with starting weights that depend on the seed alone; the skeleton is that of its scale graph.
    ///
    /// # Errors
    /// An operation cannot be trained, or the scale graph does not fit the network.
    pub fn init(
        &self,
        init: Init,
        scales: ScaleGraphConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Net> {
        let net = self.he(seed, device)?;
        let Init::Skeleton {
            magnitude,
            random_signs,
        } = init
        else {
            return Ok(net);
        };
        let scales = net.graph()?.scales(scales)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(SIGNS);
        let sign = |_| match random_signs && rng.random() {
            true => -magnitude,
            false => magnitude,
        };
        let tree = SkeletonTree::paper(&scales);
        Ok(skeleton::set(net, &scales, &tree, sign)?)
    }

    /// The network with the weights of a file whose tensors have its names and shapes.
    ///
    /// # Errors
    /// The file cannot be read, or its tensors are missing, additional, misshapen or not finite.
    pub fn load(&self, path: &Path, device: &Device) -> Result<Net> {
        let net = self.he(0, device)?;
        if is_onnx(path) {
            let file = NetworkFile::open(path, &Hints::default())?;
            return fill(net, &file, None).with_context(|| format!("in {}", path.display()));
        }
        let tensors = Tensors::open(path, None)?;
        match fill(net, &tensors, None) {
            Ok(net) => Ok(net),
            Err(error) => match held(&tensors) {
                Some(held) if held != self.name => bail!(
                    "{} holds {held}, asked for is {}: {error}",
                    path.display(),
                    self.name
                ),
                _ => Err(error).with_context(|| format!("in {}", path.display())),
            },
        }
    }

    /// Writes a network of this design, f32, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, net: &Net, path: &Path) -> Result<()> {
        let (key, text) = &self.about;
        save(net, (key, text), path)
    }
}

fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "onnx")
}

/// Which network a file says that it holds.
fn held(tensors: &Tensors) -> Option<String> {
    let about = tensors.metadata(NETWORK)?;
    let (arch, shape) = network_of(&about).ok()?;
    let of = architecture_of(&arch, Some(shape), tensors).ok()?;
    Some(described(&of))
}

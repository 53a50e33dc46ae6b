//! What a run is made of: the flags of `gsgd train` and the file `config.toml`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, Parser, ValueEnum};
use gsgd::{BatchNormTreatment, Coordinates, ScaleGraphConfig, Skeleton, SkipTreatment};
use serde::Serialize;

use super::{Freeze, OptimizerName, Schedule, seed};
use crate::data::{self, Augment, DataError, Dataset, Normalise};
use crate::models::{Arch, Architecture, Design, NetworkName};

/// The choice of skeleton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SkeletonName {
    /// Index modulo; wants `--init skeleton-one`
    Paper,
    /// The largest paths; suits any weights
    Largest,
    /// Any paths, by the seed; to compare with
    Random,
}

/// The choice of coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CoordinatesName {
    /// Basis path values as in the paper
    Plain,
    /// Basis path values relative to their sizes in the balanced network at the start
    Normalised,
    /// Norm coordinates: no skeleton, no poles
    Norm,
}

impl From<CoordinatesName> for Coordinates {
    fn from(name: CoordinatesName) -> Self {
        match name {
            CoordinatesName::Plain => Coordinates::Plain,
            CoordinatesName::Normalised => Coordinates::Normalised,
            CoordinatesName::Norm => Coordinates::Norm,
        }
    }
}

/// Batch norm behind the convolutions of a network that has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormName {
    /// Part of the group of scalings: exactly invariant
    Exact,
    /// As in the paper: its approximation
    Paper,
    /// None
    Off,
}

/// Residual connections in the G optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SkipsName {
    /// One scale per channel of a whole residual stream
    Whole,
    /// As in the paper: invariance inside residual blocks only
    Block,
}

/// The ratio floor: a number in [0, 1), or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub struct Floor(pub Option<f64>);

impl FromStr for Floor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "off" => Ok(Self(None)),
            Ok(tau) if (0.0..1.0).contains(&tau) => Ok(Self(Some(tau))),
            _ => Err(format!("`{text}` is neither `off` nor a number in [0, 1)")),
        }
    }
}

impl From<Floor> for String {
    fn from(floor: Floor) -> Self {
        floor.to_string()
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(tau) => write!(f, "{tau}"),
            None => write!(f, "off"),
        }
    }
}

/// The starting weights: `he`, `skeleton-one`, `skeleton-signs` or a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum InitName {
    /// Normal with variance 2 / inputs.
    He,
    /// The same, then the paper's skeleton weights set.
    Skeleton {
        /// To plus or minus this.
        magnitude: f64,
        /// Whether signs are drawn.
        random_signs: bool,
    },
    /// The weights of a safetensors file.
    File(PathBuf),
}

const ONE: &str = "skeleton-one";
const SIGNS: &str = "skeleton-signs";

impl FromStr for InitName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, magnitude) = match text.split_once(':') {
            Some((name, magnitude)) if [ONE, SIGNS].contains(&name) => (name, positive(magnitude)?),
            _ => (text, 1.0),
        };
        Ok(match name {
            "he" => Self::He,
            ONE | SIGNS => Self::Skeleton {
                magnitude,
                random_signs: name == SIGNS,
            },
            file => Self::File(file.into()),
        })
    }
}

impl From<InitName> for String {
    fn from(init: InitName) -> Self {
        init.to_string()
    }
}

impl fmt::Display for InitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::He => write!(f, "he"),
            Self::Skeleton {
                magnitude,
                random_signs,
            } => {
                write!(f, "{}", if *random_signs { SIGNS } else { ONE })?;
                match *magnitude == 1.0 {
                    true => Ok(()),
                    false => write!(f, ":{magnitude}"),
                }
            }
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl InitName {
    /// The same with a file that is here named so that it is found from any working directory.
    pub fn located(&self) -> Self {
        match self {
            Self::File(path) if path.is_file() => {
                Self::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            other => other.clone(),
        }
    }
}

/// Everything that decides a run's numbers.
///
/// Wherever they come from, flags or a file, they are read by clap: what is allowed is said once, here.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct Settings {
    /// `fashion-7x7` (embedded), or a folder (also one of that name in $GSGD_DATA) with four IDX files, CIFAR's binary
    /// files, or train/CLASS/*.png
    #[arg(long, default_value = "fashion-7x7")]
    pub data: String,
    /// Train on this many images, chosen at random, the same in every run [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub train_examples: Option<usize>,
    /// Hold back this many training images, chosen at random, the same in every run, and give figures on them too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub validation: usize,
    /// Grey images: the mean of the colours
    #[arg(long)]
    pub grey: bool,
    /// How training images are varied
    #[arg(long, value_enum, default_value = "none")]
    pub augment: Augment,
    /// The network: mlp:HIDDEN-HIDDEN-..., or with the widths of input and output mlp:INPUT-HIDDEN-...-OUTPUT; plain:N, resnet:N
    /// (N = 6n + 2), plain34, resnet34; or a TOML file that lists its layers, or an ONNX file
    #[arg(long, default_value = "mlp:49-64-64-10", value_name = "ARCH|FILE")]
    pub arch: NetworkName,
    /// The optimiser
    #[arg(long, value_enum, default_value = "g-sgd")]
    pub optimizer: OptimizerName,
    /// Learning rate, > 0 [default: the optimiser's best on the default network, such as 0.3 for sgd, 0.003 for adam]
    #[arg(long, value_parser = positive)]
    pub lr: Option<f64>,
    /// The lr from there on: constant, linear, cosine, or step:AT,AT,...@FACTOR
    #[arg(long, default_value = "constant")]
    pub schedule: Schedule,
    /// Steps over which the lr rises to its value
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub warmup: usize,
    /// Examples per step
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub batch: usize,
    /// Passes over the training images
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    pub epochs: usize,
    /// Stop after this many steps, whatever --epochs says
    #[arg(long, value_parser = at_least_one)]
    pub steps: Option<usize>,
    /// Stop once the validation loss has not fallen for this many epochs; needs --validation
    #[arg(long, value_name = "EPOCHS", value_parser = at_least_one)]
    pub early_stop: Option<usize>,
    /// Scale gradients down to this l2 norm over all parameters; gradients of path values for the G optimisers
    #[arg(long, value_name = "NORM", value_parser = positive)]
    pub clip_norm: Option<f64>,
    /// Decides starting weights, batches and --unbalance
    #[arg(long, default_value_t = 0)]
    #[serde(serialize_with = "seed::write")]
    pub seed: u64,
    /// Momentum of `momentum` and `g-momentum`, in [0, 1)
    #[arg(long, default_value_t = 0.9, value_parser = below_one)]
    pub momentum: f64,
    /// Weight decay; on path values (basis-path regularisation) for the G optimisers
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f64,
    /// The skeleton of the G optimisers
    #[arg(long, value_enum, default_value = "largest")]
    pub skeleton: SkeletonName,
    /// Their coordinates [default: plain for `paper`, normalised for others]
    #[arg(long, value_enum)]
    pub coordinates: Option<CoordinatesName>,
    /// Their ratio floor, in [0, 1), or `off`: path values of the skeleton keep their sign and at least this share of their
    /// size at the start
    #[arg(long, default_value = "0.8")]
    pub floor: Floor,
    /// Starting weights: `he`, `skeleton-one[:MAGNITUDE]`, `skeleton-signs[:MAGNITUDE]`, or a safetensors, PyTorch or
    /// ONNX file
    #[arg(long, default_value = "he")]
    pub init: InitName,
    /// Rescale the start's units by 10^U(-SPREAD, SPREAD): same function, unbalanced weights
    #[arg(long, value_name = "SPREAD", default_value_t = 0.0, value_parser = not_negative)]
    pub unbalance: f64,
    /// Balance the start: equal incoming and outgoing norms
    #[arg(long)]
    pub balance_first: bool,
    /// Parameters that stay as the start has them: tensors and layers by their names in final.safetensors, such as
    /// layers.0,layers.1.bias
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "",
        hide_default_value = true
    )]
    #[serde(skip_serializing_if = "Freeze::is_empty")]
    pub freeze: Freeze,
    /// Batch norm in convolutional networks
    #[arg(long, value_enum, default_value = "exact")]
    pub batch_norm: BatchNormName,
    /// Residual connections in the G optimisers
    #[arg(long, value_enum, default_value = "whole")]
    pub skips: SkipsName,
    /// Dense layers with biases, and convolutions without batch norm
    #[arg(long)]
    pub bias: bool,
    /// Inputs with mean 0 and deviation 1, or pixels in [0, 1]
    #[arg(long, value_enum, default_value = "standard")]
    pub normalise: Normalise,
    /// Batches in file order, for comparisons with other programs
    #[arg(long)]
    pub no_shuffle: bool,
}

impl Settings {
    /// The learning rate, the default filled in.
    pub fn lr(&self) -> f64 {
        self.lr.unwrap_or_else(|| self.optimizer.default_lr())
    }

    /// The coordinates, the default filled in.
    pub fn coordinates(&self) -> CoordinatesName {
        self.coordinates.unwrap_or(match self.skeleton {
            SkeletonName::Paper => CoordinatesName::Plain,
            SkeletonName::Largest | SkeletonName::Random => CoordinatesName::Normalised,
        })
    }

    /// The skeleton.
    pub fn skeleton(&self) -> Skeleton {
        match self.skeleton {
            SkeletonName::Paper => Skeleton::Paper,
            SkeletonName::Largest => Skeleton::Largest,
            SkeletonName::Random => Skeleton::Random(self.seed),
        }
    }

    /// How the model is in the scale graph.
    pub fn scale_graph_config(&self) -> ScaleGraphConfig {
        let norm = match self.batch_norm {
            BatchNormName::Paper => BatchNormTreatment::Paper,
            BatchNormName::Exact | BatchNormName::Off => BatchNormTreatment::Exact,
        };
        let skips = match self.skips {
            SkipsName::Whole => SkipTreatment::WholeNetwork,
            SkipsName::Block => SkipTreatment::PerBlock,
        };
        ScaleGraphConfig::new()
            .with_batch_norm(norm)
            .with_skips(skips)
    }

    /// The images.
    ///
    /// # Errors
    /// There are none, or they are damaged.
    pub fn open_data(&self) -> Result<Dataset, DataError> {
        let data = Dataset::open(&self.data)?;
        Ok(match self.grey {
            true => data.grey(),
            false => data,
        })
    }

    /// The network, for these images.
    ///
    /// # Errors
    /// Its layers do not fit them.
    pub fn design(&self, data: &Dataset) -> Result<Design> {
        let arch = match self.arch.for_images(data) {
            NetworkName::Known(arch) => arch,
            NetworkName::File(path) => return Design::of_file(&path, data.shape),
            NetworkName::Hidden(width) => bail!("mlp:{width} has no full name"),
        };
        let norm = matches!(arch, Arch::Conv(_)) && self.batch_norm != BatchNormName::Off;
        Design::try_from(&Architecture {
            arch,
            bias: self.bias,
            norm,
            shape: data.shape,
            classes: data.classes,
        })
    }

    /// The settings with the network's full name for these images.
    pub fn for_images(&self, data: &Dataset) -> Self {
        Self {
            arch: self.arch.for_images(data),
            ..self.clone()
        }
    }

    /// Refuses settings that do not go together, whatever the images are.
    ///
    /// # Errors
    /// With what would.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.early_stop.is_none() || self.validation > 0,
            "--early-stop looks at the validation loss: hold images back with --validation N"
        );
        Ok(())
    }

    /// The settings with every default filled in and paths that hold from any working directory, as they are written to
    /// `config.toml`.
    pub fn resolved(&self) -> Self {
        Self {
            data: data::located(&self.data),
            arch: self.arch.located(),
            init: self.init.located(),
            coordinates: Some(self.coordinates()),
            lr: Some(self.lr()),
            ..self.clone()
        }
    }

    /// The settings that a table of a TOML file asks for.
    ///
    /// # Errors
    /// A key is unknown, a value not allowed, or two do not go together.
    pub fn from_table(table: &toml::Table) -> Result<Self> {
        let settings = Self::part_of_table(table)?;
        settings.check()?;
        Ok(settings)
    }

    /// The same where others will be put over them.
    ///
    /// # Errors
    /// A key is unknown, or a value not allowed.
    pub fn part_of_table(table: &toml::Table) -> Result<Self> {
        #[derive(Parser)]
        #[command(no_binary_name = true, disable_help_flag = true)]
        struct Whole {
            #[command(flatten)]
            settings: Settings,
        }
        let nested = table
            .iter()
            .find(|(_, value)| value.is_table() || value.is_array());
        if let Some((key, value)) = nested {
            bail!(
                "`{key}` is of type {}, where a single value is wanted; several names are one text with commas",
                value.type_str()
            );
        }
        let parsed = Whole::try_parse_from(flags(table)).map_err(|error| {
            // without the usage of a command line that nobody typed
            let text = error.to_string();
            let text = text.split("\n\nUsage").next().unwrap_or(&text);
            let text = text.split("\n\nFor more").next().unwrap_or(text);
            let text = text.trim_start_matches("error: ").trim();
            match key_of(&error) {
                Some(key) => anyhow!("`{key}`: {text}"),
                None => anyhow!("{text}"),
            }
        })?;
        Ok(parsed.settings.resolved())
    }

    /// The settings in a file, such as a run's `config.toml`.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(file: &Path) -> Result<Self> {
        Self::from_table(&read_table(file)?).with_context(|| file.display().to_string())
    }
}

/// The TOML table in a file.
///
/// # Errors
/// The file cannot be read, or is no TOML.
pub fn read_table(file: &Path) -> Result<toml::Table> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.parse()
        .with_context(|| format!("{} is no TOML file", file.display()))
}

/// The key of the value that clap speaks of.
fn key_of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => {
            let flag = flag.split([' ', '=']).next()?.strip_prefix("--")?;
            Some(flag.replace('-', "_"))
        }
        _ => None,
    }
}

/// Settings of a TOML table as flags.
pub fn flags(table: &toml::Table) -> Vec<String> {
    let command = Settings::augment_args(clap::Command::new("settings"));
    let is_switch = |long: &str| {
        let mut known = command.get_arguments();
        known.any(|arg| {
            arg.get_long() == Some(long) && matches!(arg.get_action(), ArgAction::SetTrue)
        })
    };
    let flag = |(key, value): (&String, &toml::Value)| {
        let long = key.replace('_', "-");
        match value {
            toml::Value::Boolean(on) if is_switch(&long) => on.then(|| format!("--{long}")),
            toml::Value::String(text) => Some(format!("--{long}={text}")),
            other => Some(format!("--{long}={other}")),
        }
    };
    table.iter().filter_map(flag).collect()
}

fn number(text: &str, range: &str, allowed: impl Fn(f64) -> bool) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && allowed(value) => Ok(value),
        _ => Err(format!("`{text}` is not a finite number {range}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "> 0", |value| value > 0.0)
}

/// A finite number that is not below 0.
///
/// # Errors
/// It is something else.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, ">= 0", |value| value >= 0.0)
}

fn below_one(text: &str) -> Result<f64, String> {
    number(text, "in [0, 1)", |value| (0.0..1.0).contains(&value))
}

/// A whole number that is not 0.
///
/// # Errors
/// It is something else.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(format!("`{text}` is not a whole number of at least 1")),
    }
}

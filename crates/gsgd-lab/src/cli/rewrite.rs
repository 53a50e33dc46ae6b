//! Writing a network that computes the same function: what `gsgd rescale` and `gsgd balance` share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Tensor;
use clap::Args;
use gsgd::ScaleGraph;
use gsgd::rescale::Scaling;

use super::network::{NetworkArgs, remark};
use super::stages::Stages;
use crate::network::{Format, Net, NetworkFile, Number};

/// What becomes of batch norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BatchNorm {
    /// They stay, and units are rescaled through them
    Keep,
    /// They are folded into the layers before them first: what inference and quantisation work with
    Fold,
    /// They are folded first and put back at the end, so that the file has the tensors that it had
    Unfold,
}

/// Where from and where to.
#[derive(Debug, Args)]
pub struct Files {
    #[command(flatten)]
    network: NetworkArgs,
    /// The new file: safetensors, or ONNX from ONNX
    out: PathBuf,
    /// Replace the new file if it exists
    #[arg(long)]
    force: bool,
    /// What becomes of batch norms
    #[arg(long, value_enum, default_value = "keep")]
    batch_norm: BatchNorm,
    /// Compare outputs on the inputs in this safetensors file instead of random ones
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Largest difference of an output, relative to the largest output, with which the new file is written; > 0 [default:
    /// 1e-3, of f16 8e-3, of bf16 6e-2]
    #[arg(long, value_name = "SHARE")]
    differ: Option<f64>,
}

/// What random inputs are multiplied with: large ones reach branches that others do not.
const SIZES: [f64; 2] = [1.0, 100.0];

impl Files {
    /// Writes what `change` makes of the network, if its outputs are the same; the new file and what to say of the
    /// outputs.
    pub fn rewrite<T>(
        &self,
        change: impl FnOnce(Net, &ScaleGraph) -> Result<(Net, (Scaling, T))>,
    ) -> Result<(&Path, T, String)> {
        if let Some(differ) = self.differ {
            ensure!(
                differ > 0.0 && differ.is_finite(),
                "--differ {differ}: a number > 0"
            );
        }
        let stages = Stages::begin();
        stages.next("reading");
        let mut network = self.network.open()?;
        self.check_out(&network)?;
        let inputs = match &self.inputs {
            Some(path) => vec![network.inputs_from(path).context("--inputs")?],
            None => sizes(&network.random_inputs(0)),
        };
        stages.next("computing outputs");
        let outputs = |network: &NetworkFile| -> Result<Vec<Vec<Tensor<2>>>> {
            inputs
                .iter()
                .map(|inputs| network.outputs(inputs))
                .collect::<Result<_>>()
                .with_context(|| format!("in {}", self.network.file.display()))
        };
        let before = outputs(&network)?;
        let (mut said, mut norms) = (String::new(), None);
        let folded = match self.batch_norm {
            BatchNorm::Keep => None,
            BatchNorm::Fold => Some("folded"),
            BatchNorm::Unfold => Some("folded and put back"),
        };
        if let Some(folded) = folded {
            let (without, taken) = network.folded().context("--batch-norm")?;
            network = without;
            said = format!("{} batch norms {folded}, ", taken.count());
            norms = Some(taken).filter(|_| self.batch_norm == BatchNorm::Unfold);
        }
        stages.next("rescaling");
        let (mut network, (scaling, found)) = network.changed(change)?;
        if let Some(norms) = norms {
            network = norms.put_back(network, &scaling)?;
        }
        stages.next("computing outputs again");
        let found_outputs = Difference::between(&before, &outputs(&network)?)?;
        self.check(&found_outputs, network.number())?;
        stages.next("writing");
        network.tensors.write(&self.out)?;
        let remarks = network.remarks();
        remark(&self.network.file, remarks.iter().map(String::as_str));
        if scaling.factors().is_empty() {
            let none =
                "none of its units can be rescaled: the new file has the weights of the old one";
            remark(&self.network.file, [none]);
        }
        let examples = inputs[0].first().map_or(0, |x| x.dims()[0]);
        let kind = match self.inputs {
            Some(_) => "given",
            None => "random",
        };
        let Difference { largest, size, .. } = found_outputs;
        let outputs = format!(
            "{said}largest difference of an output {largest:.1e} of {size:.1e} ({examples} {kind} inputs)"
        );
        Ok((&self.out, found, outputs))
    }

    /// Refuses outputs that differ by more than is allowed.
    fn check(&self, found: &Difference, number: Number) -> Result<()> {
        let rounding = number.of_outputs();
        let differ = self.differ.unwrap_or(rounding);
        let Difference { share, size, .. } = found;
        if *share <= differ {
            return Ok(());
        }
        // rounding explains no more: whoever allows it would write another function
        let advice = match *share <= rounding {
            true => format!("--differ {:.1e} allows it", 1.1 * share),
            false => format!(
                "rounding to {} explains {rounding:.0e}. Either the factors are too large for the numbers of the file (a lower \
                 --spread helps), or a batch norm's epsilon matters (--batch-norm fold or unfold helps), or the layers are \
                 not what the file computes",
                number.name()
            ),
        };
        bail!(
            "outputs of the new network differ by {share:.1e} of the largest, {size:.1e}: {advice}. Nothing was written"
        )
    }

    fn check_out(&self, network: &NetworkFile) -> Result<()> {
        ensure!(
            self.force || !self.out.exists(),
            "{} exists: choose another name, or replace it with --force",
            self.out.display()
        );
        let extension = self.out.extension().and_then(|e| e.to_str());
        let onnx = extension == Some("onnx");
        match network.tensors.format() {
            Format::Onnx if !onnx => bail!(
                "{}: what comes from an ONNX file is written as one, with a name that ends in .onnx",
                self.out.display()
            ),
            Format::Safetensors if onnx || matches!(extension, Some("pt" | "pth")) => bail!(
                "{}: safetensors files and PyTorch's are written as safetensors, with a name such as model.safetensors",
                self.out.display()
            ),
            _ => Ok(()),
        }
    }
}

/// Inputs of several sizes.
fn sizes(inputs: &[Tensor<2>]) -> Vec<Vec<Tensor<2>>> {
    let times = |size: f64| inputs.iter().map(|x| x.clone() * size).collect();
    SIZES.map(times).into()
}

/// How far outputs are off.
struct Difference {
    /// The largest difference of an output relative to the largest value there, each size of inputs and each output by
    /// itself.
    share: f64,
    /// The difference.
    largest: f64,
    /// The largest value.
    size: f64,
}

impl Difference {
    /// That of outputs before and after, by the inputs that they are of. Outputs that were not finite before tell nothing.
    ///
    /// # Errors
    /// No outputs were finite before.
    fn between(before: &[Vec<Tensor<2>>], after: &[Vec<Tensor<2>>]) -> Result<Self> {
        let mut found: Option<Self> = None;
        for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
            let size: f64 = before.clone().abs().max().into_scalar();
            if !size.is_finite() {
                continue;
            }
            let largest: f64 = (after.clone() - before.clone()).abs().max().into_scalar();
            let share = match largest {
                0.0 => 0.0,
                _ if largest.is_finite() => largest / size,
                _ => f64::INFINITY,
            };
            if found.as_ref().is_none_or(|found| share > found.share) {
                found = Some(Self {
                    share,
                    largest,
                    size,
                });
            }
        }
        found.context("its outputs are not finite: give inputs that it is made for with --inputs")
    }
}

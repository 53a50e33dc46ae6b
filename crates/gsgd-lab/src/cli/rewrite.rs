//! Writing a network that computes the same function: what `gsgd rescale` and `gsgd balance` share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gsgd_core::rescale::Scaling;
use gsgd_core::scales::ScaleGraph;
use gsgd_net::file::NetworkFile;
use gsgd_net::number::Number;
use gsgd_net::outputs::{Difference, times};
use gsgd_net::runtime::Input;
use gsgd_net::store::Format;

use super::network::{NetworkArgs, remark};
use super::stages::Stages;

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
const SIZES: [f32; 2] = [1.0, 100.0];
/// Relative change of an input by which it is seen how much outputs hang on rounding, in roundings of the file's numbers.
const NUDGE: f64 = 16.0;

impl Files {
    /// Writes the network rescaled by what `choose` makes of it, if its outputs are the same; the new file and what to say of
    /// the outputs.
    pub fn rewrite<T>(
        &self,
        choose: impl FnOnce(&NetworkFile, &ScaleGraph) -> Result<(Scaling, T)>,
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
        let number = network.number();
        let given = match &self.inputs {
            Some(path) => Some(network.inputs_from(path).context("--inputs")?),
            None => None,
        };
        stages.next("computing outputs");
        let inside = || format!("in {}", self.network.file.display());
        let before = match &given {
            Some(inputs) => vec![Outputs::of(&network, inputs.clone()).with_context(inside)?],
            None => self.telling(&network).with_context(inside)?,
        };
        let (mut said, mut norms, mut remarks) = (String::new(), None, Vec::new());
        let folded = match self.batch_norm {
            BatchNorm::Keep => None,
            BatchNorm::Fold => Some("folded"),
            BatchNorm::Unfold => Some("folded and put back"),
        };
        if let Some(folded) = folded {
            let (without, taken) = network.folded().context("--batch-norm")?;
            network = without;
            said = format!("{} batch norms {folded}, ", taken.count());
            let left = taken.left().iter();
            remarks.extend(left.map(|(name, why)| format!("batch norm `{name}` stays: {why}")));
            norms = Some(taken).filter(|_| self.batch_norm == BatchNorm::Unfold);
        }
        stages.next("rescaling");
        let scales = network.scale_graph()?;
        let (scaling, found) = choose(&network, &scales)?;
        let network = match norms {
            None => network.rescaled(&scales, &scaling)?,
            Some(norms) => norms.put_back(&scales, &scaling)?,
        };
        stages.next("computing outputs again");
        let mut worst: Option<Difference> = None;
        for Outputs { inputs, outputs } in &before {
            let after = network.outputs(inputs)?;
            let found = Difference::between(outputs, &after);
            worst = [worst, found]
                .into_iter()
                .flatten()
                .max_by(|a, b| a.share.total_cmp(&b.share));
        }
        let worst = worst
            .context("its outputs are not finite: give inputs that it is made for with --inputs")?;
        self.check(&worst, number)?;
        stages.next("writing");
        network.write(&self.out)?;
        remarks.extend(network.remarks(&scales));
        remark(&self.network.file, remarks.iter().map(String::as_str));
        if scaling.factors().is_empty() {
            let none =
                "none of its units can be rescaled: the new file has the weights of the old one";
            remark(&self.network.file, [none]);
        }
        let examples = before[0].inputs.first().map_or(0, |x| x.shape[0]);
        let kind = match self.inputs {
            Some(_) => "given",
            None => "random",
        };
        let Difference { largest, size, .. } = worst;
        let outputs = format!(
            "{said}largest difference of an output {largest:.1e} of {size:.1e} ({examples} {kind} inputs)"
        );
        Ok((&self.out, found, outputs))
    }

    /// Random inputs of several sizes and their outputs. Those are left out whose outputs a few roundings of the inputs change
    /// by more than is allowed: they would tell nothing of the network. The smallest always count.
    fn telling(&self, network: &NetworkFile) -> Result<Vec<Outputs>> {
        let inputs = network.random_inputs(0);
        let number = network.number();
        let allowed = self.differ.unwrap_or(number.of_outputs());
        let nudge = 1.0 + (NUDGE * number.epsilon().max(Number::F32.epsilon())) as f32;
        let mut all = Vec::new();
        for size in SIZES {
            let outputs = Outputs::of(network, times(&inputs, size))?;
            let nudged = network.outputs(&times(&outputs.inputs, nudge))?;
            let hangs = Difference::between(&outputs.outputs, &nudged);
            let tells = hangs.is_some_and(|found| found.share <= allowed);
            if tells || all.is_empty() {
                all.push(outputs);
            }
        }
        Ok(all)
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
        let out = self.out.display();
        let formats = network.formats();
        match Format::of_name(&self.out) {
            Some(format) if !formats.contains(&format) => match formats {
                [Format::Onnx] => bail!(
                    "{out}: what comes from an ONNX file is written as one, with a name that ends in .onnx"
                ),
                _ => bail!(
                    "{out}: safetensors files are written as safetensors, with a name such as model.safetensors; PyTorch's \
                     as these or as .pt, and only ONNX files as .onnx"
                ),
            },
            None if formats.contains(&Format::Onnx) => bail!(
                "{out}: what comes from an ONNX file is written as one, with a name that ends in .onnx"
            ),
            Some(Format::PyTorch) if self.batch_norm == BatchNorm::Fold => bail!(
                "{out}: a PyTorch file keeps the tensors that it has, and folding takes some away: write it as .safetensors"
            ),
            _ => Ok(()),
        }
    }
}

/// Inputs and what a network makes of them.
struct Outputs {
    inputs: Vec<Input>,
    outputs: Vec<Vec<f32>>,
}

impl Outputs {
    fn of(network: &NetworkFile, inputs: Vec<Input>) -> Result<Self> {
        let outputs = network.outputs(&inputs)?;
        Ok(Self { inputs, outputs })
    }
}

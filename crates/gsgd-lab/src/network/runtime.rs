//! What an ONNX file computes, by an ONNX runtime in a separate process.
//!
//! Sizes that a file computes itself (`Loop`, broadcasting, a product of two vectors) are known only when they are there.
//! A runtime that cannot have the memory ends its whole process; in a separate process that is an error.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rten_tensor::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::onnx;

/// The program's command of a process that computes; not for a user.
pub const COMMAND: &str = "onnx-outputs";

/// An input for all examples.
pub struct Input {
    /// `[examples, ...]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl Input {
    /// The examples of a batch.
    fn batch(&self, at: usize, batch: usize) -> rten_tensor::Tensor<f32> {
        let each = self.values.len() / self.shape[0].max(1);
        let values = &self.values[at * batch * each..(at + 1) * batch * each];
        let shape = [&[batch], &self.shape[1..]].concat();
        rten_tensor::Tensor::from_data(shape.as_slice(), values.to_vec())
    }
}

/// The outputs of a file for these inputs, each of all examples in a row; behind them what functions that level out at the
/// end read.
///
/// # Errors
/// The file asks for too much memory, or cannot be computed.
pub fn outputs(model: &[u8], inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
    onnx::check_sizes(model)?;
    // the library's own tests are no program that could be called again
    if cfg!(test) {
        return computed(model, inputs);
    }
    let asked = packed(model, inputs)?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the ONNX runtime")?;
    if let Some(mut stdin) = child.stdin.take() {
        // a process that ended before it has read all says why itself
        let _ = stdin.write_all(&asked);
    }
    drop(asked);
    let ended = child.wait_with_output()?;
    ensure!(
        ended.status.success(),
        "{}",
        why(ended.status, &ended.stderr)
    );
    let file = SafeTensors::deserialize(&ended.stdout).context("the ONNX runtime's answer")?;
    (0..file.len())
        .map(|at| Ok(numbers(file.tensor(&at.to_string())?.data())))
        .collect()
}

/// Carries out [`COMMAND`]: from standard input to standard output.
///
/// # Errors
/// What the runtime says.
pub fn answer() -> Result<()> {
    #[cfg(target_os = "linux")]
    stay_within_memory()?;
    let mut asked = Vec::new();
    std::io::stdin().read_to_end(&mut asked)?;
    let asked = SafeTensors::deserialize(&asked)?;
    let model = asked.tensor("model")?.data();
    let inputs = (0..asked.len() - 1).map(|at| {
        let view = asked.tensor(&at.to_string())?;
        Ok(Input {
            shape: view.shape().to_vec(),
            values: numbers(view.data()),
        })
    });
    let outputs = computed(model, &inputs.collect::<Result<Vec<_>>>()?)?;
    let outputs = outputs.iter().map(|values| (vec![values.len()], values));
    let bytes = listed(
        outputs.map(|(shape, values)| (shape, values.as_slice())),
        None,
    )?;
    Ok(std::io::stdout().write_all(&bytes)?)
}

/// Memory beyond what is free is refused to this process, rather than taken from others.
#[cfg(target_os = "linux")]
fn stay_within_memory() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // where this cannot be read, there is no limit
    let about = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = about
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = free.and_then(|free| free.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(kib) = kib {
        let mut limit = getrlimit(Resource::As);
        let most = limit.maximum.unwrap_or(u64::MAX);
        limit.current = Some(kib.saturating_mul(1024).min(most));
        setrlimit(Resource::As, limit)?;
    }
    Ok(())
}

/// What a process that failed says, or what became of it.
fn why(status: ExitStatus, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    match status.code() {
        Some(2) => said.trim().trim_start_matches("error: ").to_string(),
        _ => {
            let said = said.lines().next().unwrap_or("no reason given");
            format!(
                "the ONNX runtime ended on it, as it does where it cannot have the memory ({status}: {said})"
            )
        }
    }
}

fn packed(model: &[u8], inputs: &[Input]) -> Result<Vec<u8>> {
    let tensors = inputs
        .iter()
        .map(|input| (input.shape.clone(), input.values.as_slice()));
    listed(tensors, Some(model))
}

/// Tensors named by their place, and the model's bytes.
fn listed<'a>(
    tensors: impl Iterator<Item = (Vec<usize>, &'a [f32])>,
    model: Option<&'a [u8]>,
) -> Result<Vec<u8>> {
    let tensors: Vec<(Vec<usize>, Vec<u8>)> = tensors
        .map(|(shape, values)| (shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().enumerate().map(|(at, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        Ok((at.to_string(), view?))
    });
    let model = model.map(|bytes| {
        let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes);
        Ok(("model".to_string(), view?))
    });
    let views: Result<Vec<_>> = views.chain(model).collect();
    Ok(serialize(views?, None)?)
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect()
}

/// The outputs, computed in this process.
fn computed(model: &[u8], inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
    let within = onnx::before_levelling(model)?;
    let mut options = rten::ModelOptions::with_all_ops();
    // an optimised graph does not have all values
    options.enable_optimization(within.is_empty());
    let model = options
        .load(model.to_vec())
        .map_err(|e| anyhow!("the ONNX runtime cannot load it: {e}"))?;
    let failed = |e: rten::RunError| anyhow!("the ONNX runtime cannot compute it: {e}");
    let within = within.iter().map(|name| model.node_id(name));
    let within = within.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let wanted = [model.output_ids(), &within].concat();
    let examples = inputs.first().map_or(0, |input| input.shape[0]);
    let batch = fixed_batch(&model).unwrap_or(examples).max(1);
    if batch > examples {
        bail!("its inputs are batches of {batch}, there are {examples} inputs");
    }
    let mut results: Vec<Vec<f32>> = vec![Vec::new(); wanted.len()];
    for at in 0..examples / batch {
        let fed = model.input_ids().iter().zip(inputs);
        let fed = fed.map(|(&id, input)| (id, input.batch(at, batch).into()));
        let outputs = model.run(fed.collect(), &wanted, None).map_err(failed)?;
        for (result, output) in results.iter_mut().zip(outputs) {
            let output: rten_tensor::Tensor<f32> = output
                .try_into()
                .map_err(|_| anyhow!("an output is no tensor of f32"))?;
            result.extend(output.to_vec());
        }
    }
    Ok(results)
}

/// The batch that a file fixes.
fn fixed_batch(model: &rten::Model) -> Option<usize> {
    let shape = model.node_info(*model.input_ids().first()?)?.shape()?;
    match shape.first()? {
        rten::Dimension::Fixed(size) => Some(*size),
        rten::Dimension::Symbolic(_) => None,
    }
}

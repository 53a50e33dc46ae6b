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

/// The program's command of a process that computes; not for a user.
pub const COMMAND: &str = "onnx-outputs";

/// The numbers of an input, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Of floating point.
    Float(Vec<f32>),
    /// Whole ones, such as places in an embedding.
    Whole(Vec<i32>),
}

/// An input for all examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// `[examples, ...]`.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub numbers: Numbers,
}

impl Input {
    /// The examples of a batch.
    fn batch(&self, at: usize, batch: usize) -> rten::ValueOrView<'static> {
        let shape = [&[batch], &self.shape[1..]].concat();
        let each: usize = self.shape[1..].iter().product();
        let place = at * batch * each..(at + 1) * batch * each;
        match &self.numbers {
            Numbers::Float(values) => {
                let some = values[place].to_vec();
                rten_tensor::Tensor::from_data(shape.as_slice(), some).into()
            }
            Numbers::Whole(values) => {
                let some = values[place].to_vec();
                rten_tensor::Tensor::from_data(shape.as_slice(), some).into()
            }
        }
    }
}

/// The outputs of a model for these inputs, each of all examples in a row.
///
/// # Errors
/// The file asks for too much memory, or cannot be computed.
pub fn outputs(model: &[u8], inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
    // the library's own tests are no program that could be called again
    if cfg!(test) {
        return computed(model, inputs);
    }
    let asked = listed(inputs, Some(model))?;
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
            numbers: match view.dtype() {
                Dtype::I32 => Numbers::Whole(whole(view.data())),
                _ => Numbers::Float(numbers(view.data())),
            },
        })
    });
    let outputs = computed(model, &inputs.collect::<Result<Vec<_>>>()?)?;
    let outputs = outputs.into_iter().map(|values| Input {
        shape: vec![values.len()],
        numbers: Numbers::Float(values),
    });
    let bytes = listed(&outputs.collect::<Vec<_>>(), None)?;
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

/// Tensors named by their place, and the model's bytes.
fn listed(tensors: &[Input], model: Option<&[u8]>) -> Result<Vec<u8>> {
    let bytes = tensors.iter().map(|tensor| match &tensor.numbers {
        Numbers::Float(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (Dtype::F32, bytes)
        }
        Numbers::Whole(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (Dtype::I32, bytes)
        }
    });
    let bytes: Vec<(Dtype, Vec<u8>)> = bytes.collect();
    let views = tensors.iter().zip(&bytes).enumerate();
    let views = views.map(|(at, (tensor, (dtype, bytes)))| {
        let view = TensorView::new(*dtype, tensor.shape.clone(), bytes);
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

fn whole(bytes: &[u8]) -> Vec<i32> {
    let (numbers, _) = bytes.as_chunks();
    numbers
        .iter()
        .map(|&four| i32::from_le_bytes(four))
        .collect()
}

/// The outputs, computed in this process.
fn computed(model: &[u8], inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
    let options = rten::ModelOptions::with_all_ops();
    let model = options
        .load(model.to_vec())
        .map_err(|e| anyhow!("the ONNX runtime cannot load it: {e}"))?;
    let failed = |e: rten::RunError| anyhow!("the ONNX runtime cannot compute it: {e}");
    let wanted = model.output_ids();
    let examples = inputs.first().map_or(0, |input| input.shape[0]);
    let batch = fixed_batch(&model).unwrap_or(examples).max(1);
    if batch > examples {
        bail!("its inputs are batches of {batch}, there are {examples} inputs");
    }
    let mut results: Vec<Vec<f32>> = vec![Vec::new(); wanted.len()];
    for at in 0..examples / batch {
        let fed = model.input_ids().iter().zip(inputs);
        let fed = fed.map(|(&id, input)| (id, input.batch(at, batch)));
        let outputs = model.run(fed.collect(), wanted, None).map_err(failed)?;
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

//! What of a graph for one example holds for a batch of several: a value that depends on the input has the batch as its
//! first axis, and no operation mixes examples.

use anyhow::{Result, bail, ensure};
use gsgd::core::graph::{Graph, Node, Op};

use super::value::MOST_AXES;

/// Which values depend on an input.
pub(super) fn batched(graph: &Graph) -> Vec<bool> {
    let mut batched: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let is_input = matches!(node.op, Op::Input { .. });
        let reads = node.reads.iter().any(|value| batched[value.index()]);
        batched.push(is_input || reads);
    }
    batched
}

/// Whether an operation can be carried out, for any batch.
///
/// # Errors
/// It cannot.
pub(super) fn check(graph: &Graph, node: &Node, batched: &[bool], depends: bool) -> Result<()> {
    let shape = &node.shape;
    ensure!(
        shape.len() <= MOST_AXES,
        "its result has {} axes, {MOST_AXES} are allowed",
        shape.len()
    );
    possible(graph, node)?;
    if !depends {
        return Ok(());
    }
    ensure!(
        shape.first() == Some(&1),
        "its result has shape {shape:?}; the first axis has to be the batch, of 1"
    );
    let mixes = |axis: usize| match axis {
        0 => bail!("it works along axis 0, the batch: examples would be mixed"),
        _ => Ok(()),
    };
    let depends = |at: usize| {
        let value = node.reads.get(at);
        value.is_some_and(|value| batched[value.index()])
    };
    let rank = |at: usize| graph.node(node.reads[at]).shape.len();
    match &node.op {
        Op::Transpose { order } => match order.first() {
            Some(0) => Ok(()),
            _ => bail!("its order {order:?} moves axis 0, the batch; axis 0 has to stay first"),
        },
        Op::Reduce { axes, .. } => axes.iter().try_for_each(|&axis| mixes(axis)),
        Op::Normalise { axes, groups, .. } if groups.is_none() => {
            axes.iter().try_for_each(|&axis| mixes(axis))
        }
        Op::Softmax { axis } | Op::Concat { axis } => mixes(*axis),
        Op::Slice { axis, .. } | Op::Select { axis, .. } => mixes(*axis),
        Op::Gather { axis, .. } => match (depends(0), axis) {
            (true, axis) => mixes(*axis),
            (false, 0) => Ok(()),
            (false, axis) => bail!("its places are along axis {axis}; axis 0 is allowed"),
        },
        Op::Conv { .. } | Op::ConvTranspose { .. } if depends(1) => {
            bail!("its weight depends on the input")
        }
        Op::Prelu if depends(1) => bail!("its slopes depend on the input"),
        Op::MatMul { .. } if depends(1) && (rank(1) < 3 || rank(1) != shape.len()) => {
            bail!("its second factor depends on the input and has no axis for the batch")
        }
        Op::MatMul { .. } | Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Expand { .. } => {
            let moved = (0..node.reads.len()).find(|&at| depends(at) && rank(at) != shape.len());
            match moved {
                Some(at) => bail!(
                    "it reads {:?} and gives {shape:?}: the batch would be on another axis",
                    graph.node(node.reads[at]).shape
                ),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether there is a way to compute an operation's numbers.
fn possible(graph: &Graph, node: &Node) -> Result<()> {
    let space = |axes: usize| match axes {
        1..=3 => Ok(()),
        _ => bail!("it has {axes} axes of space; one to three are possible"),
    };
    match &node.op {
        Op::Opaque { .. } => bail!("nothing is known of what it computes"),
        Op::Constant { shape } => {
            bail!("the numbers of a constant of shape {shape:?} are not in the graph")
        }
        Op::Gather { .. } if node.reads.len() < 2 => {
            bail!("the places that it reads are not in the graph")
        }
        Op::Resample { kind, shape } => {
            let from = &graph.node(node.reads[0]).shape;
            ensure!(
                kind == ADAPTIVE && from.len() >= 3 && from[..2] == shape[..2],
                "the graph does not say how it gets {shape:?} from {from:?}; of such operations `{ADAPTIVE}` is possible"
            );
            space(shape.len() - 2)
        }
        Op::Conv { window, .. } | Op::ConvTranspose { window, .. } | Op::Pool { window, .. } => {
            space(window.kernel.len())
        }
        _ => Ok(()),
    }
}

/// The name of the mean over parts of axes of space.
const ADAPTIVE: &str = "adaptive pooling";

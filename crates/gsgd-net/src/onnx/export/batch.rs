//! Where the batch is in every value.

use gsgd_core::graph::{Graph, Node, Op};

/// Where the batch is in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    /// Nowhere: it is the same for every batch.
    None,
    /// Along this axis.
    At(usize),
    /// Where it cannot be told: the batch has the size it has in the graph.
    Lost,
}

/// The batch of every value; nowhere in all of them where it is lost in one.
pub(super) fn of(graph: &Graph) -> Vec<Batch> {
    let inputs = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Input { shape } => Some(shape.first().copied()),
        _ => None,
    });
    let sizes: Vec<Option<usize>> = inputs.collect();
    let size = sizes.first().copied().flatten();
    let same = size.is_some() && sizes.iter().all(|&other| other == size);
    let mut all: Vec<Batch> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let reads: Vec<Batch> = node.reads.iter().map(|value| all[value.index()]).collect();
        let shapes: Vec<&[usize]> = node
            .reads
            .iter()
            .map(|&value| &graph.node(value).shape[..])
            .collect();
        let batch = match (&node.op, size) {
            (Op::Input { .. }, Some(_)) if same => Batch::At(0),
            (_, Some(size)) if same => behind(node, &reads, &shapes, size),
            _ => Batch::Lost,
        };
        all.push(batch);
    }
    if all.contains(&Batch::Lost) {
        return vec![Batch::None; all.len()];
    }
    all
}

fn behind(node: &Node, reads: &[Batch], shapes: &[&[usize]], size: usize) -> Batch {
    if reads.contains(&Batch::Lost) {
        return Batch::Lost;
    }
    if reads.iter().all(|&read| read == Batch::None) {
        return Batch::None;
    }
    let Batch::At(axis) = reads[0] else {
        return match &node.op {
            Op::Gather { axis: 0, .. } => reads[1],
            Op::Add | Op::Sub | Op::Mul | Op::Div => joined(node, reads, shapes),
            _ => Batch::Lost,
        };
    };
    // what is read besides is the same for every batch
    let alone = reads[1..].iter().all(|&read| read == Batch::None);
    match &node.op {
        Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::BatchNorm { .. }
        | Op::Pool { .. }
        | Op::Prelu
            if alone && axis == 0 =>
        {
            Batch::At(0)
        }
        Op::MatMul { .. } => match (alone, shapes[0].len(), reads[1]) {
            (true, rank, _) if axis + 1 < rank && shapes[1].len() <= rank => {
                // of the other, no axis meets the batch
                match axis + 2 < rank && shapes[1].len() == rank && shapes[1][axis] != 1 {
                    true => Batch::Lost,
                    false => Batch::At(axis),
                }
            }
            (false, rank, Batch::At(other))
                if other == axis && axis + 2 < rank && shapes[1].len() == rank =>
            {
                Batch::At(axis)
            }
            _ => Batch::Lost,
        },
        Op::Activation(_) | Op::Identity | Op::Function(_) => Batch::At(axis),
        Op::Softmax { axis: over } if *over != axis => Batch::At(axis),
        Op::Normalise { axes, groups, .. }
            if !axes.contains(&axis) && (groups.is_none() || axis == 0) =>
        {
            Batch::At(axis)
        }
        Op::Reduce { axes, keep, .. } if !axes.contains(&axis) => {
            let before = axes.iter().filter(|&&other| other < axis).count();
            Batch::At(if *keep { axis } else { axis - before })
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div => joined(node, reads, shapes),
        Op::Concat { axis: along } if *along != axis => {
            match reads.iter().all(|&read| read == reads[0]) {
                true => Batch::At(axis),
                false => Batch::Lost,
            }
        }
        Op::Slice { axis: along, .. } | Op::Select { axis: along, .. } if *along != axis => {
            Batch::At(axis)
        }
        Op::Reshape { shape } => {
            // the same elements in front of the batch
            let front: usize = shapes[0][..axis].iter().product();
            let mut before = 1;
            for (to, &of) in shape.iter().enumerate() {
                if before == front && of == size {
                    return Batch::At(to);
                }
                before *= of;
            }
            Batch::Lost
        }
        Op::Transpose { order } => match order.iter().position(|&from| from == axis) {
            Some(to) => Batch::At(to),
            None => Batch::Lost,
        },
        Op::Expand { shape } => Batch::At(axis + shape.len() - shapes[0].len()),
        _ => Batch::Lost,
    }
}

/// The batch of values that are brought together in one shape.
fn joined(node: &Node, reads: &[Batch], shapes: &[&[usize]]) -> Batch {
    let rank = node.shape.len();
    let mut joint = None;
    for (read, shape) in reads.iter().zip(shapes) {
        if let Batch::At(axis) = read {
            let axis = axis + rank - shape.len();
            if *joint.get_or_insert(axis) != axis {
                return Batch::Lost;
            }
        }
    }
    let Some(axis) = joint else {
        return Batch::None;
    };
    let meets = reads.iter().zip(shapes).any(|(read, shape)| {
        let own = (axis + shape.len()).checked_sub(rank);
        *read == Batch::None && own.is_some_and(|own| shape[own] != 1)
    });
    match meets {
        true => Batch::Lost,
        false => Batch::At(axis),
    }
}

//! The method against float64 vectors made by an independent implementation (`golden/*.json`, `golden/cnn/*.json`): seven
//! perceptrons of equal, falling, rising and mixed widths, and eleven convolutional, residual and batch-normalised networks.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{close, flat, network};
use gsgd_core::chart::{ChartConfig, Coordinates};
use gsgd_core::graph::{Graph, Op, Pooling, Window};
use gsgd_core::matrix::{Dense, Rule};
use gsgd_core::paths::Paths;
use gsgd_core::scales::{BatchNormTreatment, Kind, ScaleGraph, ScaleGraphConfig};
use gsgd_core::skeleton::{Edge, Skeleton, SkeletonTree};
use gsgd_core::{Moments, PathSpace};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    widths: Vec<usize>,
    bias: bool,
    lr: f64,
    x: Vec<Vec<f64>>,
    y: Vec<usize>,
    skeleton_in: Vec<Vec<[usize; 2]>>,
    skeleton_out: Vec<Vec<[usize; 2]>>,
    flat_w: Vec<f64>,
    loss: f64,
    grad: Vec<f64>,
    basis: Vec<usize>,
    v: Vec<f64>,
    #[serde(rename = "dLdv")]
    path_gradient: Vec<f64>,
    m: usize,
    #[serde(rename = "H")]
    hidden: usize,
    rank: usize,
    gsgd: BTreeMap<usize, After>,
    gmom10: After,
    gadam10: After,
    rescaled: Rescaled,
}

#[derive(Deserialize)]
struct After {
    w: Vec<f64>,
    loss: f64,
}

#[derive(Deserialize)]
struct Rescaled {
    w: Vec<f64>,
    w10: Vec<f64>,
}

const FILES: [&str; 7] = [
    "eq",
    "eq_nobias",
    "dec",
    "inc_unequal",
    "updown_nobias",
    "deep",
    "one_hidden",
];

fn text(path: &str) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{folder}/tests/golden/{path}.json")).unwrap()
}

fn each(check: impl Fn(&Golden)) {
    for name in FILES {
        println!("{name}");
        check(&serde_json::from_str(&text(name)).unwrap());
    }
}

impl Golden {
    fn graph(&self) -> ScaleGraph {
        common::mlp(&self.widths, self.bias)
    }

    /// Numbers in the order of the file, per layer the matrix and then the bias, as matrices.
    fn matrices(&self, flat: &[f64]) -> Vec<Dense<f64>> {
        let mut numbers = flat.iter();
        common::filled(&self.graph(), |_| *numbers.next().unwrap())
    }

    fn tree(&self, graph: &ScaleGraph) -> SkeletonTree {
        let dense = |(param, edges): (usize, &gsgd_core::scales::ParamEdges)| {
            (!edges.is_bias()).then_some(param)
        };
        let weights: Vec<usize> = graph.edges().iter().enumerate().filter_map(dense).collect();
        let edges = |(layer, pairs): (usize, &Vec<[usize; 2]>)| -> Vec<Option<Edge>> {
            let param = weights[layer];
            let edge = |&[tail, head]: &[usize; 2]| Some(Edge { param, tail, head });
            pairs.iter().map(edge).collect()
        };
        SkeletonTree {
            ins: (0..).zip(&self.skeleton_in).flat_map(edges).collect(),
            outs: (1..).zip(&self.skeleton_out).flat_map(edges).collect(),
        }
    }

    fn space(&self, weights: &[Dense<f64>]) -> PathSpace {
        let graph = self.graph();
        let config = ChartConfig {
            skeleton: Skeleton::Chosen(self.tree(&graph)),
            coordinates: Some(Coordinates::Plain),
            floor: None,
        };
        let chart = config.at(network(&graph, weights)).unwrap();
        PathSpace::new(graph, chart, None)
    }

    /// Loss and gradients of weights: softmax cross-entropy, by hand.
    fn backward(&self, weights: &[Dense<f64>]) -> (f64, Vec<f64>) {
        let per_layer = if self.bias { 2 } else { 1 };
        let layers: Vec<&[Dense<f64>]> = weights.chunks(per_layer).collect();
        let mut gradients: Vec<Vec<f64>> = weights
            .iter()
            .map(|w| vec![0.0; w.entries().len()])
            .collect();
        let (mut loss, count) = (0.0, self.x.len() as f64);
        for (x, &label) in self.x.iter().zip(&self.y) {
            let mut inputs = vec![x.clone()];
            for (at, layer) in layers.iter().enumerate() {
                let columns = self.widths[at + 1];
                let mut y = match self.bias {
                    true => layer[1].entries().to_vec(),
                    false => vec![0.0; columns],
                };
                for (x, row) in inputs[at].iter().zip(layer[0].entries().chunks(columns)) {
                    y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
                }
                if at + 1 < layers.len() {
                    y.iter_mut().for_each(|y| *y = y.max(0.0));
                }
                inputs.push(y);
            }
            let logits = inputs.pop().unwrap();
            let largest = logits.iter().fold(f64::MIN, |all, &x| all.max(x));
            let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
            loss += (sum.ln() + largest - logits[label]) / count;
            let mut up: Vec<f64> = logits.iter().map(|x| (x - largest).exp() / sum).collect();
            up[label] -= 1.0;
            up.iter_mut().for_each(|x| *x /= count);
            for (at, layer) in layers.iter().enumerate().rev() {
                let columns = self.widths[at + 1];
                let rows = layer[0].entries().chunks(columns);
                let of_rows = gradients[at * per_layer].chunks_mut(columns);
                let mut down = Vec::new();
                for ((x, row), of_row) in inputs[at].iter().zip(rows).zip(of_rows) {
                    of_row.iter_mut().zip(&up).for_each(|(g, up)| *g += x * up);
                    let sum: f64 = row.iter().zip(&up).map(|(w, up)| w * up).sum();
                    down.push(if *x > 0.0 { sum } else { 0.0 });
                }
                if self.bias {
                    let of_bias = gradients[at * per_layer + 1].iter_mut();
                    of_bias.zip(&up).for_each(|(g, up)| *g += up);
                }
                up = down;
            }
        }
        (loss, gradients.concat())
    }

    /// Weights after steps on the same full batch.
    fn train(
        &self,
        weights: Vec<Dense<f64>>,
        steps: usize,
        mut step: impl FnMut(&[Dense<f64>], Vec<Dense<f64>>) -> Vec<Dense<f64>>,
    ) -> Vec<Dense<f64>> {
        (0..steps).fold(weights, |weights, _| {
            let (_, gradients) = self.backward(&weights);
            step(&weights, self.matrices(&gradients))
        })
    }

    fn descend(&self, start: &[f64], steps: usize) -> Vec<Dense<f64>> {
        let start = self.matrices(start);
        let space = self.space(&start);
        let lr = vec![self.lr; start.len()];
        self.train(start, steps, |w, g| space.descend(w, g, &lr).unwrap())
    }
}

#[test]
fn counts_rank_and_the_papers_skeleton() {
    each(|golden| {
        let (graph, weights) = (golden.graph(), golden.matrices(&golden.flat_w));
        assert_eq!(graph.hidden(), golden.hidden);
        assert_eq!(graph.weights(), golden.m);
        assert_eq!(graph.basis_paths(), golden.rank);
        let ratio = golden.hidden as f64 / golden.m as f64;
        assert_eq!(graph.invariant_ratio(), ratio);
        let paths = Paths::enumerate(network(&graph, &weights)).unwrap();
        assert_eq!(paths.rank(), golden.rank);
        assert_eq!(SkeletonTree::paper(&graph), golden.tree(&graph));
        let (loss, gradients) = golden.backward(&weights);
        close(&[loss], &[golden.loss], 1e-12);
        close(&gradients, &golden.grad, 1e-12);
    });
}

#[test]
fn path_values_and_the_inverse_chain_rule() {
    each(|golden| {
        let weights = golden.matrices(&golden.flat_w);
        let space = golden.space(&weights);
        let gradients = golden.matrices(&golden.grad);
        let (pairs, _) = space.lift(&weights, gradients).unwrap();
        let (v, g): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let basis = |all: Vec<f64>| golden.basis.iter().map(|&e| all[e]).collect::<Vec<f64>>();
        close(&basis(flat(&v)), &golden.v, 1e-12);
        close(&basis(flat(&g)), &golden.path_gradient, 1e-10);
    });
}

#[test]
fn descent() {
    each(|golden| {
        for (&steps, after) in &golden.gsgd {
            let weights = golden.descend(&golden.flat_w, steps);
            close(&flat(&weights), &after.w, 1e-10);
            close(&[golden.backward(&weights).0], &[after.loss], 1e-10);
        }
        let twin = golden.descend(&golden.rescaled.w, 10);
        close(&flat(&twin), &golden.rescaled.w10, 1e-9);
        let loss = golden.backward(&golden.descend(&golden.flat_w, 10)).0;
        close(&[golden.backward(&twin).0], &[loss], 1e-10);
    });
}

#[test]
fn momentum_and_adam() {
    each(|golden| {
        let ball = Rule::HeavyBall {
            momentum: 0.9,
            nesterov: false,
        };
        let adam = Rule::Adam {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
        };
        let runs = [
            (ball, golden.lr, &golden.gmom10, 1e-10),
            (adam, 0.01, &golden.gadam10, 1e-9),
        ];
        for (rule, lr, after, tolerance) in runs {
            let start = golden.matrices(&golden.flat_w);
            let space = golden.space(&start);
            let (mut moments, lr) = (Moments::new(rule), vec![lr; start.len()]);
            let weights = golden.train(start, 10, |w, g| {
                space.advance(&mut moments, w, g, &lr).unwrap()
            });
            close(&flat(&weights), &after.w, tolerance);
            close(&[golden.backward(&weights).0], &[after.loss], tolerance);
        }
    });
}

const CONVOLUTIONAL: [&str; 11] = [
    "plain_skel",
    "plain_maxinv",
    "plain_norm",
    "res_skel",
    "res_norm",
    "dwconcat_skel",
    "dwconcat_norm",
    "plainbn_X_skel",
    "plainbn_X_norm",
    "resbn_X_norm",
    "plainbn_P",
];

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or(f64::NAN)],
    }
}

fn shape(mut value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    while let Some(parts) = value.as_array() {
        shape.push(parts.len());
        value = &parts[0];
    }
    shape
}

/// A network of the second kind: operations by name, parameters in PyTorch's layout.
struct Convolutional(Value);

impl Convolutional {
    fn graph(&self) -> ScaleGraph {
        let weights = self.0["weights"].as_object().unwrap();
        let config = match self.0["bn"].as_str() {
            Some("P") => ScaleGraphConfig::new().with_batch_norm(BatchNormTreatment::Paper),
            _ => ScaleGraphConfig::new(),
        };
        let mut graph = Graph::new();
        let params: HashMap<&String, gsgd_core::graph::Value> = weights
            .iter()
            .map(|(name, values)| (name, graph.param(name, &shape(values)).unwrap()))
            .collect();
        let input = graph.input(&shape(&self.0["input"])).unwrap();
        let mut values = HashMap::from([("x".to_string(), input)]);
        for op in self.0["ops"].as_array().unwrap() {
            let from = |at: usize| values[op["in"][at].as_str().unwrap()];
            let size = |key: &str| op[key].as_u64().unwrap() as usize;
            let param = |key: &str| op[key].as_str().map(|name| params[&name.to_string()]);
            let dims = || shape(&weights[op["w"].as_str().unwrap()]);
            let x = from(0);
            let mut layer = |op| graph.layer(op, x, param("w").unwrap(), param("b"));
            let made = match op["op"].as_str().unwrap() {
                "conv" => {
                    let pads = [size("p"); 2];
                    let window = Window::new(&dims()[2..]).with_stride(&[size("s"); 2]);
                    layer(Op::Conv {
                        window: window.with_padding(&pads),
                        groups: size("g"),
                    })
                }
                "linear" => layer(Op::MatMul { transposed: true }),
                "bn" => {
                    let mut statistic = || graph.param("statistic", &dims()).unwrap();
                    let statistics = [statistic(), statistic()];
                    let tensors = [param("w").unwrap(), param("b").unwrap()];
                    let [mean, variance] = statistics;
                    graph.batch_norm(x, [tensors[0], tensors[1], mean, variance], 1e-5)
                }
                "relu" => graph.relu(x),
                "maxpool" => {
                    let kernel = [size("k"); 2];
                    let op = Op::Pool {
                        pooling: Pooling::Max,
                        window: Window::new(&kernel).with_stride(&kernel),
                    };
                    graph.push("", op, &[x])
                }
                "gap" => graph.global_mean(x),
                "flatten" => graph.flatten(x),
                "add" => graph.add(x, from(1)),
                "concat" => graph.concat(&[x, from(1)], 1),
                other => panic!("{other}"),
            };
            values.insert(op["out"].as_str().unwrap().into(), made.unwrap());
        }
        graph.output(values["out"]);
        graph.scales(config).unwrap()
    }

    fn matrices(&self, key: &str, graph: &ScaleGraph) -> Vec<Dense<f64>> {
        let edges = graph.edges().iter();
        edges
            .map(|edges| Dense::new(edges.dims(), numbers(&self.0[key][edges.name()])))
            .collect()
    }

    /// Parameters that the paper's treatment of batch norm leaves to weight space are no edges.
    fn close(&self, found: &[Dense<f64>], key: &str, graph: &ScaleGraph, tolerance: f64) {
        for (found, expected) in found.iter().zip(self.matrices(key, graph)) {
            close(found.entries(), expected.entries(), tolerance);
        }
    }

    fn tree(&self, graph: &ScaleGraph) -> SkeletonTree {
        let edge = |value: &Value| -> Option<Edge> {
            let name = value[0].as_str()?;
            let at = value[1].as_u64()? as usize;
            let mut all = graph.edges().iter();
            let param = all.position(|edges| edges.name() == name)?;
            let edges = &graph.edges()[param];
            let mut pairs = (0..edges.tails().len())
                .flat_map(|tail| (0..edges.heads().len()).map(move |head| (tail, head)));
            let here = |&(tail, head): &(usize, usize)| edges.flat(tail, head) == Some(at);
            let (tail, head) = pairs.find(here)?;
            Some(Edge { param, tail, head })
        };
        let edges = |key: &str| {
            let classes = 1..=graph.hidden();
            classes
                .map(|class| edge(&self.0[key][class.to_string()]))
                .collect()
        };
        SkeletonTree {
            ins: edges("In"),
            outs: edges("Out"),
        }
    }

    fn space(&self, graph: &ScaleGraph, weights: &[Dense<f64>]) -> PathSpace {
        let is_norm = self.0["mode"] == "norm";
        let config = ChartConfig {
            skeleton: match is_norm {
                true => Skeleton::default(),
                false => Skeleton::Chosen(self.tree(graph)),
            },
            coordinates: Some(match is_norm {
                true => Coordinates::Norm,
                false => Coordinates::Plain,
            }),
            floor: None,
        };
        let chart = config.at(network(graph, weights)).unwrap();
        PathSpace::new(graph.clone(), chart, None)
    }
}

fn each_convolutional(check: impl Fn(&Convolutional, &ScaleGraph)) {
    for name in CONVOLUTIONAL {
        println!("{name}");
        let golden = Convolutional(serde_json::from_str(&text(&format!("cnn/{name}"))).unwrap());
        check(&golden, &golden.graph());
    }
}

#[test]
fn classes_of_convolutional_networks() {
    each_convolutional(|golden, graph| {
        let number = |key: &str| golden.0[key].as_u64().unwrap() as usize;
        let found = [graph.weights(), graph.hidden(), graph.basis_paths()];
        assert_eq!(found, ["m", "H", "dim"].map(number));
        for edges in graph.edges() {
            let heads = edges.heads().iter().map(|class| class.index() as f64);
            let expected = numbers(&golden.0["head"][edges.name()]);
            assert_eq!(heads.collect::<Vec<f64>>(), expected, "{}", edges.name());
        }
        for class in graph.hidden_classes() {
            let kind = match graph.kind(class) {
                Kind::ReachesOutput => "grounded",
                Kind::BehindBatchNorm => "floating",
                Kind::IntoBatchNorm => "sink",
            };
            assert_eq!(golden.0["classes"][class.index() - 1]["kind"], kind);
        }
    });
}

#[test]
fn the_papers_skeleton_takes_centre_taps() {
    each_convolutional(|golden, graph| {
        if golden.0["skeleton"] == "centre" && golden.0["mode"] != "norm" {
            assert_eq!(SkeletonTree::paper(graph), golden.tree(graph));
        }
    });
}

#[test]
fn coordinates_and_a_step_of_convolutional_networks() {
    each_convolutional(|golden, graph| {
        let weights = golden.matrices("weights", graph);
        let gradients = golden.matrices("grads", graph);
        let space = golden.space(graph, &weights);
        let (pairs, _) = space.lift(&weights, gradients.clone()).unwrap();
        let (v, g): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let expected = ["v", "dLdv"].map(|key| golden.matrices(key, graph));
        for (found, expected) in [v, g].iter().zip(&expected) {
            for (found, expected) in flat(found).into_iter().zip(flat(expected)) {
                match expected.is_nan() {
                    true => assert_eq!(found, 0.0, "held fixed"),
                    false => close(&[found], &[expected], 1e-9),
                }
            }
        }
        let lr = vec![golden.0["lr"].as_f64().unwrap(); weights.len()];
        let moved = space.descend(&weights, gradients, &lr).unwrap();
        golden.close(&moved, "weights_after_1", graph, 1e-10);
    });
}

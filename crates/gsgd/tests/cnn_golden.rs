//! Convolutional, residual and batch-normalised networks against float64 vectors made by an independent
//! implementation (`golden/cnn/*.json`; each file's `note` describes it).

mod common;

#[allow(unused_imports)]
use common::{Described, InitOf, scale_graph};

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::SgdConfig;
use burn::tensor::{DType, Int, Tensor, TensorData};
use common::convnet::{ConvNet, Op, conv, norm};
use common::{Batch, close, device, grads, linear, tensor, values};
use gsgd::skeleton::{Edge, SkeletonTree};
use gsgd::{
    BatchNormTreatment, Coordinates, Execution, GSpaceConfig, Kind, Outside, ScaleGraph,
    ScaleGraphConfig, Skeleton,
};
use serde_json::Value;

const FILES: [&str; 11] = [
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

struct Golden {
    data: Value,
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or(f64::NAN)],
    }
}

fn shape<const D: usize>(mut value: &Value) -> [usize; D] {
    std::array::from_fn(|_| {
        let parts = value.as_array().unwrap();
        value = &parts[0];
        parts.len()
    })
}

fn given<const D: usize>(value: &Value) -> Tensor<D> {
    tensor(numbers(value), shape(value), DType::F64)
}

impl Golden {
    fn read(name: &'static str) -> Self {
        let path = format!(
            "{}/../gsgd-core/tests/golden/cnn/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).unwrap();
        let data = serde_json::from_str(&text).unwrap();
        Self { data }
    }

    fn is_norm(&self) -> bool {
        self.data["mode"] == "norm"
    }

    fn graph_config(&self) -> ScaleGraphConfig {
        match self.data["bn"].as_str() {
            Some("P") => ScaleGraphConfig::new().with_batch_norm(BatchNormTreatment::Paper),
            _ => ScaleGraphConfig::new(),
        }
    }

    fn number(&self, key: &str) -> f64 {
        self.data[key].as_f64().unwrap()
    }

    fn model(&self) -> ConvNet {
        let weights = &self.data["weights"];
        let mut places = HashMap::from([("x".to_string(), 0)]);
        let mut areas = vec![shape::<4>(&self.data["input"])[2..].iter().product()];
        let mut net = ConvNet {
            convs: Vec::new(),
            norms: Vec::new(),
            linears: Vec::new(),
            ops: Vec::new(),
            areas: Vec::new(),
        };
        for op in self.data["ops"].as_array().unwrap() {
            let from = |at: usize| places[op["in"][at].as_str().unwrap()];
            let size = |key: &str| op[key].as_u64().unwrap() as usize;
            let weight = &weights[op["w"].as_str().unwrap_or("")];
            let bias = op["b"].as_str().map(|b| given::<1>(&weights[b]));
            let side: usize = usize::isqrt(areas[from(0)]);
            let mut area = areas[from(0)];
            net.ops.push(match op["op"].as_str().unwrap() {
                "conv" => {
                    let padding = size("p");
                    let kernel = shape::<4>(weight)[2];
                    area = ((side + 2 * padding - kernel) / size("s") + 1).pow(2);
                    let layer = conv(given(weight), bias, size("s"), padding, size("g"));
                    net.convs.push(layer);
                    let layer = net.convs.len() - 1;
                    Op::Conv {
                        from: from(0),
                        layer,
                    }
                }
                "bn" => {
                    let epsilon = op["eps"].as_f64().unwrap();
                    net.norms.push(norm(given(weight), bias.unwrap(), epsilon));
                    let layer = net.norms.len() - 1;
                    Op::Norm {
                        from: from(0),
                        layer,
                    }
                }
                "relu" => Op::Relu(from(0)),
                "maxpool" => {
                    area = (side / size("k")).pow(2);
                    Op::MaxPool {
                        from: from(0),
                        size: size("k"),
                    }
                }
                "gap" => Op::Mean(from(0)),
                "flatten" => Op::Flatten(from(0)),
                "add" => Op::Add(from(0), from(1)),
                "concat" => Op::Concat(from(0), from(1)),
                "linear" => {
                    let weight = given::<2>(weight).detach().transpose();
                    let weight = tensor(values(weight.clone()), weight.dims(), DType::F64);
                    net.linears.push(linear(weight, bias));
                    let layer = net.linears.len() - 1;
                    Op::Linear {
                        from: from(0),
                        layer,
                    }
                }
                other => panic!("{other}"),
            });
            areas.push(area);
            let place = net.ops.len();
            places.insert(op["out"].as_str().unwrap().into(), place);
        }
        net.areas = areas;
        net
    }

    fn loss(&self, model: &ConvNet) -> Tensor<1> {
        let target: Vec<i64> = numbers(&self.data["target"])
            .iter()
            .map(|&t| t as i64)
            .collect();
        let rows = target.len();
        let y = Tensor::<2, Int>::from_data(TensorData::new(target, [rows, 1]), &device());
        let x = given::<4>(&self.data["input"]);
        let batch = Batch {
            x: tensor(vec![0.0], [1, 1], DType::F64),
            y,
        };
        batch.loss(model.forward(x))
    }

    /// The name of a parameter in the file.
    fn name(parameter: &str) -> String {
        let parts: Vec<&str> = parameter.split('.').collect();
        let layer = match parts[0] {
            "convs" => "conv",
            "norms" => "bn",
            _ => "fc",
        };
        let letter = match parts[2] {
            "weight" => "w",
            "gamma" => "g",
            _ => "b",
        };
        format!("{layer}{}.{letter}", parts[1])
    }

    /// The file's values of a parameter, in the order of the matrix that stands for it here.
    fn of_parameter(&self, key: &str, parameter: &str) -> Vec<f64> {
        let value = &self.data[key][Self::name(parameter)];
        let flat = numbers(value);
        if !parameter.starts_with("linears") || !parameter.ends_with("weight") {
            return flat;
        }
        let [rows, columns] = shape::<2>(value);
        (0..flat.len())
            .map(|at| flat[at % rows * columns + at / rows])
            .collect()
    }

    fn tree(&self, graph: &ScaleGraph) -> SkeletonTree {
        let edge = |value: &Value| -> Option<Edge> {
            let name = value[0].as_str()?;
            let at = value[1].as_u64()? as usize;
            let param = graph
                .edges()
                .iter()
                .position(|e| Self::name(e.name()) == name)?;
            let edges = &graph.edges()[param];
            let (tails, heads) = (edges.tails().len(), edges.heads().len());
            Some(match edges.shape().len() {
                1 => Edge {
                    param,
                    tail: 0,
                    head: at,
                },
                // the file's dense weights are [out, in]
                2 => Edge {
                    param,
                    tail: at % tails,
                    head: at / tails,
                },
                _ => {
                    let groups = tails * heads / edges.count();
                    let columns = tails / groups;
                    let head = at / columns;
                    let group = head / (heads / groups);
                    Edge {
                        param,
                        tail: group * columns + at % columns,
                        head,
                    }
                }
            })
        };
        let edges = |key: &str| {
            let classes = 1..=graph.hidden();
            classes
                .map(|c| edge(&self.data[key][c.to_string()]))
                .collect()
        };
        SkeletonTree {
            ins: edges("In"),
            outs: edges("Out"),
        }
    }

    fn config(&self, config: GSpaceConfig) -> GSpaceConfig {
        let config = config
            .with_scale_graph(self.graph_config())
            .without_floor()
            .with_outside(Outside::Refuse);
        if self.is_norm() {
            return config.with_coordinates(Coordinates::Norm);
        }
        let graph = scale_graph(&self.model(), self.graph_config()).unwrap();
        config
            .with_skeleton(Skeleton::Chosen(self.tree(&graph)))
            .with_coordinates(Coordinates::Plain)
    }

    fn check_weights(&self, model: &ConvNet, key: &str) {
        struct Named(Vec<String>, Vec<(String, Vec<f64>)>);
        impl ModuleVisitor for Named {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.0.push(name.into());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.1.push((self.0.join("."), values(param.val())));
            }
        }
        let mut named = Named(Vec::new(), Vec::new());
        model.visit(&mut named);
        for (name, found) in named.1 {
            if !name.contains("running") {
                close(&found, &self.of_parameter(key, &name), 1e-9);
            }
        }
    }
}

fn each(check: impl Fn(&Golden)) {
    for name in FILES {
        println!("{name}");
        check(&Golden::read(name));
    }
}

#[test]
fn losses_and_counts() {
    each(|golden| {
        let model = golden.model();
        close(
            &values(golden.loss(&model)),
            &[golden.number("loss")],
            1e-12,
        );
        let graph = scale_graph(&model, golden.graph_config()).unwrap();
        assert_eq!(graph.weights() as f64, golden.number("m"));
        assert_eq!(graph.hidden() as f64, golden.number("H"));
        assert_eq!(graph.basis_paths() as f64, golden.number("dim"));
        assert_eq!(graph.unused().count(), 0);
        for edges in graph.edges() {
            let classes = |classes: &[gsgd::ScaleClass]| -> Vec<usize> {
                classes.iter().map(|c| c.index()).collect()
            };
            let heads = numbers(&golden.data["head"][Golden::name(edges.name())]);
            let heads: Vec<usize> = heads.iter().map(|&c| c as usize).collect();
            assert_eq!(classes(edges.heads()), heads, "{}", edges.name());
        }
        for class in graph.hidden_classes() {
            let kind = golden.data["classes"][class.index() - 1]["kind"]
                .as_str()
                .unwrap();
            let expected = match kind {
                "grounded" => Kind::ReachesOutput,
                "floating" => Kind::BehindBatchNorm,
                "sink" => Kind::IntoBatchNorm,
                other => panic!("{other}"),
            };
            assert_eq!(graph.kind(class), expected);
        }
    });
}

#[test]
fn the_paper_skeleton_is_the_centre_tap_of_index_modulo() {
    each(|golden| {
        if golden.data["skeleton"] == "centre" && !golden.is_norm() {
            let graph = scale_graph(&golden.model(), golden.graph_config()).unwrap();
            assert_eq!(SkeletonTree::paper(&graph), golden.tree(&graph));
        }
    });
}

#[test]
fn path_values_and_their_gradients() {
    each(|golden| {
        let model = golden.model();
        for execution in [Execution::Fused, Execution::Reference] {
            let config = golden.config(GSpaceConfig::sgd()).with_execution(execution);
            let optim = config.init_of(&model).unwrap();
            let gradients = grads(&model, golden.loss(&model));
            let space = optim.path_space(&model, gradients).unwrap();
            for (edges, (v, g)) in optim.scale_graph().edges().iter().zip(space) {
                let (v, g) = (values(v), values(g));
                let expected = golden.of_parameter("v", edges.name());
                let expected_g = golden.of_parameter("dLdv", edges.name());
                for at in 0..v.len() {
                    if expected[at].is_nan() {
                        assert_eq!((v[at], g[at]), (0.0, 0.0), "a fixed skeleton weight");
                        continue;
                    }
                    close(&v[at..=at], &expected[at..=at], 1e-11);
                    close(&g[at..=at], &expected_g[at..=at], 1e-9);
                }
            }
        }
    });
}

#[test]
fn weights_after_steps() {
    each(|golden| {
        let configs = [
            GSpaceConfig::sgd(),
            GSpaceConfig::sgd().with_execution(Execution::Reference),
            GSpaceConfig::new(SgdConfig::new().init()),
        ];
        for config in configs {
            let mut model = golden.model();
            let mut optim = golden.config(config).init_of(&model).unwrap();
            for step in 1..=5 {
                let gradients = grads(&model, golden.loss(&model));
                model = optim.step(golden.number("lr"), model, gradients).unwrap();
                if step == 1 {
                    golden.check_weights(&model, "weights_after_1");
                }
            }
            golden.check_weights(&model, "weights_after_5");
            let loss = values(golden.loss(&model));
            close(&loss, &[golden.number("loss_after_5")], 1e-9);
        }
    });
}

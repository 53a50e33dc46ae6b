//! The plans of the other experiments.

use toml::Value;

use super::{Experiment, ExperimentPart, Scale};
use crate::compare::{Method, Plan};
use crate::train::OptimizerName;

pub fn table(entries: &[(&str, Value)]) -> toml::Table {
    let entries = entries
        .iter()
        .map(|(key, value)| (key.to_string(), value.clone()));
    entries.collect()
}

pub fn method(name: &str, settings: &[(&str, Value)]) -> Method {
    Method {
        name: name.into(),
        against: None,
        lrs: Vec::new(),
        settings: table(settings),
    }
}

fn seeds(scale: Scale, medium: u64) -> Vec<u64> {
    (0..scale.pick(1, medium, 5)).collect()
}

/// 10^-first to 10^-last.
fn decades(first: i32, last: i32) -> Vec<f64> {
    (first..=last)
        .rev()
        .map(|a| format!("1e-{a}").parse().unwrap_or(1.0))
        .collect()
}

pub fn fig5(scale: Scale) -> Experiment {
    let hidden = "64-64-64-64-64-10";
    let part = |name: &str, title: &str, arch: String, extra: &[(&str, Value)]| {
        let mut settings = table(&[
            ("data", name.into()),
            ("arch", arch.into()),
            ("normalise", "unit".into()),
            ("batch", Value::Integer(64)),
            ("epochs", Value::Integer(scale.pick(2, 50, 500))),
            ("validation", Value::Integer(5000)),
        ]);
        settings.extend(table(extra));
        let mut methods: Vec<Method> = OptimizerName::ALL
            .iter()
            .map(|o| method(o.as_str(), &[("optimizer", o.as_str().into())]))
            .collect();
        methods.push(method(
            "gsgd from skeleton one",
            &[
                ("optimizer", "g-sgd".into()),
                ("skeleton", "paper".into()),
                ("init", "skeleton-one".into()),
            ],
        ));
        ExperimentPart {
            name: name.into(),
            title: title.into(),
            plan: Plan {
                seeds: seeds(scale, 3),
                lrs: scale.pick(vec![0.01, 0.1], decades(0, 4), decades(0, 10)),
                settings,
                methods,
            },
            timed: false,
        }
    };
    Experiment {
        title: "Figure 5: comparison with Path-SGD",
        claim: "Section 5.3, Figure 5: five hidden layers of 64 units, pixels in [0, 1], batch 64, 500 epochs, the best \
                lr of each optimiser from 10^-a, a = 0..10. MNIST test error, read off the plot: SGD 3.0 %, Path-SGD \
                2.9 %, G-SGD 2.8 %; CIFAR-10 in grey about 55, 54 and 53 %.",
        differs: scale
            .pick(
                "2 epochs, 2 rates, 1 seed.",
                "50 epochs, rates 10^-a for a = 0..4, 3 seeds.",
                "5 seeds.",
            )
            .to_string()
            + " The lr is chosen on 5,000 held back images; momentum, Adam and the other G optimisers besides. The G \
               optimisers start from the same He weights as the baselines, with the largest skeleton; the last line is \
               the paper's start.",
        parts: vec![
            part("mnist", "MNIST", format!("mlp:784-{hidden}"), &[]),
            part(
                "cifar10",
                "CIFAR-10 in grey",
                format!("mlp:1024-{hidden}"),
                &[("grey", true.into())],
            ),
        ],
    }
}

/// The methods of Table 1.
fn deep_methods(residual: bool) -> Vec<Method> {
    let one = |optimizer: &str, batch_norm: &str, skips: &str| {
        [
            ("optimizer", optimizer.into()),
            ("init", "skeleton-one".into()),
            ("skeleton", "paper".into()),
            ("batch_norm", batch_norm.into()),
            ("skips", skips.into()),
        ]
        .to_vec()
    };
    let mut methods = vec![
        method("sgd", &[("optimizer", "sgd".into())]),
        method("sgd from skeleton one", &one("sgd", "paper", "block")),
        method("g-sgd as in the paper", &one("g-sgd", "paper", "block")),
        method("g-sgd, exact batch norm", &one("g-sgd", "exact", "block")),
    ];
    if residual {
        methods.push(method(
            "g-sgd, whole network",
            &one("g-sgd", "exact", "whole"),
        ));
    }
    methods.push(method(
        "g-sgd, largest skeleton",
        &[("optimizer", "g-sgd".into())],
    ));
    methods
}

fn deep_settings(scale: Scale, data: &str, family: &str) -> toml::Table {
    let arch = match scale {
        Scale::Quick => format!("{family}:8"),
        Scale::Medium => format!("{family}:20"),
        Scale::Full => format!("{family}34"),
    };
    let mut settings = table(&[
        ("data", data.into()),
        ("arch", arch.into()),
        ("batch", Value::Integer(128)),
        ("augment", "crop-flip".into()),
        ("epochs", Value::Integer(scale.pick(5, 30, 164))),
        ("validation", Value::Integer(scale.pick(1000, 2000, 5000))),
        (
            "schedule",
            scale
                .pick("cosine", "cosine", "step:32000,48000@0.1")
                .into(),
        ),
    ]);
    match scale {
        Scale::Full => settings.insert("steps".into(), Value::Integer(64000)),
        _ => settings.insert(
            "train_examples".into(),
            Value::Integer(scale.pick(4000, 10000, 0)),
        ),
    };
    settings
}

pub fn table1(scale: Scale) -> Experiment {
    let part = |data: &str, family: &str| ExperimentPart {
        name: format!("{data}-{family}"),
        title: format!("{family} network on {data}"),
        plan: Plan {
            seeds: (0..scale.pick(2, 3, 5)).collect(),
            lrs: scale.pick(vec![0.1, 0.3], vec![0.1, 0.3, 1.0], vec![1.0]),
            settings: deep_settings(scale, data, family),
            methods: deep_methods(family == "resnet"),
        },
        timed: false,
    };
    Experiment {
        title: "Table 1 and Figure 3: plain and residual networks",
        claim: "Section 5.1, test error in %, SGD to G-SGD: Plain-34 7.76 ± 0.17 to 7.00 ± 0.10 on CIFAR-10 and 36.41 ± \
                0.54 to 30.74 ± 0.29 on CIFAR-100; ResNet-34 7.13 ± 0.22 to 6.66 ± 0.13 and 28.60 ± 0.26 to 27.74 ± 0.06. \
                Batch norm, batch 128, lr 1.0 divided by 10 at 32k and 48k of 64k steps, crop and flip, 5 seeds.",
        differs: scale
            .pick(
                "8 layers instead of 34, 4,000 images, 5 epochs, 2 seeds, cosine schedule.",
                "20 layers instead of 34, 10,000 images, 30 epochs, 3 seeds, cosine schedule.",
                "5,000 training images are held back.",
            )
            .to_string()
            + " SGD also from the same weights as G-SGD: the paper's SGD starts from other ones.",
        parts: vec![
            part("cifar10", "plain"),
            part("cifar10", "resnet"),
            part("cifar100", "plain"),
            part("cifar100", "resnet"),
        ],
    }
}

pub fn fig7(scale: Scale) -> Experiment {
    let lambdas = scale.pick(
        vec!["1e-4", "1e-3"],
        vec!["1e-5", "1e-4", "1e-3"],
        vec![
            "1e-6", "2e-6", "5e-6", "1e-5", "2e-5", "5e-5", "1e-4", "2e-4", "5e-4",
        ],
    );
    let mut methods = Vec::new();
    for (name, optimizer) in [("sgd", "sgd"), ("g-sgd", "g-sgd")] {
        methods.push(method(
            &format!("{name}, none"),
            &[("optimizer", optimizer.into())],
        ));
        for lambda in &lambdas {
            let value = lambda.parse::<f64>().unwrap_or_default();
            methods.push(method(
                &format!("{name}, {lambda}"),
                &[
                    ("optimizer", optimizer.into()),
                    ("weight_decay", value.into()),
                ],
            ));
        }
    }
    let plan = Plan {
        seeds: (0..scale.pick(2, 3, 5)).collect(),
        lrs: scale.pick(vec![0.1], vec![0.1, 0.3], vec![1.0]),
        settings: deep_settings(scale, "cifar10", "resnet"),
        methods,
    };
    Experiment {
        title: "Figure 7: weight decay and basis-path regularisation",
        claim: "Section 11.5: accuracy of ResNet-34, SGD with weight decay to G-SGD with basis-path regularisation: 94.29 \
                to 94.67 on CIFAR-10; lambda from {0.1, 0.2, 0.5} x 10^-a, a = 3..6.",
        differs: scale
            .pick(
                "8 layers, 4,000 images, 5 epochs, 2 seeds.",
                "20 layers, 10,000 images, 30 epochs, 3 seeds.",
                "",
            )
            .into(),
        parts: vec![ExperimentPart {
            name: "cifar10-resnet".into(),
            title: "Residual network on CIFAR-10".into(),
            plan,
            timed: false,
        }],
    }
}

pub fn signs(scale: Scale) -> Experiment {
    let start = |name: &str, init: &str| {
        method(
            name,
            &[
                ("optimizer", "g-sgd".into()),
                ("skeleton", "paper".into()),
                ("init", init.into()),
            ],
        )
    };
    Experiment {
        title: "Section 11.3: signs and magnitudes of the skeleton",
        claim: "Section 11.3: random signs of the skeleton make no difference; its magnitude sets the effective lr.",
        differs: "On [49:64:64:10] and Fashion-MNIST 7x7.".into(),
        parts: vec![ExperimentPart {
            name: "mlp".into(),
            title: "[49:64:64:10], every lr".into(),
            plan: Plan {
                seeds: (0..scale.pick(2, 5, 5)).collect(),
                lrs: scale.pick(
                    vec![0.03, 0.1],
                    vec![0.01, 0.03, 0.1, 0.3],
                    vec![0.01, 0.03, 0.1, 0.3, 1.0],
                ),
                settings: table(&[
                    ("epochs", Value::Integer(scale.pick(3, 20, 100))),
                    ("validation", Value::Integer(5000)),
                ]),
                methods: vec![
                    start("1", "skeleton-one"),
                    start("random signs", "skeleton-signs"),
                    start("0.5", "skeleton-one:0.5"),
                    start("2", "skeleton-one:2"),
                    start("random signs of 2", "skeleton-signs:2"),
                ],
            },
            timed: false,
        }],
    }
}

pub fn skeletons(scale: Scale) -> Experiment {
    let g = |name: &str, settings: &[(&str, &str)]| {
        let mut all = vec![("optimizer", Value::from("g-sgd"))];
        all.extend(
            settings
                .iter()
                .map(|(key, value)| (*key, Value::from(*value))),
        );
        method(name, &all)
    };
    let one = ("init", "skeleton-one");
    let methods = vec![
        g("largest, normalised", &[]),
        g("largest, normalised, no floor", &[("floor", "off")]),
        g("largest, plain", &[("coordinates", "plain")]),
        g(
            "largest, plain, no floor",
            &[("coordinates", "plain"), ("floor", "off")],
        ),
        g("norm coordinates", &[("coordinates", "norm")]),
        g("random, normalised", &[("skeleton", "random")]),
        g(
            "random, normalised, no floor",
            &[("skeleton", "random"), ("floor", "off")],
        ),
        g("paper from one", &[("skeleton", "paper"), one]),
        g(
            "paper from one, no floor",
            &[("skeleton", "paper"), ("floor", "off"), one],
        ),
        g("largest from one", &[one]),
        method("sgd", &[("optimizer", "sgd".into())]),
    ];
    Experiment {
        title: "Skeletons, ratio floor and coordinates",
        claim: "Not in the paper, which takes the diagonal skeleton set to 1, without a ratio floor.",
        differs: "[49:64:64:10] on Fashion-MNIST 7x7, from He weights unless it says so; large rates show what the floor \
                  does."
            .into(),
        parts: vec![ExperimentPart {
            name: "mlp".into(),
            title: "[49:64:64:10]".into(),
            plan: Plan {
                seeds: (0..scale.pick(2, 5, 10)).collect(),
                lrs: scale.pick(vec![0.1, 1.0], vec![0.01, 0.03, 0.1, 0.3, 1.0], vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0]),
                settings: table(&[
                    ("epochs", Value::Integer(scale.pick(3, 10, 40))),
                    ("validation", Value::Integer(5000)),
                ]),
                methods,
            },
            timed: false,
        }],
    }
}

pub fn overhead(scale: Scale) -> Experiment {
    let part = |name: &str, settings: &[(&str, Value)], all: bool| {
        let optimizers = OptimizerName::ALL
            .iter()
            .filter(|o| all || **o != OptimizerName::PathSgd);
        ExperimentPart {
            name: name.into(),
            title: name.into(),
            plan: Plan {
                seeds: (0..scale.pick(1, 5, 10)).collect(),
                lrs: vec![0.001],
                settings: table(settings),
                methods: optimizers
                    .map(|o| method(o.as_str(), &[("optimizer", o.as_str().into())]))
                    .collect(),
            },
            timed: true,
        }
    };
    let mlp = |arch: &str, steps: i64| {
        let settings = [
            ("arch", Value::from(arch)),
            (
                "steps",
                Value::Integer(scale.pick(steps / 5, steps, 2 * steps)),
            ),
        ];
        part(&arch.replace(':', "-"), &settings, true)
    };
    let deep = |arch: &str| {
        let settings = [
            ("arch", Value::from(arch)),
            ("data", "cifar10".into()),
            ("batch", Value::Integer(128)),
            ("train_examples", Value::Integer(1280)),
            ("steps", Value::Integer(scale.pick(5, 20, 100))),
            ("epochs", Value::Integer(100)),
        ];
        // no path leads through batch norm
        part(&arch.replace(':', "-"), &settings, false)
    };
    Experiment {
        title: "Time and memory of a step",
        claim: "The paper speaks of very little overhead; its authors' code takes 29 % more time per epoch than SGD.",
        differs: "A figure per run is the mean over its steps; runs go one by one. Steps of different methods do not take \
                  turns here: `cargo bench` does that, and is the better measure of small differences."
            .into(),
        parts: vec![
            mlp("mlp:49-64-64-10", 5000),
            mlp("mlp:49-1024-1024-10", 500),
            deep("plain:20"),
            deep("resnet:20"),
        ],
    }
}

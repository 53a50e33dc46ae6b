//! What a comparison runs: a TOML file or flags.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::data;
use crate::models::NetworkName;
use crate::train::{InitName, Settings, seed};

/// A comparison.
///
/// ```toml
/// seeds = [0, 1, 2]
/// lrs = [0.03, 0.1, 0.3]        # the grid of every method that names none
///
/// [settings]                    # of all runs: the flags of `gsgd train`
/// epochs = 10
/// validation = 5000
///
/// [[methods]]
/// name = "sgd"
/// optimizer = "sgd"
///
/// [[methods]]
/// name = "g-sgd as in the paper"
/// optimizer = "g-sgd"
/// skeleton = "paper"
/// init = "skeleton-one"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Starting weights and batches.
    #[serde(with = "seed::list")]
    pub seeds: Vec<u64>,
    /// Learning rates of the methods that name none.
    #[serde(default)]
    pub lrs: Vec<f64>,
    /// Settings of all runs.
    #[serde(default)]
    pub settings: toml::Table,
    /// What is compared; plans of before call them ways.
    #[serde(alias = "ways")]
    pub methods: Vec<Method>,
}

/// A method: an optimiser with all its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Its name in tables and plots.
    pub name: String,
    /// The method that it is tested against; the first where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Its own learning rates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lrs: Vec<f64>,
    /// Its own settings, over those of all runs.
    #[serde(flatten)]
    pub settings: toml::Table,
}

/// One run of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its method, by place in the plan.
    pub method: usize,
    /// Its learning rate.
    pub lr: f64,
    /// Its seed.
    pub seed: u64,
    /// All its settings.
    pub settings: Settings,
    /// Its folder in that of the comparison.
    pub folder: PathBuf,
}

/// Keys that are the plan's to give.
const RESERVED: [(&str, &str); 2] = [("lr", "lrs"), ("seed", "seeds")];

impl Plan {
    /// A plan from a file's text.
    ///
    /// # Errors
    /// The text is no such TOML.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// A single run as a comparison of one method.
    ///
    /// # Errors
    /// A setting cannot be written down.
    pub fn of_run(run: &Settings) -> Result<Self> {
        let mut table = toml::Table::try_from(run)?;
        for (key, _) in RESERVED {
            table.remove(key);
        }
        Ok(Self {
            seeds: vec![run.seed],
            lrs: vec![run.lr()],
            settings: table,
            methods: vec![Method {
                name: run.optimizer.as_str().into(),
                against: None,
                lrs: Vec::new(),
                settings: toml::Table::new(),
            }],
        })
    }

    /// The plan with data, networks and starting weights named so that they are found from any working directory.
    pub fn located(mut self) -> Self {
        let methods = self.methods.iter_mut().map(|method| &mut method.settings);
        for table in std::iter::once(&mut self.settings).chain(methods) {
            if let Some(toml::Value::String(name)) = table.get_mut("data") {
                *name = data::located(name);
            }
            if let Some(toml::Value::String(name)) = table.get_mut("arch")
                && let Ok(arch) = name.parse::<NetworkName>()
            {
                *name = arch.located().to_string();
            }
            if let Some(toml::Value::String(name)) = table.get_mut("init")
                && let Ok(init) = name.parse::<InitName>()
            {
                *name = init.located().to_string();
            }
        }
        self
    }

    /// The learning rates of a method.
    pub fn lrs<'a>(&'a self, method: &'a Method) -> &'a [f64] {
        match method.lrs.is_empty() {
            true => &self.lrs,
            false => &method.lrs,
        }
    }

    /// Every run, seeds last: those of one method and lr follow each other.
    ///
    /// # Errors
    /// A list is empty or names something twice, a key or value is wrong.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        ensure!(
            !self.seeds.is_empty(),
            "`seeds` is empty: give at least one, such as [0, 1, 2]"
        );
        ensure!(
            !self.methods.is_empty(),
            "there are no [[methods]] to compare: give at least one"
        );
        each_once("seeds", &self.seeds)?;
        let mut folders = HashSet::new();
        let mut jobs = Vec::new();
        for (at, method) in self.methods.iter().enumerate() {
            let lrs = self.lrs(method);
            ensure!(
                !lrs.is_empty(),
                "method `{}` has no learning rates: give `lrs`, for it or for all methods",
                method.name
            );
            each_once("lrs", lrs)?;
            if let Some(other) = &method.against {
                ensure!(
                    self.methods.iter().any(|method| method.name == *other),
                    "method `{}` is against `{other}`, which is not among the methods",
                    method.name
                );
            }
            let name = folder_name(&method.name);
            ensure!(
                !name.is_empty() && folders.insert(name.clone()),
                "methods need names that differ in letters and digits; that of `{}` does not",
                method.name
            );
            for &lr in lrs {
                for &seed in &self.seeds {
                    jobs.push(Job {
                        method: at,
                        lr,
                        seed,
                        settings: self
                            .settings_of(method, lr, seed)
                            .with_context(|| format!("method `{}`", method.name))?,
                        folder: format!("runs/{name}/lr-{lr}-seed-{seed}").into(),
                    });
                }
            }
        }
        Ok(jobs)
    }

    fn settings_of(&self, method: &Method, lr: f64, seed: u64) -> Result<Settings> {
        let mut table = self.settings.clone();
        table.extend(method.settings.clone());
        for (key, instead) in RESERVED {
            ensure!(
                !table.contains_key(key),
                "`{key}` is not for one run here: give `{instead}`"
            );
        }
        table.insert("lr".into(), lr.into());
        table.insert("seed".into(), seed.to_string().into());
        Settings::from_table(&table)
    }
}

fn each_once<T: PartialEq + std::fmt::Display>(key: &str, values: &[T]) -> Result<()> {
    for (at, value) in values.iter().enumerate() {
        ensure!(!values[..at].contains(value), "`{key}` has {value} twice");
    }
    Ok(())
}

/// Letters and digits of a name, the rest as single hyphens.
fn folder_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Result<Vec<Job>> {
        Plan::parse(text)?.jobs()
    }

    #[test]
    fn a_plan_is_methods_by_rates_by_seeds() {
        let jobs = jobs(
            "seeds = [0, 1]\nlrs = [0.1, 1.0]\n[settings]\nepochs = 3\nbatch = 32\n[[methods]]\nname = \"SGD, plain\"\n\
             optimizer = \"sgd\"\n[[methods]]\nname = \"g\"\nlrs = [0.5]\nbatch = 16\n",
        )
        .unwrap();
        assert_eq!(jobs.len(), 6);
        assert_eq!(
            jobs[1].folder.to_str(),
            Some("runs/sgd-plain/lr-0.1-seed-1")
        );
        assert_eq!((jobs[0].settings.batch, jobs[5].settings.batch), (32, 16));
        assert_eq!(
            (
                jobs[5].settings.lr(),
                jobs[5].settings.seed,
                jobs[5].settings.epochs
            ),
            (0.5, 1, 3)
        );
    }

    #[test]
    fn plans_of_before_are_read() {
        let text = "seeds = [0]\nlrs = [0.1]\n[[ways]]\nname = \"a\"\n[[ways]]\nname = \"b\"\n";
        let old = Plan::parse(text).unwrap();
        assert_eq!(old, Plan::parse(&text.replace("ways", "methods")).unwrap());
        assert_eq!(old.methods[1].name, "b");
        let written = toml::to_string(&old).unwrap();
        assert!(written.contains("[[methods]]"), "{written}");
        let both = format!("{text}[[methods]]\nname = \"c\"\n");
        assert!(Plan::parse(&both).is_err());
    }

    #[test]
    fn wrong_plans_are_refused_with_the_key() {
        let method = "[[methods]]\nname = \"a\"\noptimizer = \"sgd\"\n";
        for (text, says) in [
            (format!("lrs = [0.1]\n{method}"), "seeds"),
            (
                format!("seeds = []\nlrs = [0.1]\n{method}"),
                "`seeds` is empty",
            ),
            (
                format!("seeds = [1]\nlrs = []\n{method}"),
                "no learning rates",
            ),
            (format!("seeds = [1, 1]\nlrs = [0.1]\n{method}"), "1 twice"),
            (
                format!("seeds = [1]\nlrs = [0.1, 0.1]\n{method}"),
                "0.1 twice",
            ),
            (format!("seeds = [1]\nlrs = [0]\n{method}"), "--lr"),
            (format!("seeds = [1]\nlrs = \"all\"\n{method}"), "lrs"),
            (format!("seeds = [-1]\nlrs = [0.1]\n{method}"), "seeds"),
            (
                format!("seed = [1]\nlrs = [0.1]\n{method}"),
                "expected one of `seeds`",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}{method}"),
                "differ in letters",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}optimzer = \"adam\"\n"),
                "--optimizer",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}against = \"b\"\n"),
                "not among the methods",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}lr = 0.1\n"),
                "give `lrs`",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}batch = \"many\"\n"),
                "--batch",
            ),
            (
                format!("seeds = [1]\nlrs = [0.1]\n{method}batch = [1]\n"),
                "single value",
            ),
            (
                "seeds = [1]\nlrs = [0.1]\nmethods = []".into(),
                "at least one",
            ),
            (
                "seeds = [1]\nlrs = [0.1]\n[[methods]]\noptimizer = \"sgd\"".into(),
                "name",
            ),
        ] {
            let error = format!("{:#}", jobs(&text).unwrap_err());
            assert!(
                error.contains(says),
                "{text}: `{says}` is missing in {error}"
            );
            assert!(!error.contains("Usage"), "{error}");
        }
    }
}

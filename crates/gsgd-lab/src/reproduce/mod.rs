//! The experiments of Meng et al. (2019), and ours beside them, as built-in comparisons at three scales.

mod fig4;
mod page;
mod plans;
mod unbalanced;

use crate::compare::{Plan, Results};
use crate::report::Figure;

pub use page::page;

/// An experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Figure 4: training loss and test error by width, against the invariant ratio
    Fig4,
    /// Figure 5: SGD, Path-SGD, G-SGD and others on MNIST and grey CIFAR-10
    Fig5,
    /// Table 1 and Figure 3: plain and residual networks on CIFAR-10 and CIFAR-100
    Table1,
    /// Figure 7: weight decay and basis-path regularisation
    Fig7,
    /// Section 11.3: signs and magnitudes of the skeleton
    Signs,
    /// Starts rescaled by 10^U(-s, s), and balanced first
    Unbalanced,
    /// Which skeleton, ratio floor and coordinates
    Skeletons,
    /// Time and memory of a step
    Overhead,
}

/// How large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scale {
    /// Minutes on two cores
    Quick,
    /// At most a night on two cores
    Medium,
    /// The paper's own size
    Full,
}

impl Scale {
    /// What this scale takes.
    fn pick<T>(self, quick: T, medium: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Medium => medium,
            Self::Full => full,
        }
    }
}

/// An experiment at a scale.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// What it is.
    pub title: &'static str,
    /// What the paper reports, or why it is here.
    pub claim: &'static str,
    /// How this differs from the paper.
    pub differs: String,
    /// Its comparisons.
    pub parts: Vec<ExperimentPart>,
}

/// A comparison of an experiment.
#[derive(Debug, Clone)]
pub struct ExperimentPart {
    /// Its folder.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What to run.
    pub plan: Plan,
    /// Whether times matter, so that its runs go one by one.
    pub timed: bool,
}

impl Name {
    /// The experiment at a scale.
    pub fn experiment(self, scale: Scale) -> Experiment {
        match self {
            Self::Fig4 => fig4::experiment(scale),
            Self::Fig5 => plans::fig5(scale),
            Self::Table1 => plans::table1(scale),
            Self::Fig7 => plans::fig7(scale),
            Self::Signs => plans::signs(scale),
            Self::Unbalanced => unbalanced::experiment(scale),
            Self::Skeletons => plans::skeletons(scale),
            Self::Overhead => plans::overhead(scale),
        }
    }

    /// The experiment's own figures of a part.
    pub fn figures(self, results: &Results) -> Vec<Figure> {
        match self {
            Self::Fig4 => fig4::figures(results),
            _ => Vec::new(),
        }
    }

    /// The figure over all parts, where the experiment has one.
    pub fn overview(self, parts: &[(&ExperimentPart, Results)]) -> Option<Figure> {
        (self == Self::Unbalanced).then(|| unbalanced::figure(parts))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_plan_is_one_that_can_be_carried_out() {
        for &name in Name::value_variants() {
            for &scale in Scale::value_variants() {
                let experiment = name.experiment(scale);
                assert!(!experiment.parts.is_empty());
                for part in experiment.parts {
                    let jobs = part.plan.jobs();
                    let jobs =
                        jobs.unwrap_or_else(|e| panic!("{name:?} {scale:?} {}: {e:#}", part.name));
                    assert!(!jobs.is_empty());
                }
            }
        }
    }
}
